"""FLV: the metadata or the last tag (Adobe Flash Video File Format Specification 10.1, annex E)."""

from __future__ import annotations

import re
import struct

from app.media.headers import VideoHeader, number

_HEADER = 9
_VIDEO_FLAG = 0x01
_AUDIO, _VIDEO, _SCRIPT = 8, 9, 18
_TAG = 11
_TAGS_MAX = 256  # until the first of video is met
_METADATA_WITHIN = 65_536
_DURATION = re.compile(rb"\x00\x08duration\x00(.{8})", re.DOTALL)


def parse(data: bytes) -> VideoHeader:
    """The duration in the metadata, else the time of the last tag."""
    return VideoHeader(
        _read_duration(data) or _read_last_tag(data), _has_video_flag(data) or _has_video_tag(data)
    )


def _read_duration(data: bytes) -> float:
    match = _DURATION.search(data, 0, _METADATA_WITHIN)
    if not match:
        return 0.0
    return float(struct.unpack(">d", match[1])[0])


def _read_last_tag(data: bytes) -> float:
    """The time of the last tag in seconds; the file's last four bytes are the length of that tag."""
    at = len(data) - 4 - int.from_bytes(data[-4:], "big")
    if at < _HEADER or at + _TAG > len(data) or data[at] not in (_AUDIO, _VIDEO, _SCRIPT):
        return 0.0
    return (data[at + 7] << 24 | number(data, at + 4, 3)) / 1000


def _has_video_flag(data: bytes) -> bool:
    return bool(number(data, 4, 1) & _VIDEO_FLAG)


def _has_video_tag(data: bytes) -> bool:
    at = int.from_bytes(data[5:9], "big") + 4
    for _ in range(_TAGS_MAX):
        if at + _TAG > len(data):
            return False
        if data[at] & 0x1F == _VIDEO:
            return True
        at += _TAG + int.from_bytes(data[at + 1 : at + 4], "big") + 4
    return False
