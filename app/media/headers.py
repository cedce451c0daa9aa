"""What the parsers of headers share: the facts they find and the one way in which they fail.

A parser reads a few fields at known places of bytes that nobody has vouched for. It never decodes a
pixel, never follows a length further than the file reaches, and counts every loop.
"""

from __future__ import annotations

from dataclasses import dataclass

STEPS_MAX = 16_384
"""Chunks, segments or boxes that a parser walks in one file: 7 MB in pieces of 430 bytes."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an image says about itself.

    Attributes:
        width: Pixels as stored, before any rotation that metadata asks for.
        height: Pixels as stored.
        frames: Pictures shown one after the other; 1 for a still.
        pixels: The largest picture inside, which a decoder may have to make room for.
        truncated: Why the file looks cut off, as a sentence, or None.
        mime_type: What the file is after all, where its signature says too little.
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
        seconds: Its length, or None or nothing above 0.0 where that is not known.
        has_video: Whether it has a track of pictures at all.
    """

    seconds: float | None
    has_video: bool


class Malformed(Exception):
    """The bytes contradict their format.

    Args:
        sentence: What is wrong, for people.
        truncated: True where the file ends before the fact that was looked for.
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
