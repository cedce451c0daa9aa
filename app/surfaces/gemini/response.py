"""A result in Google's dialect: the upstream's own answer, its bytes back in their places."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

from app.domain.estimate import estimate
from app.domain.repetition import ResultGone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.domain.card import Card
    from app.domain.request import GenerationRequest
    from app.generation.order import GenerationResult

StreamFormat = Literal["array", "sse"]
"""How documents are streamed: in one array, or as server-sent events (docs/model.md#streams)."""

MEDIA_TYPES: Final[Mapping[StreamFormat, str]] = {"array": "application/json", "sse": "text/event-stream"}
_LINE_BREAKS: Final = str.maketrans("\r\n", "  ")
PAGE_SIZE: Final = 50
PAGE_SIZE_MAX: Final = 1000


def render_result(result: GenerationResult) -> tuple[str, dict[str, bytes]]:
    """The answer as the upstream wrote it, and its pictures by the ids that stand for them in it.

    Raises:
        ResultGone: The result was kept without the upstream's own words.
    """
    answer = result.generation.verbatim
    if not answer:
        raise ResultGone("The result is kept without Google's own answer; a new request makes it anew.")
    return answer, {picture.id: picture.data for picture in (*result.pictures, *result.interim)}


def encode_document(document: str, form: StreamFormat) -> bytes:
    """The bytes of a stream of one document. A document may be written over many lines, an event may not."""
    if form == "array":
        document = f"[{document}]"
    if form == "sse":
        # In JSON, line breaks stand between tokens only.
        document = f"data: {document.translate(_LINE_BREAKS)}\r\n\r\n"
    return document.encode()


def render_token_count(request: GenerationRequest, card: Card, *, vertex: bool) -> bytes:
    """The answer of ``countTokens`` from the card: what would be reserved for the input."""
    tokens = estimate(request, card)
    by_modality = (
        ("TEXT", tokens.text_input),
        ("IMAGE", tokens.image_input),
        ("VIDEO", tokens.video_input),
        ("DOCUMENT", tokens.document_input),
    )
    body: dict[str, Any] = {"totalTokens": tokens.input_tokens}
    if vertex:
        body["totalBillableCharacters"] = len("".join(request.prompt.split()))
    body["promptTokensDetails"] = [
        {"modality": name, "tokenCount": count} for name, count in by_modality if count
    ]
    return json.dumps(body).encode()


def render_model(card: Card, *, vertex: bool) -> dict[str, Any]:
    """A card as Google describes a model."""
    if vertex:
        return {
            "name": f"publishers/google/models/{card.id}",
            "versionId": "default",
            "openSourceCategory": "PROPRIETARY",
            "launchStage": card.lifecycle.stage.upper(),
        }
    return {
        "name": f"models/{card.id}",
        "baseModelId": card.id,
        "version": card.lifecycle.released.isoformat(),
        "displayName": card.title,
        "description": f"{card.title}: draws and edits pictures from words, images and documents.",
        "inputTokenLimit": card.tokens.input_max,
        "outputTokenLimit": card.tokens.output_max,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "temperature": card.parameters.temperature.default,
        "maxTemperature": card.parameters.temperature.max,
        "topP": card.parameters.top_p.default,
        "thinking": True,
    }


def render_page(cards: Sequence[Card], size: int, start: int, *, vertex: bool) -> dict[str, Any]:
    """One page of models; a size of 0 is Google's default."""
    end = start + (min(size, PAGE_SIZE_MAX) or PAGE_SIZE)
    name = "publisherModels" if vertex else "models"
    page: dict[str, Any] = {name: [render_model(card, vertex=vertex) for card in cards[start:end]]}
    if end < len(cards):
        page["nextPageToken"] = str(end)
    return page
