"""The card: facts about one model, as data.

The YAML files under ``app/cards`` are read into these classes; every limit, size, token count and price
that the gateway enforces is a value here, none is a constant in code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Tokens = Annotated[int, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]
Pixels = Annotated[int, Field(gt=0)]
Dollars = Annotated[float, Field(ge=0)]
ImageSize = Annotated[str, Field(pattern=r"^(512|[1-9]K)$")]
AspectRatio = Annotated[str, Field(pattern=r"^[1-9][0-9]?:[1-9][0-9]?$")]


_NOTICE_PERIOD = timedelta(days=90)
_PROVISIONED: Final = "provisioned"
_PREFIXES = ("publishers/google/models/", "models/", "google/")


def strip_model_prefix(name: str) -> str:
    """A model's name without the prefix that some APIs write (``models/``, ``google/``)."""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def compute_edge(image_size: str) -> int:
    """The side of a square picture of this size in pixels: 512 for ``512``, 2048 for ``2K``."""
    return int(image_size) if image_size.isdigit() else 1024 * int(image_size.removesuffix("K"))


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Fact):
    """A source of a card's facts, and the date when they were last compared with it."""

    title: str
    checked: date


Confidence = Literal["documented", "reported", "inferred", "assumed"]
"""How far to trust a fact: Google says so, users saw it, it follows from other facts, or nobody says so."""


class Evidence(_Fact):
    """What some facts of a card rest on."""

    facts: tuple[str, ...] = Field(
        min_length=1, description="Paths of the facts, such as `tokens.input_max`."
    )
    confidence: Confidence
    sources: tuple[str, ...] = Field(default=(), description="Ids of the card's sources.")
    note: str = Field(default="", description="How the value was found, or what is missing.")
    disagreement: str = Field(
        default="", description="What other sources say, and why the value is this one."
    )

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.confidence in {"documented", "reported"} and not self.sources:
            raise ValueError(f"{', '.join(self.facts)}: a {self.confidence} fact names its sources")
        return self


class Alias(_Fact):
    """Another name of the model. Deprecated aliases still resolve, with a warning."""

    id: str
    deprecated: bool = False


class Retirement(_Fact):
    """The day from which a back end no longer serves the model.

    ``lifted`` is a day that was announced and that its source no longer names.
    """

    day: date
    status: Literal["announced", "lifted"] = "announced"
    source: str = Field(description="One of the card's sources.")

    def get_status(self, today: date) -> Literal["announced", "lifted", "past"]:
        """The status on a day: an announced day is past once it has come."""
        if self.status == "announced" and self.day <= today:
            return "past"
        return self.status

    def is_near(self, today: date) -> bool:
        """Whether it is announced for one of the next 90 days, or past."""
        return self.status == "announced" and self.day - today <= _NOTICE_PERIOD


class Lifecycle(_Fact):
    """The model's stage and dates, which may differ by back end."""

    stage: Literal["preview", "ga", "deprecated", "retired"]
    released: date
    deprecated: Mapping[str, date] = Field(default_factory=dict, description="Date by back end.")
    retires: Mapping[str, Retirement] = Field(default_factory=dict, description="Retirement by back end.")
    replacement: str | None = None


class TokenLimits(_Fact):
    """The context: the maximum number of input and output tokens."""

    input_max: Tokens
    output_max: Tokens


Resolution = Literal["low", "medium", "high", "ultra_high"]
"""How closely the model looks at a file (``mediaResolution`` in Google's words)."""


def _count_at(resolution: str | None, usual: int, levels: Mapping[Resolution, int], *, cautious: bool) -> int:
    """Tokens at a resolution; an unknown one counts as the most expensive."""
    if resolution is None:
        return usual
    tokens = next((tokens for level, tokens in levels.items() if level == resolution), None)
    if tokens is None:
        return max(usual, *levels.values())
    return max(usual, tokens) if cautious else tokens


class ImageInputs(_Fact):
    """Limits of reference images; sizes are bytes per image."""

    count_max: Annotated[int, Field(ge=0)]
    inline_bytes_max: Bytes
    cloud_storage_bytes_max: Bytes
    mime_types: tuple[str, ...]
    tokens_each: Tokens
    tokens_by_resolution: Mapping[Resolution, Tokens] = Field(
        default={"low": 280, "medium": 560, "high": 1120, "ultra_high": 2240},
        description="Tokens per image if a request names a resolution.",
    )

    def count_tokens(self, resolution: str | None, *, cautious: bool = False) -> int:
        """Tokens of an image at a resolution, or None for the usual one.

        A cautious count never believes that a lower resolution has fewer tokens than the usual one.
        """
        return _count_at(resolution, self.tokens_each, self.tokens_by_resolution, cautious=cautious)


class DocumentInputs(_Fact):
    """Limits of documents: bytes and tokens per file, tokens in total. Without types, no documents."""

    mime_types: tuple[str, ...]
    bytes_max: Bytes
    console_bytes_max: Bytes
    tokens_per_file_max: Tokens
    tokens_total_max: Tokens
    tokens_per_page: Tokens = Field(default=560, description="Tokens per page of a PDF.")
    tokens_per_page_min: Tokens = Field(
        default=258, description="Fewest tokens per page in any source; PDFs are refused by this count."
    )
    tokens_per_page_by_resolution: Mapping[Resolution, Tokens] = Field(
        default={"low": 280, "medium": 560, "high": 1120, "ultra_high": 2240},
        description="Tokens per page if a request names a resolution.",
    )

    def count_page_tokens(self, resolution: str | None) -> int:
        """Tokens to reserve for a page at a resolution, or None for the usual one."""
        levels = self.tokens_per_page_by_resolution
        return _count_at(resolution, self.tokens_per_page, levels, cautious=False)

    def count_least_page_tokens(self, resolution: str | None) -> int:
        """The fewest tokens that a page can have."""
        levels = self.tokens_per_page_by_resolution
        known = next((tokens for level, tokens in levels.items() if level == resolution), None)
        return known or self.tokens_per_page_min


class VideoInputs(_Fact):
    """Limits of video inputs."""

    preview: bool = True
    mime_types: tuple[str, ...] = ()
    tokens_per_second: Tokens = Field(
        default=300, description="Tokens per second of a video of known length, at one frame per second."
    )
    tokens_per_second_by_resolution: Mapping[Resolution, Tokens] = Field(
        default={"low": 300, "medium": 300, "high": 1200, "ultra_high": 2400},
        description="Tokens per second if a request names a resolution.",
    )

    def count_second_tokens(self, resolution: str | None) -> int:
        """Tokens of one second at one frame per second, at a resolution or None for the usual one."""
        levels = self.tokens_per_second_by_resolution
        return _count_at(resolution, self.tokens_per_second, levels, cautious=False)


class Searches(_Fact):
    """Reservations for the searches of one call, and the price of a query."""

    tokens_per_call: Tokens = Field(description="Of what the searches find, which counts as input.")
    queries_per_call: Annotated[int, Field(ge=1)]
    usd_per_thousand_queries: Dollars


class OutputSize(_Fact):
    """One size: its price in image tokens, its names in other APIs, and its duration."""

    tokens: Tokens
    megapixels: Annotated[float, Field(gt=0)]
    preview: bool = False
    qualities: tuple[str, ...] = Field(
        default=(), description="Values of OpenAI's `quality` for this size; responses name the first."
    )
    seconds: tuple[float, float] = Field(
        description="Seconds of the fastest and the slowest call, as users report them."
    )
    timeout_s: float = Field(ge=10, description="Default time limit of a request in seconds.")
    spellings: tuple[str, ...] = Field(
        default=(), description="Other accepted spellings, in any case; they are normalised."
    )


class Range(_Fact):
    """A closed interval with the model's default."""

    min: float
    max: float
    default: float

    @model_validator(mode="after")
    def _default_is_inside(self) -> Self:
        if not self.min <= self.default <= self.max:
            raise ValueError(f"the default {self.default} is not in [{self.min}, {self.max}]")
        return self


class SeedRange(_Fact):
    """The smallest and the largest seed."""

    min: int
    max: int


class Parameters(_Fact):
    """Sampling and thinking parameters that the model offers; null for one that it does not offer."""

    temperature: Range | None
    top_p: Range | None
    top_k_offered: bool
    candidate_count_max: Annotated[int, Field(ge=1)]
    seed: SeedRange | None
    thinking_levels: tuple[str, ...]
    thinking_level_default: str
    response_modalities: tuple[tuple[str, ...], ...]
    safety_categories: tuple[str, ...]
    safety_thresholds: tuple[str, ...]
    output_mime_types: tuple[str, ...] = Field(
        description="Types to choose from if the back end offers a choice."
    )

    def list_unsupported(self) -> tuple[str, ...]:
        """Names of the sampling parameters that the model refuses, in alphabetical order."""
        offered = {
            "seed": self.seed is not None,
            "temperature": self.temperature is not None,
            "top_k": self.top_k_offered,
            "top_p": self.top_p is not None,
        }
        return tuple(name for name, is_offered in offered.items() if not is_offered)


class TextAllowance(_Fact):
    """Output tokens that a reservation adds to the picture's, by thinking level."""

    per_image: Mapping[str, Tokens]


class Prices(_Fact):
    """List prices in US dollars per million tokens, standard tier."""

    as_of: date
    input: Dollars
    cached_input: Dollars
    text_output: Dollars
    image_output: Dollars

    def scale(self, share: float) -> Prices:
        """A share of every price, without the errors of binary fractions."""
        kinds = ("input", "cached_input", "text_output", "image_output")
        factor = Decimal(repr(share))
        scaled = {kind: float(Decimal(repr(getattr(self, kind))) * factor) for kind in kinds}
        return self.model_copy(update=scaled)


class Card(_Fact):
    """One model. ``pixels[ratio][size]`` is (width, height) of the picture that the model delivers."""

    id: str
    title: str
    also_known_as: str | None = None
    sources: Mapping[str, Source] = Field(description="Where the facts come from, by an id.")
    evidence: tuple[Evidence, ...] = Field(description="What each fact rests on.")
    aliases: tuple[Alias, ...] = ()
    lifecycle: Lifecycle
    model_ids: Mapping[Literal["emulator", "gemini", "vertex"], str] = Field(
        default={}, description="The model's id at a back end, if it differs from the card's id."
    )
    locations: tuple[str, ...]
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    tokens: TokenLimits
    images: ImageInputs
    documents: DocumentInputs
    video: VideoInputs
    grounding: tuple[Literal["web_search", "image_search"], ...] = Field(
        default=(), description="Searches that the model can make before it draws."
    )
    searches: Searches | None = Field(
        default=None, description="What searches cost, for a model that can search."
    )
    image_sizes: Mapping[ImageSize, OutputSize]
    image_size_default: ImageSize
    aspect_ratios: tuple[AspectRatio, ...]
    pixels: Mapping[AspectRatio, Mapping[ImageSize, tuple[Pixels, Pixels]]]
    pixels_unsettled: tuple[tuple[AspectRatio, ImageSize], ...] = Field(
        default=(), description="Cells whose pixels the sources leave open; only their area is checked."
    )
    parameters: Parameters
    text_allowance: TextAllowance
    prices_usd_per_million: Prices
    tier_prices_usd_per_million: Mapping[Literal["flex", "priority", "provisioned"], Prices] = Field(
        default={}, description="Prices of other service tiers, if known; provisioned is the operator's own."
    )
    batch_prices_usd_per_million: Prices | None = Field(
        default=None, description="Prices of Google's batch API, to compare bills and offers with."
    )
    security_controls: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        named = {source for each in self.evidence for source in each.sources}
        named |= {each.source for each in self.lifecycle.retires.values()}
        if unknown := named - set(self.sources):
            raise ValueError(f"unknown sources are named: {', '.join(sorted(unknown))}")
        return self

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        """Every ratio has pixels for every size, and every default is one of the offered values."""
        if set(self.pixels) != set(self.aspect_ratios):
            raise ValueError("pixels and aspect_ratios name different ratios")
        for ratio, row in self.pixels.items():
            if set(row) != set(self.image_sizes):
                raise ValueError(f"the pixels of {ratio} are not given for exactly the card's sizes")
        if self.image_size_default not in self.image_sizes:
            raise ValueError("image_size_default is none of the card's sizes")
        levels = self.parameters.thinking_levels
        if self.parameters.thinking_level_default not in levels:
            raise ValueError("thinking_level_default is none of the card's levels")
        if set(self.text_allowance.per_image) != set(levels):
            raise ValueError("text_allowance is not given for exactly the card's thinking levels")
        if self.grounding and self.searches is None:
            raise ValueError("grounding is given without searches, so their price is unknown")
        spellings = [word.lower() for size in self.image_sizes.values() for word in size.spellings]
        spellings += [literal.lower() for literal in self.image_sizes]
        if len(set(spellings)) < len(spellings):
            raise ValueError("two sizes share a spelling")
        return self

    def list_service_tiers(self) -> tuple[str, ...]:
        """The service tiers that a request may have, because they have a price."""
        return ("standard", *(tier for tier in self.tier_prices_usd_per_million if tier != _PROVISIONED))

    def with_provisioned_price(self, share: float) -> Card:
        """The card with a price of calls on Provisioned Throughput: a share of the standard one."""
        scaled = self.prices_usd_per_million.scale(share)
        prices = {**self.tier_prices_usd_per_million, _PROVISIONED: scaled}
        return self.model_copy(update={"tier_prices_usd_per_million": prices})

    def get_prices(self, tier: str | None) -> Prices:
        """The prices of a service tier, or those of the standard tier if the card has none for it."""
        for name, prices in self.tier_prices_usd_per_million.items():
            if name == tier:
                return prices
        return self.prices_usd_per_million

    def get_dearest_prices(self, tier: str | None) -> Prices:
        """The prices of the most that a request can cost: Google may serve another tier."""
        possible = (self.get_prices(tier), self.prices_usd_per_million, self.get_prices(_PROVISIONED))
        return max(possible, key=lambda prices: prices.image_output)

    def image_tokens(self, image_size: str) -> int:
        """Image tokens of one picture of this size. Raises KeyError for a size not on the card."""
        return self.image_sizes[image_size].tokens

    def normalise_image_size(self, spelling: str) -> str | None:
        """The card's literal for any accepted spelling (``2k``, ``512px``), or None."""
        folded = spelling.strip().lower()
        for literal, size in self.image_sizes.items():
            if folded == literal.lower() or folded in {other.lower() for other in size.spellings}:
                return literal
        return None

    def list_near_retirements(
        self, back_ends: Iterable[str], today: date
    ) -> tuple[tuple[str, Retirement], ...]:
        """The retirements at these back ends that are past or announced for the next 90 days."""
        retirements = ((kind, self.lifecycle.retires.get(kind)) for kind in back_ends)
        return tuple((kind, each) for kind, each in retirements if each is not None and each.is_near(today))

    def describe_retirement(self, back_end: str, retirement: Retirement, today: date) -> str:
        """A sentence about a retirement, with the successor."""
        verb = "retires" if retirement.day > today else "was retired"
        successor = f"; use {self.lifecycle.replacement}" if self.lifecycle.replacement else ""
        return f"{self.title} {verb} on {retirement.day} at the back end {back_end}{successor}."

    def find_size_of_quality(self, quality: str) -> str | None:
        """The size for a value of OpenAI's ``quality``, or None if the card has none for it."""
        return next((name for name, size in self.image_sizes.items() if quality in size.qualities), None)

    def list_sizes_up_to(self, largest: str) -> tuple[str, ...]:
        """The sizes that are no larger than this one, which may be another card's."""
        return tuple(name for name in self.image_sizes if compute_edge(name) <= compute_edge(largest))

    def names(self) -> tuple[str, ...]:
        """The id and every alias."""
        return (self.id, *(alias.id for alias in self.aliases))
