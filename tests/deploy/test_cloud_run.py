"""What the gateway does where Cloud Run starts it: it refuses what would be lost, and tells no key."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
import yaml

from app.settings.environment import load_settings
from tests.processes import running_gateway
from tests.server.conftest import wait_for

if TYPE_CHECKING:
    from pathlib import Path

COMPLETE = {
    "K_SERVICE": "flashgate",
    "FLASHGATE_REDIS_URL": "redis://10.0.0.3:6379",
    "FLASHGATE_TENANTS_FILE": "/etc/flashgate/tenants.yaml",
    "FLASHGATE_KEY_PEPPER": "a pepper of the tests, long enough to be one",
    "FLASHGATE_VERTEX_PROJECT": "a-project",
}


def faults(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> tuple[str, ...]:
    for name in list(os.environ):
        if name.startswith("FLASHGATE_") or name == "K_SERVICE":
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings().deployment_faults


def test_a_complete_service_may_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults(monkeypatch, COMPLETE) == ()


@pytest.mark.parametrize("left_out", [name for name in COMPLETE if name != "K_SERVICE"])
def test_each_variable_that_is_left_out_is_the_one_fault(
    monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    found = faults(monkeypatch, {name: value for name, value in COMPLETE.items() if name != left_out})
    assert len(found) == 1
    assert left_out in found[0]


def test_elsewhere_nothing_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults(monkeypatch, {}) == ()


def test_one_instance_may_keep_its_own_store_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {name: value for name, value in COMPLETE.items() if name != "FLASHGATE_REDIS_URL"}
    assert faults(monkeypatch, {**alone, "FLASHGATE_ALLOW_EMBEDDED_STORE": "true"}) == ()


def test_the_emulator_answers_there_only_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsal = {name: value for name, value in COMPLETE.items() if name != "FLASHGATE_VERTEX_PROJECT"}
    assert faults(monkeypatch, {**rehearsal, "FLASHGATE_UPSTREAM": "emulator"}) == ()


def test_the_command_ends_with_every_fault_and_no_secret(tmp_path: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLASHGATE_")}
    ended = subprocess.run(
        [sys.executable, "-m", "app", "serve"],
        env={**inherited, "K_SERVICE": "flashgate", "FLASHGATE_KEY_PEPPER": COMPLETE["FLASHGATE_KEY_PEPPER"]},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == 3
    assert "3 faults" in ended.stderr
    assert COMPLETE["FLASHGATE_KEY_PEPPER"] not in ended.stderr + ended.stdout


def test_a_setting_that_is_no_number_is_refused_without_repeating_it(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "app", "serve"],
        env={**os.environ, "FLASHGATE_DRAIN_S": "AIza-pasted-into-the-wrong-field"},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "drain_s" in ended.stderr.lower()
    assert "AIza" not in ended.stderr + ended.stdout


def test_the_demo_key_is_told_to_a_person_never_to_a_log_that_is_collected_nor_on_cloud_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for log_format, told in (("text", True), ("json", False)):
        folder = tmp_path / log_format
        with running_gateway(folder, upstream="emulator", log_format=log_format):
            wait_for(partial(says, folder, "-o lighthouse"), "it has said how to begin")
        file = folder / "state" / "demo-key"
        assert (file.read_text().strip() in output(folder)) is told
        assert (f"$(cat {file})" in output(folder)) is not told

    tenants = tmp_path / "tenants.yaml"
    tenants.write_text(
        yaml.safe_dump({"tenants": [{"id": "search", "time_zone": "UTC", "budgets": [], "keys": []}]})
    )
    monkeypatch.setenv("K_SERVICE", "flashgate")
    with running_gateway(
        tmp_path / "service",
        upstream="emulator",
        allow_embedded_store="true",
        tenants_file=str(tenants),
        key_pepper=COMPLETE["FLASHGATE_KEY_PEPPER"],
    ):
        pass
    assert "flashgate is ready" not in output(tmp_path / "service")
    assert "Application startup complete" in output(tmp_path / "service")


def says(folder: Path, words: str) -> bool:
    return words in output(folder)


def output(folder: Path) -> str:
    return "".join(log.read_text() for log in folder.glob("gateway-*.log"))
