"""The tokens to reserve for words and thoughts beside a picture, learned from observed calls.

The card's allowance is the floor. Once enough calls of a tenant with the same model, size and thinking level
have ended, the allowance is the 99th percentile of the last ones, so about one settlement in a hundred
exceeds it. It at most doubles with each call, and never exceeds what the model may answer beside the picture.
No tenant's answers move another's. Observations stay in this process: a new replica starts at the floor.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.domain.card import Card

QUANTILE_PERCENT: Final = 99
REMEMBERED: Final = 500
"""The last calls of each kind that count."""
ENOUGH: Final = 50
"""The calls of a kind below which the card's floor applies, unless a bound cut one off."""
KINDS_MAX: Final = 1000
"""The kinds of calls that are remembered; the least recently observed is forgotten first."""

Kind = tuple[str, str, str, str]
"""Tenant id, card id, image size, thinking level."""


@dataclass(slots=True)
class _Learned:
    allowance: int
    seen: deque[int] = field(default_factory=lambda: deque(maxlen=REMEMBERED))


class Allowances:
    """The observations and the allowances that follow from them."""

    def __init__(self, kinds_max: int = KINDS_MAX) -> None:
        self._kinds: OrderedDict[Kind, _Learned] = OrderedDict()
        self._kinds_max = kinds_max

    def for_tenant(self, tenant_id: str) -> TenantAllowances:
        """The allowances of one tenant."""
        return TenantAllowances(self, tenant_id)

    def observe(self, tenant_id: str, card: Card, size: str, level: str, tokens: int, *, cut: bool) -> None:
        """Record one call; see ``TenantAllowances.observe``."""
        floor, kind = card.text_allowance.per_image[level], (tenant_id, card.id, size, level)
        learned = self._kinds.setdefault(kind, _Learned(floor))
        self._kinds.move_to_end(kind)
        if len(self._kinds) > self._kinds_max:
            self._kinds.popitem(last=False)
        learned.seen.append(tokens)
        wanted = learned.allowance
        if len(learned.seen) >= ENOUGH:
            rank = -(-len(learned.seen) * QUANTILE_PERCENT // 100)
            wanted = sorted(learned.seen)[rank - 1]
        if cut:
            wanted = max(wanted, tokens)
        most = card.tokens.output_max - card.image_tokens(size)
        learned.allowance = max(floor, min(wanted, 2 * learned.allowance, most))

    def get(self, tenant_id: str, card: Card, size: str, level: str) -> int:
        """Tokens to expect beside one picture; never below the card's allowance."""
        learned = self._kinds.get((tenant_id, card.id, size, level))
        return card.text_allowance.per_image[level] if learned is None else learned.allowance


@dataclass(frozen=True, slots=True)
class TenantAllowances:
    """The allowances of one tenant."""

    _all: Allowances
    _tenant_id: str

    def observe(self, card: Card, size: str, level: str, tokens: int, *, cut: bool = False) -> None:
        """Record the tokens of words and thoughts of one call.

        A call that a bound cut off counts at once, because it would have used more.
        """
        self._all.observe(self._tenant_id, card, size, level, tokens, cut=cut)

    def get(self, card: Card, size: str, level: str) -> int:
        """Tokens to expect beside one picture; never below the card's allowance."""
        return self._all.get(self._tenant_id, card, size, level)
