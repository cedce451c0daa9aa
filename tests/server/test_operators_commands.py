"""The operators' commands against a running gateway, as a person at a terminal runs them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from app.__main__ import main
from app.commands.tenants import parse_budget
from tests.processes import Running, free_port, running_gateway
from tests.server.conftest import Client
from tests.server.operators import ADMIN_KEY, Admin, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("operated")
    with running_gateway(folder, **{**settings, "admin_key": ADMIN_KEY}) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def as_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHGATE_ADMIN_KEY", ADMIN_KEY)


def test_a_tenants_life_from_the_command_line(
    operated: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = ("--url", operated.url)

    def told(*words: str) -> str:
        assert main([*words, *url]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    budgets = ["image_tokens/day=41440", "usd/month=0.5:shadow", "user:images/day=5"]
    options = [word for budget in budgets for word in ("--budget", budget)]
    made = json.loads(told("tenants", "create", "cmd", "--time-zone", "Europe/Berlin", *options))
    assert (made["id"], made["time_zone"], made["budgets"][1]["mode"]) == ("cmd", "Europe/Berlin", "shadow")
    assert [budget["scope"] for budget in made["budgets"]] == [None, None, "user"]
    row = next(line for line in told("tenants", "list").splitlines() if line.startswith("cmd "))
    assert row.split(maxsplit=3)[1:] == ["store", "0", ", ".join(budgets)]
    key = told("keys", "create", "cmd", "--env", "test").strip()
    assert status_of(operated.url, key) == 200
    key_id = key.split("_")[2]
    rotated = told("keys", "rotate", "cmd", key_id, "--grace-s", "0").strip()
    assert [status_of(operated.url, each) for each in (key, rotated)] == [401, 200]
    assert json.loads(told("tenants", "show", "cmd"))["keys"][0]["id"] == key_id
    account = ("--email", "cmd@a-project.iam.gserviceaccount.com")
    account_key = told("keys", "create", "cmd", *account).strip()
    keys = {each["id"]: each for each in json.loads(told("tenants", "show", "cmd"))["keys"]}
    assert keys[account_key]["email"] == account[1]
    told("keys", "revoke", "cmd", account_key)
    told("keys", "revoke", "cmd", key_id)
    assert status_of(operated.url, rotated) == 401
    assert main(["tenants", "delete", "cmd", *url]) == 1
    assert "add --yes" in capsys.readouterr().err
    told("tenants", "delete", "cmd", "--yes")
    document = tmp_path / "tenant.yaml"
    document.write_text("id: from-file\nbudgets: [{unit: images, window: day, limit: 3}]\n")
    assert json.loads(told("tenants", "create", "--file", str(document)))["id"] == "from-file"


def test_refusals_are_told_with_every_fault(operated: Running, capsys: pytest.CaptureFixture[str]) -> None:
    url = ("--url", operated.url)
    assert main(["tenants", "create", "Not-An-Id", "--time-zone", "Mars", *url]) == 1
    told = capsys.readouterr().err
    assert "2 violations were found. (422 validation_failed)" in told
    assert "  - /id: " in told
    assert "  - /time_zone: " in told
    assert main(["tenants", "create", "earlier", "--budget", "output_tokens/day=1", *url]) == 1
    assert "  - /budgets/0/unit: output_tokens is no unit; image_tokens counts" in capsys.readouterr().err
    assert main(["keys", "revoke", "nobody", "k1", *url]) == 1
    assert "(404 not_found)" in capsys.readouterr().err


def test_a_gateway_that_is_not_there_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tenants", "list", "--url", f"http://127.0.0.1:{free_port()}"]) == 1
    assert capsys.readouterr().err.startswith("flashgate: Cannot connect to http://127.0.0.1:")


def test_without_an_operators_key_the_command_says_which_variable_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FLASHGATE_ADMIN_KEY")
    assert main(["tenants", "list"]) == 2
    assert "FLASHGATE_ADMIN_KEY" in capsys.readouterr().err


def test_a_key_alone_stands_on_stdout_so_that_a_script_can_take_it(operated: Running) -> None:
    command = [sys.executable, "-m", "app"]
    subprocess.run(
        [*command, "tenants", "create", "script", "--url", operated.url], check=True, capture_output=True
    )
    made = subprocess.run(
        [*command, "keys", "create", "script", "--url", operated.url],
        check=True, capture_output=True, text=True, env={**os.environ, "FLASHGATE_ADMIN_KEY": ADMIN_KEY},
    )  # fmt: skip
    assert status_of(operated.url, made.stdout.strip()) == 200
    assert made.stdout.count("\n") == 1
    assert "shown only once" in made.stderr


@pytest.mark.parametrize(
    "text", ["", "images", "images/day", "images/day=", "images/day=-1", "images/day=1:hidden"]
)
def test_a_budget_that_cannot_be_read_is_refused_before_anything_is_asked(text: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["tenants", "create", "x", "--budget", text])
    assert parse_budget("images/day=1.5")["limit"] == "1.5"


def test_credit_limits_and_reports_from_the_command_line(
    operated: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    url = ("--url", operated.url)

    def told(*words: str) -> str:
        assert main([*words, *url]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    told("tenants", "create", "paid", "--budget", "usd/lifetime=0", "--budget", "images/day=1")
    key = told("keys", "create", "paid").strip()
    credit = ("budgets", "credit", "paid", "--unit", "usd", "--amount", "0.5", "--id", "invoice-1")
    assert [json.loads(told(*credit))["credit"] for _ in range(2)] == [0.5, 0.5]
    override = ("budgets", "override", "paid", "--unit", "images", "--window", "day", "--limit", "3")
    assert json.loads(told(*override, "--until", "2999-01-01T00:00:00Z"))["limit"] == 3
    client = Client(operated.url, key)
    body = {"prompt": "Reported", "image_size": "512", "delivery": "uri", "n": 2}
    assert [client.post(body).status_code for _ in range(2)] == [200, 200]
    (row,) = csv.DictReader(told("usage", "--tenant", "paid", "--by", "tenant,model").splitlines())
    assert (row["tenant"], row["model"]) == ("paid", "gemini-3.1-flash-image")
    assert (row["images"], row["hits"], row["saved_images"]) == ("2", "1", "2")
    assert json.loads(told("usage", "--tenant", "paid", "--format", "json"))["by"] == ["tenant"]
    rows = list(csv.DictReader(told("usage", "export", "--tenant", "paid").splitlines()))
    assert {row["SubAccountId"] for row in rows} == {"paid"}
    assert {row["SkuPriceId"] for row in rows if row["ChargeCategory"] == "Usage"} == {
        f"gemini-3.1-flash-image/{meter}/standard" for meter in ("image_output", "text_output", "input")
    }
    report = json.loads(told("usage", "--tenant", "paid", "--format", "json"))
    booked = sum(float(row["EffectiveCost"]) for row in rows)
    assert booked == pytest.approx(report["lines"][0]["cost_usd"], abs=1e-12)
    assert main(["usage", "--by", "prompt", *url]) == 1
    assert "422" in capsys.readouterr().err


def test_a_bill_is_compared_with_the_ledger(
    operated: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, bill, admin = ("--url", operated.url), tmp_path / "bill.csv", Admin(operated.url)
    admin.tenant("billed")
    client = Client(operated.url, admin.key_of("billed")["key"])
    assert client.post({"prompt": "Billed", "image_size": "512", "delivery": "uri"}).status_code == 200
    assert main(["usage", "export", *url]) == 0
    own = capsys.readouterr().out
    bill.write_text(own)
    assert main(["usage", "reconcile", str(bill), *url]) == 0, "our own export is a bill"
    assert "within 0.1 %" in capsys.readouterr().out
    day = datetime.now(UTC).date().isoformat()
    columns = "sku.description,usage_start_time,usage.amount,cost,currency,project.id"
    image = f"Gemini 3.1 Flash Image image output token,{day} 01:00:00 UTC,1000000,60.00,USD,ours"
    other = f"N2 Instance Core,{day} 01:00:00 UTC,1,5,USD,ours"
    bill.write_text(f"{columns}\n{image}\n{other}\n")
    assert main(["usage", "reconcile", str(bill), "--format", "csv", *url]) == 1
    rows = {row["sku"]: row for row in csv.DictReader(capsys.readouterr().out.splitlines())}
    assert float(rows["gemini-3.1-flash-image/image_output/standard"]["unexplained_usd"]) > 50
    bill.write_text(f"{columns},cost_at_list\n{image},66.00\n")
    assert main(["usage", "reconcile", str(bill), "--format", "csv", *url]) == 1
    discounted = {
        row["sku"]: row["billed_usd"] for row in csv.DictReader(capsys.readouterr().out.splitlines())
    }
    assert discounted["gemini-3.1-flash-image/image_output/standard"] == "66"
    bill.write_text(f"{columns}\n{image}\n")
    assert main(["usage", "reconcile", str(bill), "--project", "theirs", *url]) == 1
    assert "project ours" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "no column sku_description, usage_start_time, cost"),
        ("sku.description,usage_start_time,cost\nx,2026-11-27,much\n", "line 2: cost must be a number"),
        ("sku.description,usage_start_time,cost\nx,today,1\n", "usage_start_time must be a time such as"),
        ("sku.description,usage_start_time,cost\n", "has no lines"),
    ],
)
def test_what_is_no_bill_is_refused_by_its_column(
    operated: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    bill = tmp_path / "bill.csv"
    bill.write_text(text)
    assert main(["usage", "reconcile", str(bill), "--url", operated.url]) == 1
    assert words in capsys.readouterr().err
