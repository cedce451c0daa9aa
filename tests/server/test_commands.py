"""The commands that call a running gateway, as a person at a terminal runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml

from app.__main__ import main
from app.commands.images import format_usd
from app.commands.parser import COMMANDS
from app.commands.tenants_file import build_schema
from tests.processes import HTTP, free_port, running, running_gateway
from tests.server.conftest import PEPPER, tokens_a_day, wait_for, write_tenants
from tests.server.operators import ADMIN_KEY, Admin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.processes import Running

MODULES_MAX = 420
"""Modules that a command loads which calls a gateway; the gateway itself would be 600 more."""


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory, emulator: Running) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("commands")
    tenants = write_tenants(folder / "tenants.yaml", {"drawing": tokens_a_day(100_000), "free": []})
    (folder / "key").write_text(tenants.keys["drawing"])
    settings = {"tenants_file": str(tenants.path), "key_pepper": PEPPER, "admin_key": ADMIN_KEY}
    with running_gateway(folder, **settings, upstream="emulator", emulator_base_url=emulator.url) as process:
        os.environ["FLASHGATE_TEST_KEY"] = tenants.keys["drawing"]
        yield process
        del os.environ["FLASHGATE_TEST_KEY"]


@pytest.fixture(autouse=True)
def at_a_terminal(operated: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLASHGATE_URL", operated.url)
    monkeypatch.setenv("FLASHGATE_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("FLASHGATE_API_KEY", os.environ["FLASHGATE_TEST_KEY"])


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    """What a command that succeeds prints on stdout and on stderr."""
    capsys.readouterr()
    status = main(words)
    output = capsys.readouterr()
    assert status == 0, output.err
    return output.out, output.err


def test_a_picture_is_written_with_what_it_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, "generate", f"A fox {token_hex(4)}", "-o", "fox.png", "--size", "512")
    assert out == "fox.png\n"
    assert (tmp_path / "fox.png").read_bytes().startswith(b"\x89PNG")
    assert "512 x 512" in err
    assert "747 image tokens, $0.0" in err
    assert "image tokens left until" in err


def test_several_pictures_are_numbered_and_named_by_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = printed(capsys, "generate", f"Foxes {token_hex(4)}", "-n", "2", "-o", "foxes.jpg")
    assert out == "foxes-1.jpg\nfoxes-2.jpg\n"
    for name in out.split():
        assert (tmp_path / name).read_bytes().startswith(b"\xff\xd8")
    out, _ = printed(capsys, "generate", f"A fox {token_hex(4)}", "-o", "fox.gif")
    assert (tmp_path / out.strip()).suffix in {".jpg", ".png"}, "no picture is called what it is not"


def test_an_edit_goes_through_a_pipe(tmp_path: Path, operated: Running) -> None:
    assert main(["generate", f"A fox {token_hex(4)}", "-o", "fox.png", "--size", "512"]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "app", "edit", "at night", str(tmp_path / "fox.png"), "-o", "-"],
        capture_output=True, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout[:2] in {b"\xff\xd8", b"\x89P"}
    assert b"image tokens" in done.stderr


def test_an_estimate_spends_nothing_and_names_faults(
    operated: Running, emulator: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = HTTP.get(f"{emulator.url}/emulator/calls").json()["generate"]
    out, _ = printed(capsys, "estimate", "A fox", "--size", "4K")
    assert "expected  2,520 image tokens" in out
    assert main(["estimate", "A fox", "--size", "7K", "--ratio", "7:1"]) == 1
    err = capsys.readouterr().err
    assert "/image_size: " in err
    assert "/aspect_ratio: " in err
    assert main(["estimate", "A fox", "-n", "8", "--size", "4K", "--max-cost", "0.1"]) == 1
    assert "would be refused" in capsys.readouterr().err
    assert HTTP.get(f"{emulator.url}/emulator/calls").json()["generate"] == calls


def test_a_refusal_is_told_and_writes_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", f"{token_hex(4)} [[emulate:image-safety]]", "-o", "fox.png"]) == 1
    assert "(422 content_blocked)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["generate", "A fox", "-o", "nowhere/fox.png"]) == 1
    assert "There is no folder nowhere" in capsys.readouterr().err


def test_budgets_are_shown_to_their_caller_and_to_an_operator(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(capsys, "budgets")
    assert "of 100,000 image tokens left until" in out
    out, _ = printed(capsys, "budgets", "--tenant", "drawing")
    assert out.splitlines()[1].split()[:3] == ["tenant", "image_tokens", "day"]
    out, _ = printed(capsys, "budgets", "--tenant", "free")
    assert out == "No budget limits free.\n"


def test_operators_list_keys_change_tenants_and_read_what_was_changed(
    operated: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"changed-{token_hex(4)}"
    Admin(operated.url).tenant(name)
    (tmp_path / "patch.yaml").write_text("max_image_size: 2K\n")
    out, _ = printed(capsys, "tenants", "change", name, "--budget", "images/day=3", "--file", "patch.yaml")
    changed = json.loads(out)
    assert (changed["max_image_size"], changed["budgets"][0]["limit"]) == ("2K", 3)
    assert main(["tenants", "change", name]) == 1
    assert "Nothing to change" in capsys.readouterr().err
    key, _ = printed(capsys, "keys", "create", name, "--name", "Web shop")
    out, _ = printed(capsys, "keys", "list", name)
    assert out.splitlines()[1].split() == [
        name, key.split("_")[2], "Web", "shop", "images", "never", "always",
    ]  # fmt: skip
    assert HTTP.post(
        f"{operated.url}/v1/images:generate",
        json={"prompt": "A fox", "image_size": "512", "delivery": "uri"},
        headers={"X-API-Key": key.strip()},
    ).is_success
    out, _ = printed(capsys, "usage", "--tenant", name, "--by", "key_name")
    assert out.splitlines()[1].startswith("Web shop,1,1,747,")
    assert main(["keys", "create", name, "--name", " "]) == 1
    assert "a name is 1 to 63 printable characters" in capsys.readouterr().err
    out, _ = printed(capsys, "keys", "list")
    assert {line.split()[0] for line in out.splitlines()[1:]} >= {name, "drawing"}
    out, _ = printed(capsys, "audit", "--limit", "5")
    assert out.splitlines()[1].split()[3:5] == ["key.create", name]
    out, _ = printed(capsys, "purge", name)
    assert list(json.loads(out)["purged_until"]) == [name]
    assert main(["purge"]) == 1
    assert "--all" in capsys.readouterr().err


def test_a_tenants_file_is_checked_before_a_gateway_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tenants.yaml"
    tenants: list[dict[str, Any]] = [
        {"id": "free", "time_zone": "UTC",
         "keys": [{"id": "k1", "hash": f"hmac-sha256:{'0' * 64}", "scopes": ["images"]}]},
        {"id": "idle", "time_zone": "UTC"},
    ]  # fmt: skip
    file.write_text(yaml.safe_dump({"tenants": tenants}))
    out, _ = printed(capsys, "tenants", "check", str(file))
    assert "2 tenants, 1 keys, no fault" in out
    assert "free has a key that no enforced budget limits" in out
    assert "idle has no key" in out
    jsonschema.validate(yaml.safe_load(file.read_text()), build_schema())
    file.write_text(yaml.safe_dump({"tenants": [{**tenants[0], "time_zone": "Mars", "budget": []}]}))
    assert main(["tenants", "check", str(file)]) == 1
    err = capsys.readouterr().err
    assert "time_zone" in err
    assert "budget" in err
    with pytest.raises(jsonschema.ValidationError, match="budget"):
        jsonschema.validate(yaml.safe_load(file.read_text()), build_schema())
    assert main(["tenants", "check", str(tmp_path / "missing.yaml")]) == 2


def test_the_schema_in_the_repository_is_the_one_that_is_printed(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = printed(capsys, "tenants", "schema")
    file = request.config.rootpath / "openapi" / "tenants.schema.json"
    assert file.read_text() == out, "make openapi"


def test_top_shows_what_is_under_way(
    operated: Running, emulator: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = token_hex(4)
    calls = HTTP.get(f"{emulator.url}/emulator/calls").json()["generate"]
    headers = {"X-API-Key": os.environ["FLASHGATE_API_KEY"], "Prefer": "respond-async"}
    body = {"prompt": f"[[emulate:hold:{gate}]]", "image_size": "2K"}
    HTTP.post(f"{operated.url}/v1/images:generate", json=body, headers=headers).raise_for_status()
    wait_for(lambda: HTTP.get(f"{emulator.url}/emulator/calls").json()["generate"] > calls, "it is drawn")
    out, _ = printed(capsys, "top", "--once", "--tenant", "drawing")
    HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
    lines = out.splitlines()
    assert lines[0] == "1 under way in this instance"
    assert lines[3].split()[2:8] == ["gemini-3.1-flash-image", "2K", "1", "upstream", "emulator", "1"]
    assert "image_tokens" in out
    wait_for(
        lambda: "0 under way" in printed(capsys, "top", "--once", "--tenant", "drawing")[0], "it has ended"
    )


def test_a_command_without_a_key_says_which_variable_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FLASHGATE_API_KEY")
    assert main(["generate", "A fox"]) == 2
    assert "FLASHGATE_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("FLASHGATE_URL", f"http://127.0.0.1:{free_port()}")
    assert main(["tenants", "list"]) == 1
    assert "Cannot connect" in capsys.readouterr().err


def test_the_demos_key_is_used_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FLASHGATE_API_KEY")
    (tmp_path / ".flashgate").mkdir()
    (tmp_path / ".flashgate" / "demo-key").write_text(os.environ["FLASHGATE_TEST_KEY"])
    printed(capsys, "budgets")


def test_serve_takes_a_port(tmp_path: Path, emulator: Running) -> None:
    port = free_port()
    settings = {
        "FLASHGATE_STATE_DIR": str(tmp_path / "state"), "FLASHGATE_UPSTREAM": "emulator",
        "FLASHGATE_EMULATOR_BASE_URL": emulator.url, "FLASHGATE_URL": "http://127.0.0.1:1",
    }  # fmt: skip
    url, arguments = f"http://127.0.0.1:{port}", ["serve", "--port", str(port)]
    with running(arguments, settings, url, "/livez", tmp_path / "log") as process:
        assert HTTP.get(f"{process.url}/livez").status_code == 200


def test_the_version_and_the_completion_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("flashgate ")
    out, _ = printed(capsys, "completion", "bash")
    assert all(name in out for name in COMMANDS)
    checked = subprocess.run(["bash", "-n"], input=out, text=True, check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize(
    "command", ["generate", "edit", "estimate", "budgets", "keys", "tenants", "audit", "purge", "top"]
)
def test_a_command_that_calls_a_gateway_does_not_load_one(command: str) -> None:
    code = (
        "import sys, app.commands.parser as p; p.build_parser(sys.argv[1]);"
        "heavy = {'fastapi', 'pydantic', 'redis', 'uvicorn'};"
        "print(len(sys.modules), *heavy & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    count, *heavy = done.stdout.split()
    assert heavy == []
    assert int(count) <= MODULES_MAX


@pytest.mark.parametrize(
    ("amount", "words"), [(0, "$0"), (0.067, "$0.067"), (1234.5, "$1,234.5"), (0.0000034, "$0.000003")]
)
def test_dollars_have_the_digits_that_they_need(amount: float, words: str) -> None:
    assert format_usd(amount) == words
