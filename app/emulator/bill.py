"""What Google would bill, in the columns of its billing export.

Prices and tokens of pictures are written here by hand, from Google's price pages and model cards of November
2026, and read from no card: the gateway's books can be compared with them (tests/bill), and its cards.
"""

from __future__ import annotations

import csv
import io
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from datetime import date

    from app.domain.card import Card

FREE_QUERIES: Final = 5000
_QUERY_USD: Final = Decimal("0.014")
_CENT_PARTS: Final = Decimal("0.000001")
_COLUMNS: Final = (
    *("billing_account_id", "service.description", "sku.id", "sku.description", "usage_start_time"),
    *("usage_end_time", "project.id", "usage.amount", "usage.unit", "cost", "currency"),
    *("currency_conversion_rate", "cost_type", "invoice.month"),
)


class Prices(NamedTuple):
    """US dollars for a million tokens."""

    input: str
    cached: str
    text: str
    image: str


TITLES: Final = {
    "gemini-3.1-flash-image": "Gemini 3.1 Flash Image",
    "gemini-3.1-flash-lite-image": "Gemini 3.1 Flash Lite Image",
    "gemini-3-pro-image": "Gemini 3 Pro Image",
    "gemini-nano-banana-2.1": "Gemini Nano Banana 2.1",
}
IMAGE_TOKENS: Final = {
    "gemini-3.1-flash-image": {"512": 747, "1K": 1120, "2K": 1680, "4K": 2520},
    "gemini-3.1-flash-lite-image": {"1K": 1120},
    "gemini-3-pro-image": {"1K": 1120, "2K": 1120, "4K": 2000},
    "gemini-nano-banana-2.1": {"1K": 1120, "2K": 1680, "4K": 3780},
}
PRICES: Final = {
    ("gemini-3.1-flash-image", "standard"): Prices("0.50", "0.05", "3.00", "60"),
    ("gemini-3.1-flash-image", "flex"): Prices("0.25", "0.025", "1.50", "30"),
    ("gemini-3.1-flash-image", "priority"): Prices("0.90", "0.09", "5.40", "108"),
    ("gemini-3.1-flash-lite-image", "standard"): Prices("0.25", "0.025", "1.50", "30"),
    ("gemini-3.1-flash-lite-image", "flex"): Prices("0.125", "0.0125", "0.75", "15"),
    ("gemini-3.1-flash-lite-image", "priority"): Prices("0.45", "0.045", "2.70", "54"),
    ("gemini-3-pro-image", "standard"): Prices("2.00", "0.20", "12.00", "120"),
    ("gemini-3-pro-image", "flex"): Prices("1.00", "0.10", "6.00", "60"),
    ("gemini-3-pro-image", "priority"): Prices("3.60", "0.36", "21.60", "216"),
    ("gemini-nano-banana-2.1", "standard"): Prices("1.50", "0.15", "7.50", "30"),
    ("gemini-nano-banana-2.1", "priority"): Prices("2.70", "0.27", "13.50", "54"),
}
_WORDS: Final = Prices(
    "input token count {} text and image",
    "input token count {} caching",
    "output token count {} text and thinking",
    "output token count {} image",
)


def get_picture_tokens(card: Card, size: str) -> int:
    """Tokens of a picture; those of a model or a size that is not in the table, as the card has them."""
    return IMAGE_TOKENS.get(card.id, {}).get(size) or card.image_tokens(size)


@dataclass(slots=True)
class Bill:
    """Quantities since the start or the last reset, by day, SKU and unit price."""

    free_queries: int = FREE_QUERIES
    _lines: dict[tuple[date, str, Decimal], int] = field(default_factory=dict)
    _queries: int = 0

    def add_call(
        self, model: str, size: str, tier: str, *, pictures: int, usage: dict[str, Any], queries: int
    ) -> None:
        """Add a call that was answered, whatever became of its answer.

        Args:
            model: Full id.
            size: Image size that was requested.
            tier: Service tier that served it.
            pictures: Pictures that were drawn.
            usage: ``usageMetadata``, of which the tokens of pictures are not believed.
            queries: Queries of its searches.
        """
        key = (model, tier) if (model, tier) in PRICES else (model, "standard")
        if key not in PRICES:
            return
        cached = usage.get("cachedContentTokenCount", 0)
        reported = sum(each["tokenCount"] for each in usage.get("candidatesTokensDetails", ()))
        written = usage.get("candidatesTokenCount", 0) - reported + usage.get("thoughtsTokenCount", 0)
        amounts = (
            usage["promptTokenCount"] - cached,
            cached,
            written,
            pictures * IMAGE_TOKENS[model][size],
        )
        suffix = "" if key[1] == "standard" else f" {key[1]}"
        for words, price, amount in zip(_WORDS, PRICES[key], amounts, strict=True):
            description = f"Generate content {words.format(TITLES[model])}{suffix}"
            self._add(description, Decimal(price) / 1_000_000, amount)
        free = min(queries, max(0, self.free_queries - self._queries))
        self._queries += queries
        self._add("Grounding with Google Search Gemini 3", Decimal(0), free)
        self._add("Grounding with Google Search Gemini 3", _QUERY_USD, queries - free)

    def _add(self, description: str, price: Decimal, amount: int) -> None:
        if amount > 0:
            key = (datetime.now(UTC).date(), description, price)
            self._lines[key] = self._lines.get(key, 0) + amount

    def reset(self) -> None:
        """Forget everything."""
        self._lines.clear()
        self._queries = 0

    def write_csv(self) -> str:
        """The bill as CSV with the columns of Google's billing export."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for (day, description, price), amount in sorted(self._lines.items()):
            cost = (price * amount).quantize(_CENT_PARTS)
            words = (f"{day} 00:00:00 UTC", f"{day} 23:59:59 UTC", "emulated", amount, "count", f"{cost:f}")
            sku = ("EMULATED", "Gemini API", f"{zlib.crc32(description.encode()):08X}", description)
            writer.writerow([*sku, *words, "USD", "1", "regular", f"{day:%Y%m}"])
        return text.getvalue()
