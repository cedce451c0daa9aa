"""What a hold does to the books, from its admission to its end."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.bound import Bound
from app.domain.budget import AMOUNT_MAX, UNITS, Amounts, Budget
from app.domain.errors import InternalError
from app.domain.report import Spent
from app.generation.ports import Lead, Refused
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.store import keys
from tests.store.books import DAY, DAY_MS, ONE, Books, now_ms, windows

if TYPE_CHECKING:
    from app.store.client import StoreClients


async def test_a_hold_reserves_and_a_settlement_books_what_was_used(books: Books) -> None:
    admitted = await books.admit("a")
    assert isinstance(admitted, Lead)
    (window,) = admitted.windows
    assert (window.settled, window.held, window.needed) == (0, 1120, 1120)
    assert await books.dispatch("a")
    settled = await books.settle("a", ONE._replace(image_tokens=747))
    assert (settled.state, settled.repeated, settled.late) == ("settled", False, False)
    assert [(w.settled, w.held) for w in settled.windows] == [(747, 0)]
    assert settled.windows[0].span == window.span
    assert await books.totals() == [(747, 0)]


async def test_nothing_is_admitted_beyond_the_limit(books: Books) -> None:
    admitted = [await books.admit(f"h{n}") for n in range(12)]
    assert [type(item) for item in admitted] == [Lead] * 10 + [Refused] * 2
    refusal = admitted[-1].windows[0]
    assert (refusal.remaining, refusal.needed, refusal.refuses) == (0, 1120, True)
    assert await books.totals() == [(0, 11_200)]


async def test_a_refusal_by_one_window_touches_none(books: Books) -> None:
    books.budgets = (DAY, Budget("usd", "month", 1), Budget("images", "day", 5))
    before = await books.dump()
    refused = await books.admit("a")
    assert isinstance(refused, Refused)
    assert [w.refuses for w in refused.windows] == [False, True, False]
    assert await books.dump() == before == {}


async def test_every_unit_is_counted_in_its_own_amount(books: Books) -> None:
    books.budgets = tuple(
        Budget(unit, "month", AMOUNT_MAX)
        for unit in ("all_output_tokens", "usd", "images", "total_tokens", "image_tokens")
    )
    await books.admit("a")
    assert await books.totals() == [(0, 1250), (0, 67_200_000), (0, 1), (0, 2000), (0, 1120)]


async def test_budgets_that_share_a_counter_book_it_once(books: Books) -> None:
    books.budgets = (DAY, replace(DAY, limit=100, mode="shadow"))
    admitted = await books.admit("a")
    assert isinstance(admitted, Lead)
    assert await books.totals() == [(0, 1120), (0, 1120)]
    await books.settle("a")
    assert await books.totals() == [(1120, 0), (1120, 0)]


async def test_a_shadow_budget_counts_and_never_refuses(books: Books) -> None:
    books.budgets = (replace(DAY, limit=1000, mode="shadow"),)
    for hold in ("a", "b"):
        assert isinstance(await books.admit(hold), Lead)
    assert await books.totals() == [(0, 2240)]


async def test_repeating_an_admission_changes_nothing(books: Books) -> None:
    first = await books.admit("a")
    before = await books.dump()
    again = await books.admit("a")
    assert isinstance(first, Lead)
    assert isinstance(again, Lead)
    assert await books.dump() == before


async def test_a_hold_id_cannot_be_used_for_other_work(books: Books) -> None:
    await books.admit("a", "work")
    before = await books.dump()
    for options in ({"fingerprint": "other"}, {"fingerprint": "work", "amounts": Amounts(1, 1, 1, 1)}):
        with pytest.raises(InternalError, match="other work"):
            await books.admit("a", **options)
    await books.settle("a")
    with pytest.raises(InternalError, match="settled already"):
        await books.admit("a", "work")
    assert before.keys() >= {books.key("res")}


@pytest.mark.parametrize("outcome", ["settle", "void", "charge"])
async def test_repeating_an_end_changes_nothing_and_tells_the_first_answer(
    books: Books, outcome: Any
) -> None:
    await books.admit("a")
    await books.dispatch("a")
    first = await books.settle("a", outcome=outcome)
    before = await books.dump()
    again = await books.settle("a", outcome=outcome)
    assert again == replace(first, repeated=True, now_ms=again.now_ms, windows=again.windows)
    assert await books.dump() == before


@pytest.mark.parametrize(
    ("first", "second"),
    [("settle", "void"), ("settle", "charge"), ("void", "settle"), ("void", "charge")],
)
async def test_an_end_in_another_way_is_a_conflict_and_changes_nothing(
    books: Books, first: Any, second: Any
) -> None:
    await books.admit("a")
    await books.settle("a", outcome=first)
    before = await books.dump()
    with pytest.raises(InternalError, match="another way"):
        await books.settle("a", outcome=second)
    if first == "settle":
        with pytest.raises(InternalError, match="another way"):
            await books.settle("a", Amounts(1, 1, 1, 1))
    assert await books.dump() == before


async def test_an_end_of_other_work_is_a_conflict(books: Books) -> None:
    await books.admit("a", "work")
    books.fingerprints["a"] = "other"
    before = await books.dump()
    with pytest.raises(InternalError):
        await books.settle("a")
    with pytest.raises(InternalError):
        await books.dispatch("a")
    assert await books.dump() == before


async def test_a_hold_that_the_store_never_saw_is_unknown_and_books_nothing(books: Books) -> None:
    books.fingerprints["a"] = "work"
    assert (await books.settle("a")).state == "unknown"
    assert not await books.dispatch("a")
    assert await books.dump() == {}


async def test_a_hold_that_the_store_forgot_can_be_made_again(books: Books) -> None:
    """A server that lost its books may still know the leader, and must not make it wait for itself."""
    await books.admit("a", "work")
    await books.client.delete(*[books.key(name) for name in keys.LEDGER_NAMES])
    books.ledger.epochs.clear()  # as a process that knows nothing of them
    assert isinstance(await books.admit("a", "work"), Lead)


async def test_an_unsent_hold_whose_owner_died_costs_nothing(books: Books) -> None:
    await books.admit("a")
    await books.expire("a")
    assert await books.totals() == [(0, 0)]
    assert not await books.dispatch("a"), "an expired hold must not be sent"


async def test_a_sent_hold_whose_owner_died_costs_its_estimate(books: Books) -> None:
    await books.admit("a")
    await books.dispatch("a")
    await books.expire("a")
    assert await books.totals() == [(1120, 0)]


async def test_a_sent_hold_is_released_where_the_policy_says_so(clients: StoreClients, tenant: str) -> None:
    async with RedisLedger(clients.ledger, LedgerConfig(unknown_outcome="release", deadline_s=10)) as ledger:
        books = Books(ledger, clients.ledger, tenant)
        await books.admit("a")
        await books.dispatch("a")
        await books.expire("a")
        assert await books.totals() == [(0, 0)]


async def test_a_late_dispatch_is_refused_although_no_sweep_came_by(books: Books) -> None:
    await books.admit("a")
    await books.expire("a")
    assert not await books.dispatch("a")
    assert await books.totals() == [(0, 0)]


async def test_a_heartbeat_renews_the_lease(books: Books) -> None:
    await books.admit("a")
    await books.dispatch("a")
    first = await books.client.zscore(books.key("exp"), "a")
    await books.client.zadd(books.key("exp"), {"a": now_ms() + 1000})
    assert await books.dispatch("a")
    renewed = await books.client.zscore(books.key("exp"), "a")
    assert renewed >= first > now_ms() + 25_000


async def test_a_heartbeat_after_the_charge_changes_nothing(books: Books) -> None:
    await books.admit("a")
    await books.dispatch("a")
    await books.expire("a")
    assert await books.totals() == [(1120, 0)]
    before = await books.dump()
    assert not await books.dispatch("a")
    assert await books.dump() == before


@pytest.mark.parametrize("swept", [True, False])
@pytest.mark.parametrize("sent", [True, False])
async def test_a_late_settlement_corrects_an_expired_hold_once(books: Books, sent: bool, swept: bool) -> None:
    await books.admit("a")
    if sent:
        await books.dispatch("a")
    await books.expire("a")
    if swept:
        await books.totals()
    late = await books.settle("a", ONE._replace(image_tokens=900))
    assert (late.state, late.late, late.repeated) == ("settled", True, False)
    assert await books.totals() == [(900, 0)]
    assert await books.overage() == (0 if sent else 900), "what was given back and used all the same"
    again = await books.settle("a", ONE._replace(image_tokens=900))
    assert (again.late, again.repeated) == (True, True)
    assert await books.totals() == [(900, 0)]


async def test_a_late_release_takes_the_charge_back(books: Books) -> None:
    await books.admit("a")
    await books.dispatch("a")
    await books.expire("a")
    assert (await books.settle("a", outcome="void")).late
    assert await books.totals() == [(0, 0)]


async def test_an_unknown_outcome_is_charged_and_may_be_corrected_later(books: Books) -> None:
    await books.admit("a")
    await books.dispatch("a")
    assert (await books.settle("a", outcome="charge")).state == "charged"
    assert await books.totals() == [(1120, 0)]
    assert (await books.settle("a", ONE._replace(image_tokens=5))).late
    assert await books.totals() == [(5, 0)]


async def test_using_more_than_was_held_is_booked_shown_and_refuses_the_next(books: Books) -> None:
    books.budgets = (replace(DAY, limit=3 * 1120),)
    await books.admit("a")
    await books.dispatch("a")
    await books.settle("a", ONE._replace(image_tokens=10 * 1120))
    assert await books.totals() == [(11_200, 0)]
    assert await books.overage() == 9 * 1120
    refused = await books.admit("b")
    assert isinstance(refused, Refused)
    assert refused.windows[0].remaining == 0


async def test_a_lowered_limit_refuses_without_a_negative_remainder(books: Books) -> None:
    await books.admit("a")
    await books.admit("b")
    refused = await books.limited(1000).admit("c")
    assert isinstance(refused, Refused)
    assert refused.windows[0].remaining == 0
    assert isinstance(await books.limited(4 * 1120).admit("d"), Lead)


async def test_thousands_of_dead_holds_do_not_refuse_one_live_request(books: Books) -> None:
    orphans = 10_000
    books.budgets = (replace(DAY, limit=orphans * 1120),)
    await books.admit("seed")
    span = (await books.ledger.get_windows(books.tenant, books.windows))[0].span
    counter = f"t|output_tokens|day|{span.start_ms}"
    record = await books.client.hget(books.key("res"), "seed")
    names = [f"o{n}" for n in range(orphans - 1)]
    async with books.client.pipeline(transaction=False) as pipe:
        pipe.hset(books.key("res"), mapping=dict.fromkeys(names, record))
        pipe.hset(books.key("win"), f"{counter}:h", str(orphans * 1120))
        pipe.zadd(books.key("exp"), dict.fromkeys(names, 1))
        await pipe.execute()
    assert isinstance(await books.admit("live"), Lead)
    assert isinstance(await books.admit("large", amounts=Amounts(9_900 * 1120)), Lead)
    assert (await books.totals())[0][1] <= books.budgets[0].limit


@pytest.mark.parametrize("off_ms", [20 * 3_600_000, -20 * 3_600_000, 3 * DAY_MS, -3 * DAY_MS, -40 * DAY_MS])
async def test_the_stores_clock_picks_the_window_whatever_the_callers_says(books: Books, off_ms: int) -> None:
    books.budgets = (DAY, Budget("images", "month", 9))
    expected = [window.spans[1] for window in books.windows]
    request = replace(books.request("a"), windows=windows(*books.budgets, at_ms=now_ms() + off_ms))
    admitted = await books.ledger.admit(request)
    assert isinstance(admitted, Lead)
    assert [window.span for window in admitted.windows] == expected
    assert [w.span for w in await books.ledger.get_windows(books.tenant, request.windows)] == expected
    assert await books.totals() == [(0, 1120), (0, 1)]


async def test_a_settlement_is_booked_where_the_hold_was_made(books: Books) -> None:
    """Months later: the hold stands in a past window, and the settlement finds it there."""
    await books.admit("a")
    (span,) = [w.span for w in await books.ledger.get_windows(books.tenant, books.windows)]
    past = span.start_ms - 40 * DAY_MS
    record = await books.client.hget(books.key("res"), "a")
    assert record is not None
    moved = record.replace(f"@{span.start_ms // 1000}s@", f"@{past // 1000}s@")
    await books.client.hset(books.key("res"), "a", moved)
    counter = "t|output_tokens|day|"
    await books.client.hset(books.key("win"), f"{counter}{past}:h", "1120")
    await books.client.hset(books.key("win"), f"{counter}{span.start_ms}:h", "0")
    settled = await books.settle("a", ONE._replace(image_tokens=700))
    assert settled.windows[0].span.start_ms == past
    assert await books.client.hget(books.key("win"), f"{counter}{past}:s") == "700"
    assert await books.totals() == [(0, 0)]


@pytest.mark.parametrize("amount", [0, 1, AMOUNT_MAX])
async def test_every_whole_number_below_two_to_the_53_is_exact(books: Books, amount: int) -> None:
    books.budgets = (Budget("image_tokens", "day", AMOUNT_MAX),)
    assert isinstance(await books.admit("a", amounts=Amounts(image_tokens=amount)), Lead)
    assert await books.totals() == [(0, amount)]
    await books.settle("a", Amounts(image_tokens=amount))
    assert await books.totals() == [(amount, 0)]


@pytest.mark.parametrize(
    "amount", [-1, 1.5, math.nan, math.inf, "x", "", AMOUNT_MAX + 1, "0x10", "1e3", " 1", None]
)
async def test_anything_else_is_refused_before_the_first_write(books: Books, amount: Any) -> None:
    await books.admit("held")
    before = await books.dump()
    for place in range(len(UNITS)):
        amounts = Amounts(*[amount if unit == place else 1 for unit in range(len(UNITS))])
        with pytest.raises(InternalError, match="arguments"):
            await books.admit("a", amounts=amounts)
        with pytest.raises(InternalError, match="arguments"):
            await books.settle("held", amounts, spent=Spent())
    assert await books.dump() == before


async def test_names_that_would_break_a_record_are_refused_before_the_first_write(books: Books) -> None:
    for hold in ("a;b", "a,b", "a b", "!a", "", "ä", "a" * 201):
        with pytest.raises(InternalError, match="arguments"):
            await books.ledger.admit(replace(books.request("good"), hold_id=hold))
    bad = tuple(replace(window, field="t|a@b") for window in books.windows)
    with pytest.raises(InternalError, match="arguments"):
        await books.ledger.admit(replace(books.request("good"), windows=bad))
    assert await books.dump() == {}


async def test_counters_that_would_overflow_are_refused_and_not_wrapped(books: Books) -> None:
    books.budgets = (Budget("image_tokens", "day", AMOUNT_MAX, mode="shadow"),)
    await books.admit("a")
    (span,) = [w.span for w in await books.ledger.get_windows(books.tenant, books.windows)]
    full = {f"t|output_tokens|day|{span.start_ms}:s": str(2**62)}
    await books.client.hset(books.key("win"), mapping=full)
    before = await books.dump()
    with pytest.raises(InternalError):
        await books.admit("b")
    with pytest.raises(InternalError):
        await books.settle("a")
    assert await books.dump() == before


async def test_a_tenant_without_budgets_is_admitted_and_its_work_is_still_shared(books: Books) -> None:
    books.budgets = ()
    assert await books.admit("a", "work") == Lead("a", (), bound=Bound(0, ONE))
    assert await books.dispatch("a")
    assert (await books.publish("a")).windows == ()


async def test_what_is_over_is_forgotten_in_time_and_what_is_open_is_not(books: Books) -> None:
    for hold in ("ended", "open"):
        await books.admit(hold)
    await books.settle("ended")
    due = await books.client.zrange(books.key("gc"), 0, -1)
    assert {name[:2] for name in due} == {"r;", "w;", "u;", "l;"}
    await books.client.zadd(books.key("gc"), dict.fromkeys(due, 1))
    await books.admit("next")
    assert sorted(await books.client.hkeys(books.key("res"))) == ["next", "open"]
    assert await books.client.hkeys(books.key("lead")) == ["work-next"]
    assert await books.totals() == [(1120, 2240)], "a window in which something is held stays"
    await books.settle("open")
    await books.settle("next")
    due = await books.client.zrange(books.key("gc"), 0, -1)
    await books.client.zadd(books.key("gc"), dict.fromkeys(due, 1))
    await books.admit("last")
    assert await books.client.hkeys(books.key("res")) == ["last"]
    assert await books.totals() == [(0, 1120)]
