"""One order through a gateway whose ports are in memory."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from app.cards import load_catalogue
from app.domain.errors import (
    ContentBlocked,
    GatewayError,
    UpstreamError,
)
from app.domain.generation import Generation, PictureRecord
from app.domain.policy import HoldConfig, Policy, TimeConfig
from app.domain.request import CacheDirective, GenerationRequest
from app.domain.stored_generation import StoredGeneration, build_effective
from app.domain.tenancy import Caller, Key, Tenant
from app.generation.conversations import ConversationConfig, Conversations
from app.generation.gateway import Gateway
from app.generation.order import ClientTimeout, IdempotencyKey, Order
from app.generation.ports import (
    Follow,
    Hit,
)
from tests.generation.ports import (
    NOW_MS,
    RATES,
    USAGE,
    WINDOWS,
    MemoryLedger,
    MemoryModel,
    MemoryResults,
    Script,
    answer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.domain.request import CacheMode
    from app.generation.order import GenerationResult
    from app.generation.ports import Admission

CATALOGUE = load_catalogue()
REQUEST = GenerationRequest(model="gemini-3.1-flash-image", prompt="A lighthouse", image_size="512")
CALLER = Caller(Tenant("a", ZoneInfo("UTC"), (), ()), Key("k1", "", frozenset({"images"})))
EARLIER = "gen_" + "b" * 24
LEADER = "c" * 24

BLOCKED = ContentBlocked("Blocked.", reason="SAFETY", usage=USAGE)
LOST = UpstreamError("The connection broke.", billed="maybe")
UNBILLED = UpstreamError("Unavailable.", billed="no")


class Path:
    """A gateway whose ports are in memory, and one order through it."""

    def __init__(self, *admissions: Admission, hold: HoldConfig | None = None) -> None:
        self.script = Script()
        self.ledger, self.results = MemoryLedger(self.script), MemoryResults(self.script)
        self.model = MemoryModel(self.script)
        self.ledger.admissions.extend(admissions)
        self.gateway = Gateway(
            catalogue=CATALOGUE,
            ledger=self.ledger,
            results=self.results,
            conversations=Conversations(self.results, ConversationConfig()),
            model=self.model,
            policy=Policy(hold=hold or HoldConfig()),
            times=TimeConfig(upstream_timeout_s=60),
        )

    def ask(
        self,
        mode: CacheMode = "use",
        *,
        key: str | None = None,
        seconds: float | None = None,
        n: int = 1,
        retries: int | None = None,
        caller: Caller = CALLER,
    ) -> asyncio.Task[GenerationResult]:
        order = Order(
            caller,
            replace(REQUEST, n=n),
            CacheDirective(mode),
            idempotency=IdempotencyKey(key, "images:generate") if key else None,
            patience=ClientTimeout(seconds, time.monotonic(), "X-Timeout") if seconds is not None else None,
            retries=retries,
        )
        return asyncio.create_task(self.gateway.generate(order))

    async def keep(self, *, picture: bool = True) -> Generation:
        """An earlier result, with its picture or without."""
        (drawn,) = answer("b").pictures
        record = PictureRecord(drawn.id, drawn.mime_type, drawn.width, drawn.height, drawn.length)
        card = CATALOGUE.resolve(REQUEST.model)
        assert card is not None
        made = Generation(EARLIER, card.id, "v1", NOW_MS, (record,), "", "STOP", USAGE)
        effective = build_effective(REQUEST, card, (None,))
        self.results.generations[EARLIER] = StoredGeneration(made, "work", effective, None, "unreadable")
        if picture:
            self.results.pictures[drawn.id] = drawn
        return made

    @property
    def outcomes(self) -> list[str]:
        """How its holds ended."""
        assert not self.ledger.open, "a hold is left open"
        return [each.outcome for each in self.ledger.ended]

    def follows(self) -> list[str | None]:
        return [each.following for each in self.ledger.asked]


async def error_of(task: asyncio.Task[GenerationResult]) -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        await task
    return raised.value


async def settled_down() -> None:
    """A few turns of the loop, in which whatever can go on goes on."""
    for _ in range(20):
        await asyncio.sleep(0)


def hit(generation: Generation) -> Hit:
    return Hit(generation, 5, WINDOWS, RATES)


FOLLOW = Follow(LEADER, WINDOWS, RATES)
LEADING = (
    "admit 1", "slot 1", "dispatch 1", "upstream 1", "put_pictures 1", "put_generation 1", "settle 1"
)  # fmt: skip


class Clock:
    """The machine's monotonic clock, which the event loop reads too, set forward by the test."""

    def __init__(self, real: Callable[[], float]) -> None:
        self._real, self._ahead_s = real, 0.0

    def __call__(self) -> float:
        return self._real() + self._ahead_s

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds
