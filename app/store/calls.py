"""The one way to call the store: within a time limit, behind a breaker, with its failures translated."""

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
    """Runs what one part of the gateway asks of the store.

    Args:
        deadline_s: A call that has no answer by then is StoreUnavailable.
        breaker: Spares a store that does not answer, and its callers; None to ask in any case.
    """

    def __init__(self, deadline_s: float = DEADLINE_S, breaker: StoreBreaker | None = None) -> None:
        self._deadline_s = deadline_s
        self._breaker = breaker

    async def run(self, call: Awaitable[T], deadline_s: float | None = None) -> T:
        """The answer to a command, or to the several that a coroutine sends.

        Args:
            call: Nothing but calls of the client, because whatever they raise is the store's failure. It is
                not begun while the breaker is open.
            deadline_s: Instead of the usual time limit.

        Raises:
            InternalError: A script refused its arguments: a fault of the gateway.
            StoreUnavailable: Everything else.
        """
        try:
            async with AsyncExitStack() as around:
                if self._breaker is not None:
                    await around.enter_async_context(self._breaker.guard())
                await around.enter_async_context(translate_store_errors(deadline_s or self._deadline_s))
                return await call
        finally:
            if inspect.iscoroutine(call):
                call.close()  # where it was not begun, Python would complain that nobody awaited it
