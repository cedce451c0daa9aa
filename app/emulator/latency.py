"""The latency of a generation: the model's own (docs/model.md#latency), scaled by a factor."""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

PACE_DEFAULT = 0.001
PACE_REALISTIC = 1.0


@dataclass(frozen=True, slots=True)
class Latency:
    """The latency of a generation in seconds, in addition to the time for drawing.

    Attributes:
        pace: Factor of the model's own latency; 0 for none.
        seed: Seed of the random latencies; the same call with the same seed has the same latency.
    """

    pace: float = PACE_DEFAULT
    seed: int = 0

    def draw_seconds(self, seconds: tuple[float, float], digest: str, attempt: int) -> float:
        """Draw the latency of the ``attempt``-th call of a request, from a size's range in seconds."""
        least, most = seconds
        return self.pace * (least + (most - least) * draw_number(self.seed, digest, attempt))


def draw_number(*subject: object) -> float:
    """A pseudo-random number in [0, 1) that depends on the subject only."""
    digest = blake3(repr(subject).encode()).digest(length=7)
    return int.from_bytes(digest) / 2**56
