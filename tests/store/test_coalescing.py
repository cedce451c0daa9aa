"""Who generates, who waits, who is answered from what is kept."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from app.domain.failure import Failure
from app.generation.ports import Absent, Failed, Follow, Hit, Lead
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.store import keys
from tests.store.books import Books, generation, now_ms, until

if TYPE_CHECKING:
    from app.store.client import StoreClients

REFUSED = Failure("content_blocked", "It was blocked.", "IMAGE_SAFETY", "123", final=True)


async def test_the_first_leads_the_second_follows_and_then_finds_the_result(books: Books) -> None:
    assert isinstance(await books.admit("a", "work"), Lead)
    follow = await books.admit("b", "work")
    assert isinstance(follow, Follow)
    assert follow.leader == "a"
    await books.dispatch("a")
    settled = await books.publish("a")
    assert settled.published
    hit = await books.admit("b", "work", following="a")
    assert isinstance(hit, Hit)
    assert hit.generation.id == "gen_a"
    assert hit.generation.created_ms == settled.now_ms
    assert hit.age_s == 0
    assert await books.totals() == [(1120, 0)], "followers and hits cost nothing"


async def test_two_tenants_never_share(books: Books, clients: StoreClients) -> None:
    await books.admit("a", "work")
    await books.publish("a")
    other = Books(books.ledger, clients.ledger, f"{books.tenant}-b")
    assert isinstance(await other.admit("b", "work"), Lead)


async def age_result(books: Books, by_ms: int) -> None:
    """Let the kept result be older by the store's clock."""
    name = keys.result_key(books.tenant, "work")
    hold, created, text = (await books.client.get(name)).split(";", 2)
    await books.client.set(name, f"{hold};{int(created) - by_ms};{text}", ex=60)


async def test_an_old_result_is_as_good_as_none_for_whoever_wants_a_young_one(books: Books) -> None:
    await books.admit("a", "work")
    await books.publish("a")
    await age_result(books, 10_000)
    hit = await books.admit("b", "work", max_age_s=11)
    assert isinstance(hit, Hit)
    assert hit.age_s == 10
    assert isinstance(await books.admit("b", "work", max_age_s=9, mode="only_if_cached"), Absent)
    assert isinstance(await books.admit("b", "work", max_age_s=9), Lead)


async def test_whoever_takes_nothing_kept_takes_the_result_waited_for(books: Books) -> None:
    await books.admit("a", "work")
    await books.publish("a")
    await age_result(books, 1)
    assert isinstance(await books.admit("b", "work", max_age_s=0), Lead)
    assert isinstance(await books.admit("c", "work", max_age_s=0), Follow)
    await books.publish("b", "fresh")
    hit = await books.admit("c", "work", following="b", max_age_s=0)
    assert isinstance(hit, Hit)
    assert hit.generation.text == "fresh"


async def test_a_refresh_is_drawn_anew_also_while_the_same_work_is_being_made(books: Books) -> None:
    assert isinstance(await books.admit("a", "work"), Lead)
    assert isinstance(await books.admit("b", "work", mode="refresh"), Lead)
    assert isinstance(await books.admit("c", "work", mode="refresh"), Lead)
    follow = await books.admit("d", "work")
    assert isinstance(follow, Follow)
    assert follow.leader == "a", "followers stay with their leader"
    assert not (await books.publish("b", "beside")).published
    assert (await books.publish("a", "first")).published
    hit = await books.admit("d", "work", following="a")
    assert isinstance(hit, Hit)
    assert hit.generation.text == "first"


async def test_the_result_of_a_refresh_is_kept_for_those_who_come_later(books: Books) -> None:
    await books.admit("a", "work")
    await books.publish("a", "old")
    assert isinstance(await books.admit("b", "work", mode="refresh"), Lead)
    assert (await books.publish("b", "new")).published
    hit = await books.admit("d", "work")
    assert isinstance(hit, Hit)
    assert hit.generation.text == "new"


async def test_a_refresh_takes_the_lead_that_another_gave_up(books: Books) -> None:
    await books.admit("a", "work")
    await books.admit("b", "work", mode="refresh")
    await books.settle("a", outcome="void")
    await books.dispatch("b")
    follow = await books.admit("c", "work")
    assert isinstance(follow, Follow)
    assert follow.leader == "b"
    assert (await books.publish("b")).published


async def test_a_bypass_neither_reads_nor_follows_nor_leads_nor_publishes(books: Books) -> None:
    assert isinstance(await books.admit("a", "work", mode="bypass"), Lead)
    assert isinstance(await books.admit("b", "work", mode="bypass"), Lead)
    await books.dispatch("b")
    assert not (await books.publish("b")).published
    await books.dispatch("a")
    assert isinstance(await books.admit("c", "work"), Lead), "a bypass does not lead"
    assert not (await books.publish("a")).published
    await books.publish("c")
    assert isinstance(await books.admit("d", "work", mode="bypass"), Lead), "a bypass does not read"
    hit = await books.admit("e", "work")
    assert isinstance(hit, Hit)
    assert hit.generation.id == "gen_c"


async def test_only_if_cached_never_generates_nor_waits(books: Books) -> None:
    assert isinstance(await books.admit("a", "work", mode="only_if_cached"), Absent)
    await books.admit("b", "work")
    assert isinstance(await books.admit("a", "work", mode="only_if_cached"), Absent)
    await books.publish("b")
    assert isinstance(await books.admit("a", "work", mode="only_if_cached"), Hit)


async def test_a_failure_is_told_to_those_who_waited_for_it_and_to_nobody_else(books: Books) -> None:
    await books.admit("a", "work")
    await books.settle("a", outcome="void", failure=REFUSED)
    failed = await books.admit("b", "work", following="a")
    assert isinstance(failed, Failed)
    assert failed.failure == REFUSED
    told, ends, _ = (await books.client.hget(books.key("lead"), "work")).split(";", 2)
    assert told == "!a"
    assert 0 < int(ends) - now_ms() <= 10_000
    assert isinstance(await books.admit("c", "work"), Lead), "a newcomer tries anew"
    assert isinstance(await books.admit("b", "work", following="a"), Follow)


async def test_an_end_without_result_or_failure_frees_the_lead(books: Books) -> None:
    await books.admit("a", "work")
    await books.settle("a", outcome="void")
    assert isinstance(await books.admit("b", "work", following="a"), Lead)


async def test_a_follower_takes_over_from_a_leader_that_died(books: Books) -> None:
    await books.admit("a", "work")
    await books.expire("a")
    assert isinstance(await books.admit("b", "work", following="a"), Lead)
    assert await books.totals() == [(0, 1120)], "the dead hold is released"


async def test_a_leader_that_was_away_too_long_is_fenced_out_by_its_successor(books: Books) -> None:
    await books.admit("a", "work")
    await books.dispatch("a")
    await books.expire("a")
    await books.admit("b", "work", following="a")
    late = await books.publish("a", "from the paused one")
    assert (late.state, late.late, late.published) == ("settled", True, False)
    assert isinstance(await books.admit("c", "work"), Follow), "the successor still leads"
    await books.publish("b", "from the successor")
    hit = await books.admit("c", "work")
    assert isinstance(hit, Hit)
    assert hit.generation.text == "from the successor"
    assert await books.totals() == [(2240, 0)], "both were paid"


async def test_a_leader_that_was_away_does_not_overwrite_a_finished_successor(books: Books) -> None:
    await books.admit("a", "work")
    await books.expire("a")
    await books.admit("b", "work")
    await books.publish("b", "first")
    assert not (await books.publish("a", "second")).published
    hit = await books.admit("c", "work")
    assert isinstance(hit, Hit)
    assert hit.generation.text == "first"


async def test_a_leader_that_was_away_publishes_where_nobody_took_over(books: Books) -> None:
    await books.admit("a", "work")
    await books.dispatch("a")
    await books.expire("a")
    assert (await books.publish("a")).published
    assert isinstance(await books.admit("b", "work"), Hit)


async def test_the_failure_of_a_leader_that_was_away_does_not_disturb_its_successor(books: Books) -> None:
    await books.admit("a", "work")
    await books.expire("a")
    await books.admit("b", "work", following="a")
    await books.settle("a", outcome="void", failure=REFUSED)
    follow = await books.admit("c", "work", following="a")
    assert isinstance(follow, Follow)
    assert follow.leader == "b"


async def test_a_result_that_turns_up_after_its_own_failure_was_told_is_published(books: Books) -> None:
    await books.admit("a", "work")
    await books.dispatch("a")
    await books.settle("a", outcome="charge", failure=Failure("deadline_exceeded", "Too late."))
    assert (await books.publish("a")).published
    assert isinstance(await books.admit("b", "work", following="a"), Hit)


async def test_a_repeated_publication_tells_that_the_first_was_published(books: Books) -> None:
    await books.admit("a", "work")
    assert (await books.publish("a")).published
    await books.client.delete(keys.result_key(books.tenant, "work"))
    again = await books.publish("a")
    assert (again.repeated, again.published) == (True, True)
    assert isinstance(await books.admit("b", "work"), Lead), "and does not bring back what was purged"


async def test_a_heartbeat_restores_a_lead_that_the_store_has_lost(books: Books) -> None:
    await books.admit("a", "work")
    await books.dispatch("a")
    await books.client.hdel(books.key("lead"), "work")
    await books.dispatch("a")
    assert isinstance(await books.admit("b", "work"), Follow)
    await books.client.hset(books.key("lead"), "work", f"b;{now_ms() + 30_000};")
    await books.dispatch("a")
    assert await books.leader("work") == "b", "but not one that somebody else took"


async def test_a_result_of_another_version_is_as_good_as_none(books: Books) -> None:
    name = keys.result_key(books.tenant, "work")
    await books.client.set(name, 'old;1;{"v":0,"generation":{}}', ex=60)
    assert isinstance(await books.admit("a", "work", mode="only_if_cached"), Absent)
    assert isinstance(await books.admit("a", "work"), Lead)
    await books.publish("a")
    assert isinstance(await books.admit("b", "work"), Hit)


async def test_a_failure_of_another_version_is_still_a_failure(books: Books) -> None:
    told = f'!old;{now_ms() + 5000};{{"v":0}}'
    await books.client.hset(books.key("lead"), "work", told)
    failed = await books.admit("a", "work", following="old")
    assert isinstance(failed, Failed)
    assert failed.failure.code == "upstream_error"
    assert not failed.failure.final


async def test_a_finished_leader_wakes_its_followers_at_once(books: Books) -> None:
    """The fixture polls every 30 s, so only the message can have woken them."""
    await books.ledger.notifications.listening.wait()
    await books.admit("a", "work")
    waiting = [asyncio.create_task(books.ledger.wait(books.tenant, "work", "a", 60)) for _ in range(20)]
    await asyncio.sleep(0)
    await books.publish("a")
    async with asyncio.timeout(3):
        await asyncio.gather(*waiting)


async def test_who_begins_to_wait_after_the_message_does_not_wait(books: Books) -> None:
    await books.ledger.notifications.listening.wait()
    await books.admit("a", "work")
    before = books.ledger.notifications.woken
    await books.publish("a")

    async def told() -> bool:
        return books.ledger.notifications.woken > before

    await until(told)
    async with asyncio.timeout(1):
        await books.ledger.wait(books.tenant, "work", "a", 60)


async def test_a_lost_message_delays_a_follower_by_one_poll_only(clients: StoreClients, tenant: str) -> None:
    deaf = RedisLedger(clients.ledger, LedgerConfig(poll_s=0.05, deadline_s=10))
    books = Books(deaf, clients.ledger, tenant)
    await books.admit("a", "work")
    waiting = asyncio.create_task(deaf.wait(tenant, "work", "a", 60))
    await asyncio.sleep(0)
    assert not waiting.done()
    await books.publish("a")
    async with asyncio.timeout(3):
        await waiting
    assert deaf.notifications.woken == 0


async def test_waiting_ends_with_the_callers_patience(clients: StoreClients, tenant: str) -> None:
    deaf = RedisLedger(clients.ledger, LedgerConfig(poll_s=0.05, deadline_s=10))
    await Books(deaf, clients.ledger, tenant).admit("a", "work")
    began = time.monotonic()
    await deaf.wait(tenant, "work", "a", 0.2)
    assert 0.15 < time.monotonic() - began < 2


@pytest.mark.parametrize("max_age_s", [None, 0])
async def test_fifty_callers_of_the_same_work_pay_for_one(books: Books, max_age_s: int | None) -> None:
    """Each caller is a task of its own that follows, waits and asks again, as the gateway does."""
    generated: list[str] = []

    async def call(number: int) -> str:
        following = None
        while True:
            admitted = await books.admit(f"h{number}", "work", max_age_s=max_age_s, following=following)
            if isinstance(admitted, Follow):
                following = admitted.leader
                await books.ledger.wait(books.tenant, "work", following, 10)
            elif isinstance(admitted, Lead):
                generated.append(admitted.hold_id)
                await books.dispatch(admitted.hold_id)
                await asyncio.sleep(0.05)
                await books.settle(admitted.hold_id, publish=generation(admitted.hold_id))
                return admitted.hold_id
            else:
                assert isinstance(admitted, Hit)
                return admitted.generation.id.removeprefix("gen_")

    answers = await asyncio.gather(*[call(number) for number in range(50)])
    assert len(generated) == 1
    assert set(answers) == set(generated)
    assert await books.totals() == [(1120, 0)]
