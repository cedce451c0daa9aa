"""AVI: the stream headers of the RIFF container (the OpenDML AVI file format, version 1.02)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.media.headers import Malformed, VideoHeader, number_le

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNKS_MAX = 256
_VIDEO = frozenset({b"vids", b"iavs"})  # iavs: sound and pictures in one stream, as DV cameras record


def _iterate_chunks(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk; the kind of a list is its list type."""
    for _ in range(_CHUNKS_MAX):
        if at + 12 > min(end, len(data)):
            return
        length = number_le(data, at + 4, 4)
        stop = min(at + 8 + length, end)
        if data[at : at + 4] == b"LIST":
            yield data[at + 8 : at + 12], at + 12, stop
        else:
            yield data[at : at + 4], at + 8, stop
        at += 8 + length + (length & 1)


def parse(data: bytes) -> VideoHeader:
    """The duration of the longest video stream. Raises Malformed if there is no header list."""
    seconds, has_video = 0.0, False
    headers = next((each for each in _iterate_chunks(data, 12, len(data)) if each[0] == b"hdrl"), None)
    if headers is None:
        raise Malformed("The AVI has no headers (hdrl).", truncated=True)
    for kind, start, end in _iterate_chunks(data, *headers[1:]):
        if kind != b"strl":
            continue
        for inner, at, stop in _iterate_chunks(data, start, end):
            if inner == b"strh" and data[at : at + 4] in _VIDEO:
                has_video = True
                scale, rate, length = (number_le(data, at + place, 4, stop) for place in (20, 24, 32))
                seconds = max(seconds, length * scale / rate if rate else 0.0)
    return VideoHeader(seconds, has_video)
