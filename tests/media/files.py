"""Image files for the tests: real ones from real encoders, and the pieces to build false ones from."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()


def encoded(kind: str, width: int, height: int, **options: Any) -> bytes:
    """A picture of this size from Pillow's encoder."""
    stream = io.BytesIO()
    picture = Image.effect_noise((width, height), 40).convert("RGB")
    picture.save(stream, kind, **options)
    return stream.getvalue()


def animated(kind: str, frames: int, width: int = 40, height: int = 30) -> bytes:
    """An animation from Pillow's encoder."""
    pictures = [Image.new("RGB", (width, height), (20 * i, 0, 0)) for i in range(frames)]
    stream = io.BytesIO()
    pictures[0].save(stream, kind, save_all=True, append_images=pictures[1:])
    return stream.getvalue()


# PNG

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A PNG chunk; ``length`` is what it claims."""
    size = struct.pack(">I", len(data) if length is None else length)
    return size + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def ihdr(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    """A PNG's first chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def png(*chunks: bytes) -> bytes:
    """A PNG of these chunks."""
    return PNG_SIGNATURE + b"".join(chunks)


IDAT = chunk(b"IDAT", zlib.compress(bytes(4_000_000)))
"""Black pixels enough for any small picture; PNG lets there be more than the header asks for."""
IEND = chunk(b"IEND")


# JPEG


def segment(code: int, data: bytes = b"", length: int | None = None) -> bytes:
    """A JPEG segment; ``length`` is what it claims."""
    size = len(data) + 2 if length is None else length
    return bytes((0xFF, code)) + struct.pack(">H", size) + data


def frame(width: int, height: int, code: int = 0xC0) -> bytes:
    """A JPEG frame header of three components."""
    return segment(code, struct.pack(">BHHB", 8, height, width, 3) + b"\x01\x22\x00\x02\x11\x01\x03\x11\x01")


SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SCAN = segment(0xDA, b"\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00") + b"\x12\x34\xff\x00\x56"


# WebP


def riff_chunk(kind: bytes, data: bytes, length: int | None = None) -> bytes:
    """A RIFF chunk with its padding; ``length`` is what it claims."""
    size = struct.pack("<I", len(data) if length is None else length)
    return kind + size + data + b"\x00" * (len(data) & 1)


def webp(*chunks: bytes, length: int | None = None) -> bytes:
    """A WebP of these chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if length is None else length) + body


def vp8(width: int, height: int, start: bytes = b"\x9d\x01\x2a") -> bytes:
    """A lossy picture's chunk."""
    return riff_chunk(b"VP8 ", b"\x10\x00\x00" + start + struct.pack("<HH", width, height) + bytes(20))


def vp8l(width: int, height: int, signature: int = 0x2F, version: int = 0) -> bytes:
    """A lossless picture's chunk."""
    bits = (width - 1) | (height - 1) << 14 | version << 29
    return riff_chunk(b"VP8L", bytes((signature,)) + struct.pack("<I", bits) + bytes(9))


def vp8x(width: int, height: int, flags: int = 0) -> bytes:
    """The canvas of an extended file."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff_chunk(b"VP8X", bytes((flags, 0, 0, 0)) + size)


def anmf(width: int, height: int) -> bytes:
    """One frame of an animation."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff_chunk(b"ANMF", bytes(6) + size + bytes(4) + vp8(width, height))


# HEIF


def box(kind: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """An ISO base media box; ``length`` is what it claims."""
    return struct.pack(">I", len(data) + 8 if length is None else length) + kind + data


def full(kind: bytes, data: bytes, version: int = 0, flags: int = 0) -> bytes:
    """A box with version and flags."""
    return box(kind, bytes((version,)) + flags.to_bytes(3, "big") + data)


def ftyp(major: bytes = b"heic", *others: bytes) -> bytes:
    """The first box."""
    return box(b"ftyp", major + bytes(4) + b"".join((major, *others)))


def ispe(width: int, height: int) -> bytes:
    """A coded size."""
    return full(b"ispe", struct.pack(">II", width, height))


def pitm(item: int) -> bytes:
    """Which item is the primary one."""
    return full(b"pitm", struct.pack(">H", item))


def ipma(*entries: tuple[int, tuple[int, ...]], count: int | None = None) -> bytes:
    """Properties by item."""
    body = b"".join(struct.pack(">HB", item, len(found)) + bytes(found) for item, found in entries)
    return full(b"ipma", struct.pack(">I", len(entries) if count is None else count) + body)


def iinf(*items: tuple[int, bytes]) -> bytes:
    """Items by number with their four letters."""
    entries = [
        full(b"infe", struct.pack(">HH", item, 0) + coding + b"\0", version=2) for item, coding in items
    ]
    return full(b"iinf", struct.pack(">H", len(items)) + b"".join(entries))


def iloc(*extents: tuple[int, int, int]) -> bytes:
    """Items by number with their place in the file and their length."""
    places = b"".join(struct.pack(">HHHII", item, 0, 1, start, length) for item, start, length in extents)
    return full(b"iloc", b"\x44\x00" + struct.pack(">H", len(extents)) + places)


def meta(
    *properties: bytes,
    item: int = 1,
    associations: bytes | None = None,
    items: bytes | None = None,
    more: bytes = b"",
) -> bytes:
    """The metadata of a file whose primary item, HEVC unless ``items`` says else, has these properties."""
    found = associations or ipma((1, tuple(range(1, len(properties) + 1))))
    listed = iinf((item, b"hvc1")) if items is None else items
    return full(
        b"meta", pitm(item) + listed + more + box(b"iprp", box(b"ipco", b"".join(properties)) + found)
    )


MDAT = box(b"mdat", bytes(32))


def mvhd(ticks: int, scale: int = 1000, *, wide: bool = False) -> bytes:
    """A movie header (ISO/IEC 14496-12 section 8.2.2) with its version, two moments, scale and length."""
    size = 8 if wide else 4
    facts = scale.to_bytes(4, "big") + ticks.to_bytes(size, "big")
    return box(b"mvhd", bytes([wide, 0, 0, 0]) + bytes(2 * size) + facts + bytes(80))


def handler(kind: bytes = b"vide") -> bytes:
    """A track that has a handler and nothing else (section 8.4.3)."""
    return box(b"trak", box(b"mdia", full(b"hdlr", bytes(4) + kind + bytes(13))))


def video(seconds: float, brand: bytes = b"isom") -> bytes:
    """An MP4 without pictures that says how long it is."""
    return ftyp(brand) + box(b"moov", mvhd(round(seconds * 1000)) + handler()) + MDAT
