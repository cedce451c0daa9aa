"""Environments of tools that are not the gateway's: installed from a lock, kept until the lock changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]


def run(command: Sequence[object], cwd: Path, **environment: str) -> str:
    """What a command prints; fails with all that it said where it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def environment(folder: Path, lock: Path) -> Path:
    """The folder of the programs of an environment that holds what the lock names, and pip."""
    installed = folder / "requirements.txt"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        run([sys.executable, "-m", "venv", "--clear", folder], ROOT)
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes"]
        run([folder / "bin/python", *install, "-r", lock], ROOT)
        shutil.copy(lock, installed)
    return folder / "bin"
