"""Reads a good answer: the skeleton body Google sent, and the pictures that were lifted out of it.

The skeleton body is read as it came, not through the SDK's classes: those drop ``finishMessage`` and
``serviceTier``, warn at words they do not know, and re-encode thought signatures, which must go back to
Google unchanged. An odd field is no reason to lose a picture that was paid for, so nothing here raises for
a field of an unexpected type: it counts as absent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from app.domain.errors import ContentBlocked, ModelRefused, UpstreamError, UpstreamNoImage
from app.domain.estimate import estimate
from app.domain.generation import ModelAnswer, Picture, Usage
from app.domain.refusals import FILTERED, SUPPORT_CODES
from app.media.inspection import measure
from app.media.splicing import splice_iter
from app.upstream.google.failures import WITHOUT_IMAGE, parse_reason, parse_support_code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.card import Card
    from app.domain.refusals import Side
    from app.domain.request import GenerationRequest
    from app.media.lifting import Lifted

_COUNT_MAX: Final = 10**9
_USABLE_FAULTS: Final = frozenset({None, "not_canonical"})
_TRAFFIC: Final = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "PROVISIONED_THROUGHPUT": "provisioned",
}
_TIERS: Final = frozenset({"standard", "flex", "priority", "provisioned"})


@dataclass(frozen=True, slots=True)
class PicturePart:
    """One part of the answer's content that holds a picture."""

    lifted: Lifted
    signature: str | None
    thought: bool


def get_member(value: object, name: str) -> Any:
    """A member of a JSON object by its lowerCamel name or its original snake_case one, or None."""
    if not isinstance(value, Mapping):
        return None
    if name in value:
        return value[name]
    return value.get("".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name))


def _get_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _get_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _get_count(value: object) -> int:
    """A token count; protobuf JSON may write it as a string."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:10])
    valid = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _COUNT_MAX
    return int(value) if valid else 0  # type: ignore[call-overload]  # an int by the line above


def _sum_modality(details: object, modality: str) -> int:
    return sum(_get_count(get_member(item, "tokenCount")) for item in _get_list(details)
               if get_member(item, "modality") == modality)  # fmt: skip


def parse_usage(metadata: object) -> Usage | None:
    """Tokens as reported (docs/model.md#usage), or None where nothing was.

    Output tokens without a modality count as text: that is their price.
    """
    if not isinstance(metadata, Mapping) or not metadata:
        return None
    prompt = _get_count(get_member(metadata, "promptTokenCount"))
    images_in = min(prompt, _sum_modality(get_member(metadata, "promptTokensDetails"), "IMAGE"))
    output_details = get_member(metadata, "candidatesTokensDetails")
    images_out = _sum_modality(output_details, "IMAGE")
    return Usage(
        text_input=prompt - images_in,
        image_input=images_in,
        image_output=images_out,
        text_output=max(0, _get_count(get_member(metadata, "candidatesTokenCount")) - images_out),
        thinking=_get_count(get_member(metadata, "thoughtsTokenCount")),
        tool_use=_get_count(get_member(metadata, "toolUsePromptTokenCount")),
        cached_input=min(prompt, _get_count(get_member(metadata, "cachedContentTokenCount"))),
    )


def parse_tier(metadata: object, header: str) -> str:
    """The tier of the call: as reported, else as Gemini's header says (docs/model.md#service-tiers)."""
    reported = (
        _get_text(get_member(metadata, "trafficType"))
        or _get_text(get_member(metadata, "serviceTier"))
        or header
    )
    tier = _TRAFFIC.get(reported, reported.lower())
    return tier if tier in _TIERS else ""


def complete_usage(usage: Usage | None, request: GenerationRequest, card: Card, pictures: int) -> Usage:
    """The usage of an answer with pictures, from the card's table where the report left them out."""
    expected = estimate(replace(request, n=1), card)
    image_output = expected.image_output * pictures
    if usage is None:
        return Usage(
            text_input=expected.text_input + expected.document_input + expected.video_input,
            image_input=expected.image_input,
            image_output=image_output,
            text_output=expected.text_output,
            estimated=True,
        )
    if usage.image_output:
        return usage
    return replace(
        usage,
        image_output=image_output,
        text_output=max(0, usage.text_output - image_output),
        estimated=True,
    )


class GoogleResponse:
    """One answer with status 200, read.

    Args:
        skeleton: JSON text with placeholders.
        blobs: What stood there, by placeholder.
        tier: What a header of the answer says of how it was served.

    Raises:
        UpstreamError: It is no JSON object, or holds an error after all; it may have been billed.
    """

    def __init__(self, skeleton: bytes, blobs: Mapping[str, Lifted], tier: str = "") -> None:
        try:
            body = json.loads(skeleton)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, Mapping) or "error" in body:
            reason = parse_reason(get_member(get_member(body, "error"), "status")) or None
            sentence = "The upstream's answer is not what was agreed."
            raise UpstreamError(sentence, upstream_status=200, reason=reason, billed="maybe")
        metadata = get_member(body, "usageMetadata")
        usage, self._tier = parse_usage(metadata), parse_tier(metadata, tier)
        self.usage = usage and replace(usage, tier=self._tier)
        self.model_version = _get_text(get_member(body, "modelVersion"))
        self.response_id = _get_text(get_member(body, "responseId"))
        feedback = get_member(body, "promptFeedback")
        self.block_reason = parse_reason(get_member(feedback, "blockReason"))
        candidate = next(iter(_get_list(get_member(body, "candidates"))), None)
        self.finish_reason = parse_reason(get_member(candidate, "finishReason"))
        self.support_code = parse_support_code(get_member(candidate, "finishMessage")) or parse_support_code(
            get_member(feedback, "blockReasonMessage")
        )
        self._parts = _get_list(get_member(get_member(candidate, "content"), "parts"))
        self._skeleton = skeleton
        self.blobs = blobs

    @property
    def text(self) -> str:
        """Words that are no thoughts."""
        return "".join(
            _get_text(get_member(part, "text")) for part in self._parts if not get_member(part, "thought")
        )

    @property
    def pictures(self) -> tuple[PicturePart, ...]:
        """The final pictures: those that are no thoughts, else the last of all (docs/model.md#signatures)."""
        found = [
            PicturePart(
                self.blobs[name],
                _get_text(get_member(part, "thoughtSignature")) or None,
                get_member(part, "thought") is True,
            )
            for part in self._parts
            if (name := _get_text(get_member(get_member(part, "inlineData"), "data"))) in self.blobs
        ]
        final = tuple(part for part in found if not part.thought)
        return final or tuple(found[-1:])

    def build_error(self) -> ContentBlocked | UpstreamError:
        """The error that an answer without any picture is; it carries the answer itself."""
        error = self._classify()
        bytes_of = {name: lifted.data for name, lifted in self.blobs.items()}
        error.verbatim = b"".join(splice_iter(self._skeleton, bytes_of)).decode(errors="replace")
        return error

    def _classify(self) -> ContentBlocked | UpstreamError:
        reason = self.block_reason or self.finish_reason
        if self.block_reason or self.finish_reason in FILTERED:
            side: Side = "prompt" if self.block_reason else "picture"
            known = SUPPORT_CODES.get(self.support_code or "")
            side = (known and known.side) or side
            return ContentBlocked(
                f"Google blocked the {side}: {reason}{_describe_support_code(self.support_code)}.",
                reason=reason,
                support_code=self.support_code,
                side=side,
                usage=self.usage,
            )
        if reason not in WITHOUT_IMAGE and self.text.strip():
            return ModelRefused(
                "The model answered with words instead of a picture.",
                reason=reason or "STOP",
                usage=self.usage,
            )
        kind = WITHOUT_IMAGE.get(reason, UpstreamNoImage)
        return kind(
            f"The upstream answered without a picture: {reason or 'no finish reason'}.",
            upstream_status=200,
            reason=reason or None,
            billed="yes" if self.usage else "maybe",
            usage=self.usage,
        )

    def build_answer(
        self, parts: tuple[PicturePart, ...], ids: Mapping[str, str], request: GenerationRequest, card: Card
    ) -> ModelAnswer:
        """The domain's answer, with what the pictures' own headers say.

        Args:
            parts: ``pictures``, at least one.
            ids: Of everything lifted, by placeholder; the hashes are worth a thread of their own.
            request: What was asked, for tokens that the upstream did not report.
            card: Its model's card.

        Raises:
            UpstreamError: A picture is damaged; it was paid for all the same.
        """
        usage = replace(complete_usage(self.usage, request, card, len(parts)), tier=self._tier)
        return ModelAnswer(
            pictures=tuple(self._build_picture(part, ids[part.lifted.placeholder], usage) for part in parts),
            text=self.text,
            finish_reason=self.finish_reason,
            usage=usage,
            model_version=self.model_version or request.model,
            response_id=self.response_id,
            signatures=tuple(part.signature for part in parts),
            interim=tuple(self._find_interim(parts, ids)),
            verbatim=self._insert_ids(ids),
        )

    def _find_interim(self, parts: tuple[PicturePart, ...], ids: Mapping[str, str]) -> Iterator[Picture]:
        """What was lifted beside the final pictures: those of thoughts, whatever they are."""
        final = {part.lifted.placeholder for part in parts}
        for name, lifted in self.blobs.items():
            if name not in final:
                facts = measure(lifted.data)
                mime_type = facts.mime_type or "application/octet-stream"
                yield Picture(ids[name], mime_type, facts.width or 0, facts.height or 0, lifted.data)

    def _insert_ids(self, ids: Mapping[str, str]) -> str:
        """The answer as it came, with ids where its bytes were."""
        skeleton = self._skeleton
        for name, picture_id in ids.items():
            skeleton = skeleton.replace(f'"{name}"'.encode(), f'"{picture_id}"'.encode())
        return skeleton.decode(errors="replace")

    def _build_picture(self, part: PicturePart, name: str, usage: Usage) -> Picture:
        data, fault = part.lifted.data, part.lifted.fault
        facts = measure(data)
        usable = (fault.code if fault else None) in _USABLE_FAULTS
        if not usable or facts.mime_type is None or facts.width is None or facts.height is None:
            sentence = "The upstream's picture is damaged."
            raise UpstreamError(sentence, upstream_status=200, billed="yes", usage=usage)
        return Picture(name, facts.mime_type, facts.width, facts.height, data)


def _describe_support_code(code: str | None) -> str:
    """A support code with its meaning, as the end of a sentence; empty without one."""
    if code is None:
        return ""
    known = SUPPORT_CODES.get(code)
    return f", support code {code}" + (f" ({known.category.replace('_', ' ')})" if known else "")
