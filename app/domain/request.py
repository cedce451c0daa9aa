"""Requests in the gateway's own words, whatever dialect they came in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.domain.conversation import Earlier
    from app.domain.passthrough import Passthrough

InputKind = Literal["image", "document", "video"]
CacheMode = Literal["use", "refresh", "bypass", "only_if_cached"]


@dataclass(frozen=True, slots=True)
class Input:
    """One reference image, document or video, with the facts read from its bytes.

    Attributes:
        kind: The kind that the caller sent it as.
        pointer: JSON pointer to it in the caller's request, for violations.
        data: The bytes, or None for a file that stays in Cloud Storage.
        uri: A ``gs://`` address, or None.
        declared_mime_type: The caller's claim, or None.
        mime_type: The type by its signature, or None where no signature fits.
        width: Pixels, read from the header, or None.
        height: Pixels, read from the header, or None.
        frames: The number of frames of an image; 1 for a still.
        pages: Pages of a PDF, or None where they were not counted.
        seconds: Seconds of a video, or None where its header does not say.
        digest: BLAKE3 of the bytes in hexadecimal (of the address where there are no bytes).
        faults: Faults of the bytes, as (code, sentence).
        resolution: How closely the model is to look at it, as the card has it (``low`` to ``ultra_high``);
            None for the usual, any other word for one that nobody knows.
        fps: Frames of a video that the model sees in a second.
        drawn: Whether the model drew it in an earlier turn. It is read and paid for like a reference.
        plain: False for base64 with line breaks or in a data URL.
    """

    kind: InputKind
    pointer: str
    data: bytes | None = None
    uri: str | None = None
    declared_mime_type: str | None = None
    mime_type: str | None = None
    width: int | None = None
    height: int | None = None
    frames: int = 1
    pages: int | None = None
    seconds: float | None = None
    digest: str = ""
    faults: tuple[tuple[str, str], ...] = ()
    resolution: str | None = None
    fps: float = 1
    drawn: bool = False
    plain: bool = True

    @property
    def length(self) -> int:
        """Bytes, 0 where the bytes are elsewhere."""
        return len(self.data) if self.data is not None else 0


@dataclass(frozen=True, slots=True)
class SafetySetting:
    """One harm category and the threshold at which it blocks, in Google's spelling."""

    category: str
    threshold: str


@dataclass(frozen=True, slots=True)
class Grounding:
    """The searches that the model may make before it draws."""

    web_search: bool = False
    image_search: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether any search may be made."""
        return self.web_search or self.image_search


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request in the gateway's own words. None leaves the choice to the model.

    ``image_size`` keeps the caller's spelling until validation has accepted it; ``normalised`` in
    ``app/domain/validation.py`` gives the request as it will be used. ``verbatim`` is Google's own words for
    a request that these cannot say completely; ``other_text_bytes`` counts what the model reads there beside
    prompt, instruction and files, and ``body_bytes`` all of its JSON without its files; ``extra_tokens`` are
    those of members that an operator allows, and ``unpriced`` points to those without a price; ``earlier`` is
    the conversation that this one goes on with. ``bounded`` says that ``max_output_tokens`` is the gateway's
    own, tighter than the caller's and the card's. ``opening`` is a digest of the first turn in Google's
    dialect, where requests that continue a conversation are known by it.
    """

    model: str
    prompt: str
    images: tuple[Input, ...] = ()
    documents: tuple[Input, ...] = ()
    videos: tuple[Input, ...] = ()
    aspect_ratio: str | None = None
    image_size: str | None = None
    n: int = 1
    response_modalities: tuple[str, ...] = ("IMAGE",)
    output_mime_type: str | None = None
    output_compression_quality: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    candidate_count: int | None = None
    seed: int | None = None
    max_output_tokens: int | None = None
    bounded: bool = False
    thinking_level: str | None = None
    thinking_budget: int | None = None
    system_instruction: str | None = None
    other_text_bytes: int = 0
    body_bytes: int = 0
    extra_tokens: int = 0
    unpriced: tuple[str, ...] = ()
    safety_settings: tuple[SafetySetting, ...] = ()
    grounding: Grounding = field(default_factory=Grounding)
    variant: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    service_tier: str | None = None
    verbatim: Passthrough | None = field(default=None, repr=False)
    earlier: Earlier | None = field(default=None, repr=False)
    opening: str = field(default="", compare=False, repr=False)

    @property
    def is_usual_jpeg(self) -> bool:
        """Whether it asks for JPEG and no more, which back ends without a choice of format write anyway."""
        return (
            self.output_mime_type == "image/jpeg"
            and self.output_compression_quality is None
            and self.verbatim is None
        )

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Every input in the order in which the model sees them."""
        return self.images + self.documents + self.videos

    @property
    def names_addresses(self) -> bool:
        """Whether Google reads a file for it, in this turn or an earlier one."""
        earlier = self.earlier is not None and self.earlier.conversation.addresses
        return bool(earlier) or any(item.data is None for item in self.inputs)


@dataclass(frozen=True, slots=True)
class CacheDirective:
    """How this request uses the cache (RFC 9111 request directives, or the ``cache`` field).

    Attributes:
        mode: ``use`` reads, joins a call under way, and writes; ``refresh`` (no-cache) generates again and
            writes; ``bypass`` (no-store) does neither; ``only_if_cached`` never generates.
        max_age_s: Seconds above which a result is too old; None for any age.
    """

    mode: CacheMode = "use"
    max_age_s: int | None = None


SEEDS_PER_VARIANT = 1000
_SEED_SPACE = 2**31


def derive_seeds(request: GenerationRequest) -> tuple[int | None, ...]:
    """One seed for each of the ``n`` calls; answers echo them all.

    Without a seed the model draws something new in every call. Calls with equal seeds would draw equal
    pictures, so the seeds of a request count up from the caller's, and those of variants are a thousand
    apart.
    """
    if request.seed is None:
        return (None,) * request.n
    first = request.seed + request.variant * SEEDS_PER_VARIANT
    return tuple(_wrap_seed(first + index) for index in range(request.n))


def _wrap_seed(seed: int) -> int:
    return (seed + _SEED_SPACE) % (2 * _SEED_SPACE) - _SEED_SPACE
