"""Time limits that behave the same on every supported Python version."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def time_limit(seconds: float | None) -> AsyncIterator[None]:
    """``asyncio.timeout`` without its bug before CPython 3.11.3.

    There, a timeout in a task that was cancelled and is cleaning up raises CancelledError instead of
    TimeoutError (gh-102780). A clean-up that defers a settlement because the store is slow would be lost.

    Raises:
        TimeoutError: The time is up.
    """
    task = asyncio.current_task()
    cancellations = 0
    if task:
        cancellations = task.cancelling()
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except asyncio.CancelledError:
        if task and limit.expired() and task.cancelling() <= cancellations:
            raise TimeoutError from None
        raise
