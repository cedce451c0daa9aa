"""PNG: the IHDR chunk and the chain of chunks (PNG third edition, sections 5 and 11)."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from app.media.headers import STEPS_MAX, Header, Malformed, number, read, sized

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


class _Chain(NamedTuple):
    frames: int
    has_data: bool
    truncated: str | None


def _walk(data: bytes) -> _Chain:
    """Follow the chunks to IEND. Raises Malformed where one is no chunk at all."""
    at, frames, has_data = _SIGNATURE_LENGTH, 1, False
    for _ in range(STEPS_MAX):
        if at + _CHUNK_FRAME > len(data):
            return _Chain(frames, has_data, "The PNG ends before its IEND chunk.")
        kind = data[at + 4 : at + 8]
        if not kind.isalpha() or not kind.isascii():
            raise Malformed(f"The PNG has no chunk at byte {at}, where one must begin.")
        if kind == b"IEND":
            return _Chain(frames, has_data, None)
        if kind == b"acTL" and not has_data:
            frames = number(data, at + 8, 4)
        has_data = has_data or kind == b"IDAT"
        at += _CHUNK_FRAME + int.from_bytes(data[at : at + 4], "big")
    whole = _IEND in data[-_TAIL:]
    return _Chain(frames, has_data, None if whole else "No IEND chunk was found in the PNG.")


def parse(data: bytes) -> Header:
    """Size, frames and wholeness of a PNG. Raises Malformed."""
    if read(data, _SIGNATURE_LENGTH, 8) != b"\x00\x00\x00\x0dIHDR":
        raise Malformed("The PNG does not begin with an IHDR chunk.")
    header = read(data, 12, 17)
    if zlib.crc32(header) != number(data, 29, 4):
        raise Malformed("The checksum of the PNG's IHDR chunk is wrong.")
    width, height = int.from_bytes(header[4:8], "big"), int.from_bytes(header[8:12], "big")
    sized(width, height)
    if max(width, height) > _DIMENSION_MAX:
        raise Malformed(f"No PNG can have {width} x {height} pixels.")
    depth, colour_type, compression, filtering, interlace = header[12:17]
    if depth not in _DEPTHS_BY_COLOUR_TYPE.get(colour_type, ()) or compression or filtering or interlace > 1:
        raise Malformed("The PNG's IHDR chunk asks for a coding that PNG does not have.")
    chain = _walk(data)
    if not chain.has_data and chain.truncated is None:
        raise Malformed("The PNG has no picture data (IDAT).")
    return Header(width, height, max(1, chain.frames), width * height, chain.truncated)
