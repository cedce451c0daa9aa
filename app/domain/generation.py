"""What came of a request: pictures, words, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
        estimated: True where Google reported nothing and the table stands in.
        tier: How Google says that it served it, which chooses the price: standard, flex, priority,
            provisioned; mixed where calls were served differently; empty where it does not say.
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

    @property
    def input_tokens(self) -> int:
        """Everything that went in."""
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
        )


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Spent:
    """What a request paid: the tokens, and billionths of a dollar."""

    usage: Usage
    usd: int


FREE = Spent(NO_USAGE, 0)


@dataclass(frozen=True, slots=True)
class Picture:
    """One delivered image: its bytes and what its own header says.

    Attributes:
        id: ``img_`` and the BLAKE3 of the bytes in hexadecimal (64 digits).
        mime_type: Read from the signature, never copied from a claim.
        data: The bytes as they came from the upstream.
    """

    id: str
    mime_type: str
    width: int
    height: int
    data: bytes

    @property
    def length(self) -> int:
        """Bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """A picture without its bytes, as results and answers refer to it."""

    id: str
    mime_type: str
    width: int
    height: int
    length: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the caller should know about a good answer; a warning, in the answers' words."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Generation:
    """One finished result, as it is kept and shared; the pictures' bytes lie beside it.

    Attributes:
        id: ``gen_`` and the id of the hold that paid for it.
        created_ms: Store time at which it was finished, Unix milliseconds.
        usage: What generating it cost, once.
        interim: Pictures of thoughts, where the caller asked to see them.
        verbatim: The upstream's own answer, JSON with a picture's id wherever its bytes were; empty where
            several calls were made.
        back_end: Which back end made it: thought signatures mean nothing to any other. Empty where several
            calls were served by different ones.
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


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What one upstream call came to.

    Attributes:
        pictures: Final images in order (thoughts left out, unless an image came only as a thought).
        signatures: Thought signature beside each picture, opaque, or None.
        text: Words that are no thoughts.
        finish_reason: As Google spells it; unknown words are kept.
        usage: Reported tokens; ``estimated`` where the report was missing.
        interim: Pictures of thoughts, which are no result.
        verbatim: The answer itself, JSON with a picture's id wherever its bytes were.
        back_end: Which back end answered.
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
