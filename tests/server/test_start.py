"""What a start says: what runs, and the cause in the first line if it cannot serve."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import yaml

from tests.processes import HTTP, free_port, running_gateway
from tests.server.conftest import PEPPER, tokens_a_day, wait_for, write_tenants

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.processes import Running


def output_of(folder: Path) -> str:
    (log,) = folder.glob("gateway-*.log")
    return log.read_text()


def banner_of(folder: Path) -> dict[str, str]:
    """What is said of each part."""
    wait_for(lambda: "\n  off  " in output_of(folder), "it has said what runs")
    said = output_of(folder).partition("flashgate is ready\n")[2].partition("\n\n")[0]
    return {line[2:12].strip(): line[13:] for line in said.splitlines() if line.startswith("  ")}


def test_a_start_says_in_eight_lines_what_runs(tmp_path: Path, emulator: Running) -> None:
    tenants = write_tenants(tmp_path / "tenants.yaml", {"search": tokens_a_day(1), "ads": []})
    settings = {
        "tenants_file": str(tenants.path), "key_pepper": PEPPER, "log_format": "text",
        "upstream": "emulator", "emulator_base_url": emulator.url, "admin_key": "k" * 32,
    }  # fmt: skip
    with running_gateway(tmp_path / "g", **settings) as gateway:
        said = banner_of(tmp_path / "g")
    assert list(said) == [
        "version", "address", "tenants", "back ends", "store", "admin API", "metrics", "off",
    ]  # fmt: skip
    assert said["address"] == gateway.url
    assert said["tenants"] == f"2 with 2 keys, from {tenants.path}; 1 without an enforced budget: ads"
    assert said["back ends"] == f"emulator (free of charge, at {emulator.url})"
    state = tmp_path / "g" / "state"
    assert (
        said["store"] == f"a server of its own at {state / 'valkey.sock'}; pictures in {state / 'pictures'}"
    )
    assert said["admin API"].startswith("FLASHGATE_ADMIN_KEY")
    assert "ID tokens" in said["off"]
    assert "k" * 32 not in output_of(tmp_path / "g")
    assert "Generate a picture" not in output_of(tmp_path / "g"), "nobody's key is known"


def test_a_log_for_programs_has_the_same_as_one_line(tmp_path: Path, emulator: Running) -> None:
    tenants = write_tenants(tmp_path / "tenants.yaml", {"search": tokens_a_day(1), "ads": []})
    settings = {
        "tenants_file": str(tenants.path), "key_pepper": PEPPER, "upstream": "emulator",
        "emulator_base_url": emulator.url,
    }  # fmt: skip
    with running_gateway(tmp_path / "g", **settings):
        wait_for(lambda: "the gateway is ready" in output_of(tmp_path / "g"), "it says so")
    lines = [json.loads(line) for line in output_of(tmp_path / "g").splitlines()]
    (line,) = [line for line in lines if line["message"] == "the gateway is ready"]
    assert (line["tenants"], line["keys"], line["unlimited"]) == (2, 2, ["ads"])
    assert line["back_ends"] == ["emulator"]
    assert "FLASHGATE_IDENTITY_AUDIENCES" in line["off"]


def test_the_command_that_is_printed_draws(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "g", upstream="emulator", log_format="text"):
        banner_of(tmp_path / "g")
        wait_for(lambda: "-o lighthouse.png" in output_of(tmp_path / "g"), "the command is there")
        command = output_of(tmp_path / "g").partition("Generate a picture:\n")[2]
        done = subprocess.run(command, shell=True, cwd=tmp_path, check=False)  # noqa: S602 - as a person would
    assert done.returncode == 0
    assert (tmp_path / "lighthouse.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_fits_the_back_end(tmp_path: Path) -> None:
    """The Gemini Developer API offers no choice of the format."""
    address = f"http://127.0.0.1:{free_port()}"
    with running_gateway(tmp_path / "g", gemini_api_key="x" * 39, gemini_base_url=address, log_format="text"):
        said = banner_of(tmp_path / "g")
        wait_for(lambda: "-o lighthouse.jpg" in output_of(tmp_path / "g"), "the command is there")
    assert said["back ends"] == f"gemini (an API key, at {address})"
    assert "output_mime_type" not in output_of(tmp_path / "g")


def test_missing_credentials_are_the_first_thing_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with running_gateway(tmp_path / "g", vertex_project="my-project", probe="/livez") as gateway:
        cause = "There are no application default credentials. Set GOOGLE_APPLICATION_CREDENTIALS"
        wait_for(lambda: cause in output_of(tmp_path / "g"), "it says why")
        readiness = HTTP.get(f"{gateway.url}/readyz")
        assert readiness.status_code == 503
        assert cause in readiness.json()["checks"]["upstream"]
    printed = [line for line in output_of(tmp_path / "g").splitlines() if line.startswith(" ")]
    assert printed[0].startswith("  upstream   vertex: There are no application default credentials.")
    assert "flashgate is ready" not in output_of(tmp_path / "g")


def test_a_key_without_any_limit_is_told_apart(tmp_path: Path, emulator: Running) -> None:
    """Each key is limited by its tenant, its project or itself."""
    budget = {"unit": "usd", "window": "day", "limit": 1}

    def key(name: str, **more: object) -> dict[str, object]:
        return {"id": name, "hash": f"hmac-sha256:{'0' * 64}", "scopes": ["images"], **more}

    tenants = [
        {"id": "by-key", "keys": [key("a", budgets=[budget])]},
        {
            "id": "by-project",
            "projects": [{"id": "p", "budgets": [budget]}],
            "keys": [key("b", project="p")],
        },
        {"id": "one-free", "keys": [key("c", budgets=[budget]), key("d")]},
        {"id": "watched", "budgets": [{**budget, "mode": "shadow"}], "keys": [key("e")]},
        {"id": "by-user", "budgets": [{**budget, "scope": "user"}], "keys": [key("f")]},
    ]
    file = tmp_path / "tenants.yaml"
    file.write_text(yaml.safe_dump({"tenants": [{"time_zone": "UTC", **tenant} for tenant in tenants]}))
    settings = {"tenants_file": str(file), "key_pepper": PEPPER, "log_format": "text"}
    with running_gateway(tmp_path / "g", **settings, upstream="emulator", emulator_base_url=emulator.url):
        said = banner_of(tmp_path / "g")
    assert said["tenants"].endswith("3 without an enforced budget: one-free, watched, by-user")
