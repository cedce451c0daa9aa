"""The ImageModel of the gateway: back ends in their order, and another round where that can help.

The next back end is asked only after a failure that was not billed and is this back end's own: no connection,
a quota, an overload, credentials or a model that it does not take, calls held back, no slot. An outcome that
nobody knows ends the call, because another back end would draw, and bill, the same picture again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from app.domain.errors import GatewayError, Overloaded
from app.resilience.best_effort import best_effort
from app.upstream.back_end import NotSent
from app.upstream.metrics import NullMetrics
from app.upstream.retries import CALL_S_MIN, RETRYABLE, RetryBudget, RetryTerms, may_fail_over
from app.upstream.routing import SignatureOrigins, select_back_ends

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from app.domain.generation import ModelAnswer
    from app.domain.request import GenerationRequest
    from app.generation.ports import Call
    from app.upstream.back_end import GuardedBackEnd
    from app.upstream.metrics import UpstreamMetrics

log = logging.getLogger(__name__)


class FailoverImageModel:
    """An ImageModel over several back ends: rounds through them, within the deadline and the retry budget.

    Args:
        lanes: In the order in which they are asked, at least one.
        orders: For some models, by card id, lanes of their own.
        terms: When a round is repeated.
        watcher: Told of retries and failovers.
        clock: Seconds that never go back.
        sleep: Pauses.
        jitter: A number in [0, 1).
    """

    def __init__(
        self,
        back_ends: Sequence[GuardedBackEnd],
        *,
        orders: Mapping[str, Sequence[GuardedBackEnd]] | None = None,
        terms: RetryTerms | None = None,
        metrics: UpstreamMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._back_ends = tuple(back_ends)
        self._orders = {model: tuple(order) for model, order in (orders or {}).items()}
        self._origins = SignatureOrigins()
        self._terms = terms or RetryTerms()
        self._metrics = metrics or NullMetrics()
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._budget = RetryBudget(self._terms)

    @property
    def capabilities(self) -> frozenset[str]:
        """What any of the back ends can do beyond the common ground, for validation."""
        return frozenset().union(*(back_end.capabilities for back_end in self._all_back_ends))

    @property
    def _all_back_ends(self) -> tuple[GuardedBackEnd, ...]:
        """Every lane, once."""
        return tuple(
            dict.fromkeys(
                (*self._back_ends, *(back_end for order in self._orders.values() for back_end in order))
            )
        )

    async def is_ready(self) -> bool:
        """Whether any back end can be called at all."""
        for back_end in self._all_back_ends:
            if await back_end.is_ready():
                return True
        return False

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        """One candidate, from the first attempt that gives one, all within the time.

        Raises:
            ContentBlocked: See the port.
            ModelRefused: See the port.
            Overloaded: No slot in time; nothing was sent.
            UpstreamInvalidRequest: No back end may serve it.
            UpstreamError: What the caller can do most with, of the last round.
        """
        deadline = self._clock() + call.timeout_s
        back_ends = select_back_ends(request, self._orders.get(request.model, self._back_ends), self._origins)
        self._budget.deposit()
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._run_round(back_ends, request, seed, call, deadline)
            except NotSent as stopped:
                raise stopped.error from None
            except RETRYABLE as error:
                terms = self._terms
                pause_s = terms.compute_pause(attempt, error, self._jitter())
                in_time = (error.retry_after_s or 0) <= terms.wait_s_max
                in_time &= self._clock() + pause_s + CALL_S_MIN <= deadline
                repeatable = error.retryable and error.billed == "no"
                again = repeatable and attempt < terms.attempts_max and in_time
                if not again or not self._budget.withdraw():
                    raise
            else:
                if len(back_ends) > 1:
                    with best_effort("signatures"):
                        self._origins.learn(answer)
                return answer
            self._metrics.count_retry(request.model)
            await self._sleep(pause_s)

    async def _run_round(
        self,
        back_ends: Sequence[GuardedBackEnd],
        request: GenerationRequest,
        seed: int | None,
        call: Call,
        deadline: float,
    ) -> ModelAnswer:
        """One attempt at each back end until one of them delivers."""
        errors: list[GatewayError] = []
        for index, back_end in enumerate(back_ends):
            left_s = deadline - self._clock()
            if errors and left_s < CALL_S_MIN:
                break
            if errors:
                left = back_ends[index - 1].name
                self._metrics.count_failover(request.model, left, back_end.name)
                log.info("back end %s after %s: %s", back_end.name, left, errors[-1].detail)
            try:
                return await back_end.attempt(request, seed, replace(call, timeout_s=left_s))
            except GatewayError as error:
                if not (may_fail_over(error) or isinstance(error, Overloaded)):
                    raise
                errors.append(error)
        raise _choose_error(errors)


def _choose_error(errors: list[GatewayError]) -> GatewayError:
    """Of what several back ends said: the error whose retry is promised soonest, else the first."""
    retryable = [error for error in errors if error.retryable]
    return min(retryable, key=lambda error: error.retry_after_s or 0) if retryable else errors[0]
