"""A circuit breaker for each model and image size of a back end.

A back end that fails at 4K may still serve 512, so each size has its own breaker. Quotas, refusals, invalid
requests and answers without an image are not failures of the back end (docs/reliability.md R52).
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from app.domain.config import Config
from app.domain.errors import (
    UpstreamError,
    UpstreamInvalidRequest,
    UpstreamNoImage,
    UpstreamQuota,
    UpstreamRejected,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_NOT_A_FAULT_OF_THE_UPSTREAM: Final = (
    UpstreamQuota,
    UpstreamRejected,
    UpstreamInvalidRequest,
    UpstreamNoImage,
)


def is_fault(error: BaseException | None) -> bool:
    """Whether the back end caused the error. None means that the call succeeded."""
    return isinstance(error, UpstreamError) and not isinstance(error, _NOT_A_FAULT_OF_THE_UPSTREAM)


class BreakerConfig(Config):
    """When calls are held back.

    Attributes:
        window_s: How far back calls count, in seconds.
        calls_min: Fewer calls than this say nothing.
        ratio: Share of failures from which calls are held back.
        pause_s: How long, before one call is let through to find out.
    """

    window_s: float = 30.0
    calls_min: int = 20
    ratio: float = 0.5
    pause_s: float = 10.0


class SizeBreaker:
    """Opens when too many of the recent calls failed, then lets one call at a time through as a probe.

    Args:
        config: When it opens, and for how long.
        clock: A monotonic clock in seconds.
        on_change: Called with True when the breaker opens, and with False when it closes.
    """

    def __init__(
        self,
        config: BreakerConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._config = config or BreakerConfig()
        self._clock = clock
        self._on_change = on_change
        self._calls: deque[tuple[float, bool]] = deque()
        self._open_until: float | None = None

    @property
    def left_s(self) -> float:
        """Seconds until the next call is let through; 0 if one would be let through now."""
        if self._open_until is None:
            return 0.0
        return max(0.0, self._open_until - self._clock())

    def admit(self) -> float:
        """Return 0 and let a call through, or return the seconds for which calls are still held back.

        The outcome of every call that was let through must be reported with ``record``.
        """
        left_s = self.left_s
        if self._open_until is not None and not left_s:
            # This call is the probe; the others wait for its result.
            self._open_until = self._clock() + self._config.pause_s
        return left_s

    def record(self, *, failed: bool | None) -> None:
        """Count the outcome of a call that was let through; None if it says nothing about the back end."""
        now, config = self._clock(), self._config
        if self._open_until is not None:
            self._calls.clear()
            if failed is False:
                self._open_until = None
                self._on_change(False)  # noqa: FBT003 - see the class
            else:
                self._open_until = now + config.pause_s
            return
        if failed is None:
            return
        self._calls.append((now, failed))
        while self._calls[0][0] <= now - config.window_s:
            self._calls.popleft()
        failures = sum(1 for _, failed in self._calls if failed)
        if len(self._calls) >= config.calls_min and failures >= config.ratio * len(self._calls):
            self._open_until = now + config.pause_s
            self._on_change(True)  # noqa: FBT003 - see the class
