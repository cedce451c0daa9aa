"""Detects the type of a file by its bytes, never by a claimed type or a file name."""

from __future__ import annotations

import codecs
import re
from itertools import islice
from typing import NamedTuple

from app.media.boxes import iterate_boxes
from app.media.headers import Malformed
from app.media.texts import is_nearly_text, is_text

HEAD_BYTES = 4096
"""Most signatures need no more bytes than these."""

PDF = "application/pdf"
TEXT = "text/plain"


class _Signature(NamedTuple):
    """Bytes at the beginning of a file that identify its type.

    Attributes:
        magic: The first bytes.
        mime_type: The MIME type.
        after: Further bytes, if the magic alone is not enough.
        gap: Number of arbitrary bytes between ``magic`` and ``after``.
    """

    magic: bytes
    mime_type: str
    after: bytes = b""
    gap: int = 0

    def fits(self, head: bytes) -> bool:
        """Whether the head of a file has this signature."""
        return head.startswith(self.magic) and head.startswith(self.after, len(self.magic) + self.gap)


_SIGNATURES = (
    _Signature(b"\x89PNG\r\n\x1a\n", "image/png"),
    _Signature(b"\xff\xd8\xff", "image/jpeg"),
    _Signature(b"RIFF", "image/webp", b"WEBP", 4),
    _Signature(b"GIF87a", "image/gif"),
    _Signature(b"GIF89a", "image/gif"),
    _Signature(
        b"BM", "image/bmp", b"\x00\x00\x00", 13
    ),  # a header shorter than 256 bytes; two letters are few
    _Signature(b"II*\x00", "image/tiff"),
    _Signature(b"MM\x00*", "image/tiff"),
    _Signature(b"II+\x00", "image/tiff"),
    _Signature(b"MM\x00+", "image/tiff"),
    _Signature(b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    _Signature(b"\xff\x0a", "image/jxl"),
    _Signature(b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image/jp2"),
    _Signature(b"\x00\x00\x01\x00", "image/vnd.microsoft.icon"),
    _Signature(b"8BPS", "image/vnd.adobe.photoshop"),
    _Signature(b"RIFF", "video/avi", b"AVI ", 4),
    _Signature(b"FLV\x01", "video/x-flv"),
    _Signature(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c", "video/wmv"),
    _Signature(b"\x00\x00\x01\xba", "video/mpeg"),  # a program stream
    _Signature(b"\x00\x00\x01\xb3", "video/mpeg"),  # a video stream without a container
    _Signature(b"OggS\x00", "video/ogg"),
    _Signature(b"RIFF", "audio/wav", b"WAVE", 4),
    _Signature(b"ID3", "audio/mpeg"),
    _Signature(b"fLaC", "audio/flac"),
    _Signature(b"PK\x03\x04", "application/zip"),
    _Signature(b"\x1f\x8b", "application/gzip"),
)

_EBML = b"\x1aE\xdf\xa3"
_DOCTYPE = re.compile(rb"\x42\x82.{1,8}?(webm|matroska)", re.DOTALL)

_STILL_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis"})
_SEQUENCE_HEIC = frozenset({b"hevc", b"hevx", b"hevm", b"hevs"})
_HEIC = _STILL_HEIC | _SEQUENCE_HEIC
_HEIF = frozenset({b"mif1", b"mif2", b"msf1", b"miaf", b"MiHB", b"MiHE", b"MiHA"})
_AVIF = frozenset({b"avif", b"avis", b"MA1B", b"MA1A"})
SEQUENCE_BRANDS = _SEQUENCE_HEIC | {b"msf1", b"avis"}
"""Major brands of files that are a sequence of pictures."""

_BY_MAJOR_BRAND = {
    **dict.fromkeys(_HEIC, "image/heic"),
    **dict.fromkeys(_AVIF, "image/avif"),
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"F4A ": "audio/mp4",
    b"crx ": "image/x-canon-cr3",  # raw photographs, with isom among their compatible brands
}
# 3GPP2's files differ from 3GPP's in the codecs that they may hold, and Google's list has only one name.
_3GPP = (b"3gp", b"3g2", b"3gg", b"3gr", b"3gs", b"3ge")
_BRANDS_MAX = 64
_BOXES_LOOKED_AT = 16
_MOVIE_BOXES = frozenset({b"moov", b"mdat", b"moof"})
# QuickTime files from before 2001 have no file type box and begin with any of these.
_BEFORE_FTYP = _MOVIE_BOXES | {b"wide", b"free", b"skip", b"pnot"}
_TRANSPORT_PACKETS = ((188, 0), (192, 4), (204, 0))
"""MPEG transport streams: the length of a packet, and where its sync byte stands in it."""
_TRANSPORT_CHECKED = 5

_BLANKS = b" \t\r\n\x0c\x00"
_PDF_HEADER = re.compile(rb"%PDF-\d")
_PDF_HEADER_WITHIN = 1024  # Acrobat's own rule, which all readers follow (implementation note 13 of PDF 1.7)
_PDF_LINE = re.compile(rb"%PDF-\d\.\d[ \t]*[\r\n]")
_PDF_OBJECT = re.compile(rb"(?:^|[\r\n])\d{1,10}\s{1,4}\d{1,5}\s{1,4}obj\b")


def read_brands(data: bytes) -> tuple[bytes, ...]:
    """The brands of an ISO base media file, the major one first; empty for anything else.

    At most 64 compatible brands are read. Source: ISO/IEC 14496-12 section 4.3.
    """
    if data[4:8] != b"ftyp":
        return ()
    size = int.from_bytes(data[:4], "big")
    end = min(size, len(data), 16 + 4 * _BRANDS_MAX)
    compatible = (data[at : at + 4] for at in range(16, end - 3, 4))
    return (data[8:12], *compatible)


def _detect_base_media(data: bytes) -> str | None:
    """The type of a file that begins with a file type box.

    The major brand decides if it is an image brand. Cameras invent brands for videos (XAVC, MSNV, CAEP), so a
    file with any other brand is a video if it has a movie box.
    """
    brands = read_brands(data)
    major, others = brands[0], frozenset(brands[1:])
    if major in _BY_MAJOR_BRAND:
        return _BY_MAJOR_BRAND[major]
    if major in _HEIF or (others & (_HEIC | _HEIF | _AVIF) and not others & {b"isom", b"mp41", b"mp42"}):
        # Early AV1 encoders wrote the structural brand first and their own second.
        if others & _AVIF and not others & _HEIC:
            return "image/avif"
        return "image/heif"
    if major.startswith(_3GPP):
        return "video/3gpp"
    if _is_movie(data, int.from_bytes(data[:4], "big")):
        return "video/mp4"
    return None


def _is_movie(data: bytes, at: int) -> bool:
    """Whether one of the first boxes is a movie box."""
    try:
        return any(
            box.kind in _MOVIE_BOXES for box in islice(iterate_boxes(data, at, len(data)), _BOXES_LOOKED_AT)
        )
    except Malformed:
        return False


def _is_transport_stream(data: bytes) -> bool:
    return any(
        len(data) > length * 2
        and all(
            data[at + shift] == 0x47
            for at in range(0, min(len(data) - length + 1, length * _TRANSPORT_CHECKED), length)
        )
        for length, shift in _TRANSPORT_PACKETS
    )


def _detect_matroska(head: bytes) -> str:
    doctype = _DOCTYPE.search(head[:128])
    if doctype is not None and doctype[1] == b"webm":
        return "video/webm"
    return "video/x-matroska"


def _detect_binary(data: bytes, head: bytes) -> str | None:
    """The type of a file that is not text, or None."""
    if head[4:8] == b"ftyp":
        return _detect_base_media(data)
    for signature in _SIGNATURES:
        if signature.fits(head):
            return signature.mime_type
    if head.startswith(_EBML):
        return _detect_matroska(head)
    if head[4:8] in _BEFORE_FTYP and _is_movie(data, 0):
        return "video/quicktime"
    if _is_transport_stream(head):
        return "video/mpeg"
    return None


def _has_pdf_first_line(data: bytes) -> bool:
    """Whether the first line is exactly a PDF header, which no sentence would be."""
    return _PDF_LINE.match(data[:HEAD_BYTES].removeprefix(codecs.BOM_UTF8).lstrip(_BLANKS)) is not None


def may_be_text(data: bytes) -> bool:
    """Whether a file with a PDF header may be a text about PDFs, which only a PDF reader can decide."""
    return is_text(data[:HEAD_BYTES]) and not _has_pdf_first_line(data)


def detect_media_type(data: bytes) -> str | None:
    """The MIME type, or None if no signature matches.

    ``text/plain`` means that the first 4096 bytes are (nearly) text; ``texts.find_fault`` checks the rest.
    Signatures of letters are not enough, because "GIF89a is a format" is a sentence.
    """
    head = data[:HEAD_BYTES]
    text = is_text(head)
    if not text:
        binary_type = _detect_binary(data, head)
        if binary_type is not None:
            return binary_type
    if _PDF_HEADER.search(data, 0, _PDF_HEADER_WITHIN + 8) and (
        not text or _has_pdf_first_line(data) or _PDF_OBJECT.search(data)
    ):
        # Mail and web servers may leave lines before the header, and old Macs 128 bytes.
        return PDF
    if text or is_nearly_text(head):
        return TEXT
    return None
