"""A breaker: after some failures in a row nobody asks the store for a moment, and then one call tries.

A caller is then refused at once instead of after a second, and a store that comes back is not met by
everybody who waited (docs/reliability.md R28).

Back ends have a breaker of another kind (``app/upstream/breaker.py``). Repeating a call of the store costs
nothing, and all of them reach the same server, so a few failures in a row say enough. A picture costs money
and takes a minute, and a back end that fails now and then still serves: there the share of failures decides.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

from redis.exceptions import ResponseError

from app.domain.errors import StoreUnavailable
from app.store.client import FailureLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

State = Literal["closed", "open", "half_open"]

FAILURES_MAX = 5
PAUSE_S = 0.5


class StoreBreaker:
    """Counts failures in a row. One for each pool of connections, used by everybody who asks through it.

    Args:
        failures_max: So many failures in a row open it.
        pause_s: For so long it stays open before one call may try.
        on_change: Called with each new state.
        address: Of the store, for the log.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        *,
        failures_max: int = FAILURES_MAX,
        pause_s: float = PAUSE_S,
        on_change: Callable[[State], None] | None = None,
        address: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures_max = failures_max
        self._pause_s = pause_s
        self._on_change = on_change
        self._clock = clock
        self._failures = 0
        self._closed_until = 0.0
        self._log = FailureLog("calls", address)
        self.state: State = "closed"

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Let one call through and learn from how it ends.

        An error that the server itself answered (no memory, read-only) is an answer: its other commands may
        well be served, settlements above all (docs/reliability.md R32).

        Raises:
            StoreUnavailable: The breaker is open, or what the call raised.
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
            # The caller left before anything was learned; the next one may try.
            if self.state == "half_open":
                self._set_state("open")
            raise
        except BaseException:  # whatever else it is, the store has answered
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
        raise StoreUnavailable("The store has not answered for a moment.", retry_after_s=1)

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
