"""The cap on what all tenants and replicas together ask of a back end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest

from app.cards import load_catalogue
from app.domain.errors import (
    DeadlineExceeded,
    GatewayError,
    InternalError,
    UpstreamQuota,
    UpstreamUnavailable,
)
from app.domain.generation import ModelAnswer, Usage
from app.domain.request import GenerationRequest
from app.generation.ports import Call
from app.ledger.provider_cap import PROVIDER_LEDGER, CappedImageModel, ProviderConfig
from app.ledger.redis import RedisLedger
from app.ledger.verifying import list_ledger_tenants, read_snapshot
from app.store.client import open_clients
from app.store.keys import PROVIDER, ledger_keys
from tests.storeserver import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from app.generation.ports import Settled, Settlement
    from app.store.client import StoreClients

CATALOGUE = load_catalogue()
REQUEST = GenerationRequest("gemini-3.1-flash-image", "Capped", image_size="512")
CALL = Call("acme", 60)
USAGE = Usage(text_input=3, image_output=747, text_output=50)
back_ends = (f"backend{number}" for number in count())


class Upstream:
    """What stands behind the cap: it counts its calls, and answers or fails as it is told."""

    def __init__(self, error: GatewayError | None = None) -> None:
        self.calls = 0
        self.error = error

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return ModelAnswer((), "", "STOP", USAGE, "m-001")

    async def find_fault(self) -> str | None:
        return None


def capped(
    clients: StoreClients, upstream: Upstream, terms: ProviderConfig, back_end: str
) -> CappedImageModel:
    ledger = RedisLedger(clients.ledger, PROVIDER_LEDGER.model_copy(update={"deadline_s": 10}))
    return CappedImageModel(upstream, back_end, ledger, CATALOGUE, terms)


async def tokens_taken(clients: StoreClients, back_end: str) -> int:
    found = (await read_snapshot(clients.ledger, PROVIDER)).counters
    return sum(
        sum(counter.get(kind, 0) for kind in "sh")
        for name, counter in found.items()
        if f":{back_end}:" in name and "|total_tokens|" in name
    )


async def test_replicas_together_ask_no_more_than_the_cap(clients: StoreClients) -> None:
    upstream, back_end = Upstream(), next(back_ends)
    replicas = [capped(clients, upstream, ProviderConfig(requests_per_minute=30), back_end) for _ in range(4)]
    ended = await asyncio.gather(
        *(replica.generate(REQUEST, None, CALL) for replica in replicas for _ in range(10)),
        return_exceptions=True,
    )
    refused = [error for error in ended if isinstance(error, UpstreamQuota)]
    assert upstream.calls == 40 - len(refused)
    assert 3 <= upstream.calls <= 3 + 10, "a tenth at once, and what has become free meanwhile"
    assert {error.billed for error in refused} == {"no"}
    assert all(1 <= (error.retry_after_s or 0) <= 2 for error in refused), "thirty a minute"


async def test_another_model_and_another_back_end_have_caps_of_their_own(clients: StoreClients) -> None:
    upstream, terms, back_end = Upstream(), ProviderConfig(requests_per_minute=1), next(back_ends)
    other = replace(REQUEST, model="gemini-3-pro-image", image_size="1K")
    for model, request in (
        (capped(clients, upstream, terms, back_end), REQUEST),
        (capped(clients, upstream, terms, back_end), other),
        (capped(clients, upstream, terms, next(back_ends)), REQUEST),
    ):
        await model.generate(request, None, CALL)
        with pytest.raises(UpstreamQuota):
            await model.generate(request, None, CALL)
    assert upstream.calls == 3


@pytest.mark.parametrize(
    ("error", "taken"),
    [
        (None, 800),
        (UpstreamUnavailable("Not now.", billed="no"), 0),
        (DeadlineExceeded("Too late.", billed="maybe"), None),
        (UpstreamUnavailable("Refused.", billed="yes", usage=Usage(text_input=40)), 40),
    ],
)
async def test_tokens_are_reserved_and_then_what_was_used_is_taken(
    clients: StoreClients, error: GatewayError | None, taken: int | None
) -> None:
    back_end = next(back_ends)
    model = capped(clients, Upstream(error), ProviderConfig(tokens_per_minute=10**6), back_end)
    if error is None:
        await model.generate(REQUEST, None, CALL)
    else:
        with pytest.raises(type(error)):
            await model.generate(REQUEST, None, CALL)
    found = await tokens_taken(clients, back_end)
    assert found == taken if taken is not None else found > 747, "the whole estimate where nobody knows"


@pytest.mark.parametrize(
    "error", [RuntimeError("closed"), InternalError(), asyncio.CancelledError()], ids=repr
)
async def test_an_answer_is_delivered_whatever_giving_back_its_part_raises(
    clients: StoreClients, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    async def failing(_ledger: RedisLedger, _settlement: Settlement, _windows: object) -> Settled:
        raise error

    model = capped(clients, Upstream(), ProviderConfig(tokens_per_minute=10**6), next(back_ends))
    monkeypatch.setattr(RedisLedger, "settle", failing)
    assert (await model.generate(REQUEST, None, CALL)).usage == USAGE


async def test_too_many_tokens_are_refused_until_the_minute_is_over(clients: StoreClients) -> None:
    upstream, back_end = Upstream(), next(back_ends)
    model = capped(clients, upstream, ProviderConfig(tokens_per_minute=2000), back_end)

    async def more_than_a_minute_has() -> None:
        for _ in range(4):  # the minute may be over in between
            await model.generate(REQUEST, None, CALL)

    with pytest.raises(UpstreamQuota) as refused:
        await more_than_a_minute_has()
    assert refused.value.retryable
    assert 1 <= (refused.value.retry_after_s or 0) <= 60
    assert 1 <= upstream.calls <= 3


async def test_more_tokens_than_a_whole_minute_has_are_not_told_to_wait(clients: StoreClients) -> None:
    upstream = Upstream()
    model = capped(clients, upstream, ProviderConfig(tokens_per_minute=700), next(back_ends))
    with pytest.raises(UpstreamQuota, match="waiting does not help") as refused:
        await model.generate(REQUEST, None, CALL)
    assert (refused.value.retryable, refused.value.retry_after_s) == (False, None)
    assert upstream.calls == 0


async def test_without_the_store_the_upstreams_own_quota_is_the_only_one(tmp_path: Path) -> None:
    upstream = Upstream()
    with running_server(tmp_path / "s") as server:
        async with open_clients(server.url, ledger_timeout_s=1) as clients:
            model = capped(clients, upstream, ProviderConfig(requests_per_minute=1), "gone")
            await model.generate(REQUEST, None, CALL)
            await clients.ledger.flushall()
            for _ in range(2):
                await model.generate(REQUEST, None, CALL)
            with pytest.raises(UpstreamQuota):
                await model.generate(REQUEST, None, CALL)
            server.kill()
            await model.generate(REQUEST, None, CALL)
            server.start()
            with pytest.raises(UpstreamQuota):
                await model.generate(REQUEST, None, CALL)
    assert upstream.calls == 4


async def test_its_books_balance_and_lie_beside_the_tenants(clients: StoreClients) -> None:
    await capped(
        clients,
        Upstream(),
        ProviderConfig(requests_per_minute=1000, tokens_per_minute=10**6),
        next(back_ends),
    ).generate(REQUEST, None, CALL)
    assert PROVIDER in await list_ledger_tenants(clients.ledger)
    assert (await read_snapshot(clients.ledger, PROVIDER)).find_differences() == []
    assert ledger_keys(PROVIDER)[0] == "fg:{_provider}:res"


async def test_each_of_a_requests_calls_reserves_one_picture(clients: StoreClients) -> None:
    upstream, config = Upstream(), ProviderConfig(images_per_minute=4)
    model = capped(clients, upstream, config, next(back_ends))
    request = replace(REQUEST, n=4)
    await asyncio.gather(*(model.generate(request, None, CALL) for _ in range(4)))
    assert upstream.calls == 4
