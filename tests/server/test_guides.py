"""Every command of the guides and of the README runs as it is written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.environments import ROOT
from tests.processes import running_gateway
from tests.server.operators import ADMIN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.processes import Running

GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
DIFFERENCES = re.compile(r"flashgate (cards check --prices|migrate plan|usage reconcile|cards check)")
"""Commands whose exit status 1 is an answer."""
README_URL = "http://127.0.0.1:8080"


class Place(NamedTuple):
    """A gateway with the demo's key, and the environment of who types the commands."""

    gateway: Running
    folder: Path
    environment: dict[str, str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, emulator: Running) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("guides")
    tools = folder / "bin"
    tools.mkdir()
    command = tools / "flashgate"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m app "$@"\n')
    command.chmod(0o755)
    admin = {"admin_key": ADMIN_KEY, "upstream": "emulator", "emulator_base_url": emulator.url}
    with running_gateway(folder / "gateway", **admin) as gateway:
        environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "FLASHGATE_URL": gateway.url,
            "FLASHGATE_ADMIN_KEY": ADMIN_KEY,
            "FLASHGATE_UPSTREAM": "emulator",
            "FLASHGATE_EMULATOR_BASE_URL": emulator.url,
        }
        create = (
            "flashgate tenants create demo --budget image_tokens/day=1000000 && flashgate keys create demo"
        )
        made = run_script(create, folder, environment)
        environment["FLASHGATE_API_KEY"] = made.stdout.split()[-1]
        shutil.copy(ROOT / "examples" / "prices.csv", folder)
        yield Place(gateway, folder, environment)


def run_script(script: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done


def accept_differences(command: str) -> str:
    """The command; a difference between models, prices or bills is what some commands are run for."""
    return f"{{ {command}\n}} || test $? = 1" if DIFFERENCES.search(command) else command


def list_commands(text: str) -> list[str]:
    """The commands of the shell in a document, one a string, in order."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("guide", GUIDES, ids=[path.stem for path in GUIDES])
def test_every_command_of_a_guide_runs(place: Place, guide: Path) -> None:
    commands = list_commands(guide.read_text())
    assert len(commands) >= 3
    for command in commands:
        run_script(accept_differences(command), place.folder, place.environment)


def test_every_command_of_the_runbook_for_a_gateway_runs(place: Place) -> None:
    """Those of the platform need the platform; the others are tried as they stand."""
    run_script("flashgate usage export > bill.csv", place.folder, place.environment)
    runbook = (ROOT / "deploy" / "RUNBOOK.md").read_text()
    commands = re.findall(r"^    (flashgate .*)$", runbook, re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        run_script(accept_differences(command), place.folder, place.environment)
    for command in re.findall(r"^    (gcloud .*)$", runbook, re.MULTILINE):
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_every_guide_is_linked() -> None:
    readme, index = ((ROOT / name).read_text() for name in ("README.md", "docs/README.md"))
    for guide in GUIDES:
        assert f"docs/guides/{guide.name}" in readme
        assert f"guides/{guide.name}" in index


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_command_of_the_readme_runs(place: Place, tmp_path: Path) -> None:
    """In order, in a folder where the first picture was drawn, the demo's key lies and a bill has come."""
    (tmp_path / ".flashgate").mkdir()
    (tmp_path / ".flashgate" / "demo-key").write_text(place.environment["FLASHGATE_API_KEY"])
    (tmp_path / ".venv").mkdir()
    (tmp_path / "tenants.yaml").write_text("tenants: []\n")
    environment = dict(place.environment)
    run_script("flashgate generate 'A lighthouse' -o lighthouse.png", tmp_path, environment)
    run_script("flashgate usage export > bill.csv", tmp_path, environment)
    script = ["set -euo pipefail"]
    for line in list_commands((ROOT / "README.md").read_text()):
        command = line.replace(README_URL, place.gateway.url)
        if command.startswith("export FLASHGATE_ADMIN_KEY"):
            continue
        if command.startswith("flashgate ledger"):
            continue  # it needs the store itself; tests/store/test_transfer.py runs it
        command = command.replace("flashgate top ", "flashgate top --once ")  # which otherwise never ends
        script.append(accept_differences(command))
    assert len(script) > 12
    run_script("\n".join(script), tmp_path, environment)
    for name in ("night.jpg", "pencil.png", "night.png"):
        assert (tmp_path / name).stat().st_size > 10_000
