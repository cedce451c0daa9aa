"""Tasks of the application: work that no caller can cancel, and loops that end with their owner."""

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
"""Seconds after which a task that ignores its cancellation is abandoned; it must not block a shutdown."""

RESTART_S = 1.0
"""Seconds before a failed background loop is restarted."""


async def cancel_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks repeatedly until they end, for at most ``ENDING_S_MAX`` seconds.

    Once is not enough, because a client library that reconnects can mistake a cancellation for a broken
    connection. If the caller is cancelled meanwhile, the tasks are still ended, and then the cancellation is
    raised.
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
    """Run short work to its end and return the result, even if the caller is cancelled meanwhile.

    The cancellation is swallowed, so use it only for clean-up that must not be left half done.

    Raises:
        RuntimeError: The work cancelled itself.
    """
    task = asyncio.create_task(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise RuntimeError("The work was cancelled from within.") from None


async def run_in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a thread, or directly if the system cannot start one."""
    call = partial(contextvars.copy_context().run, function, *args, **kwargs)
    try:
        running = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError:
        return function(*args, **kwargs)
    return await running


class _TaskSet:
    """A set of running tasks."""

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
            task.exception()  # mark it as retrieved, or asyncio logs an error if nobody awaits the task


class BackgroundTasks(_TaskSet):
    """Tasks that are cancelled at the end of the block: ``async with BackgroundTasks() as tasks``."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all tasks, as ``cancel_tasks`` does."""
        await cancel_tasks(self._running)

    def begin(self, work: Coroutine[object, object, T], name: str) -> asyncio.Task[T]:
        """Start a task; whoever awaits it gets its result or error."""
        return self._add(work, name)

    def keep_running(self, work: Callable[[], Coroutine[object, object, None]], name: str) -> None:
        """Run a loop until the block ends. A failure is logged, and the loop is restarted after a pause."""
        self._add(self._supervise(work, name), name)

    async def _supervise(self, work: Callable[[], Coroutine[object, object, None]], name: str) -> None:
        while True:
            try:
                await work()
            except Exception:
                log.exception("a background task failed and will be restarted", extra={"stage": name})
            await asyncio.sleep(RESTART_S)


class OwnTasks(_TaskSet):
    """Tasks that no caller can cancel; they are awaited at shutdown."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    async def run(self, work: Coroutine[object, object, T]) -> T:
        """Run work to its end and return the result. A cancelled caller leaves it running.

        Raises:
            Draining: The application is shutting down, so the work was not started.
        """
        return await asyncio.shield(self.begin(work))

    def begin(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Start work without waiting for it. Raises Draining as ``run`` does."""
        if self.closed:
            work.close()
            raise Draining("The gateway is shutting down; another replica will serve it.", retry_after_s=1)
        return self._add(work)

    async def aclose(self, patience_s: float) -> None:
        """Refuse new work, wait ``patience_s`` seconds for running work, then cancel and await the rest."""
        self.closed = True
        if self._running:
            await asyncio.wait(self._running, timeout=patience_s)
        left = list(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
