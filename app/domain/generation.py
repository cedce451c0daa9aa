"""The results of requests: pictures, texts and usage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ImageData = bytes | memoryview
"""The bytes of an image, in whatever buffer they were received."""

CacheStatus = Literal["hit", "miss", "coalesced", "bypass"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens by modality, as Google reported them.

    Attributes:
        text_input: Prompt tokens that are no images; documents count here.
        image_input: Prompt tokens of reference images.
        image_output: Image tokens, those of the card's table.
        text_output: Output tokens of words, with the remainder that Google gives no modality.
        thinking: Thought tokens, billed as words.
        tool_use: Prompt tokens that grounding fed back.
        cached_input: The part of the prompt that came from Google's context cache.
        search_queries: Queries of searches, each of which is billed.
        estimated: True where Google reported nothing and the table stands in.
        tier: The service tier that Google reports, which decides the price: standard, flex, priority,
            provisioned; mixed where calls differ; empty without a report.
        usd: The list price of these tokens in billionths of a dollar, by the model and tier that answered;
            None where it follows from the request's card and the tier. Equality does not depend on it.
    """

    text_input: int = 0
    image_input: int = 0
    image_output: int = 0
    text_output: int = 0
    thinking: int = 0
    tool_use: int = 0
    cached_input: int = 0
    estimated: bool = False
    tier: str = ""
    search_queries: int = 0
    usd: int | None = field(default=None, compare=False)

    @property
    def input_tokens(self) -> int:
        """All input tokens."""
        return self.text_input + self.image_input + self.tool_use

    @property
    def output_tokens(self) -> int:
        """Everything that came out, thoughts included."""
        return self.image_output + self.text_output + self.thinking

    @property
    def total_tokens(self) -> int:
        """Everything that Google counts."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Tokens of both, estimated where either is."""
        tiers = {self.tier, other.tier} - {""}
        return Usage(
            self.text_input + other.text_input,
            self.image_input + other.image_input,
            self.image_output + other.image_output,
            self.text_output + other.text_output,
            self.thinking + other.thinking,
            self.tool_use + other.tool_use,
            self.cached_input + other.cached_input,
            self.estimated or other.estimated,
            "mixed" if len(tiers) > 1 else next(iter(tiers), ""),
            self.search_queries + other.search_queries,
            None if self.usd is None or other.usd is None else self.usd + other.usd,
        )


NO_USAGE = Usage(usd=0)


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of a request: tokens, and billionths of a US dollar."""

    usage: Usage
    usd: int


FREE = Spent(NO_USAGE, 0)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Picture:
    """One delivered image: its bytes, and the facts in its header.

    Attributes:
        id: ``img_`` and the BLAKE3 of the bytes in hexadecimal (64 digits).
        mime_type: The type by its signature, never a claim.
        data: The bytes as the upstream sent them, or as they were loaded, without another copy.
    """

    id: str
    mime_type: str
    width: int
    height: int
    data: ImageData

    @property
    def length(self) -> int:
        """Bytes."""
        return len(self.data)

    @property
    def record(self) -> PictureRecord:
        """The same without the bytes."""
        return PictureRecord(self.id, self.mime_type, self.width, self.height, self.length)


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """A picture without its bytes, as stored results refer to it."""

    id: str
    mime_type: str
    width: int
    height: int
    length: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning in a successful answer."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class SearchSource:
    """A page that a search of the model led to; ``image_uri`` is that of a picture on it, or empty."""

    title: str
    uri: str
    image_uri: str = ""


@dataclass(frozen=True, slots=True)
class SearchResults:
    """What the searches of one call came to. Google's terms oblige callers to show it with the picture.

    Attributes:
        queries: The queries, each of which is billed.
        entry_point: HTML with Google's search suggestions, to be shown as it is.
        sources: The pages that the answer rests on, in Google's order.
    """

    queries: tuple[str, ...]
    entry_point: str
    sources: tuple[SearchSource, ...]


@dataclass(frozen=True, slots=True)
class Generation:
    """One finished result, as it is stored and shared; its pictures are stored separately.

    Attributes:
        id: ``gen_`` and the id of the hold that paid for it.
        created_ms: Store time at which it was finished, Unix milliseconds.
        usage: The tokens that generating it cost, once.
        interim: Pictures of thoughts, if the caller requested them.
        verbatim: The upstream's own answer, JSON with a picture's id in place of its bytes; empty after
            several calls.
        back_end: The back end that made it; only that one reads its thought signatures. Empty where calls
            went to different ones.
        searches: What the searches of its calls came to; calls that searched nothing are left out.
    """

    id: str
    model: str
    model_version: str
    created_ms: int
    pictures: tuple[PictureRecord, ...]
    text: str
    finish_reason: str
    usage: Usage
    seeds: tuple[int | None, ...] = (None,)
    notices: tuple[Notice, ...] = ()
    interim: tuple[PictureRecord, ...] = ()
    verbatim: str = ""
    back_end: str = ""
    searches: tuple[SearchResults, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """The answer of one upstream call.

    Attributes:
        pictures: Final images in order (thoughts left out, unless an image came only as a thought).
        signatures: The opaque thought signature of each picture, or None.
        text: Text that is not a thought.
        finish_reason: As Google spells it; unknown words are kept.
        usage: Reported tokens; ``estimated`` where the report was missing.
        interim: Pictures of thoughts, which are not results.
        verbatim: The answer itself, JSON with a picture's id in place of its bytes.
        back_end: The back end that answered.
        searches: What its searches came to, or None if it made none.
        reported: Whether it reported its tokens at all.
        answered_by: The id of another card whose model answered, empty for a model without one; None where it
            was the requested one, or Google did not say.
    """

    pictures: tuple[Picture, ...]
    text: str
    finish_reason: str
    usage: Usage
    model_version: str
    response_id: str = ""
    signatures: tuple[str | None, ...] = ()
    interim: tuple[Picture, ...] = ()
    verbatim: str = ""
    back_end: str = ""
    searches: SearchResults | None = None
    reported: bool = True
    answered_by: str | None = None
