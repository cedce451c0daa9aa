"""The results, the error and the reading functions that all header parsers share.

A parser reads a few fields at known positions of untrusted bytes. It never decodes pixels, never follows a
length beyond the end of the file, and bounds every loop.
"""

from __future__ import annotations

from dataclasses import dataclass

STEPS_MAX = 16_384
"""Most chunks, segments or boxes that a parser reads in one file: 7 MB in pieces of 430 bytes."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an image says about itself.

    Attributes:
        width: Pixels as stored, before any rotation that metadata asks for.
        height: Pixels as stored.
        frames: Frames of an animation; 1 for a still image.
        pixels: Pixels of the largest image inside, for which a decoder may have to allocate memory.
        truncated: Why the file looks cut off, as a sentence, or None.
        mime_type: The MIME type, if the signature alone does not determine it.
    """

    width: int
    height: int
    frames: int = 1
    pixels: int = 0
    truncated: str | None = None
    mime_type: str | None = None


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """What a video says about itself.

    Attributes:
        seconds: The duration; None, 0.0 or less if it is unknown.
        has_video: Whether there is a video track.
    """

    seconds: float | None
    has_video: bool


class Malformed(Exception):
    """The bytes contradict their format.

    Args:
        sentence: The fault, as a sentence for people.
        truncated: Whether the file ends before the required field.
    """

    def __init__(self, sentence: str, *, truncated: bool = False) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.truncated = truncated


def read(data: bytes, at: int, length: int, end: int | None = None) -> bytes:
    """Exactly ``length`` bytes at ``at``, none of them at or after ``end``. Raises Malformed."""
    stop = len(data) if end is None else min(end, len(data))
    if at + length > stop:
        raise Malformed("The file ends inside its own header.", truncated=stop == len(data))
    return data[at : at + length]


def number(data: bytes, at: int, length: int, end: int | None = None) -> int:
    """An unsigned big-endian number of ``length`` bytes. Raises Malformed."""
    return int.from_bytes(read(data, at, length, end), "big")


def number_le(data: bytes, at: int, length: int, end: int | None = None) -> int:
    """An unsigned little-endian number of ``length`` bytes. Raises Malformed."""
    return int.from_bytes(read(data, at, length, end), "little")


def check_size(width: int, height: int) -> None:
    """Raises Malformed where a side has no pixels."""
    if width < 1 or height < 1:
        raise Malformed(f"The header gives the picture {width} x {height} pixels.")
