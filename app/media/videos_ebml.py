"""WebM and Matroska: length and tracks (RFC 8794 for EBML, RFC 9559 for Matroska)."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NamedTuple

from app.media.headers import Malformed, VideoHeader, number

if TYPE_CHECKING:
    from collections.abc import Iterator

_SEGMENT, _INFO, _TRACKS, _CLUSTER = 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
_TIMESTAMP_SCALE, _DURATION = 0x2AD7B1, 0x4489
_TRACK_ENTRY, _TRACK_TYPE, _VIDEO = 0xAE, 0x83, 1
_TIMESTAMP, _SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK = 0xE7, 0xA3, 0xA0, 0xA1
_CLUSTER_ID = _CLUSTER.to_bytes(4, "big")
_ELEMENTS_MAX = 16_384
_ELEMENTS_INSIDE_MAX = 128
_SCALE_DEFAULT = 1_000_000
_NS = 1_000_000_000


class _Element(NamedTuple):
    """One element: its id and the range of its content, [start, end); unknown lengths reach to the end."""

    id: int
    start: int
    end: int


def _read_variable_int(data: bytes, at: int, end: int, most: int) -> tuple[int, int]:
    """A variable-length number with its marker, and its length in bytes (RFC 8794 section 4)."""
    length = 9 - number(data, at, 1, end).bit_length()
    if length > most:
        raise Malformed(f"The video has no element at byte {at}, where one must begin.")
    return number(data, at, length, end), length


def _iterate_elements(data: bytes, at: int, end: int, most: int = _ELEMENTS_INSIDE_MAX) -> Iterator[_Element]:
    """The elements between two offsets, at most ``most``; their children are not read."""
    for _ in range(most):
        if at >= end:
            return
        identity, width = _read_variable_int(data, at, end, 4)
        size, length = _read_variable_int(data, at + width, end, 8)
        start = at + width + length
        size &= (1 << 7 * length) - 1
        stop = end
        if size != (1 << 7 * length) - 1:
            stop = start + size
        yield _Element(identity, start, min(stop, end))
        at = stop


def parse(data: bytes) -> VideoHeader:
    """The duration that the file states, else the time of its last block, as in recordings of browsers.

    Raises Malformed if there is no list of tracks.
    """
    scale, ticks, has_video = _SCALE_DEFAULT, 0.0, None
    segment = next((each for each in _iterate_elements(data, 0, len(data)) if each.id == _SEGMENT), None)
    if segment is None:
        raise Malformed("The video has no segment.", truncated=True)
    try:
        for element in _iterate_elements(data, segment.start, segment.end, _ELEMENTS_MAX):
            if element.id == _INFO:
                scale, ticks = _read_info(data, element)
            elif element.id == _TRACKS:
                has_video = any(_read_track_types(data, element))
            elif element.id == _CLUSTER and has_video is not None:
                break
    except Malformed:
        if has_video is None:
            raise
    if has_video is None:
        raise Malformed("The video does not list its tracks.", truncated=True)
    return VideoHeader((ticks or _find_last_block(data, segment)) * scale / _NS, has_video)


def _read_info(data: bytes, info: _Element) -> tuple[int, float]:
    """Nanoseconds per tick, and the duration in ticks; 0.0 if it is not stated."""
    scale, ticks = _SCALE_DEFAULT, 0.0
    for element in _iterate_elements(data, info.start, info.end):
        length = element.end - element.start
        if element.id == _TIMESTAMP_SCALE and 0 < length <= 8:
            scale = number(data, element.start, length) or _SCALE_DEFAULT
        elif element.id == _DURATION and length in (4, 8):
            (ticks,) = struct.unpack(">f" if length == 4 else ">d", data[element.start : element.end])
    return scale, ticks if math.isfinite(ticks) and ticks > 0 else 0.0


def _read_track_types(data: bytes, tracks: _Element) -> Iterator[bool]:
    """Whether each track is a video track."""
    for entry in _iterate_elements(data, tracks.start, tracks.end):
        if entry.id == _TRACK_ENTRY:
            for element in _iterate_elements(data, entry.start, entry.end):
                if element.id == _TRACK_TYPE and element.end - element.start <= 8:
                    yield number(data, element.start, element.end - element.start) == _VIDEO


def _find_last_block(data: bytes, segment: _Element) -> float:
    """The time in ticks of the last cluster's last block; 0.0 if it cannot be read."""
    at = data.rfind(_CLUSTER_ID, segment.start, segment.end)
    if at < 0:
        return 0.0
    base, latest = 0, 0
    try:
        cluster = next(_iterate_elements(data, at, segment.end))
        for element in _iterate_elements(data, cluster.start, cluster.end, _ELEMENTS_MAX):
            if element.id == _TIMESTAMP:
                base = number(data, element.start, min(8, element.end - element.start))
            elif element.id == _SIMPLE_BLOCK:
                latest = max(latest, _read_block_ticks(data, element))
            elif element.id == _BLOCK_GROUP:
                inner = _iterate_elements(data, element.start, element.end)
                latest = max(
                    [latest, *(_read_block_ticks(data, each) for each in inner if each.id == _BLOCK)]
                )
    except Malformed:
        pass  # the last block of a truncated recording
    return float(base + latest)


def _read_block_ticks(data: bytes, block: _Element) -> int:
    """The time of a block in ticks, relative to its cluster (RFC 9559 section 10.1)."""
    _, width = _read_variable_int(data, block.start, block.end, 8)
    return int.from_bytes(data[block.start + width : block.start + width + 2], "big", signed=True)
