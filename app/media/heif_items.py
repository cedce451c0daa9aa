"""The items of a HEIF file: how each is coded, what it is derived from, and where its bytes are.

Source: ISO/IEC 14496-12 sections 8.11.3 (``iloc``), 8.11.6 (``iinf``) and 8.11.12 (``iref``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.media.boxes import Box, iterate_boxes
from app.media.headers import Malformed, number, read

if TYPE_CHECKING:
    from collections.abc import Iterator

_ITEMS_MAX = 4096  # a picture of a thousand tiles has about as many
_EXTENTS_MAX = 16_384
_DERIVED = frozenset({b"grid", b"iovl", b"iden", b"tmap"})
_DERIVED_DEPTH_MAX = 4


def find_coding(data: bytes, children: dict[bytes, Box], item: int) -> bytes | None:
    """The coding of an item as four letters; for a derived item, that of its first part.

    None if there is no coded item. Raises Malformed.
    """
    if b"iinf" not in children:
        raise Malformed("The file does not list its items (iinf).")
    types = _read_types(data, children[b"iinf"])
    parts = {}
    if b"iref" in children:
        parts = _read_parts(data, children[b"iref"])
    for _ in range(_DERIVED_DEPTH_MAX):
        coding = types.get(item)
        if coding not in _DERIVED:
            return coding
        if item not in parts:
            return None
        item = parts[item]
    return None


def _read_types(data: bytes, box: Box) -> dict[int, bytes]:
    """The type of each item as four letters; entries before version 2 have none."""
    at = box.start + (6 if number(data, box.start, 1, box.end) == 0 else 8)
    types: dict[int, bytes] = {}
    for entry in iterate_boxes(data, at, box.end, _ITEMS_MAX):
        version = number(data, entry.start, 1, entry.end)
        if entry.kind != b"infe" or version < 2:
            continue
        width = 4
        if version == 2:
            width = 2
        item = number(data, entry.start + 4, width, entry.end)
        types[item] = read(data, entry.start + 4 + width + 2, 4, entry.end)
    return types


def _read_parts(data: bytes, box: Box) -> dict[int, int]:
    """The first part of each derived item."""
    width = 4
    if number(data, box.start, 1, box.end) == 0:
        width = 2
    parts: dict[int, int] = {}
    for reference in iterate_boxes(data, box.start + 4, box.end, _ITEMS_MAX):
        if reference.kind == b"dimg" and number(data, reference.start + width, 2, reference.end):
            item = number(data, reference.start, width, reference.end)
            parts[item] = number(data, reference.start + width + 2, width, reference.end)
    return parts


def compute_items_end(data: bytes, box: Box) -> int:
    """The offset at which the last item in the file ends; 0 if there is none. Raises Malformed."""
    return max(_iterate_ends(data, box), default=0)


def _iterate_ends(data: bytes, box: Box) -> Iterator[int]:
    version = number(data, box.start, 1, box.end)
    sizes = number(data, box.start + 4, 2, box.end)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 0xF for shift in (12, 8, 4, 0))
    id_size = 4
    if version < 2:
        id_size = 2
    items, at = number(data, box.start + 6, id_size, box.end), box.start + 6 + id_size
    extents_seen = 0
    for _ in range(items):
        at += id_size
        method = 0
        if version:
            method, at = number(data, at, 2, box.end) & 0xF, at + 2
        at += 2
        base, at = number(data, at, base_size, box.end), at + base_size
        extents, at = number(data, at, 2, box.end), at + 2
        extents_seen += extents + 1
        if extents_seen > _EXTENTS_MAX:
            raise Malformed("The file has its items in more pieces than any picture needs.")
        for _ in range(extents):
            at += index_size if version else 0
            start, at = number(data, at, offset_size, box.end), at + offset_size
            length, at = number(data, at, length_size, box.end), at + length_size
            if method == 0:  # in the file, and not in a box or in another item
                yield base + start + length
