"""Compares a card with what the back ends and lists of prices say about its model.

Nothing here asks anybody: ``app/commands/cards.py`` brings the answers, and each comparison is a finding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from app.domain.estimate import estimate_text_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import date

    from app.domain.card import Card, Evidence, Prices

Verdict = Literal["same", "cautious", "different", "unanswered"]
"""``cautious``: the card reserves more than was answered, and its evidence names the answer."""

TEXT: Final = "A lighthouse at dusk, seen from a small boat."
"""The text whose tokens are counted."""

METHODS: Final = ("generateContent", "countTokens")
PRICES: Final = "prices"
SEARCHES: Final = "searches"
BATCH: Final = "batch"
PRICED_METERS: Final = ("input", "cached_input", "text_output", "image_output")
_STAGES: Final = {"GA": "ga", "PUBLIC_PREVIEW": "preview", "PREVIEW": "preview", "DEPRECATED": "deprecated"}
_NUMBER = re.compile(r"\d[\d,]*")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact beside what was found.

    Attributes:
        model: The card's id.
        source: The back end that answered, or ``prices`` for a list of prices.
        fact: Path of the fact in the card.
        card: What the card says.
        answer: What was answered; empty without an answer.
        verdict: What follows.
        note: What to know about it.
    """

    model: str
    source: str
    fact: str
    card: str
    answer: str
    verdict: Verdict
    note: str = ""


class CountQuestion(NamedTuple):
    """Tokens to have counted: of a text, an image, or a page of a PDF, at a resolution or the usual one.

    ``least`` says that the card has the fewest tokens, not those that are reserved.
    """

    fact: str
    kind: Literal["text", "image", "page"]
    resolution: str | None
    tokens: int
    least: bool = False


class ListPrice(NamedTuple):
    """A list price in US dollars for a million tokens, or for a thousand queries."""

    model: str
    meter: str
    tier: str
    usd: Decimal


def find_evidence(card: Card, fact: str) -> Evidence | None:
    """The evidence of a fact: the entry that names it, or the closest fact above it."""
    paths = {path: each for each in card.evidence for path in each.facts}
    while fact not in paths and "." in fact:
        fact = fact.rpartition(".")[0]
    return paths.get(fact)


def compare_models(card: Card, back_end: str, described: Mapping[str, Any] | None, today: date) -> Finding:
    """Whether a back end serves the model, from its description there, or None if it has none."""
    retirement = card.lifecycle.retires.get(back_end)
    expected, answer, notes = "served", "not served", []
    if described is not None:
        answer = "served"
        if described.get("version"):
            notes.append(f"version {described['version']}")
    if retirement is not None:
        status = retirement.get_status(today)
        notes.append(f"{retirement.day}: {status}")
        if status == "past":
            expected = "not served"
    return _compare(card, back_end, f"lifecycle.retires.{back_end}", expected, answer, "; ".join(notes))


def compare_description(card: Card, back_end: str, described: Mapping[str, Any]) -> Iterator[Finding]:
    """The facts that a back end states in its description of a model (``models.get``).

    The Gemini Developer API states limits, sampling defaults and methods, Vertex AI the stage alone.
    """
    parameters = card.parameters
    expected: dict[str, tuple[str, object]] = {
        "tokens.input_max": ("inputTokenLimit", card.tokens.input_max),
        "tokens.output_max": ("outputTokenLimit", card.tokens.output_max),
    }
    if parameters.temperature is not None:
        expected["parameters.temperature.default"] = ("temperature", parameters.temperature.default)
        expected["parameters.temperature.max"] = ("maxTemperature", parameters.temperature.max)
    if parameters.top_p is not None:
        expected["parameters.top_p.default"] = ("topP", parameters.top_p.default)
    for fact, (member, value) in expected.items():
        if member in described:
            yield _compare(card, back_end, fact, value, described[member])
    if "supportedGenerationMethods" in described:
        methods = described["supportedGenerationMethods"]
        offered = [method for method in METHODS if method in methods]
        yield _compare(card, back_end, "methods", " ".join(METHODS), " ".join(offered))
    if "launchStage" in described:
        stage = _STAGES.get(described["launchStage"], described["launchStage"])
        yield _compare(card, back_end, "lifecycle.stage", card.lifecycle.stage, stage)


def _compare(card: Card, source: str, fact: str, value: object, answer: object, note: str = "") -> Finding:
    verdict: Verdict = "same" if value == answer else "different"
    return Finding(card.id, source, fact, str(value), str(answer), verdict, note)


def list_count_questions(card: Card) -> Iterator[CountQuestion]:
    """What ``countTokens`` can be asked about a card."""
    images, documents = card.images, card.documents
    yield CountQuestion("text", "text", None, estimate_text_tokens(TEXT))
    if images.count_max:
        yield CountQuestion("images.tokens_each", "image", None, images.tokens_each)
        for level, tokens in images.tokens_by_resolution.items():
            yield CountQuestion(f"images.tokens_by_resolution.{level}", "image", level, tokens)
    if "application/pdf" not in documents.mime_types:
        return
    yield CountQuestion("documents.tokens_per_page", "page", None, documents.tokens_per_page)
    least = documents.tokens_per_page_min
    yield CountQuestion("documents.tokens_per_page_min", "page", None, least, least=True)
    for level, tokens in documents.tokens_per_page_by_resolution.items():
        if level != "ultra_high":
            fact = f"documents.tokens_per_page_by_resolution.{level}"
            yield CountQuestion(fact, "page", level, tokens)


def compare_count(card: Card, back_end: str, question: CountQuestion, counted: int) -> Finding:
    """Counted tokens beside the card's: equal, or on its cautious side as its evidence says."""
    verdict: Verdict = "different"
    note = ""
    if question.tokens == counted:
        verdict = "same"
    elif question.least and question.tokens < counted:
        verdict, note = "cautious", "the card has the fewest of any source"
    elif question.kind == "text" and question.tokens > counted:
        verdict, note = "cautious", "estimated by its bytes"
    elif question.tokens > counted and _is_known(card, question.fact, counted):
        verdict, note = "cautious", "the evidence names it"
    return Finding(card.id, back_end, question.fact, str(question.tokens), str(counted), verdict, note)


def _get_price_fact(meter: str, tier: str) -> str:
    """The path of a price in a card."""
    if meter == SEARCHES:
        return "searches.usd_per_thousand_queries"
    if tier == "standard":
        return f"prices_usd_per_million.{meter}"
    if tier == BATCH:
        return f"batch_prices_usd_per_million.{meter}"
    return f"tier_prices_usd_per_million.{tier}.{meter}"


def _convert(usd: float) -> Decimal:
    """The price as it is written on the card: the shortest decimal of the float."""
    return Decimal(repr(usd))


def _is_known(card: Card, fact: str, number: int) -> bool:
    """Whether the evidence of a fact says that some source has this number."""
    evidence = find_evidence(card, fact)
    if evidence is None:
        return False
    return str(number) in {text.replace(",", "") for text in _NUMBER.findall(evidence.disagreement)}


def list_prices(card: Card) -> Iterator[ListPrice]:
    """Every list price of a card; those of Provisioned Throughput are the operator's own."""
    tiers: dict[str, Prices] = {"standard": card.prices_usd_per_million}
    tiers |= {tier: card.get_prices(tier) for tier in card.list_service_tiers()}
    if card.batch_prices_usd_per_million is not None:
        tiers[BATCH] = card.batch_prices_usd_per_million
    for tier, prices in tiers.items():
        for meter in PRICED_METERS:
            yield ListPrice(card.id, meter, tier, _convert(getattr(prices, meter)))
    if card.searches is not None:
        yield ListPrice(card.id, SEARCHES, "standard", _convert(card.searches.usd_per_thousand_queries))


def compare_prices(card: Card, listed: Iterable[ListPrice]) -> Iterator[Finding]:
    """A card's prices beside those of a list; the list's other models are left out."""
    others = {(each.meter, each.tier): each.usd for each in listed if each.model == card.id}
    for _, meter, tier, usd in list_prices(card):
        fact = _get_price_fact(meter, tier)
        answer = others.pop((meter, tier), None)
        if answer is None:
            yield Finding(card.id, PRICES, fact, f"{usd}", "", "unanswered", "the list has no such price")
        else:
            yield _compare(card, PRICES, fact, usd, answer)
    for (meter, tier), usd in others.items():
        fact = _get_price_fact(meter, tier)
        yield Finding(card.id, PRICES, fact, "none", f"{usd}", "different", "the card has no such price")
