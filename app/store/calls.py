"""Calls of the store: with a time limit, behind a circuit breaker, and with translated errors."""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

from app.store.client import DEADLINE_S, translate_store_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from app.store.breaker import StoreBreaker

T = TypeVar("T")


class StoreCalls:
    """Runs the store calls of one part of the gateway.

    Args:
        deadline_s: Seconds after which a call raises StoreUnavailable.
        breaker: Refuses calls while the store does not answer; None to make every call.
    """

    def __init__(self, deadline_s: float = DEADLINE_S, breaker: StoreBreaker | None = None) -> None:
        self._deadline_s = deadline_s
        self._breaker = breaker

    async def run(self, call: Awaitable[T], deadline_s: float | None = None) -> T:
        """Run a command, or a coroutine that sends several, and return its result.

        Args:
            call: Must consist of client calls only, because any error in it counts as the store's. It is not
                started while the breaker is open.
            deadline_s: Overrides the time limit in seconds.

        Raises:
            InternalError: A script rejected its arguments, which is a bug of the gateway.
            StoreUnavailable: Any other failure.
        """
        try:
            async with AsyncExitStack() as around:
                if self._breaker is not None:
                    await around.enter_async_context(self._breaker.guard())
                await around.enter_async_context(translate_store_errors(deadline_s or self._deadline_s))
                return await call
        finally:
            if inspect.iscoroutine(call):
                call.close()  # if it was never started, Python would warn that it was not awaited
