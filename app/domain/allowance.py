"""What words and thoughts beside a picture cost, learned from what was observed.

The card gives an allowance; this is the floor. Once enough calls of the same model, size and thinking level
have ended, the allowance is the 99th percentile of the last of them, so that at most one settlement in a
hundred is above its reservation. Kept in this process alone: a replica that starts begins at the floor.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.domain.card import Card

QUANTILE_PERCENT: Final = 99
REMEMBERED: Final = 500
"""Calls of each kind that are looked back upon."""
ENOUGH: Final = 50
"""Fewer calls than this say nothing."""

Kind = tuple[str, str, str]
"""Card id, image size, thinking level: as many as the cards offer, so what is kept is bounded."""


class Allowances:
    """The observations, and the allowance that follows from them."""

    def __init__(self) -> None:
        self._seen: dict[Kind, deque[int]] = {}
        self._learned: dict[Kind, int] = {}

    def observe(self, card: Card, size: str, level: str, tokens: int) -> None:
        """Count one call that delivered: its tokens of words and thoughts together."""
        kind = (card.id, size, level)
        self._seen.setdefault(kind, deque(maxlen=REMEMBERED)).append(tokens)
        self._learned.pop(kind, None)

    def of(self, card: Card, size: str, level: str) -> int:
        """Tokens to reserve beside one picture; never less than the card says."""
        floor, kind = card.text_allowance.per_image[level], (card.id, size, level)
        observations = self._seen.get(kind, ())
        if len(observations) < ENOUGH:
            return floor
        if kind not in self._learned:
            rank = -(-len(observations) * QUANTILE_PERCENT // 100)
            self._learned[kind] = sorted(observations)[rank - 1]
        return max(floor, self._learned[kind])
