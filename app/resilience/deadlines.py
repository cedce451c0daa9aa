"""Time limits that mean the same on every Python that runs the gateway."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def time_limit(seconds: float | None) -> AsyncIterator[None]:
    """``asyncio.timeout``, which before CPython 3.11.3 fails a task that was cancelled and is cleaning up.

    There, time that is up ends such a task with CancelledError (gh-102780), so that whoever would keep a
    settlement for later, because the store is slow, never gets to do so.

    Raises:
        TimeoutError: The time is up.
    """
    task = asyncio.current_task()
    cancellations = task.cancelling() if task else 0
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except asyncio.CancelledError:
        if task and limit.expired() and task.cancelling() <= cancellations:
            raise TimeoutError from None
        raise
