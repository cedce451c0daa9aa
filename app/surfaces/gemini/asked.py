"""A body in Google's dialect to an order: what the card knows is judged and priced, the rest goes on as is.

A request that the gateway's own words say completely becomes just that, and is then the same work as if it
had been asked in any other dialect. Whatever says more keeps its body (``app/domain/verbatim.py``).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from app.domain.errors import ValidationFailed, Violation
from app.domain.fingerprint import digest_of
from app.domain.request import CacheDirective, GenerationRequest, Grounding, SafetySetting
from app.domain.verbatim import Verbatim
from app.order import Order
from app.surfaces.gemini.contents import ContentsReader, base64_faults, turns_of, words_of
from app.surfaces.gemini.fields import COUNT, GENERATE, Fields, folded, listed
from app.surfaces.gemini.rights import forbidden
from app.surfaces.inputs import OFF_THE_LOOP_BYTES
from app.surfaces.native.asked import cache_directive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.card import Card
    from app.domain.tenancy import Caller
    from app.media.lifting import Lifted
    from app.surfaces.body import JsonBody
    from app.surfaces.context import Service
    from app.surfaces.gemini.contents import Conversation

_TIERS: Final = frozenset({"standard", "flex", "priority"})
_BOTH: Final = ("TEXT", "IMAGE")
"""What the model answers where no modalities are asked for (docs/model.md#modalities-and-thinking)."""

_NUMBERS: Final = {
    "ONE": 1, "TWO": 2, "THREE": 3, "FOUR": 4, "FIVE": 5, "EIGHT": 8, "NINE": 9, "SIXTEEN": 16,
    "TWENTY_ONE": 21,
}  # fmt: skip
_SIZES: Final = {"FIVE_TWELVE": "512", "ONE_K": "1K", "TWO_K": "2K", "FOUR_K": "4K"}
_RATIO_WORD: Final = "ASPECT_RATIO_"
_SIZE_WORD: Final = "IMAGE_SIZE_"


async def order_of(
    service: Service, caller: Caller, card: Card, body: JsonBody, cache_control: str | None
) -> Order:
    """The order of a ``generateContent`` body, with its faults in it."""
    faults: list[Violation] = []
    members = folded(body.members, GENERATE, "", faults)
    reader = await _read(service, card, members, body.cargo, faults)
    request = reader.request()
    large = sum(len(lifted.data) for lifted in body.cargo.values()) > OFF_THE_LOOP_BYTES
    verbatim = await asyncio.to_thread(reader.verbatim) if large else reader.verbatim()
    directive = CacheDirective("bypass") if reader.has_foreign_tools else cache_directive(cache_control)
    return Order(caller, replace(request, verbatim=verbatim), directive, tuple(faults))


async def counted_request_of(service: Service, card: Card, body: JsonBody) -> GenerationRequest:
    """The request whose input a ``countTokens`` body asks about, in any of its three forms.

    Raises:
        ValidationFailed: What is to be counted cannot be read.
    """
    faults: list[Violation] = []
    members = folded(body.members, COUNT, "", faults)
    inner = members.get("generateContentRequest")
    reader = await _read(service, card, inner if isinstance(inner, dict) else members, body.cargo, faults)
    request = reader.request()
    if faults:
        raise ValidationFailed(tuple(faults))
    return replace(request, image_size=None, thinking_level=None)


async def _read(
    service: Service,
    card: Card,
    members: dict[str, Any],
    cargo: Mapping[str, Lifted],
    faults: list[Violation],
) -> _Reader:
    members.pop("model", None)  # the path names it
    members["contents"] = turns_of(members.get("contents"))
    faults += base64_faults(members, cargo, service.limits.input_bytes_max)
    conversation = await ContentsReader(service, cargo, faults).read(members["contents"])
    faults += forbidden(members, {item.uri for item in conversation.inputs if item.uri is not None})
    return _Reader(card, members, cargo, conversation, faults)


class _Reader:
    """Takes what the card knows out of a folded body; ``rest`` is what it does not."""

    def __init__(
        self,
        card: Card,
        members: dict[str, Any],
        cargo: Mapping[str, Lifted],
        conversation: Conversation,
        faults: list[Violation],
    ) -> None:
        self._card = card
        self._members = members
        self._cargo = cargo
        self._conversation = conversation
        self._faults = faults
        self._fields = Fields(members, "", faults)
        self._labels: dict[str, str] = {}
        self.has_foreign_tools = False

    @property
    def rest(self) -> dict[str, Any]:
        """What no word of the gateway says, once ``request`` was asked for."""
        return self._fields.rest

    def request(self) -> GenerationRequest:
        """The request as far as the gateway's words go."""
        fields, conversation = self._fields, self._conversation
        if conversation.plain:
            fields.rest.pop("contents", None)
        instruction, plain = words_of(fields.rest.get("systemInstruction"), self._faults)
        if plain:
            fields.rest.pop("systemInstruction", None)
        safety = self._safety()
        grounding = self._grounding()
        self._labels = self._taken_labels()
        config = fields.message("generationConfig")
        image = config.message("imageConfig")
        ratio, size = self._image(image, config.rest.get("responseFormat"))
        output = image.message("imageOutputOptions")
        request = GenerationRequest(
            model=self._card.id,
            prompt="\n".join(conversation.texts),
            images=conversation.of_kind("image"),
            documents=conversation.of_kind("document"),
            videos=conversation.of_kind("video"),
            aspect_ratio=ratio,
            image_size=size,
            response_modalities=config.texts("responseModalities") or _BOTH,
            output_mime_type=output.text("mimeType"),
            output_compression_quality=output.whole("compressionQuality"),
            temperature=config.number("temperature"),
            top_p=config.number("topP"),
            top_k=config.whole("topK"),
            candidate_count=config.whole("candidateCount"),
            seed=config.whole("seed"),
            max_output_tokens=config.whole("maxOutputTokens"),
            thinking_level=self._thinking(config),
            system_instruction=instruction,
            safety_settings=safety,
            grounding=grounding,
            labels=tuple(sorted(self._labels.items())),
            service_tier=self._tier(),
        )
        image.keep("imageOutputOptions", output)
        config.keep("imageConfig", image)
        fields.keep("generationConfig", config)
        return request

    def verbatim(self) -> Verbatim | None:
        """The body to send as it is, or None where ``request`` says it all."""
        if not self.rest and not self._labels:
            return None
        light = json.dumps(self._sent()).encode()
        kept = {name: lifted.data for name, lifted in self._cargo.items() if f'"{name}"'.encode() in light}
        identity = json.dumps(_digested(self.rest, self._cargo), sort_keys=True) if self.rest else ""
        return Verbatim(light, kept, identity, self._conversation.pictures_before)

    def _sent(self) -> dict[str, Any]:
        """The body, its size in the model's own spelling."""
        sent = dict(self._members)
        image = sent.get("generationConfig", {}).get("imageConfig", {}) if self._sound_config() else {}
        size = image.get("imageSize")
        literal = self._card.normalise_image_size(size) if isinstance(size, str) else None
        if literal is not None and literal != size:
            config = sent["generationConfig"]
            sent["generationConfig"] = {**config, "imageConfig": {**image, "imageSize": literal}}
        return sent

    def _sound_config(self) -> bool:
        config = self._members.get("generationConfig", {})
        return isinstance(config, dict) and isinstance(config.get("imageConfig", {}), dict)

    def _image(self, image: Fields, response_format: object) -> tuple[str | None, str | None]:
        """Ratio and size, from ``imageConfig`` or its successor (docs/model.md#sizes-in-requests).

        The successor is read for what it costs; it goes on as it came.
        """
        ratio, size = image.text("aspectRatio"), image.text("imageSize")
        pointer = "/generationConfig/responseFormat"
        for at, item in enumerate(listed(response_format)):
            newer = Fields(item, f"{pointer}/{at}", self._faults).message("image")
            newer_ratio, newer_size = newer.text("aspectRatio"), newer.text("imageSize")
            if (newer_ratio and ratio) or (newer_size and size):
                detail = "Give ratio and size once: in image_config or in response_format."
                self._faults.append(Violation(newer.pointer, "given_twice", detail))
            ratio = ratio or _ratio_of(newer_ratio)
            size = size or _size_of(newer_size)
        return ratio, size

    def _tier(self) -> str | None:
        """A service tier that the gateway knows; it is no part of what the model sees."""
        tier = self._fields.rest.get("serviceTier")
        if tier not in _TIERS:
            return None
        self._fields.rest.pop("serviceTier")
        return str(tier)

    def _thinking(self, config: Fields) -> str | None:
        thinking = config.message("thinkingConfig")
        if thinking.rest.get("includeThoughts") is False:
            thinking.flag("includeThoughts")
        level = thinking.text("thinkingLevel")
        config.keep("thinkingConfig", thinking)
        return None if level == "THINKING_LEVEL_UNSPECIFIED" else level

    def _safety(self) -> tuple[SafetySetting, ...]:
        """Settings that the card knows; with any other, all of them go on as they are."""
        found: list[SafetySetting] = []
        settings = listed(self._fields.rest.get("safetySettings"))
        plain = True
        for at, item in enumerate(settings):
            fields = Fields(item, f"/safetySettings/{at}", self._faults)
            category, threshold = fields.text("category"), fields.text("threshold")
            known = category in self._card.parameters.safety_categories and threshold is not None
            if known and category is not None and threshold is not None:
                found.append(SafetySetting(category, threshold))
            plain = plain and known and not fields.rest
        if plain:
            self._fields.rest.pop("safetySettings", None)
        return tuple(found)

    def _grounding(self) -> Grounding:
        """The searches asked for. Any other tool goes on as it is, and its answers are never shared."""
        plain, web, image = True, False, False
        for at, item in enumerate(listed(self._fields.rest.get("tools"))):
            tool = Fields(item, f"/tools/{at}", self._faults)
            if "googleSearch" in tool.rest:
                search = tool.message("googleSearch")
                kinds = search.message("searchTypes")
                wants_image = kinds.rest.pop("imageSearch", None) is not None
                wants_web = kinds.rest.pop("webSearch", None) is not None
                web, image = web or wants_web or not wants_image, image or wants_image
                plain = plain and not search.rest and not kinds.rest
            if tool.rest:
                plain, self.has_foreign_tools = False, True
        if plain:
            self._fields.rest.pop("tools", None)
        return Grounding(web, image)

    def _taken_labels(self) -> dict[str, str]:
        labels = self._fields.message("labels").rest
        if all(isinstance(value, str) for value in labels.values()):
            return labels
        self._faults.append(Violation("/labels", "wrong_type", "Labels are strings."))
        return {}


def _ratio_of(word: str | None) -> str | None:
    """``16:9`` for ``ASPECT_RATIO_SIXTEEN_BY_NINE``; anything else as it is, for the card to judge."""
    if word is None or word == f"{_RATIO_WORD}UNSPECIFIED":
        return None
    across, _, down = word.removeprefix(_RATIO_WORD).partition("_BY_")
    if across in _NUMBERS and down in _NUMBERS:
        return f"{_NUMBERS[across]}:{_NUMBERS[down]}"
    return word


def _size_of(word: str | None) -> str | None:
    """``2K`` for ``IMAGE_SIZE_TWO_K``; anything else as it is, for the card to judge."""
    if word is None or word == f"{_SIZE_WORD}UNSPECIFIED":
        return None
    return _SIZES.get(word.removeprefix(_SIZE_WORD), word)


def _digested(value: object, cargo: Mapping[str, Lifted]) -> object:
    """The same JSON with a digest wherever bytes were lifted out."""
    if isinstance(value, dict):
        return {name: _digested(item, cargo) for name, item in value.items()}
    if isinstance(value, list):
        return [_digested(item, cargo) for item in value]
    if isinstance(value, str) and value in cargo:
        return {"bytes": digest_of(cargo[value].data)}
    return value
