"""How long a picture takes: the model's own times (docs/model.md#latency), at a pace of one's choice."""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

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

    def draw_seconds(self, seconds: tuple[float, float], digest: str, attempt: int) -> float:
        """Of the ``attempt``-th call of the request with this digest, between a size's least and most."""
        least, most = seconds
        return self.pace * (least + (most - least) * draw_number(self.seed, digest, attempt))


def draw_number(*subject: object) -> float:
    """A number in [0, 1) that depends on the subject alone."""
    digest = blake3(repr(subject).encode()).digest(length=7)
    return int.from_bytes(digest) / 2**56
