"""What a file is, by its first bytes; a claim in a request or a file name is never asked."""

from __future__ import annotations

import codecs
from typing import NamedTuple

HEAD_BYTES = 4096
"""No signature looks further than this."""


class _Signature(NamedTuple):
    """Bytes at an offset that give a type away."""

    offset: int
    magic: bytes
    mime_type: str


_SIGNATURES = (
    _Signature(0, b"\x89PNG\r\n\x1a\n", "image/png"),
    _Signature(0, b"\xff\xd8\xff", "image/jpeg"),
    _Signature(0, b"GIF87a", "image/gif"),
    _Signature(0, b"GIF89a", "image/gif"),
    _Signature(0, b"BM", "image/bmp"),
    _Signature(0, b"II*\x00", "image/tiff"),
    _Signature(0, b"MM\x00*", "image/tiff"),
    _Signature(0, b"II+\x00", "image/tiff"),
    _Signature(0, b"MM\x00+", "image/tiff"),
    _Signature(0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    _Signature(0, b"\xff\x0a", "image/jxl"),
    _Signature(0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image/jp2"),
    _Signature(0, b"\x00\x00\x01\x00", "image/vnd.microsoft.icon"),
    _Signature(0, b"8BPS", "image/vnd.adobe.photoshop"),
    _Signature(0, b"\x1aE\xdf\xa3", "video/webm"),
    _Signature(0, b"PK\x03\x04", "application/zip"),
    _Signature(0, b"\x1f\x8b", "application/gzip"),
)

_STILL_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis"})
_SEQUENCE_HEIC = frozenset({b"hevc", b"hevx", b"hevm", b"hevs"})
_HEIF = frozenset({b"mif1", b"mif2", b"msf1"})
_AVIF = frozenset({b"avif", b"avis"})
SEQUENCE_BRANDS = _SEQUENCE_HEIC | {b"msf1", b"avis"}
"""Major brands of files that are a sequence of pictures."""

_VIDEO_BRANDS = {
    b"qt  ": "video/quicktime",
    b"isom": "video/mp4",
    b"iso2": "video/mp4",
    b"iso4": "video/mp4",
    b"iso5": "video/mp4",
    b"iso6": "video/mp4",
    b"mp41": "video/mp4",
    b"mp42": "video/mp4",
    b"avc1": "video/mp4",
    b"dash": "video/mp4",
    b"M4V ": "video/mp4",
}
_BRANDS_MAX = 64

_BYTE_ORDER_MARK = codecs.BOM_UTF8
_BLANKS = b" \t\r\n\x0c\x00"
# A text may hold these below the space, as file(1) has it: bell to carriage return, and escape.
_CONTROLS = frozenset(range(0x20)) - {*range(0x07, 0x0E), 0x1B} | {0x7F}


def brands(data: bytes) -> tuple[bytes, ...]:
    """The brands of an ISO base media file, the major one first; empty for anything else.

    At most 64 compatible brands are read. Source: ISO/IEC 14496-12 section 4.3.
    """
    if data[4:8] != b"ftyp":
        return ()
    size = int.from_bytes(data[:4], "big")
    end = min(size, len(data), 16 + 4 * _BRANDS_MAX)
    return (data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4)))


def _media_type_of_brands(found: tuple[bytes, ...]) -> str | None:
    major, compatible = found[0], frozenset(found[1:])
    if major in _STILL_HEIC | _SEQUENCE_HEIC:
        return "image/heic"
    if major in _AVIF:
        return "image/avif"
    if major in _HEIF:
        # Early AV1 encoders wrote the structural brand first and their own second.
        of_av1 = compatible & _AVIF and not compatible & (_STILL_HEIC | _SEQUENCE_HEIC)
        return "image/avif" if of_av1 else "image/heif"
    if major[:3] == b"3gp":
        return "video/3gpp"
    return _VIDEO_BRANDS.get(major)


def _is_text(head: bytes) -> bool:
    """Whether the head is UTF-8 without control characters; the last character may be cut."""
    if not head or _CONTROLS & frozenset(head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=False)
    except UnicodeDecodeError:
        return False
    return True


def media_type(data: bytes) -> str | None:
    """The MIME type by signature, or None where none fits.

    Reads the first 4096 bytes at most. ``text/plain`` means that those are clean UTF-8.
    """
    head = data[:HEAD_BYTES]
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    found = brands(head)
    if found:
        return _media_type_of_brands(found)
    for signature in _SIGNATURES:
        if head.startswith(signature.magic, signature.offset):
            # Two letters are too few to tell a bitmap from a sentence that begins with them.
            if signature.mime_type == "image/bmp" and _is_text(head):
                continue
            return signature.mime_type
    if head.removeprefix(_BYTE_ORDER_MARK).lstrip(_BLANKS).startswith(b"%PDF-"):
        return "application/pdf"
    return "text/plain" if _is_text(head) else None
