"""How many calls a back end seems to bear at once, learnt from what becomes of them."""

from __future__ import annotations

from typing import Final

_FALL: Final = 0.3
_CALLS_REMEMBERED: Final = 8.0
_HASTE: Final = 0.5


class AdaptiveLimit:
    """One more after a round of calls that went well, ever more while that lasts; fewer after an overload.

    It falls by up to 0.3, as large a part of that as of the latest calls were too many, and by one at least.
    So a back end that is a little over its capacity stays close to it, and one far over is soon spared.
    It begins at its ceiling, because a back end is taken to bear everything until it says otherwise.

    Args:
        floor: It never falls below this, at least 1.
        ceiling: Nor rises above this.
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
        """Calls that may be under way at once."""
        return int(self._exact)

    def record_success(self, under_way: int) -> None:
        """Count a good call. Where most slots lie idle it says nothing of what more would do."""
        self._remember(0.0)
        self._good_rounds += 1 / self._exact
        if 2 * under_way >= self._exact:
            rise = (1 + _HASTE * self._good_rounds) / self._exact
            self._exact = min(self._ceiling, self._exact + rise)

    def overloaded(self, era: int) -> None:
        """Count an overload of a call that was begun in this era.

        Calls that were under way together are turned away together: they are one sign, not many. So only
        those that were begun after the last fall make the limit fall again.
        """
        self._remember(1.0)
        self._good_rounds = 0.0
        if era == self.era:
            lower = min(self._exact * (1 - _FALL * self._too_many), self._exact - 1)
            self._exact = max(self._floor, lower)
            self.era += 1

    def _remember(self, was_too_many: float) -> None:
        """The share of calls that were too many, over about a round of them."""
        self._too_many += (was_too_many - self._too_many) / max(_CALLS_REMEMBERED, self._exact)
