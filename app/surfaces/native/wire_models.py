"""Model cards in the native dialect."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


class CellWire(_Response):
    """One combination of aspect ratio and image size."""

    aspect_ratio: str = Field(description="Aspect ratio, width to height.", examples=["16:9"])
    image_size: str = Field(description="Image size.", examples=["1K"])
    width: int = Field(description="Width in pixels.", examples=[1376])
    height: int = Field(description="Height in pixels.", examples=[768])
    image_tokens: int = Field(description="Tokens of one such picture.", examples=[1120])
    preview: bool = Field(description="Whether the size is a Preview feature.", examples=[False])


class RetirementWire(_Response):
    """The end of a model at one back end."""

    date: str = Field(description="First day without the model.", examples=["2027-05-28"])
    status: str = Field(
        description="announced; lifted if the source no longer names the day; past if the day has come.",
        examples=["announced"],
    )
    source: str = Field(
        description="Title of the source of the date.", examples=["Model life cycle pages of both back ends"]
    )


class MigrationWire(_Response):
    """The model that serves the requests for another one."""

    model: str = Field(description="Id of the model that serves them.", examples=["gemini-nano-banana-2.1"])
    share: float = Field(description="Part of the requests that it serves, from 0 to 1.", examples=[0.05])


class ModelWire(_Response):
    """A model card: inputs, outputs, limits and prices of one model."""

    id: str = Field(description="Id of the model card.", examples=["gemini-3.1-flash-image"])
    title: str = Field(description="Display name of the model.", examples=["Gemini 3.1 Flash Image"])
    aliases: list[str] = Field(
        description="Other names that a request may use for the model.", examples=[["nano-banana-2"]]
    )
    deprecated_aliases: list[str] = Field(
        description="Aliases that are still accepted, with a warning in the response.",
        examples=[["gemini-3.1-flash-image-preview"]],
    )
    stage: str = Field(description="Launch stage: ga or preview.", examples=["ga"])
    released: str = Field(description="Release date.", examples=["2026-05-28"])
    retires: dict[str, RetirementWire] = Field(
        description="Retirement by back end.",
        examples=[{"vertex": {"date": "2027-05-28", "status": "announced", "source": "Life cycle pages"}}],
    )
    deprecated: dict[str, str] = Field(
        description="Date since which the model is deprecated, by back end.",
        examples=[{"gemini": "2026-10-06"}],
    )
    replacement: str | None = Field(
        description="Id of the successor model; null if none is announced.",
        examples=["gemini-nano-banana-2.1"],
    )
    migration: MigrationWire | None = Field(
        description="Where the caller's requests for the model are served instead, by an operator's alias; "
        "null if there is none.",
        examples=[{"model": "gemini-nano-banana-2.1", "share": 0.05}],
    )
    input_modalities: list[str] = Field(
        description="Kinds of input that the model reads.", examples=[["text", "image", "video"]]
    )
    input_tokens_max: int = Field(description="Maximum number of input tokens.", examples=[131072])
    output_tokens_max: int = Field(description="Maximum number of output tokens.", examples=[32768])
    input_images_max: int = Field(
        description="Maximum number of reference images in one request.", examples=[14]
    )
    input_image_bytes_max: int = Field(
        description="Maximum size in bytes of one inline reference image.", examples=[7000000]
    )
    input_image_mime_types: list[str] = Field(
        description="Accepted media types of reference images.", examples=[["image/png"]]
    )
    document_mime_types: list[str] = Field(
        description="Accepted media types of documents.", examples=[["application/pdf"]]
    )
    document_bytes_max: int = Field(description="Maximum size in bytes of one document.", examples=[50000000])
    document_tokens_max: int = Field(
        description="Maximum number of tokens of one document.", examples=[65536]
    )
    documents_tokens_max: int = Field(
        description="Maximum number of tokens of all documents together.", examples=[131072]
    )
    grounding: list[str] = Field(
        description="Kinds of search that the model can ground a picture on.", examples=[["web_search"]]
    )
    aspect_ratios: list[str] = Field(description="Supported aspect ratios.", examples=[["1:1"]])
    image_sizes: list[str] = Field(description="Supported image sizes.", examples=[["1K"]])
    grid: list[CellWire] = Field(description="Pixels and price of every aspect ratio at every image size.")
    thinking_levels: list[str] = Field(
        description="Supported thinking levels.", examples=[["minimal", "high"]]
    )
    unsupported_parameters: list[str] = Field(
        description="Sampling parameters that the model does not offer; a request with one is refused.",
        examples=[["top_k"]],
    )
    service_tiers: list[str] = Field(
        description="Service tiers that have a price; a request for another one is refused.",
        examples=[["standard", "flex", "priority"]],
    )
    prices_usd_per_million: dict[str, float] = Field(
        description="List prices in US dollars per million tokens, by kind of token.",
        examples=[{"image_output": 60.0}],
    )
    prices_as_of: str = Field(
        description="Date on which the prices were last checked.", examples=["2026-11-22"]
    )


class ModelsResponse(_Response):
    """Every model."""

    models: list[ModelWire] = Field(description="Model cards, sorted by id.")
