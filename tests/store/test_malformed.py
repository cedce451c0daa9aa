"""What cannot be read is set aside and told of once; its tenant is served."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from app.domain.attempt import Attempt
from app.generation.ports import Claim, Hit, Lead
from app.ledger.operations import RedisOperations
from app.store import keys
from tests.store.books import ONE, until
from tests.store.test_durable import own_server, quick, replica

if TYPE_CHECKING:
    from pathlib import Path

    from tests.store.books import Books
    from tests.storeserver import ServerProcess

__all__ = ["own_server", "quick"]

DIGEST = "d" * 64


async def set_aside(books: Books) -> dict[str, str]:
    """What was set aside, by kind and name; all of it is named for the one who tells."""
    ledger = await books.client.hgetall(books.key("win"))
    entries = {
        name.removeprefix("!aside|"): raw for name, raw in ledger.items() if name.startswith("!aside|")
    }
    assert set(ledger.get("!aside", "").splitlines()) == set(entries)
    return entries


@pytest.mark.parametrize("raw", ["", "junk", "3;s;f;1;w;1,1,1,1,1;;;7;", "d;f;1;w;1,1,1,1;;nonsense;2"])
async def test_a_hold_that_cannot_be_read_is_set_aside(books: Books, raw: str) -> None:
    for hold in ("bad", "sound"):
        await books.admit(hold)
        await books.dispatch(hold)
    await books.client.hset(books.key("res"), "bad", raw)
    await books.expire("bad", "sound")
    assert isinstance(await books.admit("next"), Lead)
    assert (await books.settle("bad")).state == "unknown"
    assert (await books.settle("sound")).late
    assert await set_aside(books) == {"hold|bad": raw}
    assert not await books.client.hexists(books.key("res"), "bad")
    assert await books.client.zrange(books.key("exp"), 0, -1) == ["next"]


async def test_a_hold_of_a_later_version_is_left_to_those_who_can_read_it(books: Books) -> None:
    await books.admit("later")
    await books.client.hset(books.key("res"), "later", "4;what;comes;then")
    await books.expire("later")
    assert isinstance(await books.admit("next"), Lead)
    assert await books.client.hget(books.key("res"), "later") == "4;what;comes;then"
    assert set(await books.client.zrange(books.key("exp"), 0, -1)) == {"later", "next"}
    assert await set_aside(books) == {"later|hold": "4;what;comes;then"}, "told once, however many there are"


async def test_a_settlement_does_not_overwrite_what_a_later_version_has_written(
    own_server: ServerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """It wrote another form of a hold of ours, as it would at the end of the lease."""
    async with replica(own_server.url, None) as one:
        books = one.books
        for hold in ("ours", "other"):
            await books.admit(hold)
            await books.dispatch(hold)
            await books.client.hset(books.key("res"), hold, "4;what;comes;then")
        counters = await books.totals()
        assert not await books.dispatch("other"), "what nobody can read is not sent"
        assert (await books.settle("ours")).state == "unknown"
        assert await books.client.hget(books.key("res"), "ours") == "4;what;comes;then"
        assert await books.totals() == counters

        async def told() -> bool:
            return one.told.malformed == ["later"]

        await until(told, 10)
    assert "a later version of the gateway writes records" in caplog.text


@pytest.mark.parametrize("kind", ["s", "h"])
async def test_a_counter_that_cannot_be_read_is_added_up_anew(books: Books, kind: str) -> None:
    for hold in ("a", "b", "c"):
        await books.admit(hold)
    await books.settle("a", ONE._replace(image_tokens=747))
    [entry] = [name for name in await books.client.hkeys(books.key("win")) if name.endswith(f":{kind}")]
    await books.client.hset(books.key("win"), entry, "12x")
    await books.settle("b", ONE._replace(image_tokens=3))
    assert await books.totals() == [(750, 1120)]
    await books.client.hset(books.key("win"), entry, "")
    assert isinstance(await books.admit("d"), Lead)
    assert await books.totals() == [(750, 2240)]
    assert set(await set_aside(books)) == {f"counter|{entry}"}


@pytest.mark.parametrize("raw", ["junk", "a;b;;", "hold;1"])
async def test_a_result_that_cannot_be_read_is_a_miss(books: Books, raw: str) -> None:
    name = keys.result_key(books.tenant, "work")
    await books.client.set(name, raw, ex=60)
    assert isinstance(await books.admit("a", "work"), Lead)
    await books.client.set(name, raw, ex=60)
    await books.dispatch("a")
    await books.client.set(name, raw, ex=60)
    assert (await books.publish("a")).published
    assert isinstance(await books.admit("b", "work"), Hit)
    assert await set_aside(books) == {"result|work": raw}


async def test_claims_leads_calls_and_limits_that_cannot_be_read_hold_up_nobody(books: Books) -> None:
    client = books.client
    await client.hset(books.key("idem"), DIGEST, "junk")
    await client.zadd(books.key("ends"), {DIGEST: 2**45})
    await client.hset(books.key("lead"), "work-a", "junk")
    await client.hset(books.key("calls"), "origin", "junk")
    await client.hset(books.key("win"), "t|output_tokens|day:l", "junk")
    keyed = replace(books.request("a"), claim=Claim(DIGEST, "me", 60))
    assert isinstance(await books.ledger.admit(keyed), Lead)
    attempt = Attempt("origin", "g", repeats=True, keep_s=60)
    assert isinstance(await books.ledger.admit(replace(books.request("b"), attempt=attempt)), Lead)
    assert set(await set_aside(books)) == {
        f"claim|{DIGEST}", "lead|work-a", "call|origin", "limit|t|output_tokens|day",
    }  # fmt: skip


async def test_rows_of_usage_that_cannot_be_read_begin_anew(books: Books) -> None:
    await books.admit("a")
    await books.settle("a")
    [row] = await books.client.hkeys(books.key("use"))
    await books.client.hset(books.key("use"), row, "junk")
    await books.admit("c")
    await books.settle("c")
    assert set(await set_aside(books)) == {f"usage|{row}"}


async def test_an_operation_that_cannot_be_read_may_begin_anew(books: Books) -> None:
    operations = RedisOperations(books.client, lease_s=60, deadline_s=10)
    operation = f"op_{1:024x}"
    await operations.begin(books.tenant, operation, "me", "work")
    await books.client.hset(books.key("ops"), operation, "junk")
    assert await operations.read(books.tenant, operation) is None
    assert (await operations.begin(books.tenant, operation, "another", "work"))[1]


async def test_what_was_set_aside_is_told_once_by_all_replicas_together(
    own_server: ServerProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(replica(own_server.url, tmp_path / str(number)))
            for number in range(3)
        ]
        for number, one in enumerate(replicas):
            await one.books.admit(f"h{number}")
            await one.has_looked()
        first = replicas[0].books
        await first.client.hset(first.key("res"), "h0", "junk")
        assert (await first.settle("h0")).state in {"unknown", "settled"}

        async def told() -> bool:
            return any(one.told.malformed for one in replicas)

        await until(told, 10)
        await first.admit("next")
        assert [kind for one in replicas for kind in one.told.malformed] == ["hold"]
    said = [record for record in caplog.records if "set aside" in record.getMessage()]
    assert [(record.__dict__["reason"], record.__dict__["key"]) for record in said] == [("hold", "h0")]
