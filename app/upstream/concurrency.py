"""An adaptive limit on concurrent calls, learned from their outcomes."""

from __future__ import annotations

from typing import Final

_FALL: Final = 0.3
_CALLS_REMEMBERED: Final = 8.0
_HASTE: Final = 0.5


class AdaptiveLimit:
    """Rises by one after a round of good calls, faster while rounds stay good, and falls after an overload.

    A fall is up to 30 %, in proportion to the share of recent calls that were overloads, and at least one
    call. So the limit stays close to the capacity of a back end that is slightly overloaded, and quickly
    leaves that of one far beyond it. It starts at the ceiling: a back end counts as unlimited until it fails.

    Args:
        floor: Lowest limit, at least 1.
        ceiling: Highest limit.
    """

    def __init__(self, floor: int, ceiling: int) -> None:
        self._floor = floor
        self._ceiling = ceiling
        self._exact = float(ceiling)
        self._too_many = 1.0
        self._good_rounds = 0.0
        self.era = 0

    @property
    def calls(self) -> int:
        """Calls that may run at once."""
        return int(self._exact)

    def record_success(self, under_way: int) -> None:
        """Count a good call. The limit rises only if at least half of it is in use."""
        self._remember(0.0)
        self._good_rounds += 1 / self._exact
        if 2 * under_way >= self._exact:
            rise = (1 + _HASTE * self._good_rounds) / self._exact
            self._exact = min(self._ceiling, self._exact + rise)

    def record_overload(self, era: int) -> None:
        """Count an overload of a call that started in the given era.

        Calls that run together are rejected together, which is one signal, not many. So only calls that
        started after the last fall, in the current era, lower the limit again.
        """
        self._remember(1.0)
        self._good_rounds = 0.0
        if era == self.era:
            lower = min(self._exact * (1 - _FALL * self._too_many), self._exact - 1)
            self._exact = max(self._floor, lower)
            self.era += 1

    def _remember(self, was_too_many: float) -> None:
        # A moving average of the share of overloads, over about one round of calls.
        self._too_many += (was_too_many - self._too_many) / max(_CALLS_REMEMBERED, self._exact)
