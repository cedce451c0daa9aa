"""Retries and the breaker: counted calls, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from app.domain.errors import (
    ContentBlocked,
    DeadlineExceeded,
    GatewayError,
    Overloaded,
    UpstreamError,
    UpstreamNoImage,
    UpstreamQuota,
    UpstreamRejected,
    UpstreamUnavailable,
)
from app.domain.generation import ModelAnswer, Usage
from app.generation.ports import Call
from app.upstream.back_end import GuardConfig, GuardedBackEnd
from app.upstream.breaker import BreakerConfig
from app.upstream.failover import FailoverImageModel
from app.upstream.metrics import NullMetrics
from app.upstream.retries import CALL_S_MIN
from tests.upstream.conftest import asked, lasting
from tests.upstream.test_slots import Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.domain.request import GenerationRequest


ANSWER = ModelAnswer((), "", "STOP", Usage(), "m")
QUOTA = UpstreamQuota("quota")
OVERLOADED = UpstreamUnavailable("overloaded")


class Scripted:
    """An ImageModel that does what it is told, call by call; the last entry stands for all further ones."""

    def __init__(self, *outcomes: GatewayError | ModelAnswer | BaseException) -> None:
        self.outcomes = list(outcomes)
        self.timeouts: list[float] = []

    async def find_fault(self) -> str | None:
        return None

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        outcome = self.outcomes[min(len(self.timeouts), len(self.outcomes) - 1)]
        self.timeouts.append(call.timeout_s)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class Clock:
    """Time that passes only in pauses, or when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def patient(model: Scripted, clock: Clock, jitter: Callable[[], float] = lambda: 0.5) -> FailoverImageModel:
    back_end = GuardedBackEnd("a back end", model, clock=clock)
    return FailoverImageModel([back_end], clock=clock, sleep=clock.sleep, jitter=jitter)


@pytest.mark.parametrize("error", [QUOTA, OVERLOADED])
async def test_what_was_not_billed_and_passes_is_tried_again(error: GatewayError, clock: Clock) -> None:
    model = Scripted(error, error, ANSWER)
    assert await patient(model, clock).generate(asked(), None, lasting(100)) is ANSWER
    assert clock.pauses == [1.0, 2.0]
    assert model.timeouts == [100, 99, 97]


@pytest.mark.parametrize(
    "error",
    [
        UpstreamError("500"),
        UpstreamError("reset", billed="maybe"),
        UpstreamUnavailable("lost", billed="maybe"),
        DeadlineExceeded("late", billed="maybe"),
        UpstreamNoImage("none", billed="yes"),
        UpstreamRejected("key"),
        ContentBlocked("blocked", reason="SAFETY"),
    ],
)
async def test_what_may_have_been_billed_or_will_not_change_is_asked_for_once(
    error: GatewayError, clock: Clock
) -> None:
    model = Scripted(error, ANSWER)
    with pytest.raises(type(error)):
        await patient(model, clock).generate(asked(), None, lasting(100))
    assert len(model.timeouts) == 1


async def test_three_attempts_are_the_most(clock: Clock) -> None:
    model = Scripted(QUOTA)
    with pytest.raises(UpstreamQuota):
        await patient(model, clock).generate(asked(), None, lasting(1000))
    assert len(model.timeouts) == 3


async def test_the_upstreams_own_wait_is_honoured(clock: Clock) -> None:
    model = Scripted(UpstreamQuota("quota", retry_after_s=4), ANSWER)
    await patient(model, clock).generate(asked(), None, lasting(100))
    assert clock.pauses == [5.0]


async def test_a_caller_is_told_of_a_long_wait_instead_of_being_kept(clock: Clock) -> None:
    model = Scripted(UpstreamQuota("quota", retry_after_s=35), ANSWER)
    with pytest.raises(UpstreamQuota) as raised:
        await patient(model, clock).generate(asked(), None, lasting(300))
    assert (clock.pauses, len(model.timeouts), raised.value.retry_after_s) == ([], 1, 35)


async def test_no_attempt_is_begun_that_the_deadline_would_cut(clock: Clock) -> None:
    model = Scripted(UpstreamQuota("quota", retry_after_s=4), ANSWER)
    with pytest.raises(UpstreamQuota) as raised:
        await patient(model, clock).generate(asked(), None, lasting(5 + CALL_S_MIN - 0.1))
    assert (clock.pauses, len(model.timeouts), raised.value.retry_after_s) == ([], 1, 4)


async def test_an_upstream_that_refuses_everybody_gets_a_tenth_more_calls_not_thrice(clock: Clock) -> None:
    model = Scripted(QUOTA)
    resilient = patient(model, clock)
    for _ in range(1000):
        with pytest.raises(UpstreamQuota):
            await resilient.generate(asked(), None, lasting(100))
    assert 1050 < len(model.timeouts) <= 1110


async def test_an_upstream_that_keeps_failing_is_left_alone_for_a_while(clock: Clock) -> None:
    model = Scripted(*[UpstreamError("500")] * 20, ANSWER)
    resilient = patient(model, clock)
    for _ in range(20):
        with pytest.raises(UpstreamError, match="500"):
            await resilient.generate(asked(), None, lasting(12))
    with pytest.raises(UpstreamUnavailable, match="calls are paused") as raised:
        await resilient.generate(asked(), None, lasting(12))
    assert len(model.timeouts) == 20
    assert (raised.value.billed, raised.value.retry_after_s) == ("no", 11)
    clock.now += 10
    assert await resilient.generate(asked(), None, lasting(12)) is ANSWER
    assert await resilient.generate(asked(), None, lasting(12)) is ANSWER


async def test_after_the_pause_one_call_finds_out_and_the_others_wait(clock: Clock) -> None:
    model = Scripted(UpstreamError("500"))
    resilient = patient(model, clock)
    for _ in range(20):
        with pytest.raises(UpstreamError, match="500"):
            await resilient.generate(asked(), None, lasting(12))
    clock.now += 10
    outcomes = await asyncio.gather(
        *(resilient.generate(asked(), None, lasting(12)) for _ in range(5)), return_exceptions=True
    )
    assert sorted(str(outcome)[:3] for outcome in outcomes) == ["500", "The", "The", "The", "The"]
    assert len(model.timeouts) == 21


@pytest.mark.parametrize(
    "error",
    [QUOTA, UpstreamRejected("key"), ContentBlocked("blocked", reason="SAFETY"), UpstreamNoImage("none")],
)
async def test_what_is_no_fault_of_the_upstream_never_holds_calls_back(
    error: GatewayError, clock: Clock
) -> None:
    model = Scripted(error)
    resilient = patient(model, clock)
    for _ in range(50):
        with pytest.raises(type(error)):
            await resilient.generate(asked(), None, lasting(5))
    assert len(model.timeouts) == 50


async def test_failures_long_ago_do_not_count(clock: Clock) -> None:
    model = Scripted(UpstreamError("500"))
    resilient = patient(model, clock)
    for _ in range(40):
        with pytest.raises(UpstreamError, match="500"):
            await resilient.generate(asked(), None, lasting(12))
        clock.now += 2
    assert len(model.timeouts) == 40


async def test_models_are_held_back_each_on_its_own(clock: Clock) -> None:
    model = Scripted(*[UpstreamError("500")] * 20, ANSWER)
    resilient = patient(model, clock)
    for _ in range(20):
        with pytest.raises(UpstreamError, match="500"):
            await resilient.generate(asked(), None, lasting(12))
    assert await resilient.generate(asked(model="another"), None, lasting(12)) is ANSWER


async def test_sizes_are_held_back_each_on_its_own_and_the_watcher_is_told(clock: Clock) -> None:
    class Told(NullMetrics):
        def set_breaker(self, back_end: str, model: str, image_size: str, *, held_back: bool) -> None:
            changes.append((back_end, image_size, held_back))

    changes: list[tuple[str, str, bool]] = []
    model = Scripted(*[UpstreamError("500")] * 20, ANSWER)
    resilient = FailoverImageModel(
        [GuardedBackEnd("vertex", model, metrics=Told(), clock=clock)], clock=clock
    )
    for _ in range(20):
        with pytest.raises(UpstreamError, match="500"):
            await resilient.generate(asked(image_size="4K"), None, lasting(12))
    assert changes == [("vertex", "4K", True)]
    assert await resilient.generate(asked(image_size="512"), None, lasting(12)) is ANSWER
    with pytest.raises(UpstreamUnavailable, match="calls are paused"):
        await resilient.generate(asked(image_size="4K"), None, lasting(12))
    clock.now += 10
    assert await resilient.generate(asked(image_size="4K"), None, lasting(12)) is ANSWER
    assert changes == [("vertex", "4K", True), ("vertex", "4K", False)]


@pytest.mark.parametrize(("took_s", "held_back"), [(59.0, False), (61.0, True)])
async def test_impatient_callers_do_not_hold_others_back(
    took_s: float, held_back: bool, clock: Clock
) -> None:
    class Slow(Scripted):
        async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
            clock.now += took_s
            return await super().generate(request, seed, call)

    model = Slow(DeadlineExceeded("late", billed="maybe"))
    seen = Seen()
    terms = GuardConfig(breaker=BreakerConfig(window_s=10_000))
    resilient = FailoverImageModel(
        [GuardedBackEnd("b", model, config=terms, metrics=seen, clock=clock)], clock=clock
    )
    for _ in range(25):
        with pytest.raises(UpstreamError):
            await resilient.generate(asked(), None, lasting(100))
    assert (len(model.timeouts) == 20) is held_back
    assert (seen.used[0] < 100) is held_back


async def test_a_cancelled_probe_does_not_let_the_others_through(clock: Clock) -> None:
    model = Scripted(*[UpstreamError("500")] * 20, asyncio.CancelledError(), ANSWER)
    resilient = patient(model, clock)
    for _ in range(20):
        with pytest.raises(UpstreamError, match="500"):
            await resilient.generate(asked(), None, lasting(12))
    clock.now += 10
    with pytest.raises(asyncio.CancelledError):
        await resilient.generate(asked(), None, lasting(12))
    with pytest.raises(UpstreamUnavailable, match="calls are paused"):
        await resilient.generate(asked(), None, lasting(12))


async def test_nothing_is_sent_where_the_hold_could_not_be_marked_as_sent(clock: Clock) -> None:
    async def ran_out() -> None:
        raise Overloaded

    model = Scripted(ANSWER)
    with pytest.raises(Overloaded):
        await patient(model, clock).generate(asked(), None, Call("a-tenant", 100, begin=ran_out))
    assert model.timeouts == []
