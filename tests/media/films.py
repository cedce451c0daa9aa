"""Videos for the tests, built byte by byte: no track in them holds a picture that could be shown."""

from __future__ import annotations

import struct

from tests.media.files import MDAT, box, ftyp, full, handler, mvhd

# Fragmented MP4


def mdhd(scale: int) -> bytes:
    """A track's own clock."""
    return full(b"mdhd", bytes(8) + struct.pack(">II", scale, 0) + bytes(4))


def track(number: int = 1, scale: int = 1000, kind: bytes = b"vide") -> bytes:
    """A track with a number, a clock and a handler."""
    header = full(b"tkhd", bytes(8) + struct.pack(">I", number) + bytes(64))
    return box(b"trak", header + box(b"mdia", mdhd(scale) + full(b"hdlr", bytes(4) + kind + bytes(13))))


def trex(ticks: int, number: int = 1) -> bytes:
    """How long a sample is where no fragment says else."""
    return full(b"trex", struct.pack(">IIIII", number, 1, ticks, 0, 0))


def fragment(*parts: bytes) -> bytes:
    """One fragment of one track, with its pictures."""
    return box(b"moof", box(b"traf", b"".join(parts))) + MDAT


def tfhd(ticks: int | None = None, number: int = 1) -> bytes:
    """Which track it is, and how long its samples are."""
    given = b"" if ticks is None else struct.pack(">I", ticks)
    return full(b"tfhd", struct.pack(">I", number) + given, flags=0 if ticks is None else 0x08)


def trun(count: int, *ticks: int) -> bytes:
    """So many samples, each with its length where lengths are given."""
    body = struct.pack(">I", count) + b"".join(struct.pack(">I", each) for each in ticks)
    return full(b"trun", body, flags=0x100 if ticks else 0)


def sidx(scale: int, *ticks: int) -> bytes:
    """An index of segments of these lengths."""
    rows = b"".join(struct.pack(">III", 100, each, 0) for each in ticks)
    return full(b"sidx", struct.pack(">IIIIHH", 1, scale, 0, 0, 0, len(ticks)) + rows)


def fragmented(*fragments: bytes, extends: bytes = b"", stated: int = 0) -> bytes:
    """An MP4 whose header was written before anything else."""
    movie = box(b"moov", mvhd(stated) + track() + box(b"mvex", extends or trex(0)))
    return ftyp(b"iso5") + movie + b"".join(fragments)


# WebM


def ebml(identity: int, content: bytes, *, unknown: bool = False) -> bytes:
    """An element with its length in eight bytes, or without one."""
    size = b"\x01" + (b"\xff" * 7 if unknown else len(content).to_bytes(7, "big"))
    return identity.to_bytes((identity.bit_length() + 7) // 8, "big") + size + content


def webm_track(kind: int = 1) -> bytes:
    """A list of one track."""
    return ebml(0x1654AE6B, ebml(0xAE, ebml(0xD7, b"\x01") + ebml(0x83, bytes([kind]))))


def webm_info(duration: float | None = None, scale: int = 1_000_000) -> bytes:
    """What the file says of itself."""
    length = b"" if duration is None else ebml(0x4489, struct.pack(">d", duration))
    return ebml(0x1549A966, ebml(0x2AD7B1, scale.to_bytes(4, "big")) + length)


def cluster(timestamp: int, *blocks: int, unknown: bool = False) -> bytes:
    """Frames at these times from the cluster's own."""
    inside = b"".join(ebml(0xA3, b"\x81" + struct.pack(">h", each) + b"\x00x") for each in blocks)
    return ebml(0x1F43B675, ebml(0xE7, timestamp.to_bytes(4, "big")) + inside, unknown=unknown)


def webm(*elements: bytes, doctype: bytes = b"webm", unknown: bool = False) -> bytes:
    """A WebM of one segment."""
    return ebml(0x1A45DFA3, ebml(0x4282, doctype)) + ebml(0x18538067, b"".join(elements), unknown=unknown)


# FLV


def flv_tag(kind: int, milliseconds: int, content: bytes = bytes(9)) -> bytes:
    """A tag with its length behind it."""
    when = milliseconds.to_bytes(4, "big")
    head = bytes([kind]) + len(content).to_bytes(3, "big") + when[1:] + when[:1] + bytes(3)
    return head + content + (11 + len(content)).to_bytes(4, "big")


def flv(*tags: bytes, flags: int = 5) -> bytes:
    """An FLV of these tags."""
    return b"FLV\x01" + bytes([flags]) + b"\x00\x00\x00\x09" + bytes(4) + b"".join(tags)


def flv_metadata(seconds: float) -> bytes:
    """A script tag that says how long the video is."""
    return flv_tag(
        18, 0, b"\x02\x00\x0aonMetaData\x08\0\0\0\1\x00\x08duration\x00" + struct.pack(">d", seconds)
    )


# MPEG


def pack(seconds: float) -> bytes:
    """A pack header of MPEG-2 with its clock."""
    clock = round(seconds * 90_000)
    bits = 0b01 << 46 | (clock >> 30 & 7) << 43 | 1 << 42 | (clock >> 15 & 0x7FFF) << 27 | 1 << 26
    bits |= (clock & 0x7FFF) << 11 | 1 << 10 | 1
    return b"\x00\x00\x01\xba" + bits.to_bytes(6, "big") + b"\x01\x89\xc3\xf8"


def program_stream(*seconds: float, stream: int = 0xE0) -> bytes:
    """Packets of one stream at these times."""
    packet = b"\x00\x00\x01" + bytes([stream]) + b"\x00\x10" + bytes(16)
    return b"".join(pack(each) + packet for each in seconds)


def transport_stream(*seconds: float | None, length: int = 188) -> bytes:
    """Packets, those with a time with a clock reference."""
    before = bytes(4) if length == 192 else b""
    found = b""
    for each in seconds:
        if each is None:
            packet = b"\x47\x01\x00\x10"
        else:
            clock = (round(each * 90_000) << 15 | 0x7E00).to_bytes(6, "big")
            packet = b"\x47\x01\x00\x30\x07\x10" + clock
        found += (before + packet).ljust(length, b"\xff")
    return found


def audio(seconds: float) -> bytes:
    """An MP4 with sound alone."""
    return ftyp(b"isom") + box(b"moov", mvhd(round(seconds * 1000)) + handler(b"soun")) + MDAT
