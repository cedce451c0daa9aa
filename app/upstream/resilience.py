"""Tries again what cannot have been charged, and holds calls back while the upstream keeps failing.

Money decides what may be repeated (reliability.md R46): only an error that says it was not billed and is
known to pass, such as a quota or an overload. A time-out or a broken connection may have been paid for
and is never repeated here. So a hold for one call covers all of its attempts.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from app.domain.errors import (
    UpstreamError,
    UpstreamInvalidRequest,
    UpstreamNoImage,
    UpstreamQuota,
    UpstreamRejected,
    UpstreamUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.domain.generation import ModelAnswer
    from app.domain.request import GenerationRequest
    from app.ports import Call, ImageModel

ATTEMPTS_MAX: Final = 3
PAUSE_S: Final = 1.0
PAUSE_S_MAX: Final = 8.0
WAIT_S_MAX: Final = 5.0
CALL_S_MIN: Final = 10.0
"""An attempt with less time than this is not begun: the upstream takes 10 s for the smallest picture."""

_REPEATABLE: Final = (UpstreamQuota, UpstreamUnavailable)
_NOT_A_FAULT_OF_THE_UPSTREAM: Final = (
    UpstreamQuota,
    UpstreamRejected,
    UpstreamInvalidRequest,
    UpstreamNoImage,
)


class RetryBudget:
    """Retries may be a tenth of the calls, and a few more; otherwise they would double an overload (R47).

    Args:
        ratio: Retries earned by each call.
        reserve: Retries that can be saved up; it begins full.
    """

    def __init__(self, ratio: float = 0.1, reserve: float = 10.0) -> None:
        self._ratio = ratio
        self._reserve = reserve
        self._left = reserve

    def earn(self) -> None:
        """Count a call."""
        self._left = min(self._reserve, self._left + self._ratio)

    def spend(self) -> bool:
        """Take a retry, if there is one."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Breaker:
    """Open while at least half of the last calls failed; then one call at a time finds out (R52).

    Args:
        clock: Seconds that never go back.
        window_s: How far back calls count.
        calls_min: Fewer calls than this say nothing.
        ratio: Share of failures that opens it.
        pause_s: How long it stays open before one call is let through.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        window_s: float = 30.0,
        calls_min: int = 20,
        ratio: float = 0.5,
        pause_s: float = 10.0,
    ) -> None:
        self._clock = clock
        self._window_s = window_s
        self._calls_min = calls_min
        self._ratio = ratio
        self._pause_s = pause_s
        self._calls: deque[tuple[float, bool]] = deque()
        self._open_until: float | None = None

    def refused_for_s(self) -> float:
        """Seconds for which calls are held back; 0 lets this one through."""
        if self._open_until is None:
            return 0.0
        now = self._clock()
        if now < self._open_until:
            return self._open_until - now
        self._open_until = now + self._pause_s  # this call finds out, the others wait for it
        return 0.0

    def ended(self, *, failed: bool) -> None:
        """Count a call that was let through."""
        now = self._clock()
        if self._open_until is not None:
            self._calls.clear()
            self._open_until = now + self._pause_s if failed else None
            return
        self._calls.append((now, failed))
        while self._calls[0][0] <= now - self._window_s:
            self._calls.popleft()
        failures = sum(1 for _, failed in self._calls if failed)
        if len(self._calls) >= self._calls_min and failures >= self._ratio * len(self._calls):
            self._open_until = now + self._pause_s


class ResilientImageModel:
    """An ImageModel around another: retries within the deadline, and a breaker for each model.

    Args:
        model: What makes single attempts.
        wait_s_max: Where the upstream asks for a longer wait, the caller is told so instead of kept waiting.
        clock: Seconds that never go back.
        sleep: Pauses.
        jitter: A number in [0, 1).
    """

    def __init__(
        self,
        model: ImageModel,
        *,
        wait_s_max: float = WAIT_S_MAX,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._model = model
        self._wait_s_max = wait_s_max
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._budget = RetryBudget()
        self._breakers: dict[str, Breaker] = {}

    async def ready(self) -> bool:
        """Whether calls can be made at all."""
        return await self._model.ready()

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        """One candidate, from the first attempt that gives one; at most three, all within the time.

        Raises:
            ContentBlocked: See the port.
            ModelRefused: See the port.
            UpstreamError: The last attempt's, or UpstreamUnavailable while the breaker is open.
        """
        deadline = self._clock() + call.timeout_s
        self._budget.earn()
        attempt = 0
        while True:
            attempt += 1
            try:
                left = replace(call, timeout_s=deadline - self._clock())
                return await self._attempt(request, seed, left)
            except _REPEATABLE as error:
                pause_s = self._pause_s(attempt, error)
                in_time = (error.retry_after_s or 0) <= self._wait_s_max
                in_time &= self._clock() + pause_s + CALL_S_MIN <= deadline
                if error.billed != "no" or attempt == ATTEMPTS_MAX or not in_time or not self._budget.spend():
                    raise
            await self._sleep(pause_s)

    async def _attempt(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        breaker = self._breakers.setdefault(request.model, Breaker(self._clock))
        if wait_s := breaker.refused_for_s():
            sentence = "The upstream keeps failing, and calls are held back for a moment."
            raise UpstreamUnavailable(sentence, billed="no", retry_after_s=int(wait_s) + 1)
        await call.begin()
        failed = False
        try:
            return await self._model.generate(request, seed, call)
        except UpstreamError as error:
            failed = not isinstance(error, _NOT_A_FAULT_OF_THE_UPSTREAM)
            raise
        except asyncio.CancelledError:
            failed = True  # nobody knows; a probe that was cancelled must not close the breaker
            raise
        finally:
            breaker.ended(failed=failed)

    def _pause_s(self, attempt: int, error: UpstreamError) -> float:
        """Full jitter, but no less than the upstream asked for."""
        drawn = self._jitter() * min(PAUSE_S_MAX, PAUSE_S * 2.0**attempt)
        return drawn + (error.retry_after_s or 0)
