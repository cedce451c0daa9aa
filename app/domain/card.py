"""The card: the facts of one model, as data.

The YAML files under ``app/cards`` are read into these classes; every limit, size, token count and price
that the gateway enforces is a value here, none is a constant in code.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ImageSize = Annotated[str, Field(pattern=r"^(512|[1-9]K)$")]
AspectRatio = Annotated[str, Field(pattern=r"^[1-9][0-9]?:[1-9][0-9]?$")]


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Fact):
    """Where a card's facts come from, and when they were last compared with it."""

    title: str
    checked: date


class Alias(_Fact):
    """Another name of the model. A deprecated one still resolves, with a warning."""

    id: str
    deprecated: bool = False


class Lifecycle(_Fact):
    """Dates of the model's life; the back ends may differ."""

    stage: Literal["preview", "ga", "deprecated", "retired"]
    released: date
    deprecated: Mapping[str, date] = Field(default_factory=dict, description="By back end.")
    retires: Mapping[str, date] = Field(default_factory=dict, description="By back end, earliest date.")
    replacement: str | None = None


class TokenLimits(_Fact):
    """The context: how many tokens may go in and come out."""

    input_max: int
    output_max: int


class ImageInputs(_Fact):
    """Limits of reference images; sizes in bytes, each image on its own."""

    count_max: int
    inline_bytes_max: int
    cloud_storage_bytes_max: int
    mime_types: tuple[str, ...]
    tokens_each: int


class DocumentInputs(_Fact):
    """Limits of documents; sizes in bytes, tokens a file and in all."""

    mime_types: tuple[str, ...]
    bytes_max: int
    console_bytes_max: int
    tokens_per_file_max: int
    tokens_total_max: int


class VideoInputs(_Fact):
    """Limits of video inputs."""

    preview: bool = True
    mime_types: tuple[str, ...] = ()


class OutputSize(_Fact):
    """One resolution: its price in output tokens, other spellings, whether it is Preview."""

    tokens: int
    megapixels: float
    preview: bool = False
    spellings: tuple[str, ...] = Field(
        default=(), description="Accepted and normalised, compared without case."
    )


class Range(_Fact):
    """A closed interval with the model's default."""

    min: float
    max: float
    default: float


class Parameters(_Fact):
    """Sampling and thinking parameters as the card offers them."""

    temperature: Range
    top_p: Range
    top_k_offered: bool
    candidate_count_max: int
    seed_min: int
    seed_max: int
    thinking_levels: tuple[str, ...]
    thinking_level_default: str
    response_modalities: tuple[tuple[str, ...], ...]
    safety_categories: tuple[str, ...]
    safety_thresholds: tuple[str, ...]
    output_mime_types: tuple[str, ...] = Field(description="Where the back end lets a caller choose.")


class TextAllowance(_Fact):
    """Output tokens beside the picture that a reservation allows for, by thinking level."""

    per_image: Mapping[str, int]


class Prices(_Fact):
    """List prices in US dollars per million tokens, standard tier."""

    as_of: date
    input: float
    cached_input: float
    text_output: float
    image_output: float


class Card(_Fact):
    """One model. ``pixels[ratio][size]`` is (width, height) of the picture that the model delivers."""

    id: str
    title: str
    also_known_as: str | None = None
    sources: tuple[Source, ...]
    aliases: tuple[Alias, ...] = ()
    lifecycle: Lifecycle
    locations: tuple[str, ...]
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    tokens: TokenLimits
    images: ImageInputs
    documents: DocumentInputs
    video: VideoInputs
    image_sizes: Mapping[ImageSize, OutputSize]
    image_size_default: ImageSize
    aspect_ratios: tuple[AspectRatio, ...]
    pixels: Mapping[AspectRatio, Mapping[ImageSize, tuple[int, int]]]
    parameters: Parameters
    text_allowance: TextAllowance
    prices_usd_per_million: Prices
    security_controls: tuple[str, ...] = ()

    def image_tokens(self, image_size: str) -> int:
        """Output tokens of one picture of this size. Raises KeyError for a size not on the card."""
        return self.image_sizes[image_size].tokens

    def normalise_image_size(self, spelling: str) -> str | None:
        """The card's literal for any accepted spelling (``2k``, ``512px``), or None."""
        folded = spelling.strip().lower()
        for literal, size in self.image_sizes.items():
            if folded == literal.lower() or folded in {other.lower() for other in size.spellings}:
                return literal
        return None

    def names(self) -> tuple[str, ...]:
        """The id and every alias."""
        return (self.id, *(alias.id for alias in self.aliases))
