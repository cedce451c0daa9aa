"""MPEG program and transport streams: the first clock reference and the last (ISO/IEC 13818-1, 11172-1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.media.headers import VideoHeader

if TYPE_CHECKING:
    from collections.abc import Iterable

_PACK = b"\x00\x00\x01\xba"
_VIDEO = re.compile(rb"\x00\x00\x01[\xe0-\xef\xb3]")  # a stream's packet, or a sequence without packets
_TICKS = 90_000
_WRAP = 1 << 33
_INTERVAL_S = 0.7  # the longest time between two clock references, and so after the last (2.7.1)
_PACKETS_MAX = 20_000
_SYNC = 0x47
_PACKET_LENGTHS = ((188, 0), (192, 4), (204, 0))


def parse(data: bytes) -> VideoHeader:
    """The time between the first and the last clock reference, plus the longest time that may follow."""
    if data.startswith(b"\x00\x00\x01"):
        places = data.find(_PACK), data.rfind(_PACK)
        first, last = (None if at < 0 else _read_pack_clock(data, at) for at in places)
        return VideoHeader(_compute_duration(first, last), _VIDEO.search(data) is not None)
    length, shift = next(
        (length, shift)
        for length, shift in _PACKET_LENGTHS
        if len(data) > 2 * length and data[shift] == data[length + shift] == _SYNC
    )
    starts = range(shift, len(data) - length + 1, length)
    first = _find_first_clock(data, starts[:_PACKETS_MAX])
    last = _find_first_clock(data, starts[-_PACKETS_MAX:][::-1])
    # The tables of a transport stream that would tell whether it has video are not read.
    return VideoHeader(_compute_duration(first, last), has_video=True)


def _compute_duration(first: int | None, last: int | None) -> float | None:
    if first is None or last is None or first == last:
        return None
    return (last - first) % _WRAP / _TICKS + _INTERVAL_S


def _read_pack_clock(data: bytes, at: int) -> int | None:
    """The clock of a pack header of MPEG-2, whose bits begin with 01, or of MPEG-1, with 0010."""
    if len(data) < at + 9:
        return None
    bits = int.from_bytes(data[at + 4 : at + 9], "big")
    if data[at + 4] >> 6 == 0b01:
        return (bits >> 35 & 7) << 30 | (bits >> 19 & 0x7FFF) << 15 | bits >> 3 & 0x7FFF
    if data[at + 4] >> 4 == 0b0010:
        return (bits >> 33 & 7) << 30 | (bits >> 17 & 0x7FFF) << 15 | bits >> 1 & 0x7FFF
    return None


def _find_first_clock(data: bytes, starts: Iterable[int]) -> int | None:
    """The clock of the first packet that carries one in its adaptation field (section 2.4.3.5)."""
    for at in starts:
        if data[at] == _SYNC and data[at + 3] & 0x20 and data[at + 4] >= 7 and data[at + 5] & 0x10:
            return int.from_bytes(data[at + 6 : at + 11], "big") >> 7
    return None
