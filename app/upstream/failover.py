"""The gateway's ImageModel: tries back ends in order, and repeats the round if that can help.

The next back end is tried only after a failure that was not billed and is specific to this back end: no
connection, a quota, an overload, rejected credentials, an unavailable model, an open breaker or no free slot.
A call with an unknown outcome ends here, because another back end would generate, and bill, the image again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from app.domain.errors import GatewayError, Overloaded
from app.resilience.best_effort import best_effort
from app.upstream.back_end import NotSent
from app.upstream.metrics import NullMetrics
from app.upstream.pools import arrange_pool
from app.upstream.retries import CALL_S_MIN, RETRYABLE, RetryBudget, RetryConfig, may_fail_over
from app.upstream.routing import SignatureOrigins, select_back_ends

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from app.domain.credential_state import CredentialState
    from app.domain.errors import UpstreamError
    from app.domain.generation import ModelAnswer
    from app.domain.request import GenerationRequest
    from app.generation.ports import Call
    from app.upstream.back_end import GuardedBackEnd
    from app.upstream.metrics import UpstreamMetrics

log = logging.getLogger(__name__)


class FailoverImageModel:
    """An ImageModel over several back ends, bounded by the call's deadline and the retry budget.

    Args:
        back_ends: At least one, in the order in which they are tried.
        orders: The order for single models, by card id; ``back_ends`` applies to all others.
        config: When a round is repeated.
        metrics: Counts retries and failovers.
        clock: A monotonic clock in seconds.
        sleep: Waits for a number of seconds.
        jitter: Returns a random number in [0, 1).
    """

    def __init__(
        self,
        back_ends: Sequence[GuardedBackEnd],
        *,
        orders: Mapping[str, Sequence[GuardedBackEnd]] | None = None,
        config: RetryConfig | None = None,
        metrics: UpstreamMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._back_ends = tuple(back_ends)
        self._orders = {model: tuple(order) for model, order in (orders or {}).items()}
        self._origins = SignatureOrigins()
        self._config = config or RetryConfig()
        self._metrics = metrics or NullMetrics()
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._budget = RetryBudget(self._config)

    @property
    def capabilities(self) -> frozenset[str]:
        """Optional features that at least one back end offers, for validation."""
        return frozenset().union(*(back_end.capabilities for back_end in self._all_back_ends))

    @property
    def _all_back_ends(self) -> tuple[GuardedBackEnd, ...]:
        unique = dict.fromkeys(self._back_ends)
        for order in self._orders.values():
            unique.update(dict.fromkeys(order))
        return tuple(unique)

    def conditions(self) -> dict[str, str | int]:
        """What holds back ends, for operators: a sentence by back end."""
        held = {f"{each.name}_spending_cap": each.spending_cap for each in self._all_back_ends}
        held |= {f"{each.name}_refused": each.refusal for each in self._all_back_ends}
        return {name: sentence for name, sentence in held.items() if sentence}

    def list_credentials(self) -> list[CredentialState]:
        """How each credential is, in the order in which back ends are tried."""
        return [each.describe() for each in self._all_back_ends]

    async def find_fault(self) -> str | None:
        """Why no back end can be called, a sentence for each, or None if at least one can be."""
        faults = []
        for back_end in self._all_back_ends:
            fault = await back_end.find_fault()
            if fault is None:
                return None
            faults.append(f"{back_end.name}: {fault}")
        return " ".join(faults)

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        """Generate one candidate, within the call's timeout.

        Raises:
            ContentBlocked: See the port.
            ModelRefused: See the port.
            Overloaded: No slot became free in time; nothing was sent.
            UpstreamInvalidRequest: No back end may serve the request.
            UpstreamError: The most useful error of the last round.
        """
        deadline = self._clock() + call.timeout_s
        order = self._orders.get(request.model, self._back_ends)
        back_ends = select_back_ends(request, call.pool, order, self._origins)
        self._budget.deposit()
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._run_round(_arrange(back_ends, request), request, seed, call, deadline)
            except NotSent as stopped:
                raise stopped.error from None
            except RETRYABLE as error:
                pause_s = self._config.compute_pause(attempt, error, self._jitter())
                if not self._may_repeat(error, attempt, pause_s, deadline) or not self._budget.withdraw():
                    raise
            else:
                if len(back_ends) > 1:
                    with best_effort("signatures"):
                        self._origins.learn(answer)
                return answer
            self._metrics.count_retry(request.model)
            await self._sleep(pause_s)

    def _may_repeat(self, error: UpstreamError, attempt: int, pause_s: float, deadline: float) -> bool:
        """Whether another round is safe (nothing was billed) and can still finish before the deadline."""
        if not error.retryable or error.billed != "no" or attempt >= self._config.attempts:
            return False
        if (error.retry_after_s or 0) > self._config.wait_s:
            return False
        return self._clock() + pause_s + CALL_S_MIN <= deadline

    async def _run_round(
        self,
        back_ends: Sequence[GuardedBackEnd],
        request: GenerationRequest,
        seed: int | None,
        call: Call,
        deadline: float,
    ) -> ModelAnswer:
        """Try each back end once, until one of them answers."""
        errors: list[GatewayError] = []
        for index, back_end in enumerate(back_ends):
            left_s = deadline - self._clock()
            if errors and left_s < CALL_S_MIN:
                break
            if errors:
                left = back_ends[index - 1].name
                self._metrics.count_failover(request.model, left, back_end.name)
                log.info(
                    "another back end is tried",
                    extra={"left_back_end": left, "back_end": back_end.name, "code": errors[-1].code},
                )
            try:
                return await back_end.attempt(request, seed, replace(call, timeout_s=left_s))
            except GatewayError as error:
                if not (may_fail_over(error) or isinstance(error, Overloaded)):
                    raise
                errors.append(error)
        raise _choose_error(errors)


def _arrange(back_ends: Sequence[GuardedBackEnd], request: GenerationRequest) -> tuple[GuardedBackEnd, ...]:
    """The back ends in their order, and the credentials of each in that of their pool."""
    pools = groupby(back_ends, key=lambda each: each.kind)
    return tuple(each for _, members in pools for each in arrange_pool(tuple(members), request))


def _choose_error(errors: list[GatewayError]) -> GatewayError:
    """The retryable error with the shortest wait, else the first error."""
    retryable = [error for error in errors if error.retryable]
    if not retryable:
        return errors[0]
    return min(retryable, key=lambda error: error.retry_after_s or 0)
