"""JPEG: the frame header behind the markers (ITU-T T.81, annex B)."""

from __future__ import annotations

import re

from app.media.headers import Header, Malformed, check_size, number

# Every start-of-frame marker; C4, C8 and CC in the same range define tables or are reserved.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_SEGMENTS_MAX = 2048  # of at most 64 kB: more than metadata of any photograph takes
_TAIL = 4096


def _find_marker(data: bytes, at: int) -> tuple[int, int]:
    """The next marker and the offset of its segment.

    Fill bytes may precede it (B.1.1.2). Other bytes that editors and cameras leave between segments are also
    skipped, as libjpeg does with a warning.
    """
    match = _MARKER.search(data, at)
    if match is None:
        raise Malformed("The JPEG ends before any picture data.", truncated=True)
    return data[match.end() - 1], match.end()


def _has_end(data: bytes, scan: int) -> bool:
    """Whether an end-of-image marker follows the scan.

    It is nearly always among the last bytes. If a phone has appended a video to the photograph, it is in the
    middle; then, and for truncated files, the rest is searched once. The two bytes cannot occur inside coded
    data.
    """
    tail = max(scan, len(data) - _TAIL)
    return data.rfind(b"\xff\xd9", tail) >= 0 or data.find(b"\xff\xd9", scan, tail + 1) >= 0


def parse(data: bytes) -> Header:
    """Size and wholeness of a JPEG. Raises Malformed."""
    at = 2
    size: tuple[int, int] | None = None
    for _ in range(_SEGMENTS_MAX):
        code, at = _find_marker(data, at)
        if code in _STANDALONE:
            continue
        if code == _END_OF_IMAGE:
            raise Malformed("The JPEG ends before any picture data.")
        length = number(data, at, 2)
        if length < 2:
            raise Malformed(f"A segment of the JPEG at byte {at} has an impossible length.")
        if code == _START_OF_SCAN:
            if size is None:
                raise Malformed("The JPEG's picture data begins before its frame header.")
            cut = None
            if not _has_end(data, at + length):
                cut = "The JPEG has no end-of-image marker."
            return Header(*size, 1, size[0] * size[1], cut)
        if code in _START_OF_FRAME:
            height, width = number(data, at + 3, 2), number(data, at + 5, 2)
            check_size(width, height)
            if size is not None and size != (width, height):
                raise Malformed("The JPEG has two frame headers that differ.")
            size = (width, height)
        at += length
    raise Malformed("The JPEG's header has more segments than any picture needs.")
