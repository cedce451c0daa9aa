"""How long a video is: the movie header of an ISO base media file (ISO/IEC 14496-12 section 8.2.2)."""

from __future__ import annotations

from app.media.boxes import boxes, children_of
from app.media.headers import Malformed, number

_UNKNOWN = {4: 0xFFFF_FFFF, 8: 0xFFFF_FFFF_FFFF_FFFF}
"""All ones: the length is not known, by the width of the field."""


def seconds_of(data: bytes) -> float | None:
    """Seconds, or None where no header says them: a stream in fragments, another format. Never raises."""
    try:
        for box in boxes(data, 0, len(data)):
            header = children_of(data, box).get(b"mvhd") if box.kind == b"moov" else None
            if header is None:
                continue
            width = 8 if number(data, header.start, 1, header.end) else 4
            # Version and flags, two moments of as many bytes, then ticks a second and ticks in all.
            scale = number(data, header.start + 4 + 2 * width, 4, header.end)
            length = number(data, header.start + 8 + 2 * width, width, header.end)
            known = scale and length and length != _UNKNOWN[width]
            return length / scale if known else None
    except Malformed:
        pass
    return None
