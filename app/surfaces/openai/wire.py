"""Requests and answers of the OpenAI dialect. A request may carry every native field as well."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.surfaces.native.wire import EditForm, GenerateRequest, Parameters, WarningWire

Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]
ALWAYS_REFUSED = "Cannot be honoured: always a 400."


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class OpenAIParameters(Parameters):
    """What both routes share: the original's fields, and every native one, as `extra_body` sends them."""

    size: str | None = Field(
        None,
        description="WIDTHxHEIGHT, drawn as the cell of the model's grid of nearest ratio and area; auto or"
        " nothing leaves both to quality, aspect_ratio, image_size and the model.",
        examples=["1536x1024"],
    )
    quality: Quality | None = Field(
        None,
        description="Without a size it picks one: low 512, medium or standard 1K, high or hd 2K, max or"
        " xhigh 4K. Beside a size it has no effect.",
        examples=["medium"],
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None,
        description="b64_json, or url for addresses that the same key can fetch until the picture expires.",
        examples=["b64_json"],
    )
    output_format: str | None = Field(
        None,
        description="png or jpeg, where the upstream lets a caller choose; else a 400.",
        examples=["png"],
    )
    output_compression: int | None = Field(
        None, description="JPEG quality, 0 to 100, where the upstream lets a caller choose.", examples=[85]
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        None,
        description="auto or opaque, which is what the model draws; transparent is a 400.",
        examples=["auto"],
    )
    moderation: Literal["auto", "low"] | None = Field(
        None,
        description="auto leaves the model's own thresholds; low sets BLOCK_ONLY_HIGH in every category.",
        examples=["auto"],
    )
    stream: bool | None = Field(
        None,
        description="Answer with server-sent events: one completed event a picture.",
        examples=[False],
    )
    partial_images: int | None = Field(
        None,
        ge=0,
        le=3,
        description="0 to 3. Accepted, and none are made: the model has no partial pictures.",
        examples=[0],
    )
    user: str | None = Field(
        None, description="Kept as the label user, its first 63 characters.", examples=["user-1234"]
    )
    safety_identifier: str | None = Field(
        None,
        description="Kept as the label safety_identifier, its first 63 characters.",
        examples=["3f0c4f6e"],
    )
    style: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])
    input_fidelity: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])
    complexity: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])
    svg: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])
    frame_count: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])
    frame_duration_ms: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])
    mask: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])
    markup: Any = Field(None, description=ALWAYS_REFUSED, examples=[None])


class OpenAIImageGeneration(OpenAIParameters, GenerateRequest):
    """Text, or text with inputs in the native fields, to images."""


class OpenAIImageEdit(OpenAIParameters, EditForm):
    """The same as form fields, with the inputs as file parts. SDKs' brackets are read: `labels[team]`."""

    image: list[Any] = Field(
        [], description="Reference images as file parts, in order: image, or image[] for several.",
        json_schema_extra={"items": {"type": "string", "format": "binary"}},
    )  # fmt: skip


class OpenAIImage(_Answer):
    """One picture: its bytes or its address."""

    b64_json: str | None = Field(
        None, description="The bytes in base64, as the upstream made them.", examples=["iVBORw0KGgo…"]
    )
    url: str | None = Field(
        None,
        description="Where the bytes can be fetched with the same key.",
        examples=["https://gateway.example/v1/images/img_" + "0" * 64],
    )


class OpenAIInputDetails(_Answer):
    """Input tokens by kind."""

    text_tokens: int = Field(description="Prompt and documents.", examples=[24])
    image_tokens: int = Field(description="Reference images.", examples=[0])


class OpenAIOutputDetails(_Answer):
    """Output tokens by kind."""

    image_tokens: int = Field(description="Pictures.", examples=[1120])
    text_tokens: int = Field(description="Words and thoughts.", examples=[450])


class OpenAIUsage(_Answer):
    """Tokens that this request cost; all zero for what the cache served."""

    input_tokens: int = Field(description="All input.", examples=[24])
    input_tokens_details: OpenAIInputDetails = Field(description="The same by kind.")
    output_tokens: int = Field(description="All output.", examples=[1570])
    output_tokens_details: OpenAIOutputDetails = Field(description="The same by kind.")
    total_tokens: int = Field(description="Input and output.", examples=[1594])


class OpenAIPicture(_Answer):
    """What is said of pictures, read from the first one's own bytes."""

    background: Literal["opaque"] = Field(description="The model draws no other.", examples=["opaque"])
    output_format: str = Field(description="By signature.", examples=["png"])
    quality: str | None = Field(description="That asks for pictures of this size.", examples=["medium"])
    size: str = Field(description="WIDTHxHEIGHT.", examples=["1264x848"])
    safety_identifier: str | None = Field(
        None, description="As it was asked; else user, if that was.", examples=[None]
    )


class OpenAIImages(OpenAIPicture):
    """A finished request."""

    created: int = Field(description="When it was finished, in Unix seconds.", examples=[1795348800])
    data: list[OpenAIImage] = Field(description="In order.")
    usage: OpenAIUsage = Field(description="What this request cost.")
    id: str = Field(description="Names the generation.", examples=["gen_0123456789abcdef01234567"])
    model: str = Field(description="Card id.", examples=["gemini-3.1-flash-image"])
    warnings: list[WarningWire] = Field(description="Worth knowing.", examples=[[]])


class OpenAIImageEvent(OpenAIPicture):
    """One event of a stream: a finished picture."""

    type: Literal["image_generation.completed", "image_edit.completed"] = Field(
        description="By route.", examples=["image_generation.completed"]
    )
    b64_json: str | None = Field(None, description="The bytes in base64.", examples=["iVBORw0KGgo…"])
    url: str | None = Field(
        None,
        description="The address instead, with response_format url.",
        examples=["https://gateway.example/v1/images/img_" + "0" * 64],
    )
    created_at: int = Field(description="When it was finished, in Unix seconds.", examples=[1795348800])
    usage: OpenAIUsage = Field(
        description="Of the whole request, on its last event; zero on the others, so that sums are right."
    )
    warnings: list[WarningWire] = Field(description="Worth knowing.", examples=[[]])


class OpenAIModel(_Answer):
    """A model, as far as the dialect tells; `GET /v1/models` has the whole card."""

    id: str = Field(description="Card id.", examples=["gemini-3.1-flash-image"])
    object: Literal["model"] = Field(description="Always model.", examples=["model"])
    created: int = Field(description="Release in Unix seconds.", examples=[1779926400])
    owned_by: str = Field(description="Who makes it.", examples=["google"])
    shutdown_date: str | None = Field(
        description="The earliest date on which a back end may retire it.", examples=["2027-05-28"]
    )


class OpenAIModels(_Answer):
    """All models."""

    object: Literal["list"] = Field(description="Always list.", examples=["list"])
    data: list[OpenAIModel] = Field(description="By id.")


class OpenAIViolation(BaseModel):
    """One fault of a request."""

    pointer: str = Field(description="JSON pointer into the request.", examples=["/size"])
    code: str = Field(description="For programs.", examples=["unsupported_size"])
    detail: str = Field(description="For people.", examples=["The size is written WIDTHxHEIGHT, or auto."])
    allowed: list[str | int | float] | None = Field(
        None, description="What is accepted.", examples=[["1024x1024"]]
    )


class OpenAISpent(BaseModel):
    """What a failed request cost all the same."""

    input_tokens: int = Field(description="All input.", examples=[24])
    output_tokens: int = Field(description="All output.", examples=[0])
    total_tokens: int = Field(description="Both.", examples=[24])
    cost_usd: float | None = Field(
        None, description="Dollars, of a result that is no longer kept.", examples=[0.0672]
    )


class OpenAIErrorMembers(BaseModel):
    """The original's four members, and what the gateway adds."""

    message: str = Field(description="For people; every fault.", examples=["n: Between 1 and 8 pictures."])
    type: str = Field(description="As the original names it.", examples=["invalid_request_error"])
    param: str | None = Field(description="The first field at fault.", examples=["n"])
    code: str | None = Field(description="For programs.", examples=["validation_failed"])
    violations: list[OpenAIViolation] | None = Field(None, description="Every fault.")
    usage: OpenAISpent | None = Field(None, description="What it cost all the same.")


class OpenAIError(BaseModel):
    """A failure."""

    error: OpenAIErrorMembers = Field(description="What went wrong.")
