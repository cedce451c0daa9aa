"""Idempotency keys in the admission script: one request a key, whatever happens to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from app.domain.failure import Failure
from app.domain.rate import RateLimit
from app.ports import (
    Absent,
    Admission,
    Answered,
    Claim,
    Failed,
    Follow,
    Hit,
    InFlight,
    Lead,
    Mismatched,
    Refused,
    Replayed,
    Settlement,
)
from app.store import keys
from tests.store.books import ONE, Books, generation

if TYPE_CHECKING:
    from app.domain.generation import Generation

DIGEST = "d" * 64
PAID = Failure("content_blocked", "No.", "SAFETY", final=True)


def claim(request: str, digest: str = DIGEST) -> Claim:
    return Claim(digest, request, 86_400)


async def admit(books: Books, hold: str, by: str, fingerprint: str = "work", **options: Any) -> Admission:
    asked = replace(books.request(hold, fingerprint, **options), claim=claim(by))
    return await books.ledger.admit(asked)


async def end(
    books: Books,
    hold: str,
    by: str,
    state: Literal["done", "failed", "unknown", "free"],
    outcome: Generation | Failure | None = None,
    booking: Literal["settle", "void", "charge"] = "settle",
) -> None:
    answered = Answered(claim(by), state, outcome)
    work = books.fingerprints[hold]
    await books.ledger.settle(
        Settlement(books.tenant, hold, work, booking, ONE, answered=answered), books.windows
    )


async def record(books: Books) -> str | None:
    found: str | None = await books.client.get(keys.work_keys(books.tenant, "work", DIGEST)[-1])
    return found


@pytest.mark.parametrize("mode", ["use", "refresh", "bypass"])
async def test_a_key_in_use_is_in_flight_for_everybody_else(books: Books, mode: Any) -> None:
    assert isinstance(await admit(books, "a", "first", mode=mode), Lead)
    before = await books.dump()
    again = await admit(books, "b", "second", mode=mode)
    assert isinstance(again, InFlight)
    assert again.retry_after_s >= 1
    assert await books.dump() == before


@pytest.mark.parametrize("mode", ["use", "refresh", "bypass"])
async def test_a_finished_request_is_replayed_and_nothing_is_booked_again(books: Books, mode: Any) -> None:
    await admit(books, "a", "first", mode=mode)
    await end(books, "a", "first", "done", generation("a"))
    totals = await books.totals()
    for _ in range(3):
        replayed = await admit(books, "b", "second", mode=mode)
        assert isinstance(replayed, Replayed)
        assert getattr(replayed.outcome, "id", "") == "gen_a"
    assert await books.totals() == totals
    lives_ms = await books.client.pttl(keys.work_keys(books.tenant, "work", DIGEST)[-1])
    assert 86_000_000 < lives_ms <= 86_400_000


async def test_another_request_under_the_key_is_a_mismatch_at_any_time(books: Books) -> None:
    await admit(books, "a", "first")
    assert isinstance(await admit(books, "b", "second", "other"), Mismatched)
    await end(books, "a", "first", "done", generation("a"))
    before = await books.dump()
    assert isinstance(await admit(books, "b", "second", "other"), Mismatched)
    assert await books.dump() == before


async def test_a_paid_failure_is_told_again(books: Books) -> None:
    await admit(books, "a", "first")
    await end(books, "a", "first", "failed", PAID)
    replayed = await admit(books, "b", "second")
    assert isinstance(replayed, Replayed)
    assert replayed.outcome == PAID


async def test_a_failure_that_cost_nothing_frees_the_key(books: Books) -> None:
    await admit(books, "a", "first")
    await end(books, "a", "first", "free", booking="void")
    assert await record(books) is None
    assert isinstance(await admit(books, "b", "second"), Lead)


async def test_an_unknown_outcome_is_not_made_again_before_the_lease_is_over(books: Books) -> None:
    await admit(books, "a", "first")
    await books.dispatch("a")
    await end(books, "a", "first", "unknown", booking="charge")
    waiting = await admit(books, "b", "second")
    assert isinstance(waiting, InFlight)
    assert 25 <= waiting.retry_after_s <= 30
    await books.client.delete(keys.work_keys(books.tenant, "work", DIGEST)[-1])
    assert isinstance(await admit(books, "c", "third"), Lead)


@pytest.mark.parametrize("sent", [True, False])
async def test_a_key_whose_owner_died_can_be_used_once_when_the_lease_is_over(
    books: Books, sent: bool
) -> None:
    await admit(books, "a", "first")
    if sent:
        await books.dispatch("a")
    assert isinstance(await admit(books, "b", "second"), InFlight)
    await books.expire("a")
    assert isinstance(await admit(books, "c", "third"), Lead)
    assert isinstance(await admit(books, "d", "fourth"), InFlight)


async def test_a_late_owner_does_not_take_the_key_back(books: Books) -> None:
    await admit(books, "a", "first")
    await books.dispatch("a")
    await books.expire("a")
    assert isinstance(await admit(books, "b", "second"), Lead)
    await end(books, "a", "first", "done", generation("a"))
    assert isinstance(await admit(books, "c", "third"), InFlight)
    await end(books, "b", "second", "done", generation("b"))
    replayed = await admit(books, "c", "third")
    assert isinstance(replayed, Replayed)
    assert getattr(replayed.outcome, "id", "") == "gen_b"


async def test_a_request_that_follows_keeps_its_key_over_all_its_admissions(books: Books) -> None:
    await books.admit("leader", "work")
    assert isinstance(await admit(books, "b", "mine"), Follow)
    assert isinstance(await admit(books, "c", "other"), InFlight)
    await books.publish("leader")
    assert isinstance(await admit(books, "d", "mine", following="leader"), Hit)
    replayed = await admit(books, "e", "other")
    assert isinstance(replayed, Replayed)
    assert getattr(replayed.outcome, "id", "") == "gen_leader"


async def test_a_hit_is_replayed_although_the_cache_was_refreshed_in_between(books: Books) -> None:
    await books.admit("a", "work")
    await books.publish("a", "first")
    assert isinstance(await admit(books, "b", "mine"), Hit)
    await books.admit("c", "work", mode="refresh")
    await books.publish("c", "second")
    replayed = await admit(books, "d", "again")
    assert isinstance(replayed, Replayed)
    assert getattr(replayed.outcome, "text", "") == "first"


async def test_what_is_not_served_leaves_no_key_behind(books: Books) -> None:
    assert isinstance(await admit(books.limited(1), "a", "first"), Refused)
    assert isinstance(await admit(books, "b", "second", mode="only_if_cached"), Absent)
    assert await books.dump() == {}
    await books.admit("leader", "work")
    assert isinstance(await admit(books, "c", "third"), Follow)
    await books.settle("leader", outcome="void", failure=Failure("upstream_error", "It failed."))
    assert isinstance(await admit(books, "d", "third", following="leader"), Failed)
    assert await record(books) is None


async def test_one_who_waited_and_is_refused_gives_the_key_back(books: Books) -> None:
    await books.admit("leader", "work")
    assert isinstance(await admit(books, "a", "first"), Follow)
    await books.settle("leader", outcome="void")
    assert isinstance(await admit(books.limited(1), "b", "first", following="leader"), Refused)
    assert await record(books) is None


async def test_repeating_an_admission_with_its_claim_changes_nothing(books: Books) -> None:
    await admit(books, "a", "first")
    before = await books.dump()
    assert isinstance(await admit(books, "a", "first"), Lead)
    assert await books.dump() == before


async def test_a_replay_counts_as_a_request(books: Books) -> None:
    rate = RateLimit("requests", "tenant", "t|requests", 6, 3)
    await admit(books, "a", "first")
    await end(books, "a", "first", "done", generation("a"))
    asked = replace(books.request("b", "work"), claim=claim("second"), rates=(rate,))
    replayed = await books.ledger.admit(asked)
    assert isinstance(replayed, Replayed)
    assert replayed.rates[0].remaining == 2


async def test_keys_are_apart_by_their_digest(books: Books) -> None:
    await admit(books, "a", "first")
    asked = replace(books.request("b", "other"), claim=claim("second", "e" * 64))
    assert isinstance(await books.ledger.admit(asked), Lead)
