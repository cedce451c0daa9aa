"""A time limit ends in TimeoutError, also in a task that was cancelled and still has something to settle."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.errors import StoreUnavailable
from app.resilience.deadlines import time_limit
from app.store.client import translate_store_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    Limit = Callable[[float], AbstractAsyncContextManager[Any]]

LONG_S = 60.0


async def stuck(limit: Limit, seconds: float) -> None:
    async with limit(seconds):
        await asyncio.Event().wait()


async def cleaning_up(limit: Limit, seconds: float, *, begun: asyncio.Event | None = None) -> None:
    """A cancelled task that has something left to do within a limit."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if begun:
            begun.set()
        await stuck(limit, seconds)


async def cancelled(work: asyncio.Task[None]) -> None:
    await asyncio.sleep(0)
    work.cancel()


@pytest.mark.parametrize(
    ("limit", "error"), [(time_limit, TimeoutError), (translate_store_errors, StoreUnavailable)]
)
async def test_a_limit_is_told_from_a_cancellation_before_it(limit: Limit, error: type[Exception]) -> None:
    with pytest.raises(error):
        await stuck(limit, 0.01)
    work = asyncio.create_task(cleaning_up(limit, 0.01))
    await cancelled(work)
    with pytest.raises(error):
        await work


@pytest.mark.parametrize("limit", [time_limit, translate_store_errors])
async def test_a_cancellation_within_a_limit_is_a_cancellation(limit: Limit) -> None:
    work = asyncio.create_task(stuck(limit, LONG_S))
    await cancelled(work)
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_a_second_cancellation_ends_the_cleaning_up() -> None:
    begun = asyncio.Event()
    work = asyncio.create_task(cleaning_up(time_limit, LONG_S, begun=begun))
    await cancelled(work)
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_a_cancellation_at_the_moment_when_time_is_up_wins() -> None:
    work = asyncio.create_task(stuck(time_limit, 0))
    await cancelled(work)
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_there_need_be_no_limit() -> None:
    async with time_limit(None):
        pass
