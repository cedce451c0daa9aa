"""No request is lost or paid twice while its model is migrated, share by share, and back."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.bill.run import Site, read_lines, run_command, running_site, write_bill
from tests.cutover.run import NEW, OLD, SESSIONS, Replay, count_billed, replay_sessions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUESTS = 400


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Replay]]:
    with running_site(tmp_path_factory.mktemp("cutover")) as site:
        yield site, replay_sessions(site, REQUESTS, seed=5)


def test_no_request_is_lost_across_the_cut_over(run: tuple[Site, Replay]) -> None:
    _, replay = run
    assert replay.lost == []
    assert sum(replay.answers.values()) >= REQUESTS * 0.8
    for kind in SESSIONS.keys() - {"openai", "seed"}:
        served = {model for name, model in replay.answers if name == kind}
        assert served == {OLD, NEW}, f"{kind} was not served by both models"
    assert replay.answers["seed refused", NEW]


def test_nothing_is_paid_twice_across_the_cut_over(run: tuple[Site, Replay]) -> None:
    site, replay = run
    assert count_billed(site) == replay.pictures


def test_the_ledger_equals_the_bill_across_the_cut_over(run: tuple[Site, Replay], tmp_path: Path) -> None:
    site, _ = run
    bill = write_bill(site, tmp_path)
    status, text = run_command(site, "usage", "reconcile", str(bill), "--format", "csv")
    lines = read_lines(text)
    assert status == 0, text
    assert sum(abs(Decimal(line["unexplained_usd"])) for line in lines) == 0, text
    assert {line["sku"].split("/")[0] for line in lines} >= {OLD, NEW}
