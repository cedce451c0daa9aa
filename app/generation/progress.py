"""The progress of a request, shared between its path and its surface."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.resilience.spans import open_span
from app.resilience.tasks import cancel_tasks
from app.resilience.wide_event import note

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator


class CallerLeft(Exception):
    """The caller has left and nothing was spent, so there is nobody to answer."""


async def _do_nothing() -> None:
    """The default where nothing happens before a call is sent."""


@dataclass(slots=True)
class Progress:
    """What changes while one request is served.

    Attributes:
        before_sending: Awaited before the upstream is called; where it raises, nothing is sent.
        counted: Whether the ledger has counted it as a request.
        following: The hold whose outcome it waits for, or None.
        sent: Whether the upstream may have been called for it.
        abandoned: Whether its answer is known to reach nobody.
        caller_left: Set when nobody waits for it any more.
        timings_ms: Milliseconds by stage.
    """

    before_sending: Callable[[], Awaitable[None]] = _do_nothing
    counted: bool = False
    following: str | None = None
    sent: bool = False
    abandoned: bool = False
    caller_left: asyncio.Event = field(default_factory=asyncio.Event)
    timings_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage, and note that it is the present one."""
        note(step=stage)
        began = time.perf_counter()
        try:
            with open_span(stage):
                yield
        finally:
            spent = (time.perf_counter() - began) * 1000
            self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + spent

    async def wait_with_caller(self, work: Coroutine[object, object, None]) -> None:
        """Await the work for as long as the caller is there. Raises CallerLeft when it is not."""
        waiting = asyncio.create_task(work)
        leaving = asyncio.create_task(self.caller_left.wait())
        try:
            await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_tasks([waiting, leaving])
        if self.caller_left.is_set():
            raise CallerLeft
        waiting.result()
