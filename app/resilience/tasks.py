"""Tasks of the application: work that no caller can cancel, and loops that end with whoever began them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from app.domain.errors import Draining

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

CANCEL_AGAIN_S = 0.1
ENDING_S_MAX = 5.0
"""A task that ignores cancellation for this long is left behind, so that it cannot hold up the shutdown."""

RESTART_S = 1.0
"""Pause before a background loop that failed runs again."""


async def cancel_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel these tasks until they are over, for at most ``ENDING_S_MAX`` seconds.

    Once is not enough: a client library that reconnects can take a cancellation for a broken connection.
    Where the caller is itself cancelled meanwhile, the tasks are ended all the same and the cancellation is
    raised afterwards.
    """
    left = {task for task in tasks if not task.done()}
    clock = asyncio.get_running_loop().time
    deadline = clock() + ENDING_S_MAX
    interruption: asyncio.CancelledError | None = None
    while left and clock() < deadline:
        for task in left:
            task.cancel()
        try:
            await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
        except asyncio.CancelledError as error:
            interruption = error
        left = {task for task in left if not task.done()}
    for task in left:
        log.error("a background task ignores its cancellation", extra={"stage": task.get_name()})
    if interruption is not None:
        raise interruption


async def run_uncancelled(work: Coroutine[object, object, T]) -> T:
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


async def run_in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it in a thread, to spare the event loop; right here where the system has no thread to give."""
    call = partial(contextvars.copy_context().run, function, *args, **kwargs)
    try:
        running = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError:
        return function(*args, **kwargs)
    return await running


class _TaskSet:
    """Tasks that are under way; their exceptions count as seen."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def _add(self, work: Coroutine[object, object, T], name: str | None = None) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._discard)
        return task

    def _discard(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # Nobody may be left to hear of it, and asyncio complains about that.


class BackgroundTasks(_TaskSet):
    """Tasks that are cancelled at the end of the block: ``async with BackgroundTasks() as tasks``."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End them all, as ``cancelled`` does."""
        await cancel_tasks(self._running)

    def begin(self, work: Coroutine[object, object, T], name: str) -> asyncio.Task[T]:
        """Run it once; its result or error belongs to whoever awaits the task."""
        return self._add(work, name)

    def keep_running(self, work: Callable[[], Coroutine[object, object, None]], name: str) -> None:
        """Run it until the block ends; a failure is logged, and after a pause it runs again."""
        self._add(self._supervise(work, name), name)

    async def _supervise(self, work: Callable[[], Coroutine[object, object, None]], name: str) -> None:
        while True:
            try:
                await work()
            except Exception:
                log.exception("a background task failed and is started again", extra={"stage": name})
            await asyncio.sleep(RESTART_S)


class OwnTasks(_TaskSet):
    """A set of running tasks, awaited at shutdown."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

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
        return self._add(work)

    async def aclose(self, patience_s: float) -> None:
        """Begin nothing new, wait for what runs, then cancel the rest and wait for its own endings."""
        self.closed = True
        if self._running:
            await asyncio.wait(self._running, timeout=patience_s)
        left = list(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
