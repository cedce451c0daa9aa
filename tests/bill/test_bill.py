"""What the ledger booked is what the emulator bills, from prices that it shares with no card."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from app.domain.focus import COLUMNS
from app.domain.reconciliation import REASONS
from tests.bill.run import Site, read_lines, run_command, running_site, send_calls, write_bill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALLS = 400


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("bill")) as site:
        statuses = send_calls(site, CALLS, seed=7)
        assert statuses[200] > CALLS * 0.8
        assert len(statuses) > 3, statuses
        yield site


def test_every_part_of_a_cent_between_bill_and_ledger_has_a_reason(site: Site, tmp_path: Path) -> None:
    bill = write_bill(site, tmp_path)
    status, text = run_command(site, "usage", "reconcile", str(bill), "--format", "csv")
    lines = read_lines(text)
    assert status == 0, text
    assert sum(abs(Decimal(line["unexplained_usd"])) for line in lines) == 0, text
    for line in lines:
        reasons = sum(Decimal(line[name]) for name in REASONS)
        assert Decimal(line["booked_usd"]) + reasons == Decimal(line["billed_usd"]), line
    skus = {line["sku"] for line in lines}
    for part in ("searches/standard", "cached_input/priority", "image_output/flex", "text_output/standard"):
        assert any(sku.endswith(part) for sku in skus), part


def test_without_unknown_outcomes_quantities_are_the_same(site: Site, tmp_path: Path) -> None:
    _status, text = run_command(
        site, "usage", "reconcile", str(write_bill(site, tmp_path)), "--format", "csv"
    )
    for line in read_lines(text):
        if not Decimal(line["unknown_outcomes"]) and "difference" not in line["sku"]:
            assert Decimal(line["booked_quantity"]) == Decimal(line["billed_quantity"]), line


def test_what_only_the_bill_has_is_reported_and_fails(site: Site, tmp_path: Path) -> None:
    bill = write_bill(site, tmp_path)
    rows = list(csv.DictReader(io.StringIO(bill.read_text())))
    dearest = max(rows, key=lambda row: Decimal(row["cost"]))
    with bill.open("a") as file:
        csv.DictWriter(file, rows[0], lineterminator="\n").writerow(dearest)
    status, text = run_command(site, "usage", "reconcile", str(bill))
    assert status == 1
    assert "above 0.1 %" in text
    assert run_command(site, "usage", "reconcile", str(bill), "--tolerance", "100")[0] == 0


def test_searches_that_nobody_gave_away_are_not_explained(site: Site, tmp_path: Path) -> None:
    bill = write_bill(site, tmp_path)
    status, _text = run_command(site, "usage", "reconcile", str(bill), "--free-searches", "0")
    assert status == 1


def test_an_export_adds_up_to_what_was_booked(site: Site) -> None:
    status, text = run_command(site, "usage", "export")
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == COLUMNS
    cost: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        cost[row["SubAccountId"]] += Decimal(row["EffectiveCost"])
    report = site.admin.get("/usage:report?by=tenant").json()["lines"]
    assert dict(cost) == {line["tenant"]: Decimal(str(line["cost_usd"])) for line in report}
    assert {row["x_Project"] for row in rows if row["x_Key"] and row["SubAccountId"] == "shop"} == {"web", ""}
