"""Attempts at one call by a client that retries by itself until it is answered (docs/decisions/0047)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.domain.budget import WindowState
    from app.domain.rate import RateState

Delivery = Literal["delivered", "abandoned", "under_way"]
"""The answer reached its caller's connection, the caller has left, or it is still being written."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, the same over all of its admissions.

    Attributes:
        origin: A digest of the gateway key and the work, which attempts at equal calls share.
        id: The attempt's own id.
        repeats: Whether the client says that this is a retry.
        keep_s: Seconds that an undelivered result waits for a retry.
        age_ms: Milliseconds since it arrived; it can only repeat calls that began before that.
    """

    origin: str
    id: str
    repeats: bool
    keep_s: int
    age_ms: int = 0


@dataclass(frozen=True, slots=True)
class Rejoined:
    """An earlier attempt's result reached nobody; it belongs to this attempt now."""

    attempt: Attempt
    generation_id: str
    created_ms: int
    age_s: int
    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()
