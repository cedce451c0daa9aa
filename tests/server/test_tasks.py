"""Work that is finished whoever cancels it, threads that are not to be had, and heartbeats that go on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from app.domain.errors import InternalError, StoreUnavailable
from app.domain.policy import HoldConfig
from app.generation.hold import HoldLease
from app.generation.progress import Progress
from app.resilience.tasks import run_in_thread, run_uncancelled
from tests.store.books import until

if TYPE_CHECKING:
    from app.generation.job import Job
    from app.generation.ports import Ledger


async def test_work_is_finished_although_its_caller_is_cancelled_again_and_again() -> None:
    go_on = asyncio.Event()

    async def work() -> str:
        await go_on.wait()
        return "done"

    caller = asyncio.create_task(run_uncancelled(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    go_on.set()
    assert await caller == "done"


async def test_work_that_cancels_itself_cancels_nobody_else() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="from within"):
        await run_uncancelled(work())


async def test_a_failure_of_the_work_is_its_callers() -> None:
    async def work() -> None:
        raise StoreUnavailable

    with pytest.raises(StoreUnavailable):
        await run_uncancelled(work())


async def test_where_no_thread_is_to_be_had_the_loop_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    assert await run_in_thread(divmod, 7, 2) == (3, 1)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "run_in_executor", none_left)
        assert await run_in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(divmod, 1, 0)


class Marking:
    """A ledger whose dispatches raise or not, one after the other; the last for ever."""

    def __init__(self, *raised: Exception | None) -> None:
        self.raised, self.calls = list(raised), 0

    async def beating(self) -> bool:
        return self.calls > 3

    async def dispatch(self, *_arguments: str) -> bool:
        self.calls += 1
        error = self.raised.pop(0) if len(self.raised) > 1 else self.raised[0]
        if error is not None:
            raise error
        return True


def lease(ledger: Marking, progress: Progress) -> HoldLease:
    job: Any = SimpleNamespace(tenant_id="a", fingerprint="work", left_s=60.0, patience=None)
    return HoldLease(cast("Ledger", ledger), cast("Job", job), progress, "hold", HoldConfig(lease_s=0.03))


@pytest.mark.parametrize("error", [StoreUnavailable(), RuntimeError("closed")], ids=repr)
async def test_a_heartbeat_goes_on_whatever_one_of_them_raises(error: Exception) -> None:
    ledger = Marking(None, error)
    opened = lease(ledger, Progress())
    await opened.begin()
    await until(ledger.beating, 10)
    await opened.stop_renewing()


async def test_a_hold_that_cannot_be_marked_as_sent_is_never_sent() -> None:
    progress = Progress()
    opened = lease(Marking(RuntimeError("closed")), progress)
    for _ in range(2):
        with pytest.raises(InternalError):
            await opened.begin()
    assert not progress.sent
    assert isinstance(opened.fault, InternalError)
