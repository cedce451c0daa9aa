"""Models as the native surface tells of them: the cards."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class CellWire(_Answer):
    """One picture of the grid."""

    aspect_ratio: str = Field(description="Ratio.", examples=["16:9"])
    image_size: str = Field(description="Size.", examples=["1K"])
    width: int = Field(description="Pixels.", examples=[1376])
    height: int = Field(description="Pixels.", examples=[768])
    output_tokens: int = Field(description="Price in output tokens.", examples=[1120])
    preview: bool = Field(description="Whether the size is Preview.", examples=[False])


class ModelWire(_Answer):
    """A card: what the model takes, makes and costs."""

    id: str = Field(description="Card id.", examples=["gemini-3.1-flash-image"])
    title: str = Field(description="Name.", examples=["Gemini 3.1 Flash Image"])
    aliases: list[str] = Field(description="Other names that resolve to it.", examples=[["nano-banana-2"]])
    deprecated_aliases: list[str] = Field(
        description="Those of them that are answered with a warning.",
        examples=[["gemini-3.1-flash-image-preview"]],
    )
    stage: str = Field(description="Of its life.", examples=["ga"])
    released: str = Field(description="Date.", examples=["2026-05-28"])
    retires: dict[str, str] = Field(
        description="Earliest date by back end.", examples=[{"vertex": "2027-05-28"}]
    )
    deprecated: dict[str, str] = Field(
        description="Since when, by back end.", examples=[{"gemini": "2026-10-06"}]
    )
    replacement: str | None = Field(
        description="The model to go to; null where none is announced.", examples=["gemini-nano-banana-2.1"]
    )
    input_modalities: list[str] = Field(description="What it reads.", examples=[["text", "image", "video"]])
    input_tokens_max: int = Field(description="Context in.", examples=[131072])
    output_tokens_max: int = Field(description="Context out.", examples=[32768])
    input_images_max: int = Field(description="A prompt.", examples=[14])
    input_image_bytes_max: int = Field(description="Each, inline.", examples=[7000000])
    input_image_mime_types: list[str] = Field(description="Accepted.", examples=[["image/png"]])
    document_mime_types: list[str] = Field(description="Accepted.", examples=[["application/pdf"]])
    document_bytes_max: int = Field(description="Each.", examples=[50000000])
    document_tokens_max: int = Field(description="Each.", examples=[65536])
    documents_tokens_max: int = Field(description="All together.", examples=[131072])
    grounding: list[str] = Field(description="Searches that it can make.", examples=[["web_search"]])
    aspect_ratios: list[str] = Field(description="Offered.", examples=[["1:1"]])
    image_sizes: list[str] = Field(description="Offered.", examples=[["1K"]])
    grid: list[CellWire] = Field(description="Every ratio with every size.")
    thinking_levels: list[str] = Field(description="Offered.", examples=[["minimal", "high"]])
    prices_usd_per_million: dict[str, float] = Field(
        description="List prices.", examples=[{"image_output": 60.0}]
    )
    prices_as_of: str = Field(description="Date of the prices.", examples=["2026-11-22"])


class ModelsResponse(_Answer):
    """All cards."""

    models: list[ModelWire] = Field(description="By id.")
