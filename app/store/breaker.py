"""The store's circuit breaker: opens after several failures in a row, then lets one call probe the store.

While it is open, callers are refused at once instead of after a second, and a store that comes back is not
flooded by everybody who waited (docs/reliability.md R28).

Back ends have another kind of breaker (``app/upstream/breaker.py``). A call of the store is free and always
reaches the same server, so a few failures in a row are enough. An image costs money and takes a minute, and a
back end that fails now and then is still useful, so there the share of failures decides.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

from redis.exceptions import ResponseError

from app.domain.errors import StoreUnavailable
from app.store.client import FailureLog
from app.store.diagnosis import diagnose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from app.resilience.diagnosis import Diagnosis

State = Literal["closed", "open", "half_open"]

FAILURES_MAX = 5
PAUSE_S = 0.5


class StoreBreaker:
    """Counts consecutive failures. All users of a connection pool share one breaker.

    Args:
        failures_max: Consecutive failures that open the breaker.
        pause_s: Seconds for which it stays open before a probe.
        on_change: Called with each new state.
        address: Address of the store, for the log.
        diagnose: Diagnoses its errors; by default, as those of Redis.
        clock: A monotonic clock in seconds.
    """

    def __init__(
        self,
        *,
        failures_max: int = FAILURES_MAX,
        pause_s: float = PAUSE_S,
        on_change: Callable[[State], None] | None = None,
        address: str = "",
        diagnose: Callable[[BaseException, str], Diagnosis] = diagnose,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures_max = failures_max
        self._pause_s = pause_s
        self._on_change = on_change
        self._clock = clock
        self._failures = 0
        self._closed_until = 0.0
        self._log = FailureLog("calls", address, diagnose=diagnose)
        self.state: State = "closed"

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Let one call through and record how it ends.

        An error reply of the server (out of memory, read-only) counts as a success: the server is reachable,
        and may still serve other commands, settlements above all (docs/reliability.md R32).

        Raises:
            StoreUnavailable: The breaker is open, or the call failed.
        """
        self._enter()
        try:
            yield
        except StoreUnavailable as error:
            self._log.failed(error.__cause__)
            if isinstance(error.__cause__, ResponseError):
                self._record_success()
            else:
                self._record_failure()
            raise
        except asyncio.CancelledError:
            # A cancelled probe says nothing about the store, so the next call may probe it.
            if self.state == "half_open":
                self._set_state("open")
            raise
        except BaseException:  # any other error is not the store's, so it has answered
            self._record_success()
            raise
        self._record_success()
        self._log.over()

    def _enter(self) -> None:
        if self.state == "closed":
            return
        if self.state == "open" and self._clock() >= self._closed_until:
            self._set_state("half_open")
            return
        raise StoreUnavailable("The store does not answer at the moment.", retry_after_s=1)

    def _record_success(self) -> None:
        self._failures = 0
        self._set_state("closed")

    def _record_failure(self) -> None:
        self._failures += 1
        if self.state == "half_open" or self._failures >= self._failures_max:
            self._closed_until = self._clock() + self._pause_s
            self._set_state("open")

    def _set_state(self, state: State) -> None:
        if state != self.state:
            self.state = state
            if self._on_change is not None:
                self._on_change(state)
