"""The boxes of an ISO base media file, as HEIF pictures and MP4 videos are (ISO/IEC 14496-12 section 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.media.headers import Malformed, number

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOXES_MAX = 256


class Box(NamedTuple):
    """One box: its kind and where its content lies, [start, end)."""

    kind: bytes
    start: int
    end: int


def iterate_boxes(data: bytes, at: int, end: int, most: int = _BOXES_MAX) -> Iterator[Box]:
    """The boxes between two offsets; the last one may claim to reach beyond the end.

    Raises Malformed for a box that is shorter than its own header, and for more than ``most`` boxes.
    """
    for _ in range(most):
        if at + 8 > end:
            return
        length, kind, header = number(data, at, 4), data[at + 4 : at + 8], 8
        if length == 1:
            length, header = number(data, at + 8, 8, end), 16
        elif length == 0:
            length = end - at
        if length < header:
            raise Malformed(f"The box at byte {at} is shorter than its own header.")
        yield Box(kind, at + header, at + length)
        at += length
    raise Malformed("The file has more boxes than any picture needs.")


def index_children(data: bytes, parent: Box, skip: int = 0) -> dict[bytes, Box]:
    """The first child of each kind. Raises Malformed for a child that is larger than its parent."""
    children: dict[bytes, Box] = {}
    for box in iterate_boxes(data, parent.start + skip, min(parent.end, len(data))):
        if box.end > parent.end:
            raise Malformed("A box is larger than the box that holds it.")
        children.setdefault(box.kind, box)
    return children
