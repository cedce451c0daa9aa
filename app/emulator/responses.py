"""Response documents: parts, usage and grounding as Google reports them (docs/model.md#usage).

A document holds image data as ``Base64``, which is spliced in when the document is written, so that megabytes
of it never pass through a JSON encoder.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pybase64

from app.emulator.bill import get_picture_tokens
from app.emulator.signatures import sign

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.emulator.behaviour import Behaviour
    from app.emulator.output import Output
    from app.emulator.requests import ModelRequest

_DESCRIPTION_TOKENS = 18
_TRAFFIC_TYPES = {"flex": "ON_DEMAND_FLEX", "priority": "ON_DEMAND_PRIORITY"}
_FILTERED = (
    "Unable to show the generated image. The image was filtered out because it violated Google's"
    " Responsible AI practices. Try rephrasing the prompt. If you think this was an error, send feedback."
    " Support code: {}."
)
_BLOCKED = "The prompt could not be submitted. Try rephrasing the prompt. Support code: {}."


@dataclass(frozen=True, slots=True)
class Picture:
    """One encoded picture."""

    data: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class Base64:
    """Bytes that are written as a JSON string of their base64."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """A complete response before it is written.

    Attributes:
        parts: The candidate's parts, in order; may be empty.
        finish: ``finishReason`` and the members beside it; None if the prompt was blocked.
        envelope: All members beside the candidates and the usage.
        usage: ``usageMetadata``, or None if the response reports none.
    """

    parts: tuple[dict[str, Any], ...]
    finish: dict[str, Any] | None
    envelope: dict[str, Any]
    usage: dict[str, Any] | None

    def count_queries(self) -> int:
        """Queries of its searches."""
        grounding = (self.finish or {}).get("groundingMetadata", {})
        return sum(len(grounding.get(f"{kind}SearchQueries", ())) for kind in ("web", "image"))

    def build_document(self) -> dict[str, Any]:
        """Build the document of ``generateContent``."""
        document: dict[str, Any] = {}
        if self.finish is not None:
            content: dict[str, Any] = {}
            if self.parts:
                content = {"parts": list(self.parts)}
            document["candidates"] = [{"content": {**content, "role": "model"}, **self.finish, "index": 0}]
        if self.usage is not None:
            document["usageMetadata"] = self.usage
        return document | self.envelope

    def build_chunks(self) -> Iterator[dict[str, Any]]:
        """Build the documents of ``streamGenerateContent``: one per part, then the end with full usage."""
        if self.finish is None:
            yield self.build_document()
            return
        early = None
        if self.usage is not None:
            early = {
                name: count
                for name, count in self.usage.items()
                if not name.startswith(("candid", "thoughts"))
            }
            early["totalTokenCount"] = self.usage["promptTokenCount"]
        for part in self.parts:
            candidate = {"content": {"parts": [part], "role": "model"}, "index": 0}
            yield {"candidates": [candidate], **({"usageMetadata": early} if early else {}), **self.envelope}
        parts = []
        if self.parts:
            parts = [{"text": ""}]
        yield ModelResponse(tuple(parts), self.finish, self.envelope, self.usage).build_document()


def compose(
    request: ModelRequest,
    behaviour: Behaviour,
    pictures: list[Picture],
    interim: list[Picture],
    output: Output,
) -> ModelResponse:
    """Compose the response to a request. ``interim`` are the images in its thoughts."""
    envelope: dict[str, Any] = {
        "modelVersion": behaviour.model_version or request.card.id,
        "responseId": secrets.token_urlsafe(16),
    }
    if request.dialect == "vertex":
        envelope["createTime"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if behaviour.model_stage is not None:
        message = f"models/{request.card.id} is deprecated."
        envelope["modelStatus"] = {"modelStage": behaviour.model_stage, "message": message}
    usage = None
    if behaviour.usage:
        usage = build_usage(request, behaviour, pictures, output)
    if behaviour.block_reason is not None:
        feedback = envelope["promptFeedback"] = {"blockReason": behaviour.block_reason}
        if behaviour.support_code is not None and request.dialect == "vertex":
            feedback["blockReasonMessage"] = _BLOCKED.format(behaviour.support_code)
        return ModelResponse((), None, envelope, usage)
    finish: dict[str, Any] = {"finishReason": behaviour.finish_reason}
    if behaviour.support_code is not None:
        finish["finishMessage"] = _FILTERED.format(behaviour.support_code)
    if request.searches and pictures:
        finish["groundingMetadata"] = _build_grounding(request, behaviour.queries)
    parts = [*_build_thoughts(request, behaviour, interim), *_build_parts(request, behaviour, pictures)]
    return ModelResponse(tuple(parts), finish, envelope, usage)


def _build_thoughts(
    request: ModelRequest, behaviour: Behaviour, interim: list[Picture]
) -> Iterator[dict[str, Any]]:
    wanted = request.include_thoughts or behaviour.thoughts
    if not wanted or behaviour.words is not None or not behaviour.pictures:
        return
    yield {
        "text": f"**Planning the picture**\n\nA {request.image_size} composition first.\n",
        "thought": True,
    }
    for picture in interim:
        yield {"inlineData": _build_inline_data(picture), "thought": True}


def _build_parts(
    request: ModelRequest, behaviour: Behaviour, pictures: list[Picture]
) -> Iterator[dict[str, Any]]:
    words = behaviour.words
    if words is None and request.with_text and pictures:
        words = "Here is the picture you asked for."
    if words is not None:
        yield {
            "text": words,
            "thoughtSignature": Base64(
                sign(f"{request.digest} text".encode(), request.card.id, request.project)
            ),
        }
    for number, picture in enumerate(pictures):
        if behaviour.only_thought:
            yield {"inlineData": _build_inline_data(picture), "thought": True}
        else:
            signature = Base64(sign(f"{request.digest} {number}".encode(), request.card.id, request.project))
            yield {"inlineData": _build_inline_data(picture), "thoughtSignature": signature}


def _build_inline_data(picture: Picture) -> dict[str, Any]:
    return {"mimeType": picture.mime_type, "data": Base64(picture.data)}


def count_image_tokens(request: ModelRequest, pictures: list[Picture]) -> int:
    """Image tokens of the pictures, for the requested size."""
    return len(pictures) * get_picture_tokens(request.card, request.image_size)


def build_usage(
    request: ModelRequest, behaviour: Behaviour, pictures: list[Picture], output: Output
) -> dict[str, Any]:
    """The ``usageMetadata`` of an answer, whether or not it is reported."""
    prompt = sum(count for _, count in request.prompt_tokens)
    usage: dict[str, Any] = {"promptTokenCount": prompt}
    candidates = thoughts = 0
    detail: list[dict[str, Any]] = []
    if pictures or output.cut:
        tokens = count_image_tokens(request, pictures)
        candidates = tokens + output.words
        detail = []
        if pictures:
            detail = [{"modality": "IMAGE", "tokenCount": tokens}]
        thoughts = output.thoughts
    elif behaviour.words is not None:
        candidates = _DESCRIPTION_TOKENS
    if candidates:
        usage["candidatesTokenCount"] = candidates
    usage["totalTokenCount"] = prompt + candidates + thoughts
    usage["promptTokensDetails"] = [
        {"modality": name, "tokenCount": count} for name, count in request.prompt_tokens
    ]
    if detail:
        usage["candidatesTokensDetails"] = detail
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    if behaviour.cached:
        usage["cachedContentTokenCount"] = prompt // 2
    if request.dialect == "vertex":
        usage["trafficType"] = _TRAFFIC_TYPES.get(request.tier, "ON_DEMAND")
    else:
        usage["serviceTier"] = request.tier
    return usage


def _build_grounding(request: ModelRequest, count: int) -> dict[str, Any]:
    """Grounding metadata with so many queries, for each kind of search in turn."""
    words = " ".join(request.prompt.split()[:8])
    queries = [words, *(f"{words} {number}" for number in range(2, count + 1))][:count]
    kinds = sorted(request.searches, reverse=True)
    grounding: dict[str, Any] = {
        f"{kind}Queries": queries[at :: len(kinds)]
        for at, kind in enumerate(kinds)
        if queries[at :: len(kinds)]
    }
    if not grounding:
        return grounding
    chunks: list[dict[str, Any]] = [{"web": {"uri": "https://example.com/", "title": "example.com"}}]
    if "imageSearchQueries" in grounding:
        picture = {"sourceUri": "https://example.com/page", "imageUri": "https://example.com/picture.png"}
        chunks.append({"image": {**picture, "title": "A page with a picture", "domain": "example.com"}})
    entry_point = {"renderedContent": '<div class="container">emulated search</div>'}
    return grounding | {"searchEntryPoint": entry_point, "groundingChunks": chunks}


def write_document(document: dict[str, Any], behaviour: Behaviour, *, pretty: bool = False) -> list[bytes]:
    """Encode a document as JSON, in pieces; each image is a piece of its own."""
    mark = f"\x02{secrets.token_hex(8)}\x03"
    blobs: list[bytes] = []

    def stand_in(value: object) -> str:
        if not isinstance(value, Base64):
            raise TypeError(f"{type(value).__name__} cannot be part of a response")
        encode = pybase64.urlsafe_b64encode if behaviour.url_safe else pybase64.b64encode
        encoded = encode(value.data)
        if behaviour.escaped_padding:
            encoded = encoded.replace(b"=", b"\\u003d")
        blobs.append(encoded)
        return mark

    layout: dict[str, Any] = {"indent": 2} if pretty or behaviour.pretty else {"separators": (",", ":")}
    text = json.dumps(document, default=stand_in, ensure_ascii=False, **layout)
    frame = text.encode().split(json.dumps(mark)[1:-1].encode())
    pieces = [frame[0]]
    for blob, after in zip(blobs, frame[1:], strict=True):
        pieces += [blob, after]
    return pieces
