"""Parses a response with status 200: its JSON skeleton and the images that were lifted out of it.

The skeleton is parsed directly, not by the SDK's classes. Those drop ``finishMessage`` and ``serviceTier``,
warn about unknown enum values, and re-encode thought signatures, which must go back to Google unchanged. A
field of an unexpected type counts as absent, so that no image that was paid for is lost because of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pybase64

from app.domain.errors import AnswerCut, ContentBlocked, ModelRefused, UpstreamError, UpstreamNoImage
from app.domain.estimate import estimate, price_answer
from app.domain.generation import ModelAnswer, Picture, SearchResults, SearchSource, Usage
from app.domain.policy import PIXELS_MAX
from app.domain.refusals import FILTERED, SUPPORT_CODES
from app.media.inspection import inspect, measure
from app.media.splicing import splice_iter
from app.upstream.google.failures import WITHOUT_IMAGE, parse_reason, parse_support_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.domain.card import Card
    from app.domain.refusals import Side
    from app.domain.request import GenerationRequest
    from app.media.lifting import Lifted

_COUNT_MAX: Final = 10**9
_TRAFFIC: Final = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "PROVISIONED_THROUGHPUT": "provisioned",
}
_NO_SEARCHES: Final = SearchResults((), "", ())
_TIERS: Final = frozenset({"standard", "flex", "priority", "provisioned"})


@dataclass(frozen=True, slots=True)
class PicturePart:
    """A part of the response's content that holds an image."""

    lifted: Lifted
    signature: str | None
    thought: bool


def get_member(value: object, name: str) -> Any:
    """A member of a JSON object by its lowerCamelCase name or its original snake_case one, or None."""
    if not isinstance(value, Mapping):
        return None
    if name in value:
        return value[name]
    snake_case = re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
    return value.get(snake_case)


def _get_list(value: object) -> list[Any]:
    if isinstance(value, list):
        return value
    return []


def _get_text(value: object) -> str:
    if isinstance(value, str):
        return value
    return ""


def _get_clean_text(value: object) -> str:
    """A text without lone surrogates, which JSON can hold and UTF-8 cannot."""
    return _get_text(value).encode(errors="replace").decode()


def _get_count(value: object) -> int:
    """A token count, which protobuf JSON may write as a string; 0 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:10])
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _COUNT_MAX:
        return value
    return 0


def _sum_modality(details: object, modality: str) -> int:
    return sum(_get_count(get_member(item, "tokenCount")) for item in _get_list(details)
               if get_member(item, "modality") == modality)  # fmt: skip


def parse_usage(metadata: object) -> Usage | None:
    """The reported tokens (docs/model.md#usage), or None without a report.

    Output tokens without a modality count as text, because they are priced as text.
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


def parse_searches(grounding: object) -> SearchResults | None:
    """What the searches of a call came to, from its grounding metadata; None if there were none.

    Empty queries are left out, because Google does not bill them (docs/model.md#prices).
    """
    names = ("webSearchQueries", "imageSearchQueries")
    queries = [_get_clean_text(query) for name in names for query in _get_list(get_member(grounding, name))]
    entry_point = _get_clean_text(get_member(get_member(grounding, "searchEntryPoint"), "renderedContent"))
    sources = tuple(filter(None, map(_parse_source, _get_list(get_member(grounding, "groundingChunks")))))
    results = SearchResults(tuple(query for query in queries if query.strip()), entry_point, sources)
    if results == _NO_SEARCHES:
        return None
    return results


def _parse_source(chunk: object) -> SearchSource | None:
    """The page of a grounding chunk; None for chunks of other kinds."""
    web, image = get_member(chunk, "web"), get_member(chunk, "image")
    title = _get_clean_text(get_member(web or image, "title"))
    uri = _get_clean_text(get_member(web, "uri") or get_member(image, "sourceUri"))
    if not uri:
        return None
    return SearchSource(title, uri, _get_clean_text(get_member(image, "imageUri")))


def parse_tier(metadata: object, header: str) -> str:
    """The reported service tier, else the one in Gemini's header (docs/model.md#service-tiers)."""
    reported = (
        _get_text(get_member(metadata, "trafficType"))
        or _get_text(get_member(metadata, "serviceTier"))
        or header
    )
    tier = _TRAFFIC.get(reported, reported.lower())
    if tier in _TIERS:
        return tier
    return ""


def complete_usage(usage: Usage | None, request: GenerationRequest, card: Card, pictures: int) -> Usage:
    """Usage of a response with images; what Google did not report is taken from the card's table."""
    expected = estimate(replace(request, n=1), card)
    image_output = expected.image_output * pictures
    if usage is None:
        most = request.max_output_tokens or card.tokens.output_max
        return Usage(
            text_input=expected.text_input + expected.document_input + expected.video_input,
            image_input=expected.image_input,
            image_output=image_output,
            text_output=min(expected.text_output, max(0, most - image_output)),
            estimated=True,
            search_queries=expected.search_queries,
        )
    if usage.image_output:
        return usage
    return replace(
        usage,
        image_output=image_output,
        text_output=max(0, usage.text_output - image_output),
        estimated=True,
    )


def _parse_json(skeleton: bytes) -> object:
    """Return the JSON, or None for a text that is none."""
    try:
        return json.loads(skeleton)
    except (ValueError, RecursionError):
        return None


def _get_parts(candidate: object) -> list[Any]:
    return _get_list(get_member(get_member(candidate, "content"), "parts"))


def _get_file(part: object) -> str:
    return _get_text(get_member(get_member(part, "inlineData"), "data"))


def _find_files(body: object) -> Iterator[str]:
    """Yield the placeholders that stand for files, and not for a text of the same key, as arguments have."""
    for candidate in _get_list(get_member(body, "candidates")):
        yield from map(_get_file, _get_parts(candidate))


def _restore_texts(skeleton: bytes, texts: Mapping[str, Lifted]) -> bytes:
    """Return the skeleton with strings put back as they were."""
    for name, lifted in texts.items():
        text = lifted.text
        if text is None:
            text = pybase64.b64encode(lifted.data)
        skeleton = skeleton.replace(b'"%b"' % name.encode(), b'"%b"' % text)
    return skeleton


class GoogleResponse:
    """A parsed response with status 200.

    Args:
        skeleton: JSON text with placeholders.
        blobs: The lifted strings, by placeholder.
        tier: The service tier from the response's headers.

    Raises:
        UpstreamError: The body is no JSON object, or holds an error; the call may have been billed.
    """

    def __init__(self, skeleton: bytes, blobs: Mapping[str, Lifted], tier: str = "") -> None:
        body = _parse_json(skeleton)
        files = set(_find_files(body))
        texts = {name: lifted for name, lifted in blobs.items() if name not in files}
        if texts:
            blobs = {name: lifted for name, lifted in blobs.items() if name in files}
            skeleton = _restore_texts(skeleton, texts)
            body = _parse_json(skeleton)
        if not isinstance(body, Mapping) or "error" in body:
            reason = parse_reason(get_member(get_member(body, "error"), "status")) or None
            sentence = "The upstream's response is malformed."
            raise UpstreamError(sentence, upstream_status=200, reason=reason, billed="maybe")
        metadata = get_member(body, "usageMetadata")
        usage, self._tier = parse_usage(metadata), parse_tier(metadata, tier)
        self.model_version = _get_text(get_member(body, "modelVersion"))
        self.response_id = _get_text(get_member(body, "responseId"))
        feedback = get_member(body, "promptFeedback")
        self.block_reason = parse_reason(get_member(feedback, "blockReason"))
        candidate = next(iter(_get_list(get_member(body, "candidates"))), None)
        self.searches = parse_searches(get_member(candidate, "groundingMetadata"))
        queries = len(self.searches.queries) if self.searches is not None else 0
        self.usage = usage and replace(usage, tier=self._tier, search_queries=queries)
        self.finish_reason = parse_reason(get_member(candidate, "finishReason"))
        self.support_code = parse_support_code(get_member(candidate, "finishMessage")) or parse_support_code(
            get_member(feedback, "blockReasonMessage")
        )
        self._parts = _get_parts(candidate)
        self._skeleton = skeleton
        self.blobs = blobs

    def set_prices(self, cards: Sequence[Card], requested_tier: str | None) -> None:
        """Price the reported usage; see ``price_answer``."""
        if self.usage is not None:
            self.usage = price_answer(self.usage, cards, requested_tier)

    @property
    def text(self) -> str:
        """The text of all parts that are not thoughts."""
        return "".join(
            _get_text(get_member(part, "text")) for part in self._parts if not get_member(part, "thought")
        )

    @property
    def pictures(self) -> tuple[PicturePart, ...]:
        """The final pictures: those that are no thoughts, else the last of all (docs/model.md#signatures)."""
        parts = [
            PicturePart(
                self.blobs[name],
                _get_text(get_member(part, "thoughtSignature")) or None,
                get_member(part, "thought") is True,
            )
            for part in self._parts
            if (name := _get_file(part)) in self.blobs
        ]
        final = tuple(part for part in parts if not part.thought)
        return final or tuple(parts[-1:])

    def build_error(self, *, bounded: bool = False) -> ContentBlocked | UpstreamError:
        """The error for a response without an image; its ``verbatim`` is the response itself.

        Args:
            bounded: Whether the gateway's own bound on output was sent.
        """
        error = self._build_cut_error() if bounded and self._ran_out else self._classify()
        bytes_of = {name: lifted.data for name, lifted in self.blobs.items()}
        error.verbatim = b"".join(splice_iter(self._skeleton, bytes_of)).decode(errors="replace")
        return error

    def _classify(self) -> ContentBlocked | UpstreamError:
        reason = self.block_reason or self.finish_reason
        if self.block_reason or self.finish_reason in FILTERED:
            side: Side = "picture"
            if self.block_reason:
                side = "prompt"
            known = SUPPORT_CODES.get(self.support_code or "")
            if known is not None and known.side:
                side = known.side
            return ContentBlocked(
                f"Google blocked the {side}: {reason}{_describe_support_code(self.support_code)}.",
                reason=reason,
                support_code=self.support_code,
                side=side,
                usage=self.usage,
            )
        if reason not in WITHOUT_IMAGE and self.text.strip():
            return ModelRefused(
                "The model answered with text instead of an image.",
                reason=reason or "STOP",
                usage=self.usage,
            )
        kind = WITHOUT_IMAGE.get(reason, UpstreamNoImage)
        return kind(
            f"The upstream answered without an image: {reason or 'no finish reason'}.",
            upstream_status=200,
            reason=reason or None,
            billed=self._billed,
            usage=self.usage,
        )

    @property
    def _billed(self) -> str:
        """``yes`` for an answer that reports usage, else ``maybe``."""
        if self.usage:
            return "yes"
        return "maybe"

    @property
    def _ran_out(self) -> bool:
        """Whether it reached its bound on output."""
        return self.finish_reason == "MAX_TOKENS"

    def _build_cut_error(self) -> AnswerCut:
        return AnswerCut(
            "The answer is longer than what is reserved for it; it was cut off before a picture was whole.",
            upstream_status=200,
            reason=self.finish_reason,
            billed=self._billed,
            usage=self.usage,
        )

    def _select_whole(self, parts: tuple[PicturePart, ...]) -> tuple[PicturePart, ...]:
        """The pictures that no bound has cut off. Raises AnswerCut where there is none."""
        whole = tuple(
            part
            for part in parts
            if part.lifted.has_all_bytes and not inspect(part.lifted.data, pixels_max=PIXELS_MAX).faults
        )
        if not whole:
            raise self._build_cut_error()
        return whole

    def build_answer(
        self, parts: tuple[PicturePart, ...], ids: Mapping[str, str], request: GenerationRequest, card: Card
    ) -> ModelAnswer:
        """Build the domain's answer; sizes and types are those of the images' own headers.

        Args:
            parts: ``pictures``, at least one.
            ids: Image ids by placeholder. The caller computes them, because hashing takes a thread.
            request: The request, to estimate tokens that the upstream did not report.
            card: The card of the request's model.

        Raises:
            UpstreamError: An image is damaged; it was billed nevertheless.
            AnswerCut: The gateway's own bound has cut off every image.
        """
        if request.bounded and self._ran_out:
            parts = self._select_whole(parts)
        usage = replace(complete_usage(self.usage, request, card, len(parts)), tier=self._tier)
        if self.searches is not None:
            usage = replace(usage, search_queries=len(self.searches.queries))
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
            searches=self.searches,
            reported=self.usage is not None,
        )

    def _find_interim(self, parts: tuple[PicturePart, ...], ids: Mapping[str, str]) -> Iterator[Picture]:
        """Images beside the final ones: those of thoughts, of any type."""
        final = {part.lifted.placeholder for part in parts}
        for name, lifted in self.blobs.items():
            if name not in final:
                facts = measure(lifted.data)
                mime_type = facts.mime_type or "application/octet-stream"
                yield Picture(ids[name], mime_type, facts.width or 0, facts.height or 0, lifted.data)

    def _insert_ids(self, ids: Mapping[str, str]) -> str:
        """The response as it was received, with image ids in place of the bytes."""
        skeleton = self._skeleton
        for name, picture_id in ids.items():
            skeleton = skeleton.replace(f'"{name}"'.encode(), f'"{picture_id}"'.encode())
        return skeleton.decode(errors="replace")

    def _build_picture(self, part: PicturePart, name: str, usage: Usage) -> Picture:
        data = part.lifted.data
        facts = measure(data)
        if (
            not part.lifted.has_all_bytes
            or facts.mime_type is None
            or facts.width is None
            or facts.height is None
        ):
            sentence = "The upstream's image is damaged."
            raise UpstreamError(sentence, upstream_status=200, billed="yes", usage=usage)
        return Picture(name, facts.mime_type, facts.width, facts.height, data)


def _describe_support_code(code: str | None) -> str:
    """A support code and its meaning, as the end of a sentence; empty without a code."""
    if code is None:
        return ""
    known = SUPPORT_CODES.get(code)
    if known is None:
        return f", support code {code}"
    return f", support code {code} ({known.category.replace('_', ' ')})"
