"""Attempts at one call by a client that repeats it by itself until it is answered (docs/decisions/0047)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.domain.budget import WindowState
    from app.domain.rate import RateState

Delivery = Literal["delivered", "abandoned", "under_way"]
"""An answer has reached its caller's connection, or the caller is gone, or it is being written still."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One of them, the same over all of its admissions.

    Attributes:
        origin: What attempts at equal calls have in common: a digest of the gateway key and the work.
        id: Names this one.
        repeats: Whether the client says that it repeats an earlier one.
        keep_s: How long a result that nobody was delivered waits for a repetition.
        age_ms: How long ago it arrived; it repeats only what began before that.
    """

    origin: str
    id: str
    repeats: bool
    keep_s: int
    age_ms: int = 0


@dataclass(frozen=True, slots=True)
class Rejoined:
    """An earlier attempt at the call has a result that nobody was delivered; it is this one's now."""

    attempt: Attempt
    generation_id: str
    created_ms: int
    age_s: int
    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()
