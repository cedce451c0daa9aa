"""A refusal says in plain words what is needed, what is left, in which unit, and when that changes."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import ROUND_DOWN, ROUND_UP
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.budget import (
    LIFETIME_MS,
    NANO_PER_USD,
    WINDOWS,
    Budget,
    Scope,
    Span,
    Unit,
    WindowState,
)
from app.domain.estimate import WouldFit
from app.domain.explanations import explain_budget, explain_fitting, explain_rate, format_dollars
from app.domain.rate import RateLimit, RateState

BERLIN = ZoneInfo("Europe/Berlin")
MIDNIGHT_MS = 1_796_079_600_000  # 2026-12-01T00:00 in Berlin


def state(
    unit: Unit, window: Any, limit: int, *, needed: int, used: int = 0, scope: Scope = "tenant", **more: Any
) -> WindowState:
    """A window that ends at that midnight, of which so much is booked."""
    end_ms = LIFETIME_MS if window == "lifetime" else MIDNIGHT_MS
    budget = Budget(unit, window, limit, scope)
    return WindowState(budget, used, 0, Span(0, end_ms), MIDNIGHT_MS - 60_000, needed=needed, **more)


SHADOW = Budget("images", "day", 5, mode="shadow")
RESETS = "It resets at 2026-12-01 00:00 (Europe/Berlin)."
EXPLAINED = {
    "This request needs up to $0.4591, and the tenant's budget for this day has $0.004823 of $0.50 left. "
    + RESETS: state("usd", "day", 500_000_000, needed=459_004_500, used=495_176_500),
    "This request needs up to 1,120 image tokens, and the project's budget for this month has 300 of 41,440 "
    "left. " + RESETS: state("image_tokens", "month", 41_440, needed=1120, used=41_140, scope="project"),
    "This request needs 1 image, and this key's budget for this hour has 0 of 5 left. " + RESETS: state(
        "images", "hour", 5, needed=1, used=5, scope="key"
    ),
    "This request needs up to 2,520 image tokens, and the tenant's whole budget for a minute is 2,240. "
    "Waiting does not help; ask for less.": state("image_tokens", "minute", 2240, needed=2520),
    "This request needs up to 1,720 tokens, and the tenant's prepaid budget has 1,000 of 5,000 left. "
    "It never resets; more credit is needed.": state(
        "total_tokens", "lifetime", 5000, needed=1720, used=4000
    ),
}


@pytest.mark.parametrize(("sentence", "refusing"), EXPLAINED.items())
def test_a_budget_that_refuses_explains_itself(sentence: str, refusing: WindowState) -> None:
    assert explain_budget(refusing, BERLIN) == sentence


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("scope", get_args(Scope))
@pytest.mark.parametrize("unit", get_args(Unit))
@pytest.mark.parametrize("needed", [70_000_000, 2**40])
def test_whatever_refuses_is_named_with_its_unit_and_what_helps(
    unit: Unit, scope: Scope, window: Any, needed: int
) -> None:
    refusing = state(unit, window, 10**10, needed=needed, used=10**10, scope=scope)
    sentence = explain_budget(refusing, BERLIN)
    owner = {
        "tenant": "the tenant's",
        "project": "the project's",
        "key": "this key's",
        "user": "this user's",
    }[scope]
    assert re.search(rf"{owner} (prepaid |whole )?budget", sentence)
    assert {"usd": "$", "images": "images"}.get(unit, "tokens") in sentence
    assert ("Europe/Berlin" in sentence) != ("does not help" in sentence or "credit" in sentence)
    assert not re.search(r"\d{5,}", sentence.replace("2026", "")), "large numbers are written to be read"
    assert "_" not in sentence


@pytest.mark.parametrize(
    ("refusing", "never"),
    [
        (state("images", "day", 5, needed=6), True),
        (state("images", "day", 5, needed=5, used=1), False),
        (state("images", "day", 0, needed=1), True),
        # An operator has lowered the limit for a time, and it comes back.
        (state("images", "day", 0, needed=1, usual_limit=5), False),
        (state("images", "day", 5, needed=6, usual_limit=5), True),
        (state("images", "lifetime", 5, needed=3, used=3), True),
        (replace(state("images", "lifetime", 5, needed=3, used=2), held=1), False),
        (
            replace(state("images", "day", 5, needed=6), budget=Budget("images", "day", 5, mode="shadow")),
            False,
        ),
    ],
)
def test_what_never_fits_is_told_from_what_will_fit_again(refusing: WindowState, never: bool) -> None:
    assert refusing.never_fits is never


@given(st.integers(0, 2**53))
def test_dollars_are_never_rounded_the_kind_way(nano_usd: int) -> None:
    def back(text: str) -> float:
        return float(text.removeprefix("$").replace(",", "")) * NANO_PER_USD

    assert re.fullmatch(r"\$\d{1,3}(,\d{3})*\.\d{2,9}", format_dollars(nano_usd))
    up, down = format_dollars(nano_usd, ROUND_UP), format_dollars(nano_usd, ROUND_DOWN)
    assert back(down) <= back(format_dollars(nano_usd)) + 1 <= back(up) + 2
    assert back(up) - back(down) <= max(nano_usd / 500, 1.1 * NANO_PER_USD / 100)


@pytest.mark.parametrize(
    ("fitting", "single", "sentence"),
    [
        (WouldFit("1K", 0), "4K", "What would fit now: the size 1K."),
        (WouldFit("2K", 1), "4K", "What would fit now: the size 2K, or 1 picture in place of 4."),
        (WouldFit("4K", 3), "4K", "What would fit now: 3 pictures in place of 4."),
        (WouldFit(None, 0), "2K", "What would fit now: 1 picture of the size 2K."),
        (WouldFit(None, 0), None, ""),
    ],
)
def test_what_would_fit_is_told_in_words(fitting: WouldFit, single: str | None, sentence: str) -> None:
    assert explain_fitting(fitting, WouldFit(single, 0), "4K", 4) == sentence


@pytest.mark.parametrize(
    ("kind", "limit", "sentence"),
    [
        ("requests", 1, "This key may make 1 request a minute; try again in 12 s."),
        ("requests", 6000, "This key may make 6,000 requests a minute; try again in 12 s."),
        ("concurrent", 2, "This key may have 2 requests under way at once; try again in 12 s."),
    ],
)
def test_a_rate_that_refuses_explains_itself(kind: Any, limit: int, sentence: str) -> None:
    refusing = RateState(RateLimit(kind, "key", "k", limit), 0, 12_000, 12_000, refused=True)
    assert explain_rate(refusing, 12) == sentence
