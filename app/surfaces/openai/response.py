"""Renders results in the OpenAI dialect: one response, or an event per picture."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Literal

from app.domain.generation import ImageData, Usage
from app.media.lifting import generate_placeholders
from app.surfaces.native.wire import WarningWire
from app.surfaces.openai.sizes import find_quality
from app.surfaces.openai.wire import (
    OpenAIImage,
    OpenAIImageEvent,
    OpenAIImages,
    OpenAIInputDetails,
    OpenAIModel,
    OpenAIOutputDetails,
    OpenAIUsage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.card import Card
    from app.domain.generation import Picture
    from app.generation.order import GenerationResult
    from app.surfaces.openai.request import ParsedRequest

Spliced = tuple[bytes, dict[str, ImageData]]
"""Light JSON, and the images by placeholder."""


def render_result(result: GenerationResult, parsed: ParsedRequest, base_url: str) -> Spliced:
    """Render the response of a request that does not stream."""
    inline = parsed.delivery == "inline"
    names = generate_placeholders()
    if inline:
        blobs = {next(names): picture.data for picture in result.pictures}
        data = [OpenAIImage(b64_json=name) for name in blobs]
    else:
        blobs = {}
        data = [OpenAIImage(url=_build_url(base_url, picture)) for picture in result.pictures]
    first = result.pictures[0]
    answer = OpenAIImages(
        created=result.generation.created_ms // 1000,
        data=data,
        background="opaque",
        output_format=_read_format(first),
        quality=find_quality(result.card, first.width, first.height),
        size=f"{first.width}x{first.height}",
        safety_identifier=parsed.safety_identifier,
        usage=_render_usage(result.cost),
        id=result.generation.id,
        model=result.generation.model,
        warnings=_render_warnings(result),
    )
    return answer.model_dump_json(exclude_none=True).encode(), blobs


def render_events(
    result: GenerationResult, parsed: ParsedRequest, base_url: str, route: Literal["generation", "edit"]
) -> Iterator[Spliced]:
    """Render one event per picture, in order. Only the last one has the usage, so that sums are right."""
    kind: Literal["image_generation.completed", "image_edit.completed"] = "image_edit.completed"
    if route == "generation":
        kind = "image_generation.completed"
    inline = parsed.delivery == "inline"
    names = generate_placeholders()
    for index, picture in enumerate(result.pictures, start=1):
        name = next(names)
        event = OpenAIImageEvent(
            type=kind,
            b64_json=name if inline else None,
            url=None if inline else _build_url(base_url, picture),
            background="opaque",
            created_at=result.generation.created_ms // 1000,
            output_format=_read_format(picture),
            quality=find_quality(result.card, picture.width, picture.height),
            size=f"{picture.width}x{picture.height}",
            safety_identifier=parsed.safety_identifier,
            usage=_render_usage(result.cost if index == len(result.pictures) else Usage()),
            warnings=_render_warnings(result),
        )
        data = event.model_dump_json(exclude_none=True).encode()
        skeleton = b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
        yield skeleton, {name: picture.data} if inline else {}


def render_model(card: Card) -> OpenAIModel:
    """Render a card in the form of OpenAI's model object."""
    released = datetime.combine(card.lifecycle.released, time(), UTC)
    retirements = card.lifecycle.retires.values()
    retires = min((each.day for each in retirements if each.status == "announced"), default=None)
    return OpenAIModel(
        id=card.id,
        object="model",
        created=int(released.timestamp()),
        owned_by="google",
        shutdown_date=retires.isoformat() if retires else None,
    )


def _build_url(base_url: str, picture: Picture) -> str:
    return f"{base_url}/v1/images/{picture.id}"


def _read_format(picture: Picture) -> str:
    return picture.mime_type.removeprefix("image/")


def _render_warnings(result: GenerationResult) -> list[WarningWire]:
    return [WarningWire(code=item.code, detail=item.detail) for item in result.notices]


def _render_usage(cost: Usage) -> OpenAIUsage:
    return OpenAIUsage(
        input_tokens=cost.input_tokens,
        input_tokens_details=OpenAIInputDetails(
            text_tokens=cost.text_input + cost.tool_use, image_tokens=cost.image_input
        ),
        output_tokens=cost.output_tokens,
        output_tokens_details=OpenAIOutputDetails(
            image_tokens=cost.image_output, text_tokens=cost.text_output + cost.thinking
        ),
        total_tokens=cost.total_tokens,
    )
