"""HEIC, HEIF and AVIF: the boxes that give the primary image's size.

Only the boxes with these facts are read: ``pitm``, ``iinf``, ``iloc`` and ``iprp`` in ``meta``; in ``iprp``
the associations (``ipma``), and in ``ipco`` the coded size (``ispe``) and the visible area (``clap``); for
sequences the sample count in ``moov/trak``. Rotation (``irot``) is not applied.

Source: ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12 (HEIF).
"""

from __future__ import annotations

from typing import NamedTuple

from app.media.boxes import Box, index_children, iterate_boxes
from app.media.headers import Header, Malformed, check_size, number
from app.media.heif_items import compute_items_end, find_coding
from app.media.signatures import SEQUENCE_BRANDS, read_brands

_PROPERTIES_MAX = 4096
_ASSOCIATIONS_MAX = 8192  # a picture of a thousand tiles has about four thousand
_ASSOCIATION_BOXES_MAX = 4  # one for each version and width (ISO/IEC 23008-12 section 9.3)
_TRACKS_MAX = 16
_TRACK_PATH = (b"mdia", b"minf", b"stbl", b"stsz")
_HEVC = frozenset({b"hvc1", b"hev1", b"lhv1", b"hvt1"})
_AV1 = frozenset({b"av01"})


class _Sizes(NamedTuple):
    coded: dict[int, tuple[int, int]]
    apertures: dict[int, tuple[int, int]]


def _read_primary_item(data: bytes, box: Box) -> int:
    width = 2
    if number(data, box.start, 1, box.end):
        width = 4
    return number(data, box.start + 4, width, box.end)


def _read_aperture(data: bytes, box: Box) -> tuple[int, int]:
    """Width and height of a ``clap`` box, two fractions; it crops the padding of coding blocks."""
    across, by, down, over = (number(data, box.start + at, 4, box.end) for at in (0, 4, 8, 12))
    if not by or not over:
        raise Malformed("The file's clean aperture is a fraction of zero.")
    return across // by, down // over


def _read_sizes(data: bytes, container: Box) -> _Sizes:
    """Coded sizes and apertures by their property's index, which counts from one."""
    sizes = _Sizes({}, {})
    for index, box in enumerate(
        iterate_boxes(data, container.start, container.end, _PROPERTIES_MAX), start=1
    ):
        if box.end > container.end:
            raise Malformed("A box is larger than the box that holds it.")
        if box.kind == b"ispe":
            place = box.start + 4
            sizes.coded[index] = number(data, place, 4, box.end), number(data, place + 4, 4, box.end)
        elif box.kind == b"clap":
            sizes.apertures[index] = _read_aperture(data, box)
    return sizes


def _read_properties(data: bytes, box: Box, item: int) -> list[int]:
    """Indexes of the properties that an ``ipma`` box gives an item; empty where it has none."""
    version = number(data, box.start, 1, box.end)
    wide = number(data, box.start + 3, 1, box.end) & 1
    entries, at, steps = number(data, box.start + 4, 4, box.end), box.start + 8, 0
    id_length, index_length = (4 if version else 2), (2 if wide else 1)
    mask = 0x7F
    if wide:
        mask = 0x7FFF
    for _ in range(entries):
        entry_item = number(data, at, id_length, box.end)
        count = number(data, at + id_length, 1, box.end)
        at += id_length + 1
        steps += count + 1
        if steps > _ASSOCIATIONS_MAX:
            raise Malformed("The file gives its items more properties than any picture needs.")
        if entry_item == item:
            return [number(data, at + i * index_length, index_length, box.end) & mask for i in range(count)]
        at += count * index_length
    return []


def _find_properties(data: bytes, properties: Box, item: int) -> list[int]:
    """Indexes of an item's properties in all ``ipma`` boxes."""
    associations = [
        box for box in iterate_boxes(data, properties.start, properties.end) if box.kind == b"ipma"
    ]
    if len(associations) > _ASSOCIATION_BOXES_MAX:
        raise Malformed("The file gives its items their properties in more boxes than HEIF has kinds of.")
    return [index for box in associations for index in _read_properties(data, box, item)]


def _compute_size(sizes: _Sizes, properties: list[int]) -> tuple[int, int]:
    """The visible size of the item with these properties."""
    coded = next((sizes.coded[index] for index in properties if index in sizes.coded), None)
    if coded is None:
        raise Malformed("The file does not say how large its primary picture is.")
    check_size(*coded)
    shown = next((sizes.apertures[index] for index in properties if index in sizes.apertures), coded)
    check_size(*shown)
    return min(coded[0], shown[0]), min(coded[1], shown[1])


def _count_frames(data: bytes, movie: Box) -> int:
    """Frames in the longest track of a sequence."""
    frames = 0
    inside = iterate_boxes(data, movie.start, min(movie.end, len(data)))
    for track in [box for box in inside if box.kind == b"trak"][:_TRACKS_MAX]:
        place: Box | None = track
        for kind in _TRACK_PATH:
            place = index_children(data, place).get(kind) if place else None
        if place is not None:
            frames = max(frames, number(data, place.start + 8, 4, place.end))
    return frames


def _require_box(children: dict[bytes, Box], kind: bytes) -> Box:
    try:
        return children[kind]
    except KeyError:
        raise Malformed(f"The file has no {kind.decode()} box.") from None


def _index_top_level(data: bytes) -> tuple[dict[bytes, Box], str | None]:
    """The first box of each kind, and why the file looks truncated. Anything may follow the metadata."""
    top: dict[bytes, Box] = {}
    cut: str | None = None
    try:
        for box in iterate_boxes(data, 0, len(data)):
            if box.end > len(data):
                cut = f"The file ends inside its {box.kind.decode('latin-1')!r} box."
            top.setdefault(box.kind, box)
    except Malformed:
        if b"meta" not in top:
            raise
    return top, cut


def _find_truncation(
    data: bytes, top: dict[bytes, Box], children: dict[bytes, Box], cut: str | None
) -> str | None:
    """Why the file is truncated, or None. If items are listed by offset, only their bytes must be present.

    Phones append videos to photographs, and a truncated video does no harm.
    """
    needed = 0
    if b"iloc" in children:
        needed = compute_items_end(data, children[b"iloc"])
    if needed:
        sentence = f"The file ends inside a picture: it has {len(data)} of {needed} bytes."
        if needed > len(data):
            return sentence
        return None
    if cut is None and b"mdat" not in top and b"idat" not in children:
        return "The file has no picture data (mdat)."
    return cut


def _detect_mime_type(coding: bytes | None) -> str | None:
    """The MIME type by coding, or None if the brands already determine it. Raises Malformed."""
    if coding in _HEVC:
        return None
    if coding in _AV1:
        return "image/avif"
    name = "nothing"
    if coding is not None:
        name = repr(coding.decode("latin-1"))
    raise Malformed(f"The file's picture is coded as {name}; HEIC is HEVC (hvc1).")


def parse(data: bytes) -> Header:
    """Size, frames and wholeness of a HEIC, HEIF or AVIF file. Raises Malformed."""
    top, cut = _index_top_level(data)
    if b"meta" not in top:
        raise Malformed("The file has no meta box.", truncated=cut is not None)
    meta = top[b"meta"]
    if meta.end > len(data):
        raise Malformed("The file ends inside its meta box.", truncated=True)
    children = index_children(data, meta, skip=4)
    properties = _require_box(children, b"iprp")
    sizes = _read_sizes(data, _require_box(index_children(data, properties), b"ipco"))
    item = _read_primary_item(data, _require_box(children, b"pitm"))
    width, height = _compute_size(sizes, _find_properties(data, properties, item))
    sequence = read_brands(data)[0] in SEQUENCE_BRANDS and b"moov" in top
    frames = 1
    if sequence:
        frames = max(1, _count_frames(data, top[b"moov"]))
    return Header(
        width,
        height,
        frames,
        pixels=max(w * h for w, h in sizes.coded.values()),
        truncated=_find_truncation(data, top, children, cut),
        mime_type=_detect_mime_type(find_coding(data, children, item)),
    )
