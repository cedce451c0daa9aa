"""How many calls a back end seems to bear at once, learnt from what becomes of them (reliability.md R49)."""

from __future__ import annotations

from typing import Final

BACKOFF: Final = 0.7


class AdaptiveLimit:
    """One more after a round of calls that went well, 0.7 times as many after an overload.

    It begins at its ceiling, because a back end is taken to bear everything until it says otherwise.

    Args:
        floor: It never falls below this, at least 1.
        ceiling: Nor rises above this.
    """

    def __init__(self, floor: int, ceiling: int) -> None:
        self._floor = floor
        self._ceiling = ceiling
        self._exact = float(ceiling)
        self.era = 0

    @property
    def calls(self) -> int:
        """Calls that may be under way at once."""
        return int(self._exact)

    def went_well(self, under_way: int) -> None:
        """Count a good call. Where most slots lie idle it says nothing of what more would do."""
        if 2 * under_way >= self._exact:
            self._exact = min(self._ceiling, self._exact + 1 / self._exact)

    def overloaded(self, era: int) -> None:
        """Count an overload of a call that was begun in this era.

        Calls that were under way together are turned away together: they are one sign, not many. So only
        those that were begun after the last fall make the limit fall again.
        """
        if era == self.era:
            self._exact = max(self._floor, self._exact * BACKOFF)
            self.era += 1
