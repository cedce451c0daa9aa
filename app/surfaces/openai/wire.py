"""JSON requests and responses of the OpenAI dialect. A request may carry every native field as well."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.surfaces.http.problems import WouldFitWire
from app.surfaces.native.wire import EditForm, GenerateRequest, Parameters, WarningWire

Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]
ALWAYS_REFUSED = "Not supported by the model: always a 400."


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


class OpenAIParameters(Parameters):
    """OpenAI's parameters, and every native one, which SDKs send through `extra_body`."""

    size: str | None = Field(
        None,
        description="WIDTHxHEIGHT, mapped to the model's nearest aspect ratio and the smallest image size"
        " that covers it; or an image size such as 2K, or an aspect ratio such as 16:9. If auto or omitted,"
        " quality, aspect_ratio and image_size apply.",
        examples=["1536x1024"],
    )
    quality: Quality | None = Field(
        None,
        description="Selects an image size: low 512, medium or standard 1K, high or hd 2K, max or xhigh 4K."
        " It has no effect if size is given.",
        examples=["medium"],
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None,
        description="b64_json, or url for URLs that the same key can fetch until the picture expires.",
        examples=["b64_json"],
    )
    output_format: str | None = Field(
        None,
        description="png or jpeg where the back end lets callers choose, else jpeg.",
        examples=["png"],
    )
    output_compression: int | None = Field(
        None, description="JPEG quality, 0 to 100, where the back end lets callers choose.", examples=[85]
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        None,
        description="auto or opaque; the model draws opaque pictures only, so transparent is a 400.",
        examples=["auto"],
    )
    moderation: Literal["auto", "low"] | None = Field(
        None,
        description="auto keeps the model's thresholds; low sets BLOCK_ONLY_HIGH for every category.",
        examples=["auto"],
    )
    stream: bool | None = Field(
        None,
        description="Stream server-sent events: one completed event per picture.",
        examples=[False],
    )
    partial_images: int | None = Field(
        None,
        ge=0,
        le=3,
        description="0 to 3. Accepted without effect: the model sends no partial pictures.",
        examples=[0],
    )
    user: str | None = Field(
        None,
        description="Name of the end user that the request is for, whose budgets and rates then apply; only "
        "a keyed hash of it is stored.",
        examples=["user-1234"],
    )
    safety_identifier: str | None = Field(
        None,
        description="Name of the end user for requests without `user`.",
        examples=["3f0c4f6e"],
    )
    style: Any = Field(
        None, description="vivid, OpenAI's default, without effect; else a 400.", examples=["vivid"]
    )
    input_fidelity: Any = Field(
        None, description="low, OpenAI's default, without effect; else a 400.", examples=["low"]
    )
    complexity: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])
    svg: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])
    frame_count: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])
    frame_duration_ms: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])
    mask: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])
    markup: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])


class OpenAIImageGeneration(OpenAIParameters, GenerateRequest):
    """A request for pictures from text, with optional inputs in the native fields."""


class OpenAIImageEdit(OpenAIParameters, EditForm):
    """The parameters as form fields and the inputs as file parts; brackets as in `labels[team]` are read."""

    image: list[Any] = Field(
        [], description="Reference images as file parts, in order: image, or image[] for several.",
        json_schema_extra={"items": {"type": "string", "format": "binary"}},
    )  # fmt: skip


class OpenAIImage(_Response):
    """A picture: its bytes or its URL."""

    b64_json: str | None = Field(
        None, description="The bytes as base64, unchanged from the upstream.", examples=["iVBORw0KGgo…"]
    )
    url: str | None = Field(
        None,
        description="URL of the bytes, for the same key.",
        examples=["https://gateway.example/v1/images/img_" + "0" * 64],
    )


class OpenAIInputDetails(_Response):
    """Input tokens by kind."""

    text_tokens: int = Field(description="Tokens of the prompt and documents.", examples=[24])
    image_tokens: int = Field(description="Tokens of reference images.", examples=[0])


class OpenAIOutputDetails(_Response):
    """Output tokens by kind."""

    image_tokens: int = Field(description="Tokens of pictures.", examples=[1120])
    text_tokens: int = Field(description="Tokens of text and thinking.", examples=[450])


class OpenAIUsage(_Response):
    """Tokens that this request cost; all zero if the cache served it."""

    input_tokens: int = Field(description="Input tokens.", examples=[24])
    input_tokens_details: OpenAIInputDetails = Field(description="Input tokens by kind.")
    output_tokens: int = Field(description="Output tokens.", examples=[1570])
    output_tokens_details: OpenAIOutputDetails = Field(description="Output tokens by kind.")
    total_tokens: int = Field(description="Input and output tokens.", examples=[1594])


class OpenAIPicture(_Response):
    """Properties of the pictures, read from the bytes of the first one."""

    background: Literal["opaque"] = Field(description="Always opaque.", examples=["opaque"])
    output_format: str = Field(description="Image format, detected from the bytes.", examples=["png"])
    quality: str | None = Field(description="The quality that selects this image size.", examples=["medium"])
    size: str = Field(description="Dimensions as WIDTHxHEIGHT.", examples=["1264x848"])
    safety_identifier: str | None = Field(
        None, description="The request's safety_identifier, or its user.", examples=[None]
    )


class OpenAIImages(OpenAIPicture):
    """A finished generation."""

    created: int = Field(description="Time of completion, in Unix seconds.", examples=[1795348800])
    data: list[OpenAIImage] = Field(description="Pictures, in order.")
    usage: OpenAIUsage = Field(description="What this request cost.")
    id: str = Field(description="Generation id.", examples=["gen_0123456789abcdef01234567"])
    model: str = Field(description="Model id.", examples=["gemini-3.1-flash-image"])
    warnings: list[WarningWire] = Field(description="Notes on the response.", examples=[[]])


class OpenAIImageEvent(OpenAIPicture):
    """One event of a stream: a finished picture."""

    type: Literal["image_generation.completed", "image_edit.completed"] = Field(
        description="Event type, by route.", examples=["image_generation.completed"]
    )
    b64_json: str | None = Field(None, description="The bytes as base64.", examples=["iVBORw0KGgo…"])
    url: str | None = Field(
        None,
        description="URL of the bytes; only with response_format url.",
        examples=["https://gateway.example/v1/images/img_" + "0" * 64],
    )
    created_at: int = Field(description="Time of completion, in Unix seconds.", examples=[1795348800])
    usage: OpenAIUsage = Field(
        description="Usage of the whole request on its last event; zero on the others."
    )
    warnings: list[WarningWire] = Field(description="Notes on the response.", examples=[[]])


class OpenAIModel(_Response):
    """A model in OpenAI's form; `GET /v1/models` has the whole model card."""

    id: str = Field(description="Model id.", examples=["gemini-3.1-flash-image"])
    object: Literal["model"] = Field(description="Always model.", examples=["model"])
    created: int = Field(description="Release time, in Unix seconds.", examples=[1779926400])
    owned_by: str = Field(description="Maker of the model.", examples=["google"])
    shutdown_date: str | None = Field(
        description="Earliest retirement date at any back end.", examples=["2027-05-28"]
    )


class OpenAIModels(_Response):
    """Every model."""

    object: Literal["list"] = Field(description="Always list.", examples=["list"])
    data: list[OpenAIModel] = Field(description="Models, sorted by id.")


class OpenAIViolation(BaseModel):
    """A violation found in the request."""

    pointer: str = Field(description="JSON pointer into the request.", examples=["/size"])
    code: str = Field(description="Machine-readable code.", examples=["unsupported_size"])
    detail: str = Field(
        description="Human-readable explanation.", examples=["The size must be WIDTHxHEIGHT or auto."]
    )
    allowed: list[str | int | float] | None = Field(
        None, description="Accepted values.", examples=[["1024x1024"]]
    )


class OpenAISpent(BaseModel):
    """What the failed request cost."""

    input_tokens: int = Field(description="Input tokens.", examples=[24])
    output_tokens: int = Field(description="Output tokens.", examples=[0])
    total_tokens: int = Field(description="Input and output tokens.", examples=[24])
    cost_usd: float | None = Field(
        None, description="Cost in US dollars; only for a result that is no longer stored.", examples=[0.0672]
    )


class OpenAIErrorMembers(BaseModel):
    """OpenAI's four error members, and the gateway's additions."""

    message: str = Field(
        description="Human-readable explanation of all violations.", examples=["n: Between 1 and 8 pictures."]
    )
    type: str = Field(description="OpenAI's error type.", examples=["invalid_request_error"])
    param: str | None = Field(description="The first invalid field.", examples=["n"])
    code: str | None = Field(description="Machine-readable code.", examples=["validation_failed"])
    violations: list[OpenAIViolation] | None = Field(None, description="All violations.")
    would_fit: WouldFitWire | None = Field(None, description="What would be admitted now instead.")
    usage: OpenAISpent | None = Field(None, description="What the failed request cost.")


class OpenAIError(BaseModel):
    """An error response."""

    error: OpenAIErrorMembers = Field(description="The error.")
