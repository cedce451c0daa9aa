"""Holds are for the worst: which bound is chosen, what the last of a budget serves, what is unresolved."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from app.domain.bound import Bound
from app.domain.budget import NOTHING, Amounts, Budget
from app.domain.errors import InternalError
from app.generation.ports import Lead, Refused
from app.ledger.hold_records import HoldRecord
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.ledger.restoring import Restorer
from app.ledger.verifying import read_snapshot
from tests.store.books import DAY, ONE, Books, until

if TYPE_CHECKING:
    from app.domain.bound import Tail
    from app.store.client import StoreClients

TIGHT = Bound(1720, Amounts(1680, 3000, 2, 102_000_000, 1720))
WIDE = Bound(3440, Amounts(3360, 5000, 4, 204_000_000, 3440))
WIDEST = Bound(6880, Amounts(6720, 9000, 9, 408_000_000, 6880))
BOUNDS = (TIGHT, WIDE, WIDEST)
REST = Amounts(*(worst - usual for worst, usual in zip(TIGHT.worst, ONE, strict=True)))
TOKENS = DAY.unit


def with_bounds(books: Books, *budgets: Budget, tail: Tail = "serve_one") -> Books:
    return replace(books, budgets=budgets, bounds=BOUNDS, tail=tail)


async def chosen(books: Books, hold: str) -> int | None:
    """The tokens of the bound that an admission came back with; None for a refusal."""
    admission = await books.admit(hold)
    assert isinstance(admission, Lead | Refused)
    return admission.bound.tokens if isinstance(admission, Lead) else None


async def taken(books: Books) -> tuple[int, int, int]:
    """Settled, held and unresolved of the first window."""
    window, *_ = await books.ledger.get_windows(books.tenant, books.windows)
    return window.settled, window.held, window.unresolved


@pytest.mark.parametrize(
    ("limit", "tokens"),
    [
        (64 * 6720, 6880),
        (64 * 6720 - 1, 3440),
        (64 * 3360, 3440),
        (64 * 3360 - 1, 1720),
        (1680, 1720),
        (1679, 1720),
        (1120, 1720),
        (1119, None),
    ],
)
async def test_the_widest_bound_is_chosen_of_which_64_holds_fit(
    books: Books, limit: int, tokens: int | None
) -> None:
    assert await chosen(with_bounds(books, Budget(TOKENS, "day", limit)), "a") == tokens


async def test_every_window_that_is_enforced_has_a_say_and_no_other(books: Books) -> None:
    ample, small = Budget("images", "day", 10_000), Budget(TOKENS, "month", 70 * 3360)
    shadow = Budget("usd", "day", 1, mode="shadow")
    assert await chosen(with_bounds(books, ample, small, shadow), "a") == 3440
    assert await chosen(with_bounds(books, shadow), "b") == 6880
    assert await chosen(with_bounds(books), "c") == 6880


async def test_a_limit_of_37_pictures_serves_37_one_after_the_other(books: Books) -> None:
    books = with_bounds(books, Budget(TOKENS, "day", 37 * 1120))
    for number in range(37):
        assert await chosen(books, f"h{number}") == 1720
        await books.settle(f"h{number}")
    assert await chosen(books, "more") is None
    assert await taken(books) == (37 * 1120, 0, 0)


async def test_the_last_of_a_budget_serves_one_call_at_a_time_and_is_exceeded_by_no_more_than_it_can(
    books: Books,
) -> None:
    books = with_bounds(books, Budget(TOKENS, "day", 10 * 1120), Budget("images", "week", 100))
    answers = await asyncio.gather(*(chosen(books, f"h{number}") for number in range(40)))
    admitted = [number for number, tokens in enumerate(answers) if tokens is not None]
    assert len(admitted) == 7  # six holds of 1680, and one of the 1120 that are left
    assert await taken(books) == (0, 7 * 1680, 0)
    for number in admitted:
        await books.settle(f"h{number}", TIGHT.worst)
    settled, held, _ = await taken(books)
    assert (settled, held) == (7 * 1680, 0)
    assert settled <= 10 * 1120 + 1680 - 1120
    assert await chosen(books, "after") is None


async def test_a_tail_in_one_window_closes_it_for_all_who_share_it(books: Books) -> None:
    one = with_bounds(books, Budget(TOKENS, "day", 1120), Budget("images", "week", 100))
    other = replace(one, budgets=(Budget("images", "month", 100), *one.budgets))
    assert await chosen(one, "a") == 1720
    assert await chosen(other, "b") is None
    await one.settle("a", NOTHING)
    assert await chosen(other, "c") == 1720


async def test_a_tenant_may_have_the_last_of_its_budget_refused(books: Books) -> None:
    refusing = with_bounds(books, Budget(TOKENS, "day", 1679), tail="refuse")
    refused = await refusing.admit("a")
    assert isinstance(refused, Refused)
    assert [window.needed for window in refused.windows] == [1680]
    assert await chosen(with_bounds(books, Budget(TOKENS, "day", 1680), tail="refuse"), "b") == 1720


async def test_a_repeated_admission_has_its_first_bound_whatever_fits_by_now(books: Books) -> None:
    ample = with_bounds(books, Budget(TOKENS, "day", 64 * 6720))
    assert await chosen(ample, "a") == 6880
    assert await chosen(ample, "b") == 3440
    assert await chosen(ample, "a") == 6880
    assert (await taken(ample))[1] == 6720 + 3360
    with pytest.raises(InternalError):
        await replace(ample, amounts=ONE._replace(images=0)).admit("a")
    with pytest.raises(InternalError):
        await replace(ample, bounds=(TIGHT,)).admit("a")


async def test_an_expectation_above_the_worst_is_refused_before_the_first_write(books: Books) -> None:
    with pytest.raises(InternalError):
        await with_bounds(replace(books, amounts=ONE._replace(images=3)), DAY).admit("a")
    assert await books.dump() == {}


async def test_of_an_unknown_outcome_the_expected_is_booked_and_the_rest_counts_as_taken(
    books: Books,
) -> None:
    books = with_bounds(books, Budget(TOKENS, "day", 2 * 1680))
    assert await chosen(books, "a") == 1720
    await books.dispatch("a")
    await books.expire("a")
    assert await taken(books) == (1120, 0, 560)
    assert await chosen(books, "b") == 1720
    assert await chosen(books, "c") is None  # 3360 less 1680, 1120 and 560: nothing is left
    await books.settle("b", outcome="charge")
    assert await taken(books) == (2240, 0, 1120)


@pytest.mark.parametrize(
    ("outcome", "used", "stands"),
    [("settle", TIGHT.worst, (1680, 0, 0)), ("settle", ONE, (1120, 0, 0)), ("void", ONE, (0, 0, 0))],
)
async def test_a_late_settlement_resolves_what_was_set_aside(
    books: Books, outcome: str, used: Amounts, stands: tuple[int, int, int]
) -> None:
    books = with_bounds(books, DAY)
    await books.admit("a")
    await books.dispatch("a")
    await books.expire("a")
    assert await taken(books) == (1120, 0, 560)
    settled = await books.settle("a", used, outcome)  # type: ignore[arg-type]
    assert settled.late
    assert await taken(books) == stands
    assert await books.overage() == 0
    assert (await books.settle("a", used, outcome)).repeated  # type: ignore[arg-type]
    assert await taken(books) == stands


async def test_what_nobody_knows_of_a_part_of_the_calls_is_set_aside(
    books: Books, clients: StoreClients
) -> None:
    books = with_bounds(books, DAY)
    await books.admit("a")
    await books.dispatch("a")
    await books.settle("a", ONE, unresolved=REST)
    assert (await books.settle("a", ONE, unresolved=REST)).repeated
    with pytest.raises(InternalError):
        await books.settle("a", ONE)
    assert await taken(books) == (1120, 0, 560)
    assert (await read_snapshot(clients.ledger, books.tenant)).find_differences() == []


async def test_forgetting_a_hold_frees_nothing_of_what_is_unresolved(
    clients: StoreClients, tenant: str
) -> None:
    async with RedisLedger(clients.ledger, LedgerConfig(keep_s=0, deadline_s=10)) as ledger:
        books = with_bounds(Books(ledger, clients.ledger, tenant), Budget(TOKENS, "lifetime", 10 * 1120))
        await books.admit("a")
        await books.dispatch("a")
        await books.expire("a")

        async def is_forgotten() -> bool:
            await books.admit("next")
            await books.settle("next", outcome="void")
            return not await clients.ledger.hexists(books.key("res"), "a")

        await until(is_forgotten)
        assert await taken(books) == (1120, 0, 560)
        assert (await read_snapshot(clients.ledger, tenant)).find_differences() == []


async def test_books_that_are_put_back_know_what_is_unresolved(books: Books, clients: StoreClients) -> None:
    books = with_bounds(books, DAY)
    for hold in ("charged", "partly", "open"):
        await books.admit(hold)
        await books.dispatch(hold)
    await books.settle("charged", outcome="charge")
    await books.settle("partly", ONE, unresolved=REST)
    before = await read_snapshot(clients.ledger, books.tenant)
    restorer = Restorer(clients.ledger, books.ledger.scripts, LedgerConfig())
    told = [HoldRecord.from_event(hold.build_event(books.tenant, 1, "test"))[1] for hold in before.holds]
    assert sorted(told, key=str) == sorted(before.holds, key=str)
    names = list(await books.dump())
    await clients.ledger.delete(*names)
    assert (await restorer.put_back(books.tenant, told)).count == 3
    assert await taken(books) == (2240, 1680, 1120)
    assert (await read_snapshot(clients.ledger, books.tenant)).find_differences() == []
    # Another replica knows of one of them only that it was sent; then it learns how it ended.
    assert (await restorer.put_back(books.tenant, [told[0].reopen()])).count == 0
    opened = next(hold for hold in told if hold.hold_id == "open")
    assert (await restorer.put_back(books.tenant, [opened.end("charged", ONE)])).count == 1
    assert await taken(books) == (3360, 0, 1680)
