"""Calls that try the facts of a card which only a drawn picture, or its refusal, can show.

A refused call is free. Whoever makes these calls must be ready to pay for all of them, because Google may not
refuse what a wrong card says it does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from app.domain.card_check import Finding
from app.domain.estimate import estimate
from app.domain.mismatches import find_mismatches
from app.domain.passthrough import Passthrough
from app.domain.request import GenerationRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from app.domain.card import Card, Range, SeedRange
    from app.domain.card_check import Verdict
    from app.domain.generation import Picture

_PROMPT: Final = "A grey square on a white background."
_SEARCHES: Final = {"web_search": "webSearch", "image_search": "imageSearch"}


@dataclass(frozen=True, slots=True)
class Probe:
    """One call, and what the card says of it.

    Attributes:
        fact: Path of the fact in the card, with the value that is tried.
        expects: What the card says becomes of it.
        image_size: As it is sent, or None for the model's own.
        aspect_ratio: Likewise.
        config: More members of ``generationConfig``.
        body: More members of the body.
        tier: Service tier to ask for, or None.
        images: How many copies of an image are sent along.
        compares: Which of the picture's facts is compared: its tokens, its pixels, its type, its tier.
    """

    fact: str
    expects: Literal["drawn", "refused"]
    image_size: str | None = None
    aspect_ratio: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    tier: str | None = None
    images: int = 0
    compares: Literal["tokens", "pixels", "mime_type", "tier"] | None = None

    def build_request(self, card: Card, image: bytes) -> GenerationRequest:
        """The request in Google's words; ``image`` is sent as often as the probe says."""
        blobs = {f"probe{number:027d}": image for number in range(self.images)}
        parts: list[dict[str, Any]] = [
            {"inlineData": {"mimeType": "image/png", "data": placeholder}} for placeholder in blobs
        ]
        options = {"aspectRatio": self.aspect_ratio, "imageSize": self.image_size}
        chosen = {name: value for name, value in options.items() if value is not None}
        config = {"responseModalities": ["IMAGE"], **self.config}
        config["imageConfig"] = {**chosen, **self.config.get("imageConfig", {})}
        contents = [{"role": "user", "parts": [*parts, {"text": _PROMPT}]}]
        body = {"contents": contents, "generationConfig": config, **self.body}
        return GenerationRequest(
            model=card.id,
            prompt=_PROMPT,
            service_tier=self.tier,
            verbatim=Passthrough(json.dumps(body).encode(), blobs, ""),
        )

    def estimate_nano_usd(self, card: Card) -> int:
        """What the call costs if it is not refused, in billionths of a dollar.

        A size without a price counts as the card's dearest.
        """
        dearest = max(card.image_sizes, key=card.image_tokens)
        size = self.image_size if self.image_size in card.image_sizes else dearest
        request = GenerationRequest(model=card.id, prompt=_PROMPT, image_size=size, service_tier=self.tier)
        if self.body.get("tools"):
            request = replace(request, grounding=replace(request.grounding, web_search=True))
        return estimate(request, card).usd


@dataclass(frozen=True, slots=True)
class Drawn:
    """What came of a probe that was not refused."""

    image_tokens: int
    picture: Picture | None
    model_version: str
    tier: str


def list_probes(card: Card, others: Collection[Card], capabilities: Collection[str]) -> Iterator[Probe]:
    """Every probe of a card.

    Args:
        card: The card to try.
        others: All cards; what they offer and this one does not must be refused.
        capabilities: Of the back end: ``output_mime_type`` where it offers a choice.
    """
    usual = card.image_size_default
    ratio = card.aspect_ratios[0]
    for size in card.image_sizes:
        yield Probe(f"image_sizes.{size}.tokens", "drawn", size, ratio, compares="tokens")
    for size in _list_foreign([each.image_sizes for each in others], card.image_sizes):
        yield Probe(f"image_sizes.{size}", "refused", size, ratio)
    for each in card.aspect_ratios:
        yield Probe(f"pixels.{each}.{usual}", "drawn", usual, each, compares="pixels")
    for each in _list_foreign([other.aspect_ratios for other in others], card.aspect_ratios):
        yield Probe(f"aspect_ratios.{each}", "refused", usual, each)
    for probe in (*_list_sampling_probes(card), *_list_feature_probes(card, others)):
        yield replace(probe, image_size=usual, aspect_ratio=ratio)
    for tier in card.list_service_tiers():
        if tier != "standard":
            fact = f"tier_prices_usd_per_million.{tier}"
            yield Probe(fact, "drawn", usual, ratio, tier=tier, compares="tier")
    if "output_mime_type" in capabilities:
        for mime_type in card.parameters.output_mime_types:
            options = {"imageConfig": {"imageOutputOptions": {"mimeType": mime_type}}}
            fact = f"parameters.output_mime_types.{mime_type}"
            yield Probe(fact, "drawn", usual, ratio, options, compares="mime_type")


def _list_foreign(offers: Collection[Collection[str]], own: Collection[str]) -> list[str]:
    """What others offer and this card does not, in order."""
    return [each for each in dict.fromkeys(name for offer in offers for name in offer) if each not in own]


def _list_sampling_probes(card: Card) -> Iterator[Probe]:
    parameters = card.parameters
    bounded: tuple[tuple[str, str, Range | SeedRange | None, float], ...] = (
        ("temperature", "temperature", parameters.temperature, 1),
        ("top_p", "topP", parameters.top_p, 0.9),
        ("seed", "seed", parameters.seed, 7),
    )
    for name, member, limits, usual in bounded:
        if limits is None:
            yield Probe(f"parameters.{name}", "refused", config={member: usual})
        else:
            yield Probe(f"parameters.{name}", "drawn", config={member: limits.max})
            if name != "seed":
                yield Probe(f"parameters.{name}.max", "refused", config={member: limits.max + 0.5})
    if not parameters.top_k_offered:
        yield Probe("parameters.top_k_offered", "refused", config={"topK": 10})
    most = parameters.candidate_count_max + 1
    yield Probe("parameters.candidate_count_max", "refused", config={"candidateCount": most})
    most = card.tokens.output_max + 1
    yield Probe("tokens.output_max", "refused", config={"maxOutputTokens": most})


def _list_feature_probes(card: Card, others: Collection[Card]) -> Iterator[Probe]:
    parameters = card.parameters
    levels = _list_foreign([each.parameters.thinking_levels for each in others], ())
    for level in levels:
        config = {"thinkingConfig": {"thinkingLevel": level.upper()}}
        expects = _expect(level in parameters.thinking_levels)
        yield Probe(f"parameters.thinking_levels.{level}", expects, config=config)
    for modalities in parameters.response_modalities:
        fact = f"parameters.response_modalities.{'+'.join(modalities)}"
        yield Probe(fact, "drawn", config={"responseModalities": list(modalities)})
    yield Probe("parameters.response_modalities.TEXT", "refused", config={"responseModalities": ["TEXT"]})
    for kind, member in _SEARCHES.items():
        search: dict[str, Any] = {"googleSearch": {"searchTypes": {member: {}}}}
        yield Probe(f"grounding.{kind}", _expect(kind in card.grounding), body={"tools": [search]})
    for threshold in parameters.safety_thresholds:
        settings = [
            {"category": category, "threshold": threshold} for category in parameters.safety_categories
        ]
        fact = f"parameters.safety_thresholds.{threshold}"
        yield Probe(fact, "drawn", body={"safetySettings": settings})
    if card.images.count_max:
        yield Probe("images.count_max", "refused", images=card.images.count_max + 1)
        yield Probe("images.count_max", "drawn", images=card.images.count_max)


def _expect(offered: bool) -> Literal["drawn", "refused"]:  # noqa: FBT001 - it is the whole question
    return "drawn" if offered else "refused"


def compare_probe(card: Card, back_end: str, probe: Probe, drawn: Drawn | None) -> Finding:
    """What came of a probe beside what the card says; None where it was refused."""
    expected, answer = "drawn", "drawn"
    if drawn is None or probe.expects == "refused":
        expected = probe.expects
        if drawn is None:
            answer = "refused"
    elif drawn.picture is None:
        answer = "no picture"
    elif probe.compares is not None:
        expected, answer = _describe_picture(card, probe, drawn, drawn.picture)
    return Finding(card.id, back_end, probe.fact, expected, answer, _judge(expected, answer))


def _describe_picture(card: Card, probe: Probe, drawn: Drawn, picture: Picture) -> tuple[str, str]:
    """What the card says of the picture, and what it is."""
    if probe.compares == "tier":
        return probe.tier or "", drawn.tier
    if probe.compares == "mime_type":
        return probe.config["imageConfig"]["imageOutputOptions"]["mimeType"], picture.mime_type
    size, ratio = probe.image_size or card.image_size_default, probe.aspect_ratio or card.aspect_ratios[0]
    if probe.compares == "tokens":
        return str(card.image_tokens(size)), str(drawn.image_tokens)
    width, height = card.pixels[ratio][size]
    request = GenerationRequest(card.id, _PROMPT, image_size=size, aspect_ratio=ratio)
    if not find_mismatches(request, card, (picture,)):
        return f"{width}x{height}", f"{width}x{height}"
    return f"{width}x{height}", f"{picture.width}x{picture.height}"


def _judge(expected: str, answer: str) -> Verdict:
    return "same" if expected == answer else "different"


def compare_version(card: Card, back_end: str, drawn: Drawn, answered: Card | None) -> Finding:
    """The model that answered beside the one that was asked."""
    answer = answered.id if answered is not None else drawn.model_version
    return Finding(card.id, back_end, "id", card.id, answer, _judge(card.id, answer), drawn.model_version)
