"""A few seconds of the bad day with each run of the tests; ``make bad-day`` is the long one."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.badday.chart import drawn
from tests.badday.day import Day
from tests.badday.phases import DAY
from tests.badday.report import Report

SEED = 20_261_126
SECONDS, RATE = 3, 12


@pytest.fixture(scope="module")
def report() -> Report:
    with tempfile.TemporaryDirectory(prefix="fg") as folder:
        return Report(Day(SECONDS, SEED, RATE, Path(folder), sizes=("512",), retry_reserve=2).run())


def test_no_promise_is_broken_on_a_bad_day(report: Report) -> None:
    assert report.faults == (), f"\n{report}"
    assert report.delivered > 10
    assert report.total["failovers"] > 0


def test_callers_are_told_what_is_wrong_and_nothing_else(report: Report) -> None:
    outcomes = Counter(each.outcome for each in report.asked)
    known = {"served", "upstream_quota", "upstream_unavailable", "upstream_error", "overloaded"}
    assert outcomes.keys() <= known
    calm = report.rows[0]
    assert len(calm.served) == len(calm.asked) > 0


def test_the_table_and_the_picture_show_every_phase(report: Report) -> None:
    table = str(report)
    assert all(phase.name in table for phase in DAY)
    assert table.endswith("PASSED")
    picture = drawn(report)
    colours = {colour for _, colour in picture.getcolors(picture.width * picture.height) or ()}
    assert picture.size == (1500, 1160)
    assert {(42, 157, 143), (209, 73, 91), (251, 228, 230)} <= colours


def test_a_promise_that_is_broken_is_named(report: Report) -> None:
    report.seen.books["images"] += 1
    try:
        assert [fault for fault in report.faults if "booked pictures" in fault]
        assert str(report).endswith("FAILED")
    finally:
        report.seen.books["images"] -= 1
