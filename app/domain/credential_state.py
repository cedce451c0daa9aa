"""How a credential of a back end is at this moment, for operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

State = Literal["serving", "resting", "refused", "spending_cap"]
EVERY_MODEL: Final = "*"


@dataclass(frozen=True, slots=True)
class CredentialState:
    """One credential in one process.

    Attributes:
        name: The back end, and the credential's name if it has one: ``vertex/images-a``.
        pools: The names by which tenants reach it, sorted.
        weight: Its share of its pool's calls.
        state: ``refused`` and ``spending_cap`` are Google's; ``resting`` after a 429, for at least one model.
        detail: Google's reason for one of its two states, or None.
        rests_s: Seconds for which others of the pool are called first, by model, ``*`` for all.
        running: Calls under way.
        waiting: Calls that wait for a slot.
    """

    name: str
    pools: tuple[str, ...]
    weight: int
    state: State
    detail: str | None
    rests_s: Mapping[str, float]
    running: int
    waiting: int
