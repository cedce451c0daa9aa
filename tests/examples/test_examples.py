"""Every program in ``examples/`` runs as it stands, in the languages that this machine has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.contract.conftest import emulator, gateway, node_folder, settings, tenants, usual_settings
from tests.environments import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.processes import Running
    from tests.server.conftest import Tenants

__all__ = ["emulator", "gateway", "node_folder", "settings", "tenants", "usual_settings"]

EXAMPLES = ROOT / "examples"
PRICES = "prices.csv"
NAMES = ("generate", "edit", "conversation", "operation", "budgets")
FOLDERS = {"python": "py", "typescript": "ts", "curl": "sh"}
TYPESCRIPT = ("typescript@5.9.3", "@types/node@20.19.25")
STRICT = ("--strict", "--noUncheckedIndexedAccess", "--module", "nodenext", "--target", "es2022")


@pytest.fixture(scope="session")
def compiled(node_folder: Path) -> Path:
    """The TypeScript programs, type-checked strictly and compiled."""
    npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", *TYPESCRIPT]
    installed = subprocess.run(npm, cwd=node_folder, capture_output=True, text=True, timeout=90, check=False)
    if installed.returncode:
        pytest.skip(f"TypeScript cannot be installed here: {installed.stderr.strip()[-200:]}")
    folder = node_folder / "examples"
    shutil.copytree(EXAMPLES / "typescript", folder)
    (folder / "package.json").write_text('{"type": "module"}')
    command = ["npx", "--no-install", "tsc", *STRICT, *(f"{name}.ts" for name in NAMES)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90, check=False)
    assert ran.returncode == 0, ran.stdout
    return folder


@pytest.fixture(params=list(FOLDERS))
def program(
    request: pytest.FixtureRequest, tmp_path: Path, gateway: Running, tenants: Tenants
) -> Callable[..., str]:
    """Runs an example in an empty folder and returns what it prints."""
    language = request.param
    if language == "typescript":
        folder = request.getfixturevalue("compiled")
    elif language == "curl" and not (shutil.which("curl") and shutil.which("jq")):
        pytest.skip("curl and jq are not installed")

    def run(name: str, *arguments: str) -> str:
        match language:
            case "python":
                command = [sys.executable, str(EXAMPLES / f"python/{name}.py")]
            case "typescript":
                command = ["node", str(folder / f"{name}.js")]
            case _:
                command = [str(EXAMPLES / f"curl/{name}.sh")]
        environment = {
            **os.environ,
            "FLASHGATE_URL": gateway.url,
            "FLASHGATE_API_KEY": tenants.keys["counted"],
        }
        ran = subprocess.run(
            [*command, *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr + ran.stdout
        return ran.stdout

    return run


def test_a_picture_is_generated_and_edited(program: Callable[..., str], tmp_path: Path) -> None:
    program("generate", "A lighthouse at dusk", "lighthouse.jpg")
    program("edit", "The same at night", "lighthouse.jpg", "night.jpg")
    drawn, edited = ((tmp_path / name).read_bytes() for name in ("lighthouse.jpg", "night.jpg"))
    assert drawn.startswith(b"\xff\xd8")
    assert edited.startswith(b"\xff\xd8")
    assert drawn != edited


def test_a_conversation_has_three_turns(program: Callable[..., str]) -> None:
    lines = program("conversation").splitlines()
    assert len({line.split()[0] for line in lines}) == 3
    assert all(re.fullmatch(r"gen_\w+ http://\S+/v1/images/img_\w+", line) for line in lines)


def test_an_operation_is_collected(program: Callable[..., str], tmp_path: Path) -> None:
    program("operation", "A harbour in the fog", "harbour.jpg")
    assert (tmp_path / "harbour.jpg").read_bytes().startswith(b"\xff\xd8")


def test_budgets_and_the_price_of_4k_are_printed(program: Callable[..., str]) -> None:
    lines = program("budgets").splitlines()
    assert all(" left until 2" in line for line in lines[:-1])
    assert "2520 image tokens, $0.1" in lines[-1]


def test_every_example_stands_in_the_readme_and_is_run() -> None:
    there = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.*") if path.suffix != ".md"}
    named = {f"{folder}/{name}.{suffix}" for folder, suffix in FOLDERS.items() for name in NAMES}
    linked = set(re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text()))
    assert there == named | {PRICES} == linked
