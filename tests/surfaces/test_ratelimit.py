"""RateLimit headers, read back by an independent parser of structured fields (docs/reliability.md R24)."""

from __future__ import annotations

from typing import Any, cast

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.budget import AMOUNT_MAX, UNITS, Budget, Span, WindowState
from app.surfaces.http.ratelimit import build_rate_limit_headers

DAY = Span(0, 86_400_000)
SF_INTEGER_MAX = 10**15 - 1

windows = st.builds(
    WindowState,
    budget=st.builds(
        Budget,
        unit=st.sampled_from(UNITS),
        window=st.sampled_from(["day", "month"]),
        limit=st.integers(0, AMOUNT_MAX),
        scope=st.sampled_from(["tenant", "key"]),
        mode=st.sampled_from(["enforce", "shadow"]),
    ),
    settled=st.integers(0, AMOUNT_MAX),
    held=st.integers(0, AMOUNT_MAX),
    span=st.integers(1, 10**7).map(lambda length: Span(0, length * 1000 + 1)),
    now_ms=st.integers(-(10**9), 10**11),
    needed=st.integers(0, 10**6),
)


def parsed(value: str) -> list[tuple[str, dict[str, Any]]]:
    """A structured-field list as (name, parameters)."""
    return cast("list[tuple[str, dict[str, Any]]]", http_sf.parse(value.encode(), tltype="list"))


def state(budget: Budget, settled: int = 0, now_ms: int = 0) -> WindowState:
    return WindowState(budget, settled, 0, DAY, now_ms)


def test_the_headers_are_those_of_the_draft() -> None:
    budget = Budget("image_tokens", "day", 41_440)
    assert build_rate_limit_headers((state(budget, settled=1120, now_ms=3_600_001),)) == {
        "RateLimit-Policy": '"tenant-day-image_tokens";q=41440;w=86400;qu="image_tokens"',
        "RateLimit": '"tenant-day-image_tokens";r=40320;t=82800',
    }


def test_the_tightest_window_stands_first() -> None:
    wide = state(Budget("usd", "month", 1000), settled=100)
    tight = state(Budget("images", "day", 10, scope="key"), settled=9)
    empty = state(Budget("image_tokens", "day", 0))
    found = build_rate_limit_headers((wide, tight, empty))
    names = ["tenant-day-image_tokens", "key-day-images", "tenant-month-usd"]
    assert [name for name, _ in parsed(found["RateLimit"])] == names
    assert [name for name, _ in parsed(found["RateLimit-Policy"])] == names


@pytest.mark.parametrize("budgets", [(), (Budget("images", "day", 1, mode="shadow"),)])
def test_without_a_window_that_can_refuse_there_are_no_headers(budgets: tuple[Budget, ...]) -> None:
    assert build_rate_limit_headers(tuple(state(budget) for budget in budgets)) == {}


def test_dollars_are_said_to_be_billionths() -> None:
    found = build_rate_limit_headers((state(Budget("usd", "day", 500_000_000_000)),))
    assert parsed(found["RateLimit-Policy"]) == [
        ("tenant-day-usd", {"q": 500_000_000_000, "w": 86_400, "qu": "nano_usd"})
    ]


@given(st.lists(windows, max_size=6).map(tuple))
def test_whatever_the_windows_the_headers_are_well_formed(found: tuple[WindowState, ...]) -> None:
    headers = build_rate_limit_headers(found)
    enforced = [window for window in found if window.budget.mode == "enforce"]
    assert bool(headers) == bool(enforced)
    if not headers:
        return
    policies, states = parsed(headers["RateLimit-Policy"]), parsed(headers["RateLimit"])
    assert [name for name, _ in policies] == [name for name, _ in states]
    assert sorted(name for name, _ in states) == sorted(window.budget.name for window in enforced)
    for (_, policy), (_, left) in zip(policies, states, strict=True):
        assert 0 <= left["r"] <= policy["q"] <= SF_INTEGER_MAX
        assert 0 <= left["t"] <= policy["w"]
        assert policy["qu"] in {"image_tokens", "total_tokens", "images", "nano_usd", "all_output_tokens"}
