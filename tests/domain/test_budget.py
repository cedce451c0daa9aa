"""Budget windows against the calendars of the whole world (docs/reliability.md R12)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.budget import AMOUNT_MAX, UNITS, Amounts, Budget, Span, WindowState, compute_spans
from app.domain.tenancy import Caller, Key, Tenant, list_budget_windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.budget import WindowName

ZONES = sorted(available_timezones())
YEARS = (2010, 2018, 2026)
HOUR_MS = 3_600_000


def milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def local(ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(ms / 1000, zone)


def days_of_change(zone: ZoneInfo) -> Iterator[int]:
    """A moment within 24 hours before each change of the zone's offset, in the years of YEARS."""
    for year in YEARS:
        begin = datetime(year, 1, 1, tzinfo=UTC)
        moments = [begin + timedelta(days=day) for day in range(367)]
        offsets = [moment.astimezone(zone).utcoffset() for moment in moments]
        for moment, (before, after) in zip(moments, pairwise(offsets), strict=False):
            if before != after:
                yield int(moment.timestamp() * 1000)


def check_windows(window: WindowName, zone: ZoneInfo, now_ms: int) -> tuple[Span, Span, Span]:
    """What must hold of any three windows: in order, without a gap, round the moment, at local midnights."""
    found = compute_spans(window, zone, now_ms)
    previous, current, following = found
    assert previous.start_ms < previous.end_ms == current.start_ms < current.end_ms == following.start_ms
    assert following.start_ms < following.end_ms
    assert current.start_ms <= now_ms < current.end_ms
    for start_ms in (current.start_ms, following.start_ms):
        begin = local(start_ms, zone)
        # Nothing of the window's first day comes before its start.
        assert local(start_ms - 1, zone).date() < begin.date()
        assert window == "day" or begin.day == 1 or begin.fold or begin.hour
    return found


def test_every_day_on_which_any_zone_changes_its_clocks_is_whole() -> None:
    lengths: dict[float, int] = {}
    for name in ZONES:
        zone = ZoneInfo(name)
        for change_ms in days_of_change(zone):
            now_ms = change_ms - 24 * HOUR_MS
            while now_ms < change_ms + 48 * HOUR_MS:
                _, current, _ = check_windows("day", zone, now_ms)
                hours = (current.end_ms - current.start_ms) / HOUR_MS
                lengths[hours] = lengths.get(hours, 0) + 1
                check_windows("day", zone, current.end_ms - 1)
                now_ms = current.end_ms
    assert {23, 23.5, 24, 24.5, 25} <= lengths.keys()
    assert min(lengths) >= 21
    assert max(lengths) <= 27
    assert lengths[23] > 200
    assert lengths[25] > 200


def test_every_month_in_every_zone_begins_on_its_first_day_and_meets_the_next() -> None:
    for name in ZONES:
        zone = ZoneInfo(name)
        now_ms = milliseconds("2025-12-15T00:00:00Z")
        for month in range(12):
            _, current, following = check_windows("month", zone, now_ms)
            begin = local(following.start_ms, zone)
            assert (begin.month, begin.day) == (month + 1, 1)
            check_windows("month", zone, current.end_ms - 1)
            now_ms = following.start_ms


@pytest.mark.parametrize(
    ("zone", "now", "start", "end", "hours"),
    [
        ("UTC", "2026-11-22T19:00:00Z", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z", 24),
        ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 23),
        ("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 25),
        ("America/New_York", "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", 23),
        ("Asia/Kolkata", "2026-01-01T00:00:00Z", "2025-12-31T18:30:00Z", "2026-01-01T18:30:00Z", 24),
        ("Australia/Lord_Howe", "2026-10-04T03:00:00Z", "2026-10-03T13:30:00Z", "2026-10-04T13:00:00Z", 23.5),
        # Midnight does not exist: Cairo goes from 00:00 straight to 01:00 on the last Friday of April.
        ("Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z", 23),
        # The clocks went from 23:30 to 00:30, so the day began at half past midnight.
        ("America/Toronto", "1919-03-31T12:00:00Z", "1919-03-31T04:30:00Z", "1919-04-01T04:00:00Z", 23.5),
        # Midnight comes twice: Havana goes from 01:00 back to 00:00.
        ("America/Havana", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z", 25),
        # Yesterday comes back: St. John's went from 00:01 to 23:01 the day before; the day had begun.
        ("America/St_Johns", "2010-11-07T03:00:00Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z", 25),
        # A whole day is left out: Samoa had no 30 December 2011.
        ("Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", 24),
        ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z", 24),
        # A zone that moved by three hours.
        ("Antarctica/Casey", "2011-10-28T06:00:00Z", "2011-10-27T16:00:00Z", "2011-10-28T13:00:00Z", 21),
    ],
)
def test_a_day_is_what_the_zones_calendar_says(
    zone: str, now: str, start: str, end: str, hours: float
) -> None:
    _, current, _ = check_windows("day", ZoneInfo(zone), milliseconds(now))
    assert current == (milliseconds(start), milliseconds(end))
    assert current.end_ms - current.start_ms == hours * HOUR_MS


@pytest.mark.parametrize(
    ("window", "zone", "now", "start", "end"),
    [
        ("minute", "UTC", "2026-11-22T19:07:30Z", "2026-11-22T19:07:00Z", "2026-11-22T19:08:00Z"),
        ("hour", "UTC", "2026-11-22T19:07:30Z", "2026-11-22T19:00:00Z", "2026-11-22T20:00:00Z"),
        ("hour", "Asia/Kolkata", "2026-11-22T19:07:30Z", "2026-11-22T18:30:00Z", "2026-11-22T19:30:00Z"),
        # Clocks are put back at 3: the hour from 2 comes twice, as two windows.
        ("hour", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),
        ("hour", "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"),
        # Half an hour is left out of the day, so its last hour is half as long.
        (
            "hour",
            "Australia/Lord_Howe",
            "2026-10-04T12:45:00Z",
            "2026-10-04T12:30:00Z",
            "2026-10-04T13:00:00Z",
        ),
        ("week", "UTC", "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
        ("week", "UTC", "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
        ("week", "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z"),
    ],
)
def test_other_windows_are_what_the_zones_calendar_says(
    window: WindowName, zone: str, now: str, start: str, end: str
) -> None:
    found = compute_spans(window, ZoneInfo(zone), milliseconds(now))
    assert found[1] == (milliseconds(start), milliseconds(end))
    assert found[0].end_ms == found[1].start_ms
    assert found[2].start_ms == found[1].end_ms


@given(
    window=st.sampled_from(["minute", "hour", "week"]),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    now_ms=st.integers(milliseconds("1971-01-01T00:00:00Z"), milliseconds("2100-01-01T00:00:00Z")),
)
def test_windows_of_any_length_meet_without_a_gap_and_agree_whenever_they_are_asked_for(
    window: WindowName, zone: ZoneInfo, now_ms: int
) -> None:
    previous, current, following = compute_spans(window, zone, now_ms)
    assert previous.start_ms < previous.end_ms == current.start_ms <= now_ms < current.end_ms
    assert current.end_ms == following.start_ms < following.end_ms
    for other in (current.start_ms, current.end_ms - 1):
        assert compute_spans(window, zone, other)[1] == current
    assert compute_spans(window, zone, previous.start_ms)[1] == previous
    assert compute_spans(window, zone, following.end_ms - 1)[1] == following


def test_a_lifetime_is_one_window_for_ever() -> None:
    (whole,) = set(compute_spans("lifetime", ZoneInfo("Europe/Berlin"), milliseconds("2026-11-22T19:00:00Z")))
    assert whole.start_ms == 0
    assert local(whole.end_ms, ZoneInfo("UTC")).year == 9999


@pytest.mark.parametrize(
    ("zone", "now", "start", "end"),
    [
        ("UTC", "2026-01-31T23:59:59.999Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        ("UTC", "2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("Europe/Berlin", "2026-03-31T12:00:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"),
        ("Pacific/Kiritimati", "2026-11-30T10:00:00Z", "2026-11-30T10:00:00Z", "2026-12-31T10:00:00Z"),
    ],
)
def test_a_month_is_what_the_zones_calendar_says(zone: str, now: str, start: str, end: str) -> None:
    _, current, _ = check_windows("month", ZoneInfo(zone), milliseconds(now))
    assert current == (milliseconds(start), milliseconds(end))


@given(
    st.sampled_from(ZONES),
    st.integers(milliseconds("1990-01-01T00:00:00Z"), milliseconds("2050-01-01T00:00:00Z")),
    st.sampled_from(["day", "month"]),
)
def test_any_moment_in_any_zone_has_its_windows(zone: str, now_ms: int, window: WindowName) -> None:
    previous, current, following = check_windows(window, ZoneInfo(zone), now_ms)
    assert compute_spans(window, ZoneInfo(zone), previous.end_ms - 1)[1] == previous
    assert compute_spans(window, ZoneInfo(zone), following.start_ms)[1] == following
    assert compute_spans(window, ZoneInfo(zone), current.end_ms - 1)[1] == current


def test_a_caller_is_counted_in_the_tenants_windows_and_in_those_of_the_key() -> None:
    day, month = Budget("image_tokens", "day", 10), Budget("usd", "month", 20)
    read_key = Budget("image_tokens", "day", 5, scope="key")
    key = Key("k1", "", frozenset(), (read_key,))
    tenant = Tenant("search", ZoneInfo("Asia/Tokyo"), (day, month), (key,))
    now_ms = milliseconds("2026-11-30T16:00:00Z")
    found = list_budget_windows(Caller(tenant, key), now_ms)
    assert [(window.field, window.budget) for window in found] == [
        ("t|output_tokens|day", day),
        ("t|usd|month", month),
        ("k:k1|output_tokens|day", read_key),
    ]
    assert found[0].spans == found[2].spans == compute_spans("day", tenant.time_zone, now_ms)
    assert found[1].spans[1].start_ms == milliseconds("2026-12-01T00:00:00+09:00")
    later = found[0].at(now_ms + 24 * HOUR_MS)
    assert later.spans[1] == found[0].spans[2]
    assert (later.budget, later.field) == (found[0].budget, found[0].field)


amounts = st.integers(0, AMOUNT_MAX)


@given(amounts, amounts, amounts, amounts, st.integers(-(10**9), 10**12))
def test_what_is_left_is_never_negative_and_a_reset_never_in_the_past(
    limit: int, settled: int, held: int, asked: int, now_ms: int
) -> None:
    state = WindowState(Budget("images", "day", limit), settled, held, Span(0, 86_400_000), now_ms, asked)
    assert state.remaining == max(0, limit - settled - held)
    assert state.resets_in_s >= 0
    assert state.resets_in_s * 1000 >= state.span.end_ms - now_ms
    assert state.refuses == (settled + held + asked > limit and asked > state.remaining)


@pytest.mark.parametrize(("now_ms", "seconds"), [(0, 2), (1, 2), (999, 2), (1000, 1), (1999, 1), (2000, 0)])
def test_seconds_until_the_reset_are_rounded_up(now_ms: int, seconds: int) -> None:
    state = WindowState(Budget("images", "day", 1), 0, 0, Span(0, 2000), now_ms)
    assert state.resets_in_s == seconds


def test_a_window_in_shadow_never_refuses() -> None:
    budget = Budget("images", "day", 1, mode="shadow")
    assert not WindowState(budget, 5, 5, Span(0, 1), 0, needed=9).refuses


def test_the_stores_order_of_units_is_fixed() -> None:
    assert UNITS == Amounts._fields == ("image_tokens", "total_tokens", "images", "usd", "all_output_tokens")
    assert Budget("usd", "month", 1, scope="key").name == "key-month-usd"
