"""What cannot be read is set aside and told of; its tenant is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.generation.ports import Lead

if TYPE_CHECKING:
    from tests.store.books import Books


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
    ledger = await books.client.hgetall(books.key("win"))
    assert ledger["!aside|hold|bad"] == raw
    assert ledger["!aside"] == "1"
    assert not await books.client.hexists(books.key("res"), "bad")
    assert await books.client.zrange(books.key("exp"), 0, -1) == ["next"]


async def test_a_hold_of_a_later_version_is_left_to_those_who_can_read_it(books: Books) -> None:
    await books.admit("later")
    await books.client.hset(books.key("res"), "later", "4;what;comes;then")
    await books.expire("later")
    assert isinstance(await books.admit("next"), Lead)
    assert await books.client.hget(books.key("res"), "later") == "4;what;comes;then"
    assert set(await books.client.zrange(books.key("exp"), 0, -1)) == {"later", "next"}
