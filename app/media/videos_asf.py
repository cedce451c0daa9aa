"""WMV: the objects of an ASF header (Advanced Systems Format Specification 1.2, section 3)."""

from __future__ import annotations

from app.media.headers import Malformed, VideoHeader, number_le

_HEADER = 30
_OBJECTS_MAX = 256
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_VIDEO_STREAM = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")


def parse(data: bytes) -> VideoHeader:
    """The play duration without the preroll. Raises Malformed for a truncated header."""
    end = number_le(data, 16, 8)
    if end > len(data):
        raise Malformed("The WMV ends inside its header.", truncated=True)
    seconds, at = 0.0, _HEADER
    for _ in range(_OBJECTS_MAX):
        if at + 24 > end:
            break
        length = number_le(data, at + 16, 8)
        if data[at : at + 16] == _FILE_PROPERTIES:
            seconds = number_le(data, at + 64, 8, end) / 10_000_000 - number_le(data, at + 80, 8, end) / 1000
        at += max(24, length)
    return VideoHeader(seconds, data.find(_VIDEO_STREAM, 0, end) >= 0)
