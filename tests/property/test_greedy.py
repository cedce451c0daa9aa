"""A model that answers with whatever its bound allows, against budgets of every unit, window, scope and tail.

Whatever becomes of the calls, what a window has settled, held and unresolved is never below what was made,
and never above its limit by more than one request's most less its expected cost.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.cards import load_catalogue
from app.domain.bound import build_bounds, compute_unresolved
from app.domain.budget import NOTHING, UNITS, Amounts, Budget, build_window
from app.domain.estimate import compute_settled_amounts, estimate
from app.domain.generation import Usage
from app.domain.request import CacheDirective, GenerationRequest
from app.generation.ports import AdmissionRequest, Lead, Settlement
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.ledger.verifying import read_snapshot
from app.store import keys
from tests.property.test_ledger_machine import ALWAYS, opened
from tests.store.books import ZONE
from tests.storeserver import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.bound import Tail
    from app.store.client import StoreClients

CARD = next(card for card in load_catalogue() if card.id == "gemini-3.1-flash-image")
TABLE = sorted(size.tokens for size in CARD.image_sizes.values())
CALLERS = 50

requests = st.builds(
    GenerationRequest,
    model=st.just(CARD.id),
    prompt=st.text(max_size=40),
    image_size=st.sampled_from(sorted(CARD.image_sizes)),
    n=st.sampled_from([1, 1, 1, 2, 8]),
    thinking_level=st.sampled_from(["minimal", "high"]),
    thinking_budget=st.sampled_from([None, None, None, 30_000]),
)
SCALE = {
    "image_tokens": 1120,
    "total_tokens": 2000,
    "images": 1,
    "usd": 70_000_000,
    "all_output_tokens": 1720,
}
budgets = st.builds(
    lambda unit, window, scope, mode, pictures: Budget(unit, window, SCALE[unit] * pictures, scope, mode),
    st.sampled_from(UNITS),
    st.sampled_from(["day", "month", "lifetime"]),
    st.sampled_from(["tenant", "key"]),
    st.sampled_from(["enforce", "enforce", "enforce", "shadow"]),
    st.sampled_from([1, 3, 10, 37, 3000]),
)
endings = st.sampled_from(
    ["settle", "settle", "settle", "lose", "crash", "crash and settle", "part", "void", "stay"]
)


@dataclass
class Call:
    """One request that was admitted, and what the upstream made of it."""

    hold_id: str
    request: GenerationRequest
    lead: Lead
    expected: Amounts
    made: Amounts = NOTHING


@dataclass
class World:
    """The store's ledger of one tenant, and everything that was made."""

    ledger: RedisLedger
    client: Any
    tenant: str
    budgets: tuple[Budget, ...]
    tail: Tail
    calls: list[Call] = field(default_factory=list)
    gaps: list[Amounts] = field(default_factory=lambda: [NOTHING])

    @property
    def windows(self) -> tuple[Any, ...]:
        return tuple(
            replace(build_window(budget, "t" if budget.scope == "tenant" else "k:k1", ZONE, 0), spans=ALWAYS)
            for budget in self.budgets
        )

    async def admit(self, number: int, request: GenerationRequest) -> Call | None:
        expected = estimate(request, CARD).amounts
        bounds = build_bounds(request, CARD, None, expected)
        hold = f"h{number}"
        asked = AdmissionRequest(
            self.tenant,
            hold,
            hold,
            self.windows,
            expected,
            CacheDirective("bypass"),
            bounds=bounds,
            tail=self.tail,
        )
        admission = await self.ledger.admit(asked)
        if not isinstance(admission, Lead):
            return None
        gap = Amounts(*(most - usual for most, usual in zip(bounds[0].worst, expected, strict=True)))
        self.gaps.append(gap)
        call = Call(hold, request, admission, expected)
        self.calls.append(call)
        return call

    async def end(self, call: Call, ending: str, usages: list[Usage], images: int) -> None:
        hold, worst = call.hold_id, call.lead.bound.worst
        if ending == "void":
            await self.settle(hold, "void", NOTHING)
            return
        assert await self.ledger.dispatch(self.tenant, hold, hold)
        call.made = compute_settled_amounts(CARD, sum(usages, Usage()), images)
        match ending:
            case "settle":
                await self.settle(hold, "settle", call.made)
            case "lose":
                await self.settle(hold, "charge", NOTHING)
            case "part":
                n = call.request.n
                known = compute_settled_amounts(CARD, usages[0], images)
                lost = Amounts(*(amount * (n - 1) // n for amount in call.expected))
                booked = Amounts(*map(sum, zip(known, lost, strict=True)))
                await self.settle(hold, "settle", booked, compute_unresolved(worst, lost, n - 1, n))
            case "crash" | "crash and settle":
                exp = keys.ledger_keys(self.tenant)[keys.LEDGER_NAMES.index("exp")]
                await self.client.zadd(exp, {hold: 1}, xx=True)
                if ending == "crash and settle":
                    await self.ledger.get_windows(self.tenant, self.windows)
                    await self.settle(hold, "settle", call.made)

    async def settle(self, hold: str, outcome: Any, amounts: Amounts, rest: Amounts = NOTHING) -> None:
        settlement = Settlement(self.tenant, hold, hold, outcome, amounts, unresolved=rest)
        await self.ledger.settle(settlement, self.windows)

    async def check(self) -> None:
        made = Amounts(*map(sum, zip(NOTHING, *(call.made for call in self.calls), strict=True)))
        for state in await self.ledger.get_windows(self.tenant, self.windows):
            unit = UNITS.index(state.budget.unit)
            taken = state.settled + state.held + state.unresolved
            assert taken >= made[unit]
            if state.budget.mode == "enforce":
                most = 0 if self.tail == "refuse" else max(gap[unit] for gap in self.gaps)
                assert state.settled <= taken <= state.budget.limit + most


def answer_greedily(draw: Any, call: Call) -> tuple[list[Usage], int]:
    """Answers to all calls of a request that use their bound up, with pictures, words or both."""
    usages, images = [], 0
    read = len(call.request.prompt.encode())
    for _ in range(call.request.n):
        left, drawn, picture = call.lead.bound.tokens, 0, draw(st.sampled_from([*TABLE, None]))
        while picture is not None and drawn + picture <= left:
            drawn, images = drawn + picture, images + 1
        usages.append(Usage(text_input=read, image_output=drawn, thinking=left - drawn))
    return usages, images


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[asyncio.Runner, StoreClients]]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fg"))
        server = stack.enter_context(running_server(Path(folder)))
        runner = stack.enter_context(asyncio.Runner())
        yield runner, stack.enter_context(opened(runner, server.url))


NAMES = itertools.count(1)


@pytest.mark.timeout(300)
@settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)
@given(st.lists(budgets, min_size=1, max_size=5), st.sampled_from(["serve_one", "refuse"]), st.data())
def test_whatever_a_model_answers_no_window_is_exceeded_by_more_than_one_request_can(
    store: tuple[asyncio.Runner, StoreClients], limits: list[Budget], tail: Tail, data: st.DataObject
) -> None:
    runner, clients = store
    ledger = RedisLedger(clients.ledger, LedgerConfig(deadline_s=10))
    world = World(ledger, clients.ledger, f"greedy-{next(NAMES)}", tuple(limits), tail)
    running: list[Call] = []
    for number in range(CALLERS):
        call = runner.run(world.admit(number, data.draw(requests)))
        if call is not None:
            running.append(call)
        while running and (call is None or data.draw(st.booleans())):
            ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
            usages, images = answer_greedily(data.draw, ended)
            runner.run(world.end(ended, data.draw(endings), usages, images))
            call = ended
        runner.run(world.check())
    snapshot = runner.run(read_snapshot(clients.ledger, world.tenant))
    assert snapshot.find_differences() == []
