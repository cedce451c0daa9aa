"""The environment is made by the Python that was chosen, or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def make_environment(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(MAKEFILE, folder)
    return subprocess.run(
        ["make", ".venv/bin/python", f"PYTHON={python}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def script(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_chosen_python_makes_the_environment(tmp_path: Path) -> None:
    chosen = script(tmp_path, f'[ "$1" = -c ] && exec {sys.executable} "$@"\necho "$@" > made')
    done = make_environment(tmp_path, chosen)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made").read_text() == "-m venv .venv\n"


def test_a_python_that_is_too_old_is_refused(tmp_path: Path) -> None:
    older = "import sys; sys.version_info = (3, 10, 13); exec(sys.argv.pop(1))"
    done = make_environment(tmp_path, script(tmp_path, f"shift; exec {sys.executable} -c '{older}' \"$@\""))
    assert done.returncode != 0
    assert "flashgate needs Python 3.11 or later" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_no_half_made_environment_is_left_behind(tmp_path: Path) -> None:
    """Without python3-venv, Debian makes one that has no pip, and the next ``make`` would go on with it."""
    lacking = 'if [ "$1" = -m ]; then mkdir -p .venv/bin; touch .venv/bin/python; exit 1; fi'
    done = make_environment(tmp_path, script(tmp_path, lacking))
    assert done.returncode != 0
    assert "install python3-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()
