"""Tenants whose budgets cover every unit, window and scope, and by how much they may exceed a limit."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from app.cards import load_catalogue
from app.domain.bound import build_bounds
from app.domain.budget import NANO_PER_USD, NOTHING, UNITS, WINDOWS, Amounts, Budget, build_window
from app.domain.estimate import estimate
from app.domain.keys import ENTROPY_BYTES, hash_secret, mint
from app.domain.request import GenerationRequest
from tests.server.conftest import PEPPER
from tests.store.books import ZONE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.domain.budget import Scope, Unit, WindowName

SCOPES: tuple[Scope, ...] = ("tenant", "project", "key")
PICTURE: dict[Unit, float] = {
    "image_tokens": 1120,
    "total_tokens": 2000,
    "images": 1,
    "usd": 0.08,
    "all_output_tokens": 1900,
}
"""About what one picture uses."""
PICTURES: dict[WindowName, int] = dict(zip(WINDOWS, (12, 30, 36, 42, 48, 54), strict=True))
WIDER: dict[Scope, int] = {"key": 1, "project": 2, "tenant": 3}
USUAL, GREEDY, EXCESSIVE, STRICT, MIXED, RICH = NAMES = (
    "usual",
    "greedy",
    "excessive",
    "strict",
    "mixed",
    "rich",
)
"""``greedy`` answers use up their bound, some ``excessive`` ones pass it; ``strict`` refuses the tail."""
SIZES = ("512", "1K", "2K")
LEVELS = ("minimal", "high")
PROMPT_BYTES_MAX = 120


@dataclass(frozen=True)
class ChaosTenant:
    """A tenant with its key, and the limits of its counters by their names without the start."""

    id: str
    key: str
    limits: dict[str, int]
    tail: Amounts


def write_tenants(path: Path) -> dict[str, ChaosTenant]:
    """Write the tenants' file. Of the 90 kinds of budgets, each of the six tenants has 15."""
    tenants, entries = {}, []
    for number, name in enumerate(NAMES):
        key = mint("test", bytes([number]) * ENTROPY_BYTES)
        budgets = list(_list_budgets(number, 1000 if name == RICH else 1))
        documents = {scope: [_describe(each) for each in budgets if each.scope == scope] for scope in SCOPES}
        hashed = f"hmac-sha256:{hash_secret(PEPPER.encode(), key.secret)}"
        entries.append(
            {
                "id": name,
                "time_zone": ZONE.key,
                "tail": "refuse" if name == STRICT else "serve_one",
                "budgets": documents["tenant"],
                "projects": [{"id": "p", "budgets": documents["project"]}],
                "keys": [
                    {
                        "id": key.key_id,
                        "hash": hashed,
                        "scopes": ["images"],
                        "project": "p",
                        "budgets": documents["key"],
                    }
                ],
            }
        )
        owners = {"tenant": "t", "project": "p:p", "key": f"k:{key.key_id}"}
        limits = {
            build_window(each, owners[each.scope], ZONE, 0).field: each.limit
            for each in budgets
            if each.mode == "enforce"
        }
        tail = NOTHING if name == STRICT else compute_tail()
        tenants[name] = ChaosTenant(name, key.text, limits, tail)
    path.write_text(yaml.safe_dump({"tenants": entries}))
    return tenants


def _list_budgets(number: int, factor: int) -> Iterator[Budget]:
    for row, unit in enumerate(UNITS):
        for column, scope in enumerate(SCOPES):
            window = WINDOWS[(number + row + column) % len(WINDOWS)]
            amount = round(PICTURE[unit] * PICTURES[window] * WIDER[scope] * factor, 2)
            budget = Budget(unit, window, 0, scope)
            yield Budget(unit, window, round(amount * budget.scale), scope)
            if scope == "tenant" and window != "lifetime":
                yield Budget(unit, "lifetime", 10**6 * budget.scale, mode="shadow")


def _describe(budget: Budget) -> dict[str, Any]:
    limit = budget.limit / NANO_PER_USD if budget.unit == "usd" else budget.limit
    return {"unit": budget.unit, "window": budget.window, "limit": limit, "mode": budget.mode}


def compute_tail() -> Amounts:
    """The most by which the last request of a budget can exceed it: its worst case less its expected cost.

    The allowances are the card's: no replica lives long enough to learn others.
    """
    card = next(card for card in load_catalogue() if card.id == "gemini-3.1-flash-image")
    gaps = []
    for size, level in itertools.product(SIZES, LEVELS):
        request = GenerationRequest(card.id, "x" * PROMPT_BYTES_MAX, image_size=size, thinking_level=level)
        expected = estimate(request, card).amounts
        worst = build_bounds(request, card, None, expected)[0].worst
        gaps.append([most - usual for most, usual in zip(worst, expected, strict=True)])
    return Amounts(*map(max, zip(*gaps, strict=True)))


def count_made(billed: dict[str, int]) -> Amounts:
    """What the upstream made, from its own count; dollars by the prices of Google's list."""
    tokens = billed["image_tokens"]
    usd = 500 * billed["input_tokens"] + 60_000 * tokens + 3_000 * (billed["output_tokens"] - tokens)
    return Amounts(tokens, billed["total_tokens"], billed["pictures"], usd, billed["output_tokens"])
