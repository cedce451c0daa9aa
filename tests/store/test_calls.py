"""The one way to call the store: what a call may take, who is spared, and what its failures become."""

from __future__ import annotations

import ast
import asyncio
import inspect
from pathlib import Path

import pytest

from app.domain.errors import StoreUnavailable
from app.store import calls as module
from app.store.breaker import StoreBreaker
from app.store.calls import StoreCalls

APP = Path(module.__file__).parents[1]
LONG_S = 60.0


async def broken() -> None:
    raise ConnectionError


async def never() -> None:
    await asyncio.Event().wait()


async def test_the_answer_is_passed_on() -> None:
    async def answer() -> int:
        return 7

    assert await StoreCalls().run(answer()) == 7


async def test_a_call_of_its_own_time_limit_ends_by_it() -> None:
    with pytest.raises(StoreUnavailable):
        await StoreCalls(LONG_S).run(never(), 0.01)
    with pytest.raises(StoreUnavailable):
        await StoreCalls(0.01).run(never())


async def test_failures_open_the_breaker_and_then_nothing_is_sent() -> None:
    calls = StoreCalls(breaker=StoreBreaker(failures_max=1, pause_s=LONG_S))
    with pytest.raises(StoreUnavailable):
        await calls.run(broken())
    sent = False

    async def command() -> None:
        nonlocal sent
        sent = True

    call = command()
    with pytest.raises(StoreUnavailable):
        await calls.run(call)
    assert inspect.getcoroutinestate(call) == inspect.CORO_CLOSED, (
        "or Python complains that nobody awaited it"
    )
    assert not sent


def test_only_the_one_way_has_time_limits_and_breakers_of_the_store() -> None:
    found = {
        path.relative_to(APP).as_posix()
        for path in APP.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("translate_store_errors", ".guard"))
    }
    # A bucket is another server with errors and a breaker of its own.
    assert found == {"store/calls.py", "store/client.py", "pictures/bucket.py"}
