"""The tokens to reserve for words and thoughts beside a picture, learned from observed calls.

The card's allowance is the floor. Once enough calls of the same model, size and thinking level have ended,
the allowance is the 99th percentile of the last ones, so about one settlement in a hundred exceeds its
reservation. Observations stay in this process: a new replica starts at the floor.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.domain.card import Card

QUANTILE_PERCENT: Final = 99
REMEMBERED: Final = 500
"""The last calls of each kind that count."""
ENOUGH: Final = 50
"""The calls of a kind below which the card's floor applies."""

Kind = tuple[str, str, str]
"""Card id, image size, thinking level. The cards bound how many there are."""


class Allowances:
    """The observations and the allowances that follow from them."""

    def __init__(self) -> None:
        self._seen: dict[Kind, deque[int]] = {}
        self._learned: dict[Kind, int] = {}

    def observe(self, card: Card, size: str, level: str, tokens: int) -> None:
        """Record the tokens of words and thoughts of one call that delivered a picture."""
        kind = (card.id, size, level)
        self._seen.setdefault(kind, deque(maxlen=REMEMBERED)).append(tokens)
        self._learned.pop(kind, None)

    def get(self, card: Card, size: str, level: str) -> int:
        """Tokens to reserve beside one picture; never below the card's allowance."""
        floor, kind = card.text_allowance.per_image[level], (card.id, size, level)
        observations = self._seen.get(kind, ())
        if len(observations) < ENOUGH:
            return floor
        if kind not in self._learned:
            rank = -(-len(observations) * QUANTILE_PERCENT // 100)
            self._learned[kind] = sorted(observations)[rank - 1]
        return max(floor, self._learned[kind])
