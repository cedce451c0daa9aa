"""What operators change of a running budget: credit, and another limit for a time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from app.domain.budget import AMOUNT_MAX, Budget, Override
from app.domain.errors import Conflict, InternalError
from app.generation.ports import Lead, Refused
from app.ledger.adjustments import RedisBudgetAdjustments
from tests.store.books import DAY, DAY_MS, ONE, Books, now_ms, windows

if TYPE_CHECKING:
    from app.store.client import StoreClients

PREPAID = Budget("image_tokens", "lifetime", 0)


@pytest.fixture
def adjustments(clients: StoreClients) -> RedisBudgetAdjustments:
    return RedisBudgetAdjustments(clients.ledger, deadline_s=10)


async def test_credit_is_what_a_prepaid_budget_can_spend(
    books: Books, adjustments: RedisBudgetAdjustments
) -> None:
    books.budgets = (PREPAID,)
    refused = await books.admit("a")
    assert isinstance(refused, Refused)
    assert refused.windows[0].endless
    added = await adjustments.add_credit(books.tenant, books.windows[0], 2 * 1120, "c1")
    assert (added.budget.limit, added.credit, added.remaining) == (2240, 2240, 2240)
    assert [type(await books.admit(hold)) for hold in "bcd"] == [Lead, Lead, Refused]
    settled = await books.settle("b", ONE._replace(image_tokens=747))
    (window,) = settled.windows
    assert (window.budget.limit, window.credit, window.remaining) == (2240, 2240, 2240 - 747 - 1120)


async def test_a_credit_is_added_once_however_often_it_is_repeated(
    books: Books, adjustments: RedisBudgetAdjustments
) -> None:
    (window,) = windows(PREPAID)
    for _ in range(3):
        assert (await adjustments.add_credit(books.tenant, window, 100, "c1")).credit == 100
    before = await books.dump()
    with pytest.raises(Conflict, match="another credit"):
        await adjustments.add_credit(books.tenant, window, 101, "c1")
    assert await books.dump() == before
    assert (await adjustments.add_credit(books.tenant, window, 5, "c2")).credit == 105


async def test_credit_can_be_taken_back_and_never_falls_below_zero(
    books: Books, adjustments: RedisBudgetAdjustments
) -> None:
    (window,) = windows(PREPAID)
    await adjustments.add_credit(books.tenant, window, 100, "c1")
    assert (await adjustments.add_credit(books.tenant, window, -40, "c2")).credit == 60
    before = await books.dump()
    for amount in (-61, AMOUNT_MAX):
        with pytest.raises(Conflict, match="below zero"):
            await adjustments.add_credit(books.tenant, window, amount, "c3")
    assert await books.dump() == before


async def test_only_a_lifetime_is_prepaid(books: Books, adjustments: RedisBudgetAdjustments) -> None:
    with pytest.raises(Conflict, match="prepaid"):
        await adjustments.add_credit(books.tenant, books.windows[0], 1, "c1")


async def test_a_prepaid_budget_is_configured_amount_and_credit(
    books: Books, adjustments: RedisBudgetAdjustments
) -> None:
    books.budgets = (replace(PREPAID, limit=1120),)
    await adjustments.add_credit(books.tenant, books.windows[0], 1120, "c1")
    assert [type(await books.admit(hold)) for hold in "abc"] == [Lead, Lead, Refused]


async def test_what_was_taken_from_a_running_budget_refuses_and_leaves_nothing_negative(
    books: Books, adjustments: RedisBudgetAdjustments
) -> None:
    books.budgets = (PREPAID,)
    await adjustments.add_credit(books.tenant, books.windows[0], 2240, "c1")
    await books.admit("a")
    after = await adjustments.add_credit(books.tenant, books.windows[0], -2240, "c2")
    assert (after.held, after.remaining) == (1120, 0)
    assert isinstance(await books.admit("b"), Refused)
    assert (await books.settle("a")).state == "settled"


async def test_another_limit_is_in_force_until_its_time_ends(
    books: Books, adjustments: RedisBudgetAdjustments
) -> None:
    (window,) = books.windows
    changed = await adjustments.set_override(books.tenant, window, 1120, now_ms() + DAY_MS)
    assert changed.budget.limit == 1120
    assert [type(await books.admit(hold)) for hold in "ab"] == [Lead, Refused]
    assert (await books.settle("a")).windows[0].budget.limit == 1120
    ended = await adjustments.set_override(books.tenant, window, 1120, 0)
    assert ended.budget.limit == DAY.limit
    assert isinstance(await books.admit("c"), Lead)


async def test_an_override_whose_end_has_passed_is_as_good_as_none(books: Books) -> None:
    (window,) = books.windows
    await books.client.hset(books.key("win"), f"{window.field}:l", f"1;{now_ms() - 1}")
    admitted = await books.admit("a")
    assert isinstance(admitted, Lead)
    assert admitted.windows[0].budget.limit == DAY.limit


async def test_the_files_override_gives_way_to_the_operators(
    books: Books, adjustments: RedisBudgetAdjustments
) -> None:
    books.budgets = (replace(DAY, override=Override(1120, now_ms() + DAY_MS)),)
    assert (await books.ledger.get_windows(books.tenant, books.windows))[0].budget.limit == 1120
    changed = await adjustments.set_override(books.tenant, books.windows[0], 2240, now_ms() + DAY_MS)
    assert changed.budget.limit == 2240
    books.budgets = (replace(DAY, override=Override(1120, now_ms() - 1)),)
    await adjustments.set_override(books.tenant, books.windows[0], 2240, 0)
    assert (await books.ledger.get_windows(books.tenant, books.windows))[0].budget.limit == DAY.limit


async def test_nonsense_is_refused_before_the_first_write(
    books: Books, adjustments: RedisBudgetAdjustments
) -> None:
    (window,) = windows(PREPAID)
    for amount in (AMOUNT_MAX + 1, -AMOUNT_MAX - 1):
        with pytest.raises(InternalError, match="arguments"):
            await adjustments.add_credit(books.tenant, window, amount, "c1")
    with pytest.raises(InternalError, match="arguments"):
        await adjustments.add_credit(books.tenant, window, 1, "c;1")
    with pytest.raises(InternalError, match="arguments"):
        await adjustments.set_override(books.tenant, window, -1, now_ms() + 1)
    assert await books.dump() == {}


async def test_a_purge_of_old_records_leaves_the_credit(
    books: Books, adjustments: RedisBudgetAdjustments
) -> None:
    books.budgets = (PREPAID,)
    await adjustments.add_credit(books.tenant, books.windows[0], 2240, "c1")
    due = await books.client.zrange(books.key("gc"), 0, -1)
    await books.client.zadd(books.key("gc"), dict.fromkeys(due, 1))
    assert isinstance(await books.admit("a"), Lead)
    assert await books.client.hkeys(books.key("res")) == ["a"]
    (window,) = await books.ledger.get_windows(books.tenant, books.windows)
    assert window.credit == 2240
