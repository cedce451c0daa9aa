"""How long a picture takes: the model's own times (docs/model.md#latency), at a pace of one's choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS: Mapping[str, tuple[float, float]] = {
    "512": (6.0, 12.0),
    "1K": (10.0, 20.0),
    "2K": (20.0, 60.0),
    "4K": (60.0, 120.0),
}
"""From the fastest to the slowest, as users report them; those of 512 are guessed from those of 1K."""

PACE_DEFAULT = 0.001
PACE_REALISTIC = 1.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that a generation takes, beside what drawing costs.

    Attributes:
        pace: 1 for the model's own times; a thousandth makes milliseconds of seconds; 0 for none.
        seed: Another seed draws other times; the same gives the same call the same time again.
    """

    pace: float = PACE_DEFAULT
    seed: int = 0

    def of(self, image_size: str, digest: str, attempt: int) -> float:
        """Of the ``attempt``-th call of the request with this digest."""
        least, most = SECONDS.get(image_size, SECONDS["1K"])
        return self.pace * (least + (most - least) * drawn(self.seed, digest, attempt))


def drawn(*subject: object) -> float:
    """A number in [0, 1) that depends on the subject alone."""
    digest = blake3(repr(subject).encode()).digest(length=7)
    return int.from_bytes(digest) / 2**56
