"""Loops beside the requests: they survive their own failures, and nothing can keep them from ending."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from app.cards import load_catalogue
from app.ledger.notifications import Notifications
from app.registry.directory import StoredDirectory
from app.resilience import tasks as background
from app.resilience.tasks import BackgroundTasks, cancel_tasks
from app.tenants.directory import MemoryDirectory
from tests.store.books import until

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from redis.asyncio import Redis


class Stubborn:
    """Work that takes its first cancellations for something else, as a client that reconnects does."""

    def __init__(self, times: int = 1) -> None:
        self.times, self.running, self.ended = times, asyncio.Event(), False

    async def work(self) -> None:
        self.running.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.times -= 1
                if self.times < 0:
                    self.ended = True
                    raise


async def test_a_loop_that_fails_is_logged_and_runs_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "RESTART_S", 0)
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise RuntimeError("a fault")
        await asyncio.Event().wait()

    async def ran_again() -> bool:
        return runs == 3

    async with BackgroundTasks() as tasks:
        tasks.keep_running(work, "example")
        await until(ran_again, 10)
    assert [record.__dict__["stage"] for record in caplog.records] == ["example", "example"]


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    stubborn = Stubborn(times=2)
    async with BackgroundTasks() as tasks:
        tasks.begin(stubborn.work(), "stubborn")
        await stubborn.running.wait()
    assert stubborn.ended
    assert len(tasks) == 0


async def test_who_is_cancelled_while_ending_tasks_ends_them_and_is_cancelled_then() -> None:
    stubborn = Stubborn(times=2)
    task = asyncio.create_task(stubborn.work())
    await stubborn.running.wait()
    ending = asyncio.create_task(cancel_tasks([task]))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert stubborn.ended
    assert task.done()


async def test_a_task_that_cannot_be_cancelled_does_not_hold_up_the_shutdown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "ENDING_S_MAX", 0.05)
    stubborn = Stubborn(times=3)
    task = asyncio.create_task(stubborn.work(), name="stubborn")
    await stubborn.running.wait()
    await cancel_tasks([task])
    assert not task.done()
    assert [record.__dict__["stage"] for record in caplog.records] == ["stubborn"]
    monkeypatch.setattr(background, "ENDING_S_MAX", 5.0)
    await cancel_tasks([task])
    assert task.done()


class Reconnecting:
    """A client of a store whose subscription takes its first cancellation for a broken connection."""

    def __init__(self) -> None:
        self.waiting, self.cancelled = asyncio.Event(), 0
        self.connection_pool = SimpleNamespace(connection_kwargs={})

    def pubsub(self, **_options: object) -> Reconnecting:
        return self

    async def subscribe(self, _channel: str) -> None:
        """Nothing is sent."""

    async def get(self, _key: str) -> None:
        """There are no tenants yet."""

    async def hgetall(self, _key: str) -> dict[str, str]:
        return {}

    async def get_message(self, **_options: object) -> None:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            if self.cancelled > 1:
                raise
            raise ConnectionError from None

    async def aclose(self) -> None:
        """Nothing is open."""

    def register_script(self, _text: str) -> None:
        """No script is run."""


def wake_board(client: Any) -> Notifications:
    return Notifications(cast("Redis", client))


def registry(client: Any) -> StoredDirectory:
    return StoredDirectory(MemoryDirectory((), b"pepper"), cast("Redis", client), b"pepper", load_catalogue())


@pytest.mark.parametrize("follower", [wake_board, registry])
async def test_a_subscription_that_swallows_its_cancellation_ends_all_the_same(follower: Any) -> None:
    client = Reconnecting()
    part: AbstractAsyncContextManager[object] = follower(client)

    async def use() -> None:
        async with part:
            await client.waiting.wait()

    async with asyncio.timeout(10) as limit:
        await use()
    assert client.cancelled
    assert not limit.expired()
