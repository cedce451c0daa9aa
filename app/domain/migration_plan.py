"""What a migration to another model would change for each tenant, by the usage that is recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final, NamedTuple

from app.domain.estimate import get_query_price, sum_prices
from app.domain.parameters import IMAGE_COUNTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.domain.card import Card
    from app.domain.report import Row, Spent

CONVERSATION: Final = "conversation"


class Difference(NamedTuple):
    """A fact in which both cards differ; empty where a card has none."""

    fact: str
    now: str
    planned: str


@dataclass(slots=True)
class Refusal:
    """A parameter that the other model refuses, and what used it."""

    parameter: str
    why: str
    requests: int = 0
    images: int = 0


@dataclass(slots=True)
class TenantPlan:
    """What one tenant used of the model, and what the same would be on the other one.

    Attributes:
        requests: That were paid for.
        images: Pictures of them.
        image_tokens: By the table.
        usd: Booked, in billionths of a dollar.
        refused: Requests that the other model refuses, for one parameter or several.
        refused_images: Pictures of these.
        refused_usd: Booked for these.
        planned_image_tokens: Of the others, by the other card's table.
        planned_usd: Of the others, by the other card's prices.
        conversations: Requests that continued a conversation; one that began before stays with its model.
        refusals: By parameter.
    """

    tenant_id: str
    requests: int = 0
    images: int = 0
    image_tokens: int = 0
    usd: int = 0
    refused: int = 0
    refused_images: int = 0
    refused_usd: int = 0
    planned_image_tokens: int = 0
    planned_usd: int = 0
    conversations: int = 0
    refusals: dict[str, Refusal] = field(default_factory=dict)

    @property
    def moved_usd(self) -> int:
        """What is booked now for the requests that the other model takes."""
        return self.usd - self.refused_usd

    def add(self, row: Row, now: Card, planned: Card) -> None:
        """Count a row by parameters of the present model."""
        spent, parameters = row.spent, row.parameters or ()
        self.requests += spent.requests
        self.images += spent.images
        self.image_tokens += spent.image_tokens
        self.usd += spent.usd
        if CONVERSATION in parameters:
            self.conversations += spent.requests
        reasons = dict(find_refusals(parameters, planned))
        for parameter, why in reasons.items():
            refusal = self.refusals.setdefault(parameter, Refusal(parameter, why))
            refusal.requests += spent.requests
            refusal.images += spent.images
        if reasons:
            self.refused += spent.requests
            self.refused_images += spent.images
            self.refused_usd += spent.usd
        else:
            tokens = _convert_image_tokens(spent, parameters, now, planned)
            self.planned_image_tokens += tokens
            self.planned_usd += _price(spent, tokens, planned, _find_value(parameters, "service_tier"))


def plan_migration(rows: Iterable[Row], now: Card, planned: Card) -> dict[str, TenantPlan]:
    """The plan of each tenant that used the present model, by tenant.

    Args:
        rows: By tenant, model and parameters; those of other models, and cache hits alone, are left out.
        now: The card of the present model.
        planned: The card of the other one.
    """
    plans: dict[str, TenantPlan] = {}
    for row in rows:
        if row.model == now.id and row.spent.requests:
            plans.setdefault(row.tenant_id, TenantPlan(row.tenant_id)).add(row, now, planned)
    return plans


def find_refusals(parameters: Iterable[str], card: Card) -> Iterator[tuple[str, str]]:
    """The parameters that a model refuses, each with what it takes instead."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        why = _explain_refusal(name, value, card)
        if why is not None:
            yield parameter, why


def _explain_refusal(name: str, value: str, card: Card) -> str | None:
    offered = {
        "image_size": tuple(card.image_sizes),
        "aspect_ratio": card.aspect_ratios,
        "thinking_level": card.parameters.thinking_levels,
        "service_tier": card.list_service_tiers(),
        "output_mime_type": card.parameters.output_mime_types,
        "grounding": card.grounding,
        "response_modalities": tuple(map("+".join, card.parameters.response_modalities)),
    }
    if name in offered:
        return None if value in offered[name] else _list_offered(offered[name])
    if name in card.parameters.list_unsupported():
        return "not offered"
    types = {"documents": card.documents.mime_types, "videos": card.video.mime_types}
    if "video" not in card.input_modalities:
        types["videos"] = ()
    if name in types:
        return None if set(value.split("+")) <= set(types[name]) else _list_offered(types[name])
    if name == "max_output_tokens" and int(value) > card.tokens.output_max:
        return f"at most {card.tokens.output_max}"
    if name == "images" and _get_fewest_images(value) > card.images.count_max:
        return f"at most {card.images.count_max}"
    return None


def _list_offered(offered: tuple[str, ...]) -> str:
    return f"offered: {', '.join(offered) or 'none'}"


def _get_fewest_images(value: str) -> int:
    """The fewest reference images of a class."""
    smaller = [count for count in IMAGE_COUNTS if value == "more" or count < int(value)]
    return max(smaller, default=0) + 1


def _find_value(parameters: Iterable[str], name: str) -> str | None:
    return next((each.partition("=")[2] for each in parameters if each.startswith(f"{name}=")), None)


def _convert_image_tokens(spent: Spent, parameters: Iterable[str], now: Card, planned: Card) -> int:
    """The image tokens of the same pictures by the other card's table."""
    size = _find_value(parameters, "image_size") or now.image_size_default
    return round(spent.image_tokens * Fraction(planned.image_tokens(size), now.image_tokens(size)))


def _price(spent: Spent, image_tokens: int, card: Card, tier: str | None) -> int:
    """The list price of recorded tokens on another card, in billionths of a dollar."""
    prices = card.get_prices(tier)
    read = spent.total_tokens - spent.output_tokens - spent.cached_input
    return sum_prices(
        (spent.search_queries, get_query_price(card)),
        (read, prices.input),
        (spent.cached_input, prices.cached_input),
        (image_tokens, prices.image_output),
        (spent.text_output + spent.thinking, prices.text_output),
    )


def compare_cards(now: Card, planned: Card) -> Iterator[Difference]:
    """The facts that matter to callers and differ: sizes with their price, prices, defaults, limits."""
    sizes = dict.fromkeys((*now.image_sizes, *planned.image_sizes))
    before, after = _describe_card(now, sizes), _describe_card(planned, sizes)
    for fact, value in before.items():
        if value != after[fact]:
            yield Difference(fact, value, after[fact])


def _describe_card(card: Card, sizes: Iterable[str]) -> dict[str, str]:
    """The facts to compare, by name."""
    parameters, prices = card.parameters, card.prices_usd_per_million
    meters = ("input", "cached_input", "text_output", "image_output")
    return {
        **{f"picture of {size}": _describe_size(card, size) for size in sizes},
        **{f"{meter}, $ per million tokens": str(getattr(prices, meter)) for meter in meters},
        "input_max": str(card.tokens.input_max),
        "output_max": str(card.tokens.output_max),
        "aspect_ratios": " ".join(card.aspect_ratios),
        "service tiers": " ".join(card.list_service_tiers()),
        "grounding": " ".join(card.grounding),
        "thinking_levels": " ".join(parameters.thinking_levels),
        "thinking_level_default": parameters.thinking_level_default,
        "not offered": " ".join(parameters.list_unsupported()),
    }


def _describe_size(card: Card, size: str) -> str:
    if size not in card.image_sizes:
        return ""
    tokens = card.image_tokens(size)
    return f"{tokens} tokens, ${tokens * card.prices_usd_per_million.image_output / 1e6:.4f}"
