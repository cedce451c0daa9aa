"""Idempotency keys in the admission script: one request a key, whatever happens to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from app.domain.failure import Failure
from app.domain.generation import Spent, Usage
from app.domain.rate import RateLimit
from app.generation import records
from app.generation.booking import strip_to_amounts
from app.generation.ports import (
    Absent,
    Admission,
    Answered,
    Claim,
    Crowded,
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
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.store import keys
from tests.store.books import ONE, Books, generation, now_ms

if TYPE_CHECKING:
    from app.domain.generation import Generation
    from app.store.client import StoreClients

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
    found: str | None = await books.client.hget(books.key("idem"), DIGEST)
    return found


async def let_end(books: Books, digest: str = DIGEST) -> None:
    """The time of a key is over, by the store's clock."""
    parts = (await books.client.hget(books.key("idem"), digest)).split(";", 6)
    await books.client.hset(books.key("idem"), digest, ";".join([*parts[:5], "1", *parts[6:]]))
    await books.client.zadd(books.key("ends"), {digest: 1}, xx=True)


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
        assert replayed.generation_id == "gen_a"
    assert await books.totals() == totals
    lives_ms = await books.client.zscore(books.key("ends"), DIGEST) - now_ms()
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
    await let_end(books)
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
    assert replayed.generation_id == "gen_b"


async def test_a_request_that_follows_keeps_its_key_over_all_its_admissions(books: Books) -> None:
    await books.admit("leader", "work")
    assert isinstance(await admit(books, "b", "mine"), Follow)
    assert isinstance(await admit(books, "c", "other"), InFlight)
    await books.publish("leader")
    assert isinstance(await admit(books, "d", "mine", following="leader"), Hit)
    replayed = await admit(books, "e", "other")
    assert isinstance(replayed, Replayed)
    assert replayed.generation_id == "gen_leader"


async def test_a_hit_is_replayed_although_the_cache_was_refreshed_in_between(books: Books) -> None:
    await books.admit("a", "work")
    await books.publish("a", "first")
    assert isinstance(await admit(books, "b", "mine"), Hit)
    await books.admit("c", "work", mode="refresh")
    await books.publish("c", "second")
    replayed = await admit(books, "d", "again")
    assert isinstance(replayed, Replayed)
    assert (replayed.generation_id, replayed.outcome) == ("gen_a", None)


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


HITS = 10_000
BYTES_A_HIT = 500
BYTES_A_FAILURE = 2_000


def digests(count: int) -> list[str]:
    return [f"{number:064x}" for number in range(count)]


async def admit_under(books: Books, digest: str, hold: str, fingerprint: str = "work") -> Admission:
    asked = replace(books.request(hold, fingerprint), claim=claim(f"by-{hold}", digest))
    return await books.ledger.admit(asked)


async def bytes_of_keys(books: Books) -> int:
    sizes = [await books.client.memory_usage(books.key(name), samples=0) for name in ("idem", "ends")]
    return sum(size or 0 for size in sizes)


async def test_ten_thousand_hits_under_new_keys_are_small_whatever_the_result_is(books: Books) -> None:
    await books.admit("a", "work")
    result = replace(generation("a"), verbatim="x" * 10_000)
    await books.ledger.settle(
        Settlement(books.tenant, "a", "work", "settle", ONE, publish=result, ttl_s=600), books.windows
    )
    for part in range(0, HITS, 20):
        asked = [admit_under(books, f"{number:064x}", f"h{number}") for number in range(part, part + 20)]
        assert {type(admission) for admission in await asyncio.gather(*asked)} == {Hit}
    assert await books.client.hlen(books.key("idem")) == HITS
    assert await bytes_of_keys(books) <= HITS * BYTES_A_HIT


@pytest.mark.parametrize("odd", ["x", "\x00", "\U0001f3a8", "\ud83d"])
async def test_a_paid_failure_is_small_whatever_was_said(books: Books, odd: str) -> None:
    words = odd * 100_000
    said = Failure("content_blocked", words, words, words, "prompt", final=True, verbatim=words)
    await admit(books, "a", "first")
    await end(books, "a", "first", "failed", said)
    assert await bytes_of_keys(books) <= BYTES_A_FAILURE
    replayed = await admit(books, "b", "second")
    assert isinstance(replayed, Replayed)
    assert isinstance(replayed.outcome, Failure)
    kept = replayed.outcome
    assert (kept.code, kept.side, kept.final, kept.verbatim) == ("content_blocked", "prompt", True, "")
    assert kept.detail.startswith(odd.encode(errors="replace").decode())


async def test_a_failure_is_told_with_all_that_was_said_while_the_cache_has_it(books: Books) -> None:
    said = Failure("model_refused", "No.", final=True, verbatim='{"words":"' + "x" * 10_000 + '"}')
    await admit(books, "a", "first")
    await books.ledger.settle(
        Settlement(
            *(books.tenant, "a", "work", "settle", ONE),
            failure=said,
            answered=Answered(claim("first"), "failed", said),
        ),
        books.windows,
    )
    for hold, by, following in (("b", "second", None), ("c", "third", "a")):
        told = await admit(books, hold, by, following=following)
        assert isinstance(told, Replayed)
        assert told.outcome == said
    followed = await books.admit("d", "work", following="a")
    assert isinstance(followed, Failed)
    assert followed.failure == said
    await books.client.delete(f"fg:{{{books.tenant}}}:fail:work")
    told = await admit(books, "b", "second")
    assert isinstance(told, Replayed)
    assert told.outcome == replace(said, verbatim="")
    followed = await books.admit("d", "work", following="a")
    assert isinstance(followed, Failed)
    assert followed.failure == replace(said, verbatim="")


async def test_a_failure_of_the_same_work_is_not_told_as_another_ones(books: Books) -> None:
    first, second = (replace(PAID, verbatim=words) for words in ("first", "second"))
    for hold, digest, said in (("a", "1" * 64, first), ("b", "2" * 64, second)):
        await admit_under(books, digest, hold)
        mine = Answered(claim(f"by-{hold}", digest), "failed", said)
        settlement = Settlement(books.tenant, hold, "work", "settle", ONE, failure=said, answered=mine)
        await books.ledger.settle(settlement, books.windows)
    for digest, said in (("1" * 64, replace(first, verbatim="")), ("2" * 64, second)):
        told = await admit_under(books, digest, "c")
        assert isinstance(told, Replayed)
        assert told.outcome == said


async def test_what_a_request_paid_is_told_when_its_result_is_gone(books: Books) -> None:
    usage = Usage(1, 2, 1120, 3, 4, 5, 6, estimated=True)
    done = Answered(claim("first"), "done", generation("a"))
    await admit(books, "a", "first")
    await books.ledger.settle(
        Settlement(books.tenant, "a", "work", "settle", ONE, answered=done, usage=usage), books.windows
    )
    replayed = await admit(books, "b", "second")
    assert isinstance(replayed, Replayed)
    assert replayed.spent == Spent(usage, ONE.usd)


async def test_a_hit_paid_nothing(books: Books) -> None:
    await books.admit("a", "work")
    await books.publish("a")
    assert isinstance(await admit(books, "b", "mine"), Hit)
    replayed = await admit(books, "c", "again")
    assert isinstance(replayed, Replayed)
    assert (replayed.generation_id, replayed.spent) == ("gen_a", Spent(Usage(), 0))


@pytest.fixture
def few(books: Books, clients: StoreClients) -> Books:
    """The same books where a tenant may have three keys."""
    return replace(
        books, ledger=RedisLedger(clients.ledger, LedgerConfig(deadline_s=10, idempotency_keys_max=3))
    )


async def test_at_the_bound_new_keys_are_refused_before_anything_is_held(few: Books) -> None:
    first, second, third, fourth = digests(4)
    await admit_under(few, first, "a", "one")
    await few.client.zadd(few.key("ends"), {first: now_ms() + 5_000}, xx=True)
    await admit_under(few, second, "b", "two")
    await few.publish("b")
    assert isinstance(await admit_under(few, third, "c", "two"), Hit)
    before = await few.dump()
    crowded = await admit_under(few, fourth, "d", "three")
    assert isinstance(crowded, Crowded)
    assert crowded.most == 3
    assert 3 <= crowded.retry_after_s <= 5
    assert isinstance(await admit_under(few, fourth, "d", "two"), Crowded), "a hit would take a place as well"
    assert await few.dump() == before
    assert isinstance(await admit_under(few, first, "e", "one"), InFlight), "keys in use go on"
    assert isinstance(await admit_under(few, third, "f", "two"), Replayed)
    assert isinstance(await few.admit("g", "four"), Lead), "who sends no key is not concerned"


async def test_a_key_that_ended_makes_room_for_a_new_one(few: Books) -> None:
    await few.admit("a", "work")
    await few.publish("a")
    for number, digest in enumerate(digests(3)):
        assert isinstance(await admit_under(few, digest, f"h{number}"), Hit)
    await let_end(few, digests(1)[0])
    assert isinstance(await admit_under(few, digests(4)[3], "d"), Hit)
    assert await few.client.hlen(few.key("idem")) == await few.client.zcard(few.key("ends")) == 3


async def test_a_request_that_waits_keeps_its_key_at_the_bound(few: Books) -> None:
    await few.admit("leader", "work")
    assert isinstance(await admit_under(few, digests(1)[0], "a"), Follow)
    for number, digest in enumerate(digests(3)[1:]):
        assert isinstance(await admit_under(few, digest, f"h{number}", f"w{number}"), Lead)
    await few.publish("leader")
    asked = replace(few.request("b", "work", following="leader"), claim=claim("by-a", digests(1)[0]))
    assert isinstance(await few.ledger.admit(asked), Hit)


@pytest.mark.parametrize("keyed", [True, False])
async def test_keys_whose_time_is_over_vanish_a_bounded_number_at_a_time(books: Books, keyed: bool) -> None:
    await books.admit("a", "work")
    await books.publish("a")
    for number, digest in enumerate(digests(300)):
        await admit_under(books, digest, f"h{number}")
    for digest in digests(300):
        await let_end(books, digest)
    due = [300]
    for number in range(12):
        if keyed:
            await admit_under(books, f"{number:f>64}", f"k{number}")
        else:
            await books.limited(10**9).admit(f"k{number}")
        due.append(await books.client.zcount(books.key("ends"), 0, 1))
        assert due[-2] - due[-1] <= 256
        assert await books.client.hlen(books.key("idem")) == await books.client.zcard(books.key("ends"))
    assert due[-1] == 0


async def test_a_key_that_the_store_has_lost_is_written_anew_by_its_settlement(books: Books) -> None:
    await admit(books, "a", "first")
    await books.client.delete(books.key("idem"), books.key("ends"))
    await end(books, "a", "first", "done", generation("a"))
    replayed = await admit(books, "b", "second")
    assert isinstance(replayed, Replayed)
    assert replayed.generation_id == "gen_a"


async def test_a_hold_that_was_settled_without_its_key_is_not_made_again(books: Books) -> None:
    """Another process settles what a dead one has left in its journal, where keys are not."""
    await admit(books, "a", "first")
    await books.dispatch("a")
    await books.settle("a")
    replayed = await admit(books, "b", "second")
    assert isinstance(replayed, Replayed)
    assert (replayed.generation_id, replayed.outcome) == ("gen_a", None)
    assert replayed.spent is not None
    assert (replayed.spent.usd, replayed.spent.usage.image_output) == (ONE.usd, ONE.image_tokens)
    assert await books.totals() == [(1120, 0)]


def old_key(books: Books) -> str:
    return keys.work_keys(books.tenant, "work", DIGEST)[-1]


async def test_a_key_of_an_earlier_version_is_answered_as_long_as_it_lives(books: Books) -> None:
    text = records.encode_generation(generation("old"))
    await books.client.set(old_key(books), f"them;work;d;;{now_ms() - 5000};{text}", px=60_000)
    replayed = await admit(books, "a", "first")
    assert isinstance(replayed, Replayed)
    assert (replayed.generation_id, replayed.age_s, replayed.spent) == ("gen_old", 5, None)
    assert getattr(replayed.outcome, "id", "") == "gen_old"
    assert isinstance(await admit(books, "b", "second", "other"), Mismatched)
    await books.client.set(old_key(books), f"them;work;f;;1;{records.encode_failure(PAID)}", px=60_000)
    told = await admit(books, "a", "first")
    assert isinstance(told, Replayed)
    assert told.outcome == PAID
    await books.client.set(old_key(books), "them;work;u;;1;", px=20_000)
    waiting = await admit(books, "a", "first")
    assert isinstance(waiting, InFlight)
    assert 15 <= waiting.retry_after_s <= 20
    await books.client.set(old_key(books), "them;work;r;dead;1;", px=60_000)
    assert isinstance(await admit(books, "a", "first"), Lead)
    await end(books, "a", "first", "done", generation("a"))
    replayed = await admit(books, "b", "second")
    assert isinstance(replayed, Replayed)
    assert replayed.generation_id == "gen_a"


async def test_a_request_that_is_settled_by_its_amounts_alone_is_not_made_again(books: Books) -> None:
    await admit(books, "a", "first")
    whole = Settlement(
        *(books.tenant, "a", "work", "settle", ONE),
        publish=generation("a"),
        ttl_s=60,
        answered=Answered(claim("first"), "done", generation("a")),
    )
    await books.ledger.settle(strip_to_amounts(whole), books.windows)
    replayed = await admit(books, "b", "second")
    assert isinstance(replayed, Replayed)
    assert (replayed.generation_id, replayed.outcome) == ("gen_a", None)
