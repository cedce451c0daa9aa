"""Limits beside the card: those of the deployment and of the caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from app.domain.config import Config
from app.domain.migration import ModelAlias

if TYPE_CHECKING:
    from app.domain.bill_labels import BillLabel
    from app.domain.card import Card
    from app.domain.tenancy import Caller

CALL_S_MIN = 10.0
"""Seconds; the upstream refuses calls with a shorter deadline (docs/model.md#deadlines)."""
PATIENCE_S_MIN = 9.0
"""A caller with less left is not worth a call; one of the 10 seconds may have passed on the way here."""
PIXELS_MAX = 256_000_000
"""The gateway's own limit; phones take photos of 200 megapixels in a few megabytes."""


class HoldConfig(Config):
    """How long a hold lives, and what is booked where nobody knows what Google charges.

    See docs/reliability.md R1, R6, R10 and R14.
    """

    lease_s: float = Field(30, gt=0, description="How long a hold outlives its process, in seconds.")

    unknown_outcome: Literal["charge", "release"] = Field(
        "charge",
        description="What a call with an unknown outcome costs: charge books its estimate, release nothing.",
    )
    blocked_charge: Literal["input", "none"] = Field(
        "input",
        description="What a refusal by the model costs if Google reports no tokens: input books the "
        "estimated input, none nothing.",
    )
    output_bound: Literal["adaptive", "required", "off"] = Field(
        "adaptive",
        description="Whether calls are sent with a bound on their output: required always, off never, "
        "adaptive unless too many answers are cut off; tenants with `tail: refuse` and requests with "
        "`max_cost_usd` always have one.",
    )


class RequestConfig(Config):
    """Limits of one request, in addition to the card's."""

    images_per_request_max: int = Field(8, ge=1, description="Largest `n`, the images of one request.")
    input_pixels_max: int = PIXELS_MAX
    gcs_buckets: frozenset[str] = Field(
        frozenset(), description="Cloud Storage buckets that `gs://` inputs may name; empty for none."
    )
    model_aliases: Mapping[str, ModelAlias] = Field(
        {},
        description="Models whose requests another model serves, or a share of them, such as "
        "gemini-3.1-flash-image=gemini-nano-banana-2.1 or with :5% at the end; a tenant's `aliases` outrank "
        "them.",
    )


class TimeConfig(Config):
    """Time limits of a request, waiting included."""

    upstream_timeout_s: float = Field(
        300, ge=10, description="Longest time for a request, in seconds from its arrival."
    )
    timeout_by_size: Mapping[str, Annotated[float, Field(ge=10)]] = Field(
        {},
        description="Longest time for a request by image size, in seconds, in place of the card's, such as "
        "4K=400,2K=200.",
    )

    def get_work_s(self, card: Card, image_size: str) -> float:
        """Seconds that a request for this size may take, waiting included."""
        return min(
            self.upstream_timeout_s,
            self.timeout_by_size.get(image_size, card.image_sizes[image_size].timeout_s),
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits that no card knows.

    Attributes:
        models: Card ids that may be used; empty for all.
        max_image_size: The largest size allowed, or None.
        preview: Preview features allowed: names of sizes, and ``video``; None for all.
        capabilities: Features that only some back ends have: ``output_mime_type``, ``cloud_storage``.
        back_ends: Kinds of the back ends that may be called.
        bill_labels: What the labels in Google's bill are made from.
        needs_prices: Whether a member without a price is refused.
        request: What one request may hold.
        hold: How long a hold lives, and what is booked where nobody knows what Google charges.
    """

    models: frozenset[str] = frozenset()
    max_image_size: str | None = None
    preview: frozenset[str] | None = None
    capabilities: frozenset[str] = frozenset()
    back_ends: tuple[str, ...] = ()
    bill_labels: frozenset[BillLabel] = frozenset()
    needs_prices: bool = False
    request: RequestConfig = RequestConfig()  # noqa: RUF009 (it cannot change)
    hold: HoldConfig = HoldConfig()  # noqa: RUF009 (it cannot change)

    def allows_preview(self, feature: str) -> bool:
        """Whether a Preview feature may be used."""
        return self.preview is None or feature in self.preview

    def get_alias(self, caller: Caller, model: str) -> ModelAlias | None:
        """The alias under which this caller's requests for a model are served, or None."""
        return caller.tenant.aliases.get(model) or self.request.model_aliases.get(model)

    def allow_alias(self, requested: str, served: str) -> Policy:
        """This policy, in which who may use the requested model may use the one that serves it."""
        if requested not in self.models:
            return self
        return replace(self, models=self.models | {served})

    def restrict_to(self, caller: Caller) -> Policy:
        """This policy with the rights of one caller."""
        return replace(
            self,
            models=caller.models,
            max_image_size=caller.max_image_size,
            preview=caller.preview,
            needs_prices=caller.needs_prices,
        )
