"""Parses bodies in Google's dialect into orders. Known members are validated and priced.

A body without unknown members becomes an ordinary request, which shares results with equal requests of other
dialects. Any other body is passed through to the upstream (``app/domain/passthrough.py``).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from app.domain.errors import ValidationFailed, Violation
from app.domain.fingerprint import compute_digest
from app.domain.generation import Notice
from app.domain.passthrough import Passthrough
from app.domain.request import CacheDirective, GenerationRequest, Grounding, SafetySetting
from app.generation.order import Order
from app.surfaces.gemini.contents import ContentsReader, normalize_turns
from app.surfaces.gemini.fields import Fields, ensure_list
from app.surfaces.gemini.members import COUNT, GENERATE, BodyWalk
from app.surfaces.gemini.sizes import merge_sizes
from app.surfaces.http.cache_control import parse_cache_control
from app.surfaces.http.inputs import THREAD_BYTES_MIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.card import Card
    from app.domain.request import Input, InputKind
    from app.domain.tenancy import Caller
    from app.media.lifting import Lifted
    from app.surfaces.gemini.contents import Conversation
    from app.surfaces.gemini.members import Shape
    from app.surfaces.http.body import JsonBody
    from app.surfaces.http.context import Service

TIER_HEADER: Final = "X-Vertex-AI-LLM-Shared-Request-Type"
"""How Vertex AI is asked for a service tier (docs/model.md#service-tiers)."""
_TIERS: Final = ("standard", "flex", "priority")
_BOTH: Final = ("TEXT", "IMAGE")
"""The model's output if no modalities are requested (docs/model.md#modalities-and-thinking)."""


async def parse_order(
    service: Service,
    caller: Caller,
    card: Card,
    body: JsonBody,
    cache_control: str | None,
    *,
    vertex: bool,
    tier: str | None = None,
) -> Order:
    """Parse a ``generateContent`` body into an order with its violations.

    ``tier`` is the service tier that Vertex AI's header asks for.
    """
    faults: list[Violation] = []
    reader = await _read_body(service, card, body, GENERATE[vertex], faults)
    request = _apply_tier_header(reader.request(), tier, faults)
    large = sum(len(lifted.data) for lifted in body.blobs.values()) > THREAD_BYTES_MIN
    verbatim = await asyncio.to_thread(reader.build_passthrough) if large else reader.build_passthrough()
    directive = parse_cache_control(cache_control)
    if reader.has_foreign_tools and not (directive and directive.mode == "only_if_cached"):
        directive = CacheDirective("bypass")
    request = replace(request, verbatim=verbatim)
    return Order(caller, request, directive, tuple(faults), drop_in=True, notices=reader.notices)


def _apply_tier_header(
    request: GenerationRequest, tier: str | None, faults: list[Violation]
) -> GenerationRequest:
    """The request with the service tier of Vertex AI's header, which must not contradict the body's."""
    if tier is None:
        return request
    folded = tier.lower()
    if folded not in _TIERS:
        detail = f"{TIER_HEADER} names an unknown service tier."
        faults.append(Violation("/serviceTier", "unsupported_service_tier", detail, _TIERS))
    elif request.service_tier not in {None, folded}:
        detail = f"{TIER_HEADER} asks for another service tier than the body."
        faults.append(Violation("/serviceTier", "conflicting_fields", detail))
    return replace(request, service_tier=folded if folded in _TIERS else request.service_tier)


async def parse_count_request(
    service: Service, card: Card, body: JsonBody, *, vertex: bool
) -> GenerationRequest:
    """Parse a ``countTokens`` body, in any of its three forms, into the request whose input is counted.

    Raises:
        ValidationFailed: The body is invalid.
    """
    faults: list[Violation] = []
    reader = await _read_body(service, card, body, COUNT[vertex], faults)
    request = reader.request()
    if faults:
        raise ValidationFailed(tuple(faults))
    return replace(request, image_size=None, thinking_level=None)


async def _read_body(
    service: Service, card: Card, body: JsonBody, shape: Mapping[str, Shape], faults: list[Violation]
) -> _Reader:
    walk = BodyWalk(body, service.limits, faults)
    members = walk.read_body(shape)
    members = members.pop("generateContentRequest", members)
    members.pop("model", None)  # the path decides
    members["contents"] = normalize_turns(members.get("contents"))
    config = merge_sizes(members.get("generationConfig", {}), faults)
    notices = _drop_top_k(config, card)
    if "generationConfig" in members:
        members["generationConfig"] = config
    contents = ContentsReader(service, body.blobs, faults, config.get("mediaResolution"))
    conversation = await contents.read(members["contents"])
    instruction = await contents.read_instruction(members.get("systemInstruction"))
    return _Reader(card, members, body.blobs, (conversation, instruction), walk, faults, notices)


def _drop_top_k(config: dict[str, Any], card: Card) -> tuple[Notice, ...]:
    """Drop ``topK`` where the model has none, because AI Studio and many frameworks send it unasked."""
    if card.parameters.top_k_offered or Fields(config, "", []).take_integer("topK") is None:
        return ()
    del config["topK"]
    return (Notice("parameter_without_effect", f"topK has no effect: {card.title} does not offer it."),)


class _Reader:
    """Takes the known members out of a normalized body; ``rest`` holds the others."""

    def __init__(
        self,
        card: Card,
        members: dict[str, Any],
        blobs: Mapping[str, Lifted],
        read: tuple[Conversation, Conversation],
        walk: BodyWalk,
        faults: list[Violation],
        notices: tuple[Notice, ...],
    ) -> None:
        self.notices = notices
        self._card = card
        self._members = members
        self._blobs = blobs
        self._conversation, self._instruction = read
        self._walk = walk
        self._faults = faults
        self._fields = Fields(members, "", faults)
        self._labels: dict[str, str] = {}
        self.has_foreign_tools = False

    @property
    def rest(self) -> dict[str, Any]:
        """Members that a request of the gateway cannot express; call ``request`` first."""
        return self._fields.rest

    def request(self) -> GenerationRequest:
        """Build the request from the known members."""
        fields, conversation, instruction = self._fields, self._conversation, self._instruction
        if conversation.plain:
            fields.rest.pop("contents", None)
        if instruction.plain:
            fields.rest.pop("systemInstruction", None)
        safety = self._take_safety_settings()
        grounding = self._take_grounding()
        self._labels = self._take_labels()
        config = fields.take_message("generationConfig")
        image = config.take_message("imageConfig")
        thinking = config.take_message("thinkingConfig")
        output = image.take_message("imageOutputOptions")
        request = GenerationRequest(
            model=self._card.id,
            prompt="\n".join(conversation.texts),
            images=self._select_inputs("image"),
            documents=self._select_inputs("document"),
            videos=self._select_inputs("video"),
            aspect_ratio=image.take_text("aspectRatio"),
            image_size=image.take_text("imageSize"),
            response_modalities=config.take_texts("responseModalities") or _BOTH,
            output_mime_type=output.take_text("mimeType"),
            output_compression_quality=output.take_integer("compressionQuality"),
            temperature=config.take_number("temperature"),
            top_p=config.take_number("topP"),
            top_k=config.take_integer("topK"),
            candidate_count=config.take_integer("candidateCount"),
            seed=config.take_integer("seed"),
            max_output_tokens=config.take_integer("maxOutputTokens"),
            thinking_level=_take_thinking_level(thinking),
            thinking_budget=_take_thinking_budget(thinking),
            system_instruction="\n".join(instruction.texts) or None,
            other_text_bytes=self._walk.text_bytes,
            body_bytes=self._walk.body_bytes,
            extra_tokens=self._walk.extra_tokens,
            unpriced=tuple(self._walk.unpriced),
            safety_settings=safety,
            grounding=grounding,
            labels=tuple(sorted(self._labels.items())),
            service_tier=self._take_tier(),
            opening=self._digest_opening(),
        )
        image.put_back("imageOutputOptions", output)
        config.put_back("imageConfig", image)
        config.put_back("thinkingConfig", thinking)
        fields.put_back("generationConfig", config)
        return request

    def build_passthrough(self) -> Passthrough | None:
        """Return the body to pass through, or None if ``request`` expresses all of it."""
        if not self.rest and not self._labels:
            return None
        skeleton = json.dumps(self._build_body()).encode()
        blobs = {
            name: lifted.data for name, lifted in self._blobs.items() if f'"{name}"'.encode() in skeleton
        }
        identity = ""
        if self.rest:
            identity = json.dumps(_replace_bytes(self.rest, self._blobs), sort_keys=True)
        return Passthrough(skeleton, blobs, identity)

    def _digest_opening(self) -> str:
        """The digest of the first turn, with the lengths of its files, whose bytes would take long."""
        opening = json.dumps(self._members["contents"][:1], sort_keys=True)
        for name, lifted in self._blobs.items():
            opening = opening.replace(name, str(lifted.text_length))
        return compute_digest(opening.encode())

    def _select_inputs(self, kind: InputKind) -> tuple[Input, ...]:
        inputs = (*self._conversation.inputs, *self._instruction.inputs)
        return tuple(item for item in inputs if item.kind == kind)

    def _build_body(self) -> dict[str, Any]:
        """Return the body, with the image size in the model's own spelling."""
        sent = dict(self._members)
        image = sent.get("generationConfig", {}).get("imageConfig", {})
        size = image.get("imageSize")
        literal = None
        if isinstance(size, str):
            literal = self._card.normalise_image_size(size)
        if literal is not None and literal != size:
            config = sent["generationConfig"]
            sent["generationConfig"] = {**config, "imageConfig": {**image, "imageSize": literal}}
        return sent

    def _take_tier(self) -> str | None:
        """Take the service tier, which affects the price but not the picture."""
        tier = self._fields.take_text("serviceTier")
        if tier is None or tier in _TIERS:
            return tier
        if tier != "unspecified":
            detail = "Unknown service tier."
            self._faults.append(Violation("/serviceTier", "unsupported_service_tier", detail, _TIERS))
        return None

    def _take_safety_settings(self) -> tuple[SafetySetting, ...]:
        """Take the safety settings that the card knows. If there are others, all are passed through."""
        taken: list[SafetySetting] = []
        settings = ensure_list(self._fields.rest.get("safetySettings"))
        plain = True
        for at, item in enumerate(settings):
            fields = Fields(item, f"/safetySettings/{at}", self._faults)
            category, threshold = fields.take_text("category"), fields.take_text("threshold")
            is_known = category in self._card.parameters.safety_categories and threshold is not None
            if is_known and category is not None and threshold is not None:
                taken.append(SafetySetting(category, threshold))
            plain = plain and is_known and not fields.rest
        if plain:
            self._fields.rest.pop("safetySettings", None)
        return tuple(taken)

    def _take_grounding(self) -> Grounding:
        """Take the requested searches. Other tools are passed through, and such results are never shared."""
        plain, web, image = True, False, False
        for at, item in enumerate(ensure_list(self._fields.rest.get("tools"))):
            tool = Fields(item, f"/tools/{at}", self._faults)
            if "googleSearch" in tool.rest:
                search = tool.take_message("googleSearch")
                kinds = search.take_message("searchTypes")
                wants_image = kinds.rest.pop("imageSearch", None) is not None
                wants_web = kinds.rest.pop("webSearch", None) is not None
                web, image = web or wants_web or not wants_image, image or wants_image
                plain = plain and not search.rest and not kinds.rest
            if tool.rest:
                plain, self.has_foreign_tools = False, True
        if plain:
            self._fields.rest.pop("tools", None)
        return Grounding(web, image)

    def _take_labels(self) -> dict[str, str]:
        labels = self._fields.take_message("labels").rest
        if all(isinstance(value, str) for value in labels.values()):
            return labels
        self._faults.append(Violation("/labels", "wrong_type", "Labels must be strings."))
        return {}


def _take_thinking_level(thinking: Fields) -> str | None:
    if thinking.rest.get("includeThoughts") is False:
        thinking.take_flag("includeThoughts")
    level = thinking.take_text("thinkingLevel")
    if level == "THINKING_LEVEL_UNSPECIFIED":
        return None
    return level


def _take_thinking_budget(thinking: Fields) -> int | None:
    """Take the thinking budget, which is reserved; the body keeps it, because no other dialect has it."""
    budget = thinking.take_integer("thinkingBudget")
    if budget is not None:
        thinking.rest["thinkingBudget"] = budget
    return budget


def _replace_bytes(value: object, blobs: Mapping[str, Lifted]) -> object:
    """Return the JSON with a digest in place of each placeholder."""
    if isinstance(value, dict):
        return {name: _replace_bytes(item, blobs) for name, item in value.items()}
    if isinstance(value, list):
        return [_replace_bytes(item, blobs) for item in value]
    if isinstance(value, str) and value in blobs:
        return {"bytes": compute_digest(blobs[value].data)}
    return value
