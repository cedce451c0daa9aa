"""Tasks that belong to the application and that no caller can cancel."""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from app.domain.errors import Draining

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

P = ParamSpec("P")
T = TypeVar("T")


AGAIN_S = 0.1


async def cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Return when these tasks are over, cancelling them until they are.

    Once is not enough: a client library that reconnects can take a cancellation for a broken connection.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)


async def uncancelled(work: Coroutine[object, object, T]) -> T:
    """Run to the end and return the result, even where the caller is cancelled meanwhile.

    For short work that must not be left half done; the cancellation is spent on it.

    Raises:
        RuntimeError: The work was cancelled from within, which says nothing of the caller.
    """
    task = asyncio.create_task(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise RuntimeError("The work was cancelled from within.") from None


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it in a thread, to spare the event loop; right here where the system has no thread to give."""
    call = partial(contextvars.copy_context().run, function, *args, **kwargs)
    try:
        running = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError:
        return function(*args, **kwargs)
    return await running


class OwnTasks:
    """A set of running tasks, awaited at shutdown."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()
        self.closed = False

    def __len__(self) -> int:
        return len(self._running)

    async def run(self, work: Coroutine[object, object, T]) -> T:
        """Run to the end and return the result; a caller who is cancelled leaves the work running.

        Raises:
            Draining: Where the application is going down and the work was not begun.
        """
        return await asyncio.shield(self.begin(work))

    def begin(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Run to the end with nobody waiting. Raises Draining as ``run`` does."""
        if self.closed:
            work.close()
            raise Draining("The gateway is going down; another replica will take it.", retry_after_s=1)
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # Nobody may be left to hear of it, and asyncio complains about that.

    async def aclose(self, patience_s: float) -> None:
        """Begin nothing new, wait for what runs, then cancel the rest and wait for its own endings."""
        self.closed = True
        if self._running:
            await asyncio.wait(self._running, timeout=patience_s)
        left = list(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
