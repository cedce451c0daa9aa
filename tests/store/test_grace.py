"""What an operator may let through while the store does not answer, and that it is booked later."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from app.domain.errors import StoreUnavailable
from app.generation.ports import Claim, Lead
from app.ledger.verifying import read_snapshot
from tests.store.books import ONE, until
from tests.store.test_durable import Replica, replica
from tests.storeserver import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GRACE = 2 * ONE.total_tokens + 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "s", "--appendfsync", "always") as found:
        yield found


async def admitted(one: Replica, *holds: str) -> list[str]:
    """Those that were admitted, sent and settled."""
    found = []
    for hold in holds:
        try:
            assert isinstance(await one.books.admit(hold), Lead)
        except StoreUnavailable:
            continue
        assert await one.books.dispatch(hold)
        assert await one.books.dispatch(hold), "a heartbeat"
        assert (await one.books.settle(hold)).state == "deferred"
        found.append(hold)
    return found


async def test_replicas_together_admit_no_more_than_their_grace_and_book_it_later(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with (
        replica(server.url, tmp_path / "j", grace=GRACE) as one,
        replica(server.url, tmp_path / "j", grace=GRACE) as two,
    ):
        await one.books.admit("before")
        server.kill()
        through = [
            await admitted(each, *[f"{name}{n}" for n in range(4)]) for each, name in ((one, "a"), (two, "b"))
        ]
        assert through == [["a0", "a1"], ["b0", "b1"]]
        assert one.durable.conditions()["grace_tokens"] == 2 * ONE.total_tokens
        server.start()
        for each in (one, two):
            await each.nothing_waits()
        assert await one.books.totals() == [(4 * 1120, 1120)]
        assert (await read_snapshot(one.books.client, "acme")).find_differences() == []
        await one.lead()
        assert one.durable.conditions()["grace_tokens"] == 0, "the next outage begins anew"


async def test_without_a_grace_nothing_is_admitted(server: ServerProcess, tmp_path: Path) -> None:
    async with replica(server.url, tmp_path / "j") as one:
        server.kill()
        assert await admitted(one, "a") == []


async def test_a_request_with_an_idempotency_key_is_not_let_through(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with replica(server.url, tmp_path / "j", grace=GRACE) as one:
        server.kill()
        asked = replace(one.books.request("a"), claim=Claim("d" * 64, "c", 60))
        with pytest.raises(StoreUnavailable):
            await one.durable.admit(asked)
        with pytest.raises(StoreUnavailable):
            await one.books.admit("b", mode="only_if_cached")


async def test_what_was_sent_and_never_settled_is_charged_as_any_other(
    server: ServerProcess, tmp_path: Path
) -> None:
    """The process ends in the outage; the next one knows from its journal that the call was sent."""
    async with replica(server.url, tmp_path / "j", grace=GRACE) as one:
        await one.books.admit("before")
        await one.books.settle("before", ONE._replace(image_tokens=1))
        server.kill()
        await one.books.admit("a")
        assert await one.books.dispatch("a")
    server.start()
    async with replica(server.url, tmp_path / "j", grace=GRACE) as next_one:

        async def told() -> bool:
            return (await next_one.books.totals()) == [(1, 1120)]

        await until(told, 10)
        next_one.books.fingerprints["a"] = "work-a"
        await next_one.books.expire("a")
        assert await next_one.books.totals() == [(1121, 0)]
