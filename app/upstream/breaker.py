"""Holds calls back while a back end keeps failing, for each model and size on its own.

A back end that fails at 4K may draw at 512 all the same, so one size never closes another. A quota, a
refusal, a request that is the caller's to mend and an answer without a picture are no faults of the back end
(docs/reliability.md R52).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

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
    """Whether what a call ended with speaks against the back end; None is a picture."""
    return isinstance(error, UpstreamError) and not isinstance(error, _NOT_A_FAULT_OF_THE_UPSTREAM)


@dataclass(frozen=True, slots=True)
class BreakerTerms:
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
    """Open while too many of the last calls failed; then one call at a time finds out.

    Args:
        terms: When it opens, and for how long.
        clock: Seconds that never go back.
        on_change: Told whether calls are held back, whenever that changes.
    """

    def __init__(
        self,
        terms: BreakerTerms | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._terms = terms or BreakerTerms()
        self._clock = clock
        self._on_change = on_change
        self._calls: deque[tuple[float, bool]] = deque()
        self._open_until: float | None = None

    @property
    def left_s(self) -> float:
        """Seconds for which calls are held back; 0 where one would be let through."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - self._clock())

    def admit(self) -> float:
        """Let a call through, which is 0, or say for how many seconds it is held back.

        Every call that was let through must be told of with ``ended``.
        """
        left_s = self.left_s
        if self._open_until is not None and not left_s:
            # This call finds out, the others wait for it.
            self._open_until = self._clock() + self._terms.pause_s
        return left_s

    def ended(self, *, failed: bool | None) -> None:
        """Count a call that was let through; None says nothing, neither for the back end nor against it."""
        now, terms = self._clock(), self._terms
        if self._open_until is not None:
            self._calls.clear()
            self._open_until = None if failed is False else now + terms.pause_s
            if self._open_until is None:
                self._on_change(self._open_until is not None)
            return
        if failed is None:
            return
        self._calls.append((now, failed))
        while self._calls[0][0] <= now - terms.window_s:
            self._calls.popleft()
        failures = sum(1 for _, failed in self._calls if failed)
        if len(self._calls) >= terms.calls_min and failures >= terms.ratio * len(self._calls):
            self._open_until = now + terms.pause_s
            self._on_change(self._open_until is not None)
