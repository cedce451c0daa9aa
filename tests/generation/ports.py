"""The ports of the request path in memory: deterministic, no network, stopped where a test says."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from app.domain.budget import Budget, Span, WindowState
from app.domain.generation import ModelAnswer, Picture, PictureRecord, Usage
from app.domain.rate import RateLimit, RateState
from app.generation.ports import Absent, Lead, Settled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.domain.attempt import Attempt, Delivery
    from app.domain.budget import BudgetWindow
    from app.domain.request import GenerationRequest
    from app.domain.stored_generation import StoredGeneration
    from app.generation.ports import Admission, AdmissionRequest, Call, Hit, Settlement

NOW_MS = 1_800_000_000_000
WINDOWS = (
    WindowState(Budget("image_tokens", "day", 10_000), 0, 0, Span(NOW_MS - 1, NOW_MS + 60_000), NOW_MS),
)
RATES = (RateState(RateLimit("requests", "tenant", "t|requests", 60, 60), 59, 0, 0),)
USAGE = Usage(text_input=7, image_output=747)


@dataclass(slots=True)
class Stop:
    """A step that waits: ``reached`` tells that it was begun, ``go_on`` lets it go on."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)


class Script:
    """What the ports were called for, in order, and which of those calls stop or raise.

    A call is named by its step and its number among the calls of that step, as in ``settle 1``.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stops: dict[str, Stop] = {}
        self.errors: dict[str, Exception] = {}
        self._counts = Counter[str]()

    def stop(self, call: str) -> Stop:
        """Let this call wait."""
        return self.stops.setdefault(call, Stop())

    async def play(self, step: str) -> None:
        """One call of a port."""
        self._counts[step] += 1
        call = f"{step} {self._counts[step]}"
        self.calls.append(call)
        if call in self.stops:
            self.stops[call].reached.set()
            await self.stops[call].go_on.wait()
        if call in self.errors:
            raise self.errors[call]


class MemoryLedger:
    """Admits as it is told to, else reserves; and keeps the books of its holds."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.admissions = deque["Admission"]()
        self.peeked: Hit | Absent = Absent(WINDOWS, RATES)
        self.asked: list[AdmissionRequest] = []
        self.open: dict[str, Literal["held", "dispatched"]] = {}
        self.ended: list[Settlement] = []
        self.notes: list[Delivery] = []

    async def admit(self, request: AdmissionRequest) -> Admission:
        await self._script.play("admit")
        self.asked.append(request)
        lead = Lead("", WINDOWS, RATES, request.offered[0])
        admission = self.admissions.popleft() if self.admissions else lead
        if not isinstance(admission, Lead):
            return admission
        self.open[request.hold_id] = "held"
        return replace(admission, hold_id=request.hold_id)

    async def peek(self, request: AdmissionRequest) -> Hit | Absent:
        await self._script.play("peek")
        return self.peeked

    async def dispatch(self, tenant_id: str, hold_id: str, fingerprint: str) -> bool:
        await self._script.play("dispatch")
        if hold_id not in self.open:
            return False
        self.open[hold_id] = "dispatched"
        return True

    async def settle(self, settlement: Settlement, windows: tuple[BudgetWindow, ...]) -> Settled:
        await self._script.play("settle")
        known = self.open.pop(settlement.hold_id, None) is not None
        if known:
            self.ended.append(settlement)
        state = "settled" if known else "unknown"
        published = settlement.publish is not None
        return Settled(state, repeated=not known, late=False, published=published, now_ms=NOW_MS)

    async def wait(self, tenant_id: str, fingerprint: str, leader: str, timeout_s: float) -> None:
        await self._script.play("wait")

    async def note_delivery(self, tenant_id: str, attempt: Attempt, delivery: Delivery) -> None:
        await self._script.play("note_delivery")
        self.notes.append(delivery)

    async def get_windows(self, tenant_id: str, windows: tuple[BudgetWindow, ...]) -> tuple[WindowState, ...]:
        return WINDOWS

    async def get_rates(self, tenant_id: str, rates: tuple[RateLimit, ...]) -> tuple[RateState, ...]:
        return RATES


class MemoryResults:
    """Pictures and finished generations in dictionaries."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.pictures: dict[str, Picture] = {}
        self.generations: dict[str, StoredGeneration] = {}
        self.full = False

    async def put_pictures(self, tenant_id: str, pictures: tuple[Picture, ...], ttl_s: int) -> bool:
        await self._script.play("put_pictures")
        if not self.full:
            self.pictures.update((each.id, each) for each in pictures)
        return not self.full

    async def get_picture(self, tenant_id: str, image_id: str) -> Picture | None:
        await self._script.play("get_picture")
        return self.pictures.get(image_id)

    async def delete_picture(self, tenant_id: str, image_id: str) -> bool:
        return self.pictures.pop(image_id, None) is not None

    async def delete_generation(self, tenant_id: str, generation_id: str) -> bool:
        return self.generations.pop(generation_id, None) is not None

    async def put_generation(
        self,
        tenant_id: str,
        finished: StoredGeneration,
        ttl_s: int,
        files: Sequence[PictureRecord] = (),
    ) -> bool:
        await self._script.play("put_generation")
        self.generations[finished.generation.id] = finished
        return True

    async def get_generation(self, tenant_id: str, generation_id: str) -> StoredGeneration | None:
        await self._script.play("get_generation")
        return self.generations.get(generation_id)


def answer(name: str = "a") -> ModelAnswer:
    """One picture as the upstream gives it."""
    picture = Picture(f"img_{name * 64}", "image/png", 512, 512, name.encode())
    return ModelAnswer((picture,), "", "STOP", USAGE, "v1")


class MemoryModel:
    """Draws, or ends as it is told to."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.endings = deque[ModelAnswer | Exception]()
        self.sent = 0
        self.requests: list[GenerationRequest] = []

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        await self._script.play("slot")
        await call.begin()
        self.sent += 1
        self.requests.append(request)
        await self._script.play("upstream")
        ending = self.endings.popleft() if self.endings else answer()
        if isinstance(ending, Exception):
            raise ending
        return ending

    async def find_fault(self) -> str | None:
        return None
