"""Renders results in Google's dialect: the upstream's own response, with its bytes put back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

from app.domain.estimate import estimate
from app.domain.repetition import ResultGone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.domain.card import Card
    from app.domain.generation import ImageData
    from app.domain.request import GenerationRequest
    from app.generation.order import GenerationResult

StreamFormat = Literal["array", "sse"]
"""Format of a stream: one JSON array, or server-sent events (docs/model.md#streams)."""

MEDIA_TYPES: Final[Mapping[StreamFormat, str]] = {"array": "application/json", "sse": "text/event-stream"}
_LINE_BREAKS: Final = str.maketrans("\r\n", "  ")
PAGE_SIZE: Final = 50
PAGE_SIZE_MAX: Final = 1000


def render_result(result: GenerationResult) -> tuple[str, dict[str, ImageData]]:
    """Return the upstream's response, and its pictures by the ids that are their placeholders.

    Raises:
        ResultGone: The result was stored without the upstream's response.
    """
    answer = result.generation.verbatim
    if not answer:
        raise ResultGone(
            "The result is stored without Google's own response; a new request generates it again."
        )
    return answer, {picture.id: picture.data for picture in (*result.pictures, *result.interim)}


def encode_document(document: str, form: StreamFormat) -> bytes:
    """Encode a document as a stream. A document may span several lines, but an event may not."""
    if form == "array":
        document = f"[{document}]"
    if form == "sse":
        # In JSON, raw line breaks only occur between tokens.
        document = f"data: {document.translate(_LINE_BREAKS)}\r\n\r\n"
    return document.encode()


def render_token_count(request: GenerationRequest, card: Card, *, vertex: bool) -> bytes:
    """Render the ``countTokens`` response: the tokens that would be reserved for the input."""
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
    """Render a card in the form of Google's model resource."""
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
        "description": f"{card.title}: generates and edits pictures from text, images and documents.",
        "inputTokenLimit": card.tokens.input_max,
        "outputTokenLimit": card.tokens.output_max,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        **_list_sampling(card),
        "thinking": True,
    }


def _list_sampling(card: Card) -> dict[str, float]:
    """The members about sampling, for those parameters that the model offers."""
    members: dict[str, float] = {}
    if (temperature := card.parameters.temperature) is not None:
        members |= {"temperature": temperature.default, "maxTemperature": temperature.max}
    if (top_p := card.parameters.top_p) is not None:
        members["topP"] = top_p.default
    return members


def render_page(cards: Sequence[Card], size: int, start: int, *, vertex: bool) -> dict[str, Any]:
    """Render a page of models; a size of 0 means Google's default."""
    end = start + (min(size, PAGE_SIZE_MAX) or PAGE_SIZE)
    name = "models"
    if vertex:
        name = "publisherModels"
    page: dict[str, Any] = {name: [render_model(card, vertex=vertex) for card in cards[start:end]]}
    if end < len(cards):
        page["nextPageToken"] = str(end)
    return page
