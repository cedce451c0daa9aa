"""Lines of a provider's bill, and the SKU of each by its description.

Google's bills name their SKUs in words that change, such as "Generate content output token count Gemini 3.1
Flash Image image"; the model and a few words decide.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from app.domain.line_items import METER_NAMES, Meter
from app.domain.report import STANDARD

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date
    from decimal import Decimal

    from app.domain.card import Card

_TIERS = ("flex", "priority", "batch", "provisioned")


class Sku(NamedTuple):
    """What has a price of its own. Searches belong to no model, because models share the free ones."""

    model: str
    meter: Meter
    tier: str

    @property
    def text(self) -> str:
        """As reports write it."""
        return "/".join(part for part in self if part)


SEARCHES = Sku("", "searches", STANDARD)


class BillLine(NamedTuple):
    """One line of a bill.

    Attributes:
        day: Of UTC, on which the usage began.
        sku: None for what no gateway of ours buys; ``description`` says what it is.
        quantity: Tokens or queries.
        cost: US dollars before credits.
    """

    day: date
    sku: Sku | None
    description: str
    quantity: Decimal
    cost: Decimal


def build_sku(model: str, meter: Meter, tier: str) -> Sku:
    """The SKU of a meter of a model."""
    if meter == "searches":
        return SEARCHES
    return Sku(model, meter, tier)


def parse_sku(text: str) -> Sku | None:
    """The SKU that our own exports call ``model/meter/tier``, or None."""
    model, _, rest = text.partition("/")
    name, _, tier = rest.partition("/")
    meter = next((each for each in METER_NAMES if each == name), None)
    if meter is None or not tier:
        return None
    return build_sku(model, meter, tier)


def recognise_sku(description: str, cards: Iterable[Card]) -> Sku | None:
    """The SKU that the provider describes in these words, or None where it is none of the cards'."""
    words = _squeeze(description)
    if "search" in words and ("ground" in words or "quer" in words):
        return SEARCHES
    names = {_squeeze(name): card.id for card in cards for name in (*card.names(), card.title)}
    name = max((each for each in names if each in words), key=len, default=None)
    if name is None:
        return None
    rest = words.replace(name, " ", 1)
    meter = _recognise_meter(rest)
    if meter is None:
        return None
    tier = next((each for each in _TIERS if each in rest), STANDARD)
    return Sku(names[name], meter, tier)


def _recognise_meter(words: str) -> Meter | None:
    if "storage" in words:
        return None
    if "cach" in words:
        return "cached_input"
    if "output" in words and "image" in words:
        return "image_output"
    if "output" in words or "thinking" in words or "reasoning" in words:
        return "text_output"
    if "input" in words:
        return "input"
    return None


def _squeeze(text: str) -> str:
    """Letters and digits alone, in lower case."""
    return re.sub(r"[^a-z0-9]", "", text.lower())
