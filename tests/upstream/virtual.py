"""An event loop whose time passes only while everybody waits: minutes of load in a moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where nothing is ready, the clock is set to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        selector = self._selector  # type: ignore[attr-defined]  # the base class keeps it there
        select = selector.select

        def passing(timeout: float | None = None) -> Any:
            self._now += max(0.0, timeout or 0.0)
            return select(0)

        selector.select = passing

    def time(self) -> float:
        return self._now


def simulated(main: Coroutine[Any, Any, None]) -> None:
    """Run until it is done, on a clock of its own."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()
