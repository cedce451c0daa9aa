"""PNG: the IHDR chunk and the chain of chunks (PNG third edition, sections 5 and 11)."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from app.media.headers import STEPS_MAX, Header, Malformed, check_size, number, read

_SIGNATURE_LENGTH = 8
_CHUNK_FRAME = 12  # length, type and checksum around a chunk's data
_DIMENSION_MAX = 2**31 - 1
_DEPTHS_BY_COLOUR_TYPE = {
    0: (1, 2, 4, 8, 16),
    2: (8, 16),
    3: (1, 2, 4, 8),
    4: (8, 16),
    6: (8, 16),
}
_IEND = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_TAIL = 4096


_INFLATED_MAX = 1_000_000
"""Pixel data up to this many bytes is inflated to check that it is complete: 577 x 577 in colour, 10 ms."""
_INFLATED_AT_ONCE = 65_536
# The first column and row and the steps of each Adam7 pass (PNG third edition, section 8.2).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE = 3


class _Chain(NamedTuple):
    frames: int
    has_data: bool
    has_palette: bool
    truncated: str | None


def _walk_chunks(data: bytes) -> _Chain:
    """Follow the chunks to IEND. Raises Malformed for an invalid chunk."""
    at, frames, has_data, has_palette = _SIGNATURE_LENGTH, 1, False, False
    for _ in range(STEPS_MAX):
        if at + _CHUNK_FRAME > len(data):
            return _Chain(frames, has_data, has_palette, "The PNG ends before its IEND chunk.")
        kind = data[at + 4 : at + 8]
        if not kind.isalpha() or not kind.isascii():
            raise Malformed(f"The PNG has no chunk at byte {at}, where one must begin.")
        if kind == b"IEND":
            return _Chain(frames, has_data, has_palette, None)
        if kind == b"acTL" and not has_data:
            frames = number(data, at + 8, 4)
        length = int.from_bytes(data[at : at + 4], "big")
        has_data = has_data or kind == b"IDAT"
        if kind == b"PLTE" and not has_data:
            has_palette = True
            if zlib.crc32(data[at + 4 : at + 8 + length]) != number(data, at + 8 + length, 4):
                raise Malformed("The checksum of the PNG's palette (PLTE) is wrong.")
        at += _CHUNK_FRAME + length
    whole = _IEND in data[-_TAIL:]
    return _Chain(frames, has_data, has_palette, None if whole else "No IEND chunk was found in the PNG.")


def _compute_pixel_bytes(width: int, height: int, bits: int, *, interlaced: bool) -> int:
    """Bytes of the inflated pixel data: rows of whole bytes, each after a filter byte."""
    if not interlaced:
        return height * (1 + -(-width * bits // 8))
    length = 0
    for left, top, across, down in _PASSES:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            length += rows * (1 + -(-columns * bits // 8))
    return length


def check_pixels(data: bytes) -> tuple[str, str] | None:
    """The fault of a small image's pixel data as (code, sentence), or None. The header must be valid.

    A program that fails half-way may leave a PNG with complete chunks but only half of the rows, which no
    header shows. The inflated bytes are discarded, and larger images are not checked.
    """
    width, height = number(data, 16, 4), number(data, 20, 4)
    depth, colour_type, _, _, interlace = data[24:29]
    needed = _compute_pixel_bytes(width, height, depth * _CHANNELS[colour_type], interlaced=bool(interlace))
    if needed > _INFLATED_MAX:
        return None
    try:
        unpacked = _count_unpacked(data, needed)
    except zlib.error:
        return "unreadable_image", "The PNG's pixel data (IDAT) cannot be unpacked."
    if unpacked < needed:
        return "truncated_image", f"The PNG has {unpacked} of the {needed} bytes of its pixels."
    return None


def _count_unpacked(data: bytes, needed: int) -> int:
    """Inflate the pixel data and count its bytes, up to about ``needed``. Raises zlib.error."""
    inflater, unpacked, at = zlib.decompressobj(), 0, _SIGNATURE_LENGTH
    for _ in range(STEPS_MAX):
        if unpacked >= needed or at + _CHUNK_FRAME > len(data):
            return unpacked
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            packed = data[at + 8 : at + 8 + length]
            while unpacked < needed:
                piece = inflater.decompress(packed, _INFLATED_AT_ONCE)
                if not piece:
                    break
                unpacked += len(piece)
                packed = inflater.unconsumed_tail
        at += _CHUNK_FRAME + length
    return needed


def parse(data: bytes) -> Header:
    """Size, frames and wholeness of a PNG. Raises Malformed."""
    if read(data, _SIGNATURE_LENGTH, 8) != b"\x00\x00\x00\x0dIHDR":
        raise Malformed("The PNG does not begin with an IHDR chunk.")
    header = read(data, 12, 17)
    if zlib.crc32(header) != number(data, 29, 4):
        raise Malformed("The checksum of the PNG's IHDR chunk is wrong.")
    width, height = int.from_bytes(header[4:8], "big"), int.from_bytes(header[8:12], "big")
    check_size(width, height)
    if max(width, height) > _DIMENSION_MAX:
        raise Malformed(f"No PNG can have {width} x {height} pixels.")
    depth, colour_type, compression, filtering, interlace = header[12:17]
    if depth not in _DEPTHS_BY_COLOUR_TYPE.get(colour_type, ()) or compression or filtering or interlace > 1:
        raise Malformed("The PNG's IHDR chunk asks for a coding that PNG does not have.")
    chain = _walk_chunks(data)
    if not chain.has_data and chain.truncated is None:
        raise Malformed("The PNG has no picture data (IDAT).")
    if colour_type == _PALETTE and chain.has_data and not chain.has_palette:
        raise Malformed("The PNG's pixels are numbers of colours, and it has no palette (PLTE).")
    return Header(width, height, max(1, chain.frames), width * height, chain.truncated)
