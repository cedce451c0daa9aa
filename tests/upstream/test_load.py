"""A back end with less capacity than it needs, in simulated minutes (docs/reliability.md R49 to R51)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

from app.domain.errors import GatewayError, UpstreamQuota
from app.domain.generation import ModelAnswer, Usage
from app.generation.ports import Call
from app.upstream.back_end import GuardConfig, GuardedBackEnd
from app.upstream.failover import FailoverImageModel
from app.upstream.slots import SlotConfig
from tests.upstream.conftest import asked
from tests.upstream.virtual import simulated

if TYPE_CHECKING:
    from app.domain.request import GenerationRequest
    from app.domain.tenancy import Priority

CALL_S = 1.0
ANSWER = ModelAnswer((), "", "STOP", Usage(), "m")


class Limited:
    """An ImageModel that draws so many pictures at once, each for about a second, and refuses all others."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.drawn: list[float] = []
        self.refused = 0
        self._under_way = 0
        self._dice = random.Random(7)

    async def find_fault(self) -> str | None:
        return None

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        if self._under_way >= self.capacity:
            self.refused += 1
            await asyncio.sleep(0.05)
            raise UpstreamQuota("too many", upstream_status=429)
        self._under_way += 1
        try:
            await asyncio.sleep(CALL_S * self._dice.uniform(0.6, 1.4))
        finally:
            self._under_way -= 1
        self.drawn.append(asyncio.get_running_loop().time())
        return ANSWER


class Load:
    """Callers who ask again as soon as they are answered, and after a second where they are turned away."""

    def __init__(self, back_end: Limited, terms: SlotConfig) -> None:
        clock = asyncio.get_running_loop().time
        lane = GuardedBackEnd("b", back_end, config=GuardConfig(slots=terms), clock=clock)
        self._model = FailoverImageModel([lane], clock=clock, jitter=random.Random(7).random)
        self._clock = clock
        self.served: Counter[str] = Counter()
        self.turned_away: Counter[str] = Counter()

    async def caller(self, tenant_id: str, until_s: float, priority: Priority = "interactive") -> None:
        while self._clock() < until_s:
            try:
                await self._model.generate(asked(), None, Call(tenant_id, 300, priority))
            except GatewayError:
                self.turned_away[tenant_id] += 1
                await asyncio.sleep(1)
            else:
                self.served[tenant_id] += 1


def test_slots_follow_a_capacity_that_falls_to_a_quarter_and_comes_back() -> None:
    async def run() -> None:
        back_end = Limited(20)
        load = Load(back_end, SlotConfig(reserved_for_critical=0, reserved_for_interactive=0))
        callers = [asyncio.create_task(load.caller(f"t{number % 10}", 180)) for number in range(60)]
        used = {}
        for begun, capacity in ((0, 20), (60, 5), (120, 20)):
            back_end.capacity = capacity
            await asyncio.sleep(60)
            good = sum(begun + 30 <= moment < begun + 60 for moment in back_end.drawn)
            used[begun] = good * CALL_S / (30 * capacity)
        await asyncio.gather(*callers)
        assert all(share >= 0.9 for share in used.values()), used
        assert back_end.refused < 0.15 * len(back_end.drawn)

    simulated(run())


def test_critical_calls_are_served_while_twice_as_much_is_asked_as_there_is_room_for() -> None:
    async def run() -> None:
        load = Load(Limited(100), SlotConfig(max=20, queue_max=20, queue_s=5))
        callers = [load.caller("critical", 60, "critical") for _ in range(4)]
        callers += [load.caller("interactive", 60) for _ in range(20)]
        callers += [load.caller("batch", 60, "batch") for _ in range(20)]
        await asyncio.gather(*callers)
        assert load.turned_away["critical"] <= 0.01 * load.served["critical"]
        assert load.served["critical"] > 4 * 60 * 0.6
        assert load.turned_away["batch"] > 4 * load.turned_away["interactive"]

    simulated(run())


def test_nine_quiet_tenants_are_served_as_if_the_noisy_one_were_not_there() -> None:
    async def run() -> None:
        terms = SlotConfig(max=10, queue_max=50, reserved_for_critical=0, reserved_for_interactive=0)
        load = Load(Limited(100), terms)
        callers = [load.caller("noisy", 60) for _ in range(100)]
        callers += [load.caller(f"quiet-{number}", 60) for number in range(9)]
        await asyncio.gather(*callers)
        quiet = [load.served[f"quiet-{number}"] for number in range(9)]
        assert min(quiet) > 0.8 * 60 / CALL_S
        assert sum(count for name, count in load.turned_away.items() if name != "noisy") == 0

    simulated(run())
