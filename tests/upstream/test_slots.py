"""Slots: who gets one, who waits, who is turned away. No time passes here but where a test says so."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from app.domain.errors import DeadlineExceeded, GatewayError, Overloaded
from app.generation.ports import Call
from app.upstream.concurrency import AdaptiveLimit
from app.upstream.metrics import NullMetrics
from app.upstream.retries import CALL_S_MIN
from app.upstream.slots import SlotConfig, Slots

if TYPE_CHECKING:
    from app.domain.tenancy import Priority


class Seen(NullMetrics):
    """What the metrics were told."""

    def __init__(self) -> None:
        self.turned_away: list[tuple[str, str]] = []
        self.waiting: dict[str, int] = {}
        self.used: tuple[int, int] = (0, 0)

    def count_shed(self, back_end: str, model: str, priority: Priority, reason: str) -> None:
        self.turned_away.append((priority, reason))

    def set_queue_length(self, back_end: str, model: str, priority: Priority, count: int) -> None:
        self.waiting[priority] = count

    def set_slots(self, back_end: str, model: str, limit: int, in_use: int) -> None:
        self.used = (limit, in_use)


class Crowd:
    """Callers at the slots: each holds its slot until the test lets it go."""

    def __init__(self, limit: int, queue: int = 100, terms: SlotConfig | None = None) -> None:
        self.seen = Seen()
        terms = terms or SlotConfig(reserved_for_critical=0, reserved_for_interactive=0)
        self.slots = Slots("b", "m", terms.model_copy(update={"max": limit, "queue_max": queue}), self.seen)
        self.begun: list[str] = []
        self.refused: dict[str, GatewayError] = {}
        self._leaving: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def comes(self, name: str, priority: Priority = "interactive", timeout_s: float = 300) -> None:
        """``name`` is the tenant and a number: ``noisy-3``."""
        self._leaving[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._stays(name, priority, timeout_s))
        await settled()

    async def _stays(self, name: str, priority: Priority, timeout_s: float) -> None:
        try:
            async with self.slots.acquire(Call(name.rpartition("-")[0], timeout_s, priority)):
                self.begun.append(name)
                await self._leaving[name].wait()
        except GatewayError as error:
            self.refused[name] = error

    async def goes(self, name: str) -> None:
        self._leaving[name].set()
        await settled()

    async def gives_up(self, name: str) -> None:
        self._tasks[name].cancel()
        await settled()

    async def end(self) -> None:
        for leaving in self._leaving.values():
            leaving.set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def settled() -> None:
    """Let every task run until it waits: a handful of turns of the loop."""
    for _ in range(8):
        await asyncio.sleep(0)


async def test_no_more_calls_are_under_way_than_there_are_slots() -> None:
    crowd = Crowd(2)
    for name in ("a-1", "a-2", "a-3"):
        await crowd.comes(name)
    assert (crowd.begun, crowd.slots.waiting, crowd.seen.used) == (["a-1", "a-2"], 1, (2, 2))
    await crowd.goes("a-1")
    assert (crowd.begun, crowd.slots.waiting) == (["a-1", "a-2", "a-3"], 0)
    await crowd.end()
    assert (crowd.slots.in_use, crowd.seen.used, crowd.seen.waiting) == (0, (2, 0), {"interactive": 0})


async def test_a_noisy_tenant_gives_every_quiet_one_the_next_slot() -> None:
    crowd = Crowd(3)
    for number in range(10):
        await crowd.comes(f"noisy-{number}")
    for name in ("quiet-1", "calm-1", "still-1"):
        await crowd.comes(name)
    for name in ("noisy-0", "noisy-1", "quiet-1"):
        await crowd.goes(name)
    assert crowd.begun[3:] == ["quiet-1", "calm-1", "still-1"]
    await crowd.end()


async def test_tenants_that_wait_side_by_side_get_equal_shares() -> None:
    crowd = Crowd(4)
    for number in range(8):
        await crowd.comes(f"first-{number}")
    for number in range(8):
        await crowd.comes(f"second-{number}")
    for number in range(4):
        await crowd.goes(f"first-{number}")
    under_way = crowd.begun[4:]
    assert sorted(name.rpartition("-")[0] for name in under_way) == ["first", "first", "second", "second"]
    await crowd.end()


async def test_higher_classes_go_first_and_batch_last() -> None:
    crowd = Crowd(1)
    await crowd.comes("a-1")
    for name, priority in (("b-1", "batch"), ("i-1", "interactive"), ("c-1", "critical")):
        await crowd.comes(name, priority)  # type: ignore[arg-type]  # the three classes
    for name in ("a-1", "c-1", "i-1", "b-1"):
        await crowd.goes(name)
    assert crowd.begun == ["a-1", "c-1", "i-1", "b-1"]
    await crowd.end()


async def test_some_slots_are_kept_for_critical_calls_and_some_from_batch() -> None:
    crowd = Crowd(10, terms=SlotConfig(reserved_for_critical=0.2, reserved_for_interactive=0.1))
    for number in range(10):
        await crowd.comes(f"b-{number}", "batch")
    assert len(crowd.begun) == 7
    await crowd.comes("i-1")
    await crowd.comes("i-2")
    assert crowd.begun[7:] == ["i-1"]
    for number in range(3):
        await crowd.comes(f"c-{number}", "critical")
    assert crowd.begun[8:] == ["c-0", "c-1"]
    assert crowd.seen.waiting == {"batch": 3, "interactive": 1, "critical": 1}
    await crowd.end()


async def test_a_full_queue_turns_a_call_away_at_once_and_says_when_to_come_back() -> None:
    crowd = Crowd(1, queue=2)
    for number in range(4):
        await crowd.comes(f"a-{number}")
    assert isinstance(crowd.refused["a-3"], Overloaded)
    assert (crowd.refused["a-3"].status, crowd.refused["a-3"].retry_after_s) == (503, 30)
    assert (crowd.slots.waiting, crowd.seen.turned_away) == (2, [("interactive", "full")])
    await crowd.end()


async def test_batch_gives_way_in_a_full_queue_and_never_displaces_others() -> None:
    crowd = Crowd(1, queue=2)
    await crowd.comes("a-0")
    await crowd.comes("b-1", "batch")
    await crowd.comes("i-1")
    await crowd.comes("c-1", "critical")
    await crowd.comes("b-2", "batch")
    assert list(crowd.refused) == ["b-1", "b-2"]
    await crowd.comes("c-2", "critical")
    await crowd.comes("i-2")
    assert list(crowd.refused) == ["b-1", "b-2", "i-1", "i-2"]
    assert crowd.seen.turned_away == [("batch", "full")] * 2 + [("interactive", "full")] * 2
    await crowd.end()


async def test_a_tenant_that_fills_the_queue_does_not_keep_others_out() -> None:
    crowd = Crowd(1, queue=4)
    for number in range(6):
        await crowd.comes(f"noisy-{number}")
    await crowd.comes("quiet-1")
    await crowd.comes("quiet-2")
    await crowd.comes("quiet-3")
    assert list(crowd.refused) == ["noisy-5", "noisy-4", "noisy-3", "quiet-3"]
    await crowd.end()


async def test_a_call_that_waits_too_long_is_turned_away() -> None:
    crowd = Crowd(1, terms=SlotConfig(queue_s=0.01))
    await crowd.comes("a-0")
    with pytest.raises(Overloaded, match="became free in time"):
        async with crowd.slots.acquire(Call("a", 300)):
            pass
    assert (crowd.slots.waiting, crowd.seen.turned_away) == (0, [("interactive", "aged")])
    await crowd.end()


@pytest.mark.parametrize("left_s", [CALL_S_MIN + 0.01, CALL_S_MIN, 0.5])
async def test_a_wait_ends_where_too_little_time_would_be_left_to_draw(left_s: float) -> None:
    crowd = Crowd(1)
    await crowd.comes("a-0")
    with pytest.raises(DeadlineExceeded) as late:
        async with crowd.slots.acquire(Call("a", left_s)):
            pass
    assert late.value.billed == "no"
    assert (crowd.slots.waiting, crowd.seen.turned_away) == (0, [("interactive", "late")])
    await crowd.end()


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    crowd = Crowd(1)
    await crowd.comes("a-0")
    await crowd.comes("a-1")
    await crowd.gives_up("a-1")
    assert crowd.slots.waiting == 0
    await crowd.goes("a-0")
    assert crowd.slots.in_use == 0
    await crowd.end()


async def test_who_gives_up_just_when_its_turn_comes_hands_the_slot_on() -> None:
    crowd = Crowd(1)
    for number in range(3):
        await crowd.comes(f"a-{number}")
    crowd._leaving["a-0"].set()
    await asyncio.sleep(0)  # a-0 goes, a-1 has its slot and does not know yet
    crowd._tasks["a-1"].cancel()
    await settled()
    assert crowd.begun == ["a-0", "a-2"]
    await crowd.end()
    assert (crowd.slots.in_use, crowd.slots.waiting) == (0, 0)


@pytest.mark.parametrize("gives_up", ["b-1", "c-1"])
async def test_a_slot_that_becomes_free_just_when_somebody_gives_up_goes_to_another(gives_up: str) -> None:
    """Who gives up is in the queue until its task has run; who hands the slot on must not fail for it."""
    crowd = Crowd(1)
    for name in ("a-1", "b-1", "c-1"):
        await crowd.comes(name)
    crowd._leaving["a-1"].set()
    crowd._tasks[gives_up].cancel()
    await settled()
    assert crowd._tasks["a-1"].exception() is None
    [other] = {"b-1", "c-1"} - {gives_up}
    assert crowd.begun == ["a-1", other]
    await crowd.goes(other)
    assert (crowd.slots.in_use, crowd.slots.waiting) == (0, 0)


async def test_who_gives_up_just_when_it_must_give_way_keeps_nobody_out() -> None:
    crowd = Crowd(1, queue=1)
    for name in ("a-1", "b-1"):
        await crowd.comes(name, "batch")
    coming = asyncio.create_task(crowd.comes("c-1"))
    await asyncio.sleep(0)  # its task is made, and runs next
    crowd._tasks["b-1"].cancel()
    await coming
    await crowd.goes("a-1")
    assert crowd.begun == ["a-1", "c-1"]


async def test_an_overload_of_calls_that_were_under_way_together_is_one_sign() -> None:
    slots = Crowd(10).slots
    async with AsyncExitStack() as stack:
        for _ in range(10):
            slot = await stack.enter_async_context(slots.acquire(Call("a", 300)))
            slot.overloaded = True
    assert slots.limit == 7
    async with slots.acquire(Call("a", 300)) as slot:
        slot.overloaded = True
    assert slots.limit == 4


def test_the_limit_rises_ever_faster_where_it_is_made_use_of_and_stays_in_its_bounds() -> None:
    limit = AdaptiveLimit(2, 20)
    for era in range(20):
        limit.record_overload(era)
    assert limit.calls == 2
    for _ in range(1000):
        limit.record_success(under_way=0)
    assert limit.calls == 2
    limit.record_overload(20)
    rounds = []
    while limit.calls < 20:
        for _ in range(limit.calls):
            limit.record_success(limit.calls)
        rounds.append(limit.calls)
    assert 5 <= len(rounds) <= 10
    assert rounds[0] == 3
    for _ in range(1000):
        limit.record_success(20)
    assert limit.calls == 20
