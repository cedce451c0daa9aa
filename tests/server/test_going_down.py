"""A gateway that goes down while a paid picture is on its way: the picture is delivered, and settled."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.errors import Draining
from app.domain.request import GenerationRequest
from app.generation import hold
from app.generation.conversations import Conversations
from app.generation.order import Order
from app.ledger.redis import RedisLedger
from app.observability.live import LiveRequests
from app.observability.metrics import Metrics
from app.results.redis import RedisResults
from app.wiring import open_gateway
from tests.changed_constants import environment_of, settings_of
from tests.processes import HTTP
from tests.server.conftest import calls_of
from tests.store.books import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from app.domain.generation import ModelAnswer
    from app.domain.tenancy import Caller
    from app.generation.gateway import Gateway
    from app.generation.order import GenerationResult
    from app.generation.ports import Call
    from tests.processes import Running
    from tests.server.conftest import Tenants

PRICE = 747


@asynccontextmanager
async def gateway(folder: Path, settings: dict[str, str], key: str) -> AsyncIterator[tuple[Gateway, Caller]]:
    """An open gateway and a caller of it."""
    opened = settings_of(environment_of({"state_dir": str(folder), **settings}))
    async with open_gateway(opened, Metrics(), LiveRequests()) as service:
        caller = service.directory.authenticate(key)
        assert caller is not None
        yield service.gateway, caller


def asking(
    gateway: Gateway, caller: Caller, directive: str = "", n: int = 1
) -> asyncio.Task[GenerationResult]:
    request = GenerationRequest(
        model="gemini-3.1-flash-image", prompt=f"Leaving {uuid.uuid4()} {directive}", image_size="512", n=n
    )
    return asyncio.create_task(gateway.generate(Order(caller, request)))


async def settled(gateway: Gateway, caller: Caller) -> int:
    (window,) = await gateway.get_budgets(caller)
    assert window.held == 0
    return window.settled


@pytest.mark.parametrize(
    ("owner", "step", "kept"),
    [
        (RedisResults, "put_pictures", False),
        (Conversations, "keep", True),
        (RedisLedger, "settle", True),
        (hold, "cancel_tasks", True),
    ],
    ids=str,
)
async def test_what_was_drawn_when_it_went_down_is_delivered_and_settled(
    tmp_path: Path,
    settings: dict[str, str],
    tenants: Tenants,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    step: str,
    kept: bool,
) -> None:
    under_way, go_on, real = asyncio.Event(), asyncio.Event(), getattr(owner, step)

    async def hanging(*arguments: Any, **named: Any) -> Any:
        under_way.set()
        await go_on.wait()
        return await real(*arguments, **named)

    async with gateway(tmp_path, settings, tenants.keys["pictures"]) as (opened, caller):
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, hanging)
            result = asking(opened, caller)
            await asyncio.wait_for(under_way.wait(), 30)
            closing = asyncio.create_task(opened.aclose(0))
            asyncio.get_running_loop().call_later(0.1, go_on.set)  # after the cancellation has come
            found = await asyncio.wait_for(result, 30)
            await closing
        assert len(found.pictures) == 1
        assert ("image_not_kept" not in {notice.code for notice in found.notices}) is kept
        assert await settled(opened, caller) == PRICE


async def test_pictures_that_are_there_are_delivered_where_another_call_is_cut_off(
    tmp_path: Path, settings: dict[str, str], tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, under_way, calls = asyncio.Event(), asyncio.Event(), itertools.count()
    async with gateway(tmp_path, settings, tenants.keys["pictures"]) as (opened, caller):
        model = opened._model
        real = model.generate

        async def the_second_hangs(request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
            if next(calls):
                await call.begin()
                under_way.set()
                await asyncio.Event().wait()
            answer = await real(request, seed, call)
            drawn.set()
            return answer

        monkeypatch.setattr(model, "generate", the_second_hangs)
        result = asking(opened, caller, n=2)
        await asyncio.wait_for(asyncio.gather(drawn.wait(), under_way.wait()), 30)
        await opened.aclose(0)
        found = await asyncio.wait_for(result, 30)
        assert len(found.pictures) == 1
        assert "partial_result" in {notice.code for notice in found.notices}
        assert await settled(opened, caller) == 2 * PRICE, "nobody knows what came of the other call"


async def test_where_nothing_is_there_yet_the_estimate_is_charged(
    tmp_path: Path, settings: dict[str, str], tenants: Tenants, emulator: Running
) -> None:
    async with gateway(tmp_path, settings, tenants.keys["pictures"]) as (opened, caller):
        calls, gate = calls_of(emulator), uuid.uuid4().hex[:8]
        result = asking(opened, caller, f"[[emulate:hold:{gate}]]")

        async def called() -> bool:
            return calls_of(emulator) > calls

        await until(called, 30)
        await opened.aclose(0)
        with pytest.raises(Draining):
            await result
        assert await settled(opened, caller) == PRICE
    HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
