"""What a request is measured against beside the card: the deployment's limits and the caller's rights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.card import Card
    from app.domain.tenancy import Caller

CALL_S_MIN = 10.0
"""The upstream refuses a call with a deadline below this (docs/model.md#deadlines): it is not made."""
PATIENCE_S_MIN = 9.0
"""A caller with less left is not worth a call; one of the 10 seconds may have passed on the way here."""
PIXELS_MAX = 256_000_000
"""No limit of the model's: phones make pictures of 200 megapixels in a few megabytes."""
N_MAX = 8


@dataclass(frozen=True, slots=True)
class Charging:
    """What is booked where nobody knows what Google charges; settings of the deployment.

    Attributes:
        ambiguous: A call whose outcome is unknown: at its estimate, or not at all (docs/reliability.md R6).
        blocked: A refusal without a usage report: at what it read, or not at all (docs/reliability.md R14).
    """

    ambiguous: Literal["charge", "release"] = "charge"
    blocked: Literal["input", "none"] = "input"


@dataclass(frozen=True, slots=True)
class Times:
    """How long things take at most; settings of the deployment, in seconds.

    Attributes:
        upstream_s: A request, whatever the size of its pictures, from its arrival on.
        lease_s: How long a hold outlives its process.
        by_size: The same for one size, by the card's literal, in place of the card's own time limit.
    """

    upstream_s: float
    lease_s: float
    by_size: Mapping[str, float] = field(default_factory=dict)

    def get_work_s(self, card: Card, image_size: str) -> float:
        """Seconds that a request for this size may take in all, waiting included."""
        return min(self.upstream_s, self.by_size.get(image_size, card.image_sizes[image_size].timeout_s))


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits that no card knows.

    Attributes:
        models: Card ids that may be used; empty for all.
        max_image_size: The largest size that may be asked for, or None.
        preview: Preview features that may be used: names of sizes, and ``video``; None for all.
        capabilities: What the back end can do beyond the common ground: ``output_mime_type`` and
            ``cloud_storage``.
        buckets: Cloud Storage buckets that inputs may come from; empty for none.
        pixels_max: Width times height of an input image.
        n_max: Pictures in one request, each an upstream call of its own.
        charging: What is booked where nobody knows what Google charges.
    """

    models: frozenset[str] = frozenset()
    max_image_size: str | None = None
    preview: frozenset[str] | None = None
    capabilities: frozenset[str] = frozenset()
    buckets: frozenset[str] = frozenset()
    pixels_max: int = PIXELS_MAX
    n_max: int = N_MAX
    charging: Charging = Charging()

    def allows_preview(self, feature: str) -> bool:
        """Whether a Preview feature may be used."""
        return self.preview is None or feature in self.preview

    def restrict_to(self, caller: Caller) -> Policy:
        """The same deployment with the rights of one tenant's key."""
        return replace(
            self,
            models=caller.models,
            max_image_size=caller.max_image_size,
            preview=caller.preview,
        )
