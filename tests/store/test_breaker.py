"""The breaker: how often a store that does not answer is asked, and by whom."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import OutOfMemoryError

from app.domain.errors import InternalError, StoreUnavailable
from app.store.breaker import FAILURES_MAX, StoreBreaker

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Seconds that go on when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def called(breaker: StoreBreaker, error: BaseException | None = None) -> bool:
    """Whether a call got through."""
    through = False
    try:
        async with breaker.guard():
            through = True
            if error is not None:
                raise error
    except (StoreUnavailable, InternalError):
        pass
    return through


def answered_error() -> StoreUnavailable:
    error = StoreUnavailable()
    error.__cause__ = OutOfMemoryError("command not allowed")
    return error


async def test_an_outage_of_ten_seconds_is_asked_about_a_few_times_and_no_more() -> None:
    clock = Clock()
    breaker = StoreBreaker(pause_s=1.0, clock=clock)
    asked = 0
    for _ in range(1000):
        asked += await called(breaker, StoreUnavailable())
        clock.now += 0.01
    assert asked <= FAILURES_MAX + 10
    assert breaker.state == "open"


async def test_one_call_alone_tries_and_the_others_are_refused_meanwhile() -> None:
    clock = Clock()
    states: list[str] = []
    breaker = StoreBreaker(failures_max=1, clock=clock, on_change=states.append)
    await called(breaker, StoreUnavailable())
    clock.now += 1
    async with breaker.guard():
        assert not await called(breaker)
    assert await called(breaker)
    assert states == ["open", "half_open", "closed"]


async def test_a_probe_that_fails_begins_a_new_pause() -> None:
    clock = Clock()
    breaker = StoreBreaker(failures_max=1, pause_s=1.0, clock=clock)
    await called(breaker, StoreUnavailable())
    clock.now += 1
    assert await called(breaker, StoreUnavailable())
    assert not await called(breaker)
    clock.now += 1
    assert await called(breaker)
    assert breaker.state == "closed"


async def test_a_probe_whose_caller_leaves_does_not_lock_everybody_out() -> None:
    clock = Clock()
    breaker = StoreBreaker(failures_max=1, clock=clock)
    await called(breaker, StoreUnavailable())
    clock.now += 1

    async def leaves() -> None:
        async with breaker.guard():
            await asyncio.Event().wait()

    task = asyncio.create_task(leaves())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await called(breaker)
    assert breaker.state == "closed"


@pytest.mark.parametrize("error", [answered_error, lambda: InternalError("refused arguments")])
async def test_an_error_that_the_server_itself_answers_is_an_answer(error: Callable[[], Exception]) -> None:
    breaker = StoreBreaker(failures_max=1)
    for _ in range(10):
        assert await called(breaker, error())
    assert breaker.state == "closed"


async def test_failures_count_only_in_a_row() -> None:
    breaker = StoreBreaker(failures_max=2)
    assert all([await called(breaker, error) for error in (StoreUnavailable(), None) * 5])
    assert breaker.state == "closed"
