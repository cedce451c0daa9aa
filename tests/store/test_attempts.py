"""Attempts at a call: what one was not delivered goes to the next, to one of them, and to nobody twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.attempt import Attempt, Rejoined
from app.domain.failure import Failure
from app.generation.ports import Failed, Follow, Lead, Settlement
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from tests.store.books import Books, until

if TYPE_CHECKING:
    from app.generation.ports import Admission
    from app.store.client import StoreClients

BLOCKED = Failure("content_blocked", "It was blocked.", "IMAGE_SAFETY", "123", final=True)


def attempt(name: str, *, repeats: bool = False, origin: str = "origin", **more: Any) -> Attempt:
    return Attempt(origin, name, repeats, 3600, **more)


async def admit(books: Books, hold: str, made: Attempt) -> Admission:
    """An admission of an attempt at the one piece of work, under a hold of its own if it leads."""
    return await books.ledger.admit(replace(books.request(hold, "work", mode="bypass"), attempt=made))


async def first(books: Books, name: str) -> Attempt:
    """A first attempt, whose call is under way."""
    made = attempt(name)
    assert isinstance(await admit(books, name, made), Lead)
    await books.dispatch(name)
    return made


async def settle(
    books: Books, made: Attempt, outcome: Any = "settle", failure: Failure | None = None
) -> None:
    """The end of the call that this attempt began."""
    settlement = Settlement(
        books.tenant, made.id, "work", outcome, books.amounts, failure=failure, attempt=made
    )
    await books.ledger.settle(settlement, books.windows)


async def gone(books: Books, made: Attempt) -> None:
    await books.ledger.note_delivery(books.tenant, made, "abandoned")


async def calls(books: Books) -> str:
    """The calls of the one origin as the store has them."""
    return str(await books.client.hget(books.key("calls"), "origin") or "")


async def test_a_repetition_joins_the_call_in_flight_whose_caller_is_gone(books: Books) -> None:
    one = await first(books, "a")
    await gone(books, one)
    again = attempt("a2", repeats=True)
    follow = await admit(books, "b", again)
    assert isinstance(follow, Follow)
    assert follow.leader == "a"
    await settle(books, one)
    found = await admit(books, "b", again)
    assert isinstance(found, Rejoined)
    assert found.generation_id == "gen_a"
    await books.ledger.note_delivery(books.tenant, again, "delivered")
    assert await calls(books) == ""
    assert isinstance(await admit(books, "c", attempt("a3", repeats=True)), Lead), "it was delivered"


async def test_a_repetition_gets_what_was_finished_and_not_delivered(books: Books) -> None:
    one = await first(books, "a")
    await settle(books, one)
    await gone(books, one)
    found = await admit(books, "b", attempt("a2", repeats=True))
    assert isinstance(found, Rejoined)
    assert found.generation_id == "gen_a"
    assert await books.totals() == [(1120, 0)]


async def test_what_was_delivered_is_not_joined(books: Books) -> None:
    one = await first(books, "a")
    await settle(books, one)
    await books.ledger.note_delivery(books.tenant, one, "delivered")
    assert isinstance(await admit(books, "b", attempt("a2", repeats=True)), Lead)


async def test_of_four_equal_calls_the_one_that_was_left_is_joined(books: Books) -> None:
    made = [await first(books, name) for name in "abcd"]
    await gone(books, made[2])
    again = attempt("c2", repeats=True)
    follow = await admit(books, "e", again)
    assert isinstance(follow, Follow)
    assert follow.leader == "c"
    for one in made:
        await settle(books, one)
    found = await admit(books, "e", again)
    assert isinstance(found, Rejoined)
    assert found.generation_id == "gen_c"
    assert await books.totals() == [(4 * 1120, 0)]


async def test_while_every_caller_waits_a_repetition_waits_and_then_is_new_work(books: Books) -> None:
    one, other = await first(books, "a"), await first(books, "b")
    again = attempt("a2", repeats=True)
    for answered in (one, other):
        follow = await admit(books, "c", again)
        assert isinstance(follow, Follow)
        assert follow.leader == answered.id
        await settle(books, answered)
        assert isinstance(await admit(books, "c", again), Follow), "it is being delivered"
        await books.ledger.note_delivery(books.tenant, answered, "delivered")
    assert isinstance(await admit(books, "c", again), Lead)


async def test_a_repetition_waits_for_none_that_began_after_it(books: Books) -> None:
    await first(books, "a")
    arrived_before = attempt("z2", repeats=True, age_ms=60_000)
    assert isinstance(await admit(books, "b", arrived_before), Lead)


async def test_a_call_is_joined_by_one_repetition(books: Books) -> None:
    one = await first(books, "a")
    await gone(books, one)
    assert isinstance(await admit(books, "b", attempt("a2", repeats=True)), Follow)
    await settle(books, one)
    other = attempt("a3", repeats=True)
    follow = await admit(books, "c", other)
    assert isinstance(follow, Follow), "it waits for what the first of them is given"
    await books.ledger.note_delivery(books.tenant, attempt("a2"), "delivered")
    assert isinstance(await admit(books, "c", other), Lead)


async def test_what_a_repetition_was_not_delivered_goes_to_the_next(books: Books) -> None:
    one = await first(books, "a")
    await gone(books, one)
    await admit(books, "b", attempt("a2", repeats=True))
    await gone(books, one)  # again, and late: it is another's by now
    held = await admit(books, "c", attempt("a3", repeats=True))
    assert isinstance(held, Follow)
    await settle(books, one)
    assert isinstance(await admit(books, "c", attempt("a3", repeats=True)), Follow), "it is not given away"
    await gone(books, attempt("a2"))
    found = await admit(books, "c", attempt("a3", repeats=True))
    assert isinstance(found, Rejoined)
    assert found.generation_id == "gen_a"


async def test_of_two_that_repeat_at_once_each_gets_a_call_of_its_own(books: Books) -> None:
    made = [await first(books, name) for name in "ab"]
    for one in made:
        await settle(books, one)
        await gone(books, one)
    again = [attempt(f"{name}2", repeats=True) for name in "ab"]
    found = await asyncio.gather(*[admit(books, f"h{one.id}", one) for one in again])
    assert {each.generation_id for each in found if isinstance(each, Rejoined)} == {"gen_a", "gen_b"}


async def test_keys_and_works_of_others_are_not_joined(books: Books) -> None:
    await gone(books, await first(books, "a"))
    assert isinstance(await admit(books, "b", attempt("b2", repeats=True, origin="other")), Lead)


@pytest.mark.parametrize("outcome", ["void", "charge"])
async def test_a_call_that_came_to_nothing_is_made_anew(books: Books, outcome: str) -> None:
    one = await first(books, "a")
    await gone(books, one)
    await settle(books, one, outcome)
    assert await calls(books) == ""
    assert isinstance(await admit(books, "b", attempt("a2", repeats=True)), Lead)


async def test_a_refusal_that_was_paid_is_told_again_once(books: Books) -> None:
    one = await first(books, "a")
    await gone(books, one)
    await settle(books, one, failure=BLOCKED)
    found = await admit(books, "b", attempt("a2", repeats=True))
    assert isinstance(found, Failed)
    assert found.failure == BLOCKED
    assert await calls(books) == ""


async def test_the_call_of_a_process_that_died_is_made_anew_after_its_lease(books: Books) -> None:
    await first(books, "a")
    again = attempt("a2", repeats=True)
    assert isinstance(await admit(books, "b", again), Follow)
    await books.expire("a")
    assert isinstance(await admit(books, "b", again), Lead)


async def test_an_answer_whose_process_died_while_it_was_written_is_given_away_after_a_lease(
    clients: StoreClients, tenant: str
) -> None:
    ledger = RedisLedger(clients.ledger, LedgerConfig(lease_s=0.2, deadline_s=10))
    books = Books(ledger, clients.ledger, tenant)
    one = await first(books, "a")
    await settle(books, one)
    again = attempt("a2", repeats=True)
    assert isinstance(await admit(books, "b", again), Follow)
    await books.ledger.note_delivery(tenant, one, "under_way")

    async def given() -> Rejoined | None:
        found = await admit(books, "b", again)
        return found if isinstance(found, Rejoined) else None

    found = await until(given)
    assert found is not None
    assert found.generation_id == "gen_a"


async def test_what_was_begun_before_a_purge_is_not_given_to_a_repetition(books: Books) -> None:
    one = await first(books, "a")
    await settle(books, one)
    await gone(books, one)
    await books.client.hset(books.key("win"), "!purged", "99999999999999")
    assert isinstance(await admit(books, "b", attempt("a2", repeats=True)), Lead)


async def test_calls_are_forgotten_in_time_and_there_are_never_too_many(books: Books) -> None:
    ample = replace(books, budgets=())
    for number in range(70):
        await admit(ample, f"h{number}", attempt(f"h{number}"))
    lines = (await calls(books)).splitlines()
    assert [line.partition(";")[0] for line in lines] == [f"h{number}" for number in range(6, 70)]
    await books.client.zadd(books.key("callends"), {"origin": 1})
    await admit(ample, "later", attempt("later", origin="other"))
    assert await calls(books) == ""
    assert await books.client.zrange(books.key("callends"), 0, -1) == ["other"]


async def test_marks_may_be_repeated_and_cost_one_command(books: Books) -> None:
    one = await first(books, "a")
    await settle(books, one)
    for _ in range(2):
        await books.ledger.note_delivery(books.tenant, one, "delivered")
    assert await books.client.exists(*[books.key(name) for name in ("calls", "callends")]) == 0


async def test_the_books_have_little_of_a_call(books: Books) -> None:
    one = await first(books, "a")
    await settle(books, one)
    assert 0 < len(await calls(books)) < 200
