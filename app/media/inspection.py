"""Bytes to facts: what an input really is, how large, and what is wrong with it.

Nothing is decoded. The parsers read headers alone, so that a picture of 81 megapixels in 200 kB costs
microseconds to refuse; nothing that a caller can send makes them raise or loop.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.media import headers_bmff, headers_jpeg, headers_png, headers_webp, signatures
from app.media.durations import seconds_of
from app.media.headers import Header, Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

Fault = tuple[str, str]
"""A stable code and a sentence for people."""

_PARSERS: dict[str, Callable[[bytes], Header]] = {
    "image/png": headers_png.parse,
    "image/jpeg": headers_jpeg.parse,
    "image/webp": headers_webp.parse,
    "image/heic": headers_bmff.parse,
    "image/heif": headers_bmff.parse,
    "image/avif": headers_bmff.parse,
}
_TIMED = frozenset({"video/mp4", "video/quicktime", "video/3gpp"})
_PDF_TAIL = 4096
_TEXT_SLICE = 1 << 20


@dataclass(frozen=True, slots=True)
class Facts:
    """What the bytes say about themselves.

    Attributes:
        mime_type: By signature, or None where none fits.
        width: Pixels as stored (orientation metadata is not applied), or None where the header is unreadable
            or the type has no parser.
        height: Pixels as stored, or None.
        frames: Pictures shown one after the other; 1 for a still and for what is no image.
        seconds: Of a video, where its header says them.
        faults: What is wrong, as (code, sentence): ``empty_file``, ``truncated_image``,
            ``unreadable_image``, ``too_many_pixels``, ``animated_image``, ``truncated_document``,
            ``unreadable_document``.
    """

    mime_type: str | None
    width: int | None = None
    height: int | None = None
    frames: int = 1
    faults: tuple[Fault, ...] = ()
    seconds: float | None = None


def _image(data: bytes, mime_type: str, pixels_max: int) -> Facts:
    try:
        header = _PARSERS[mime_type](data)
    except Malformed as malformed:
        code = "truncated_image" if malformed.truncated else "unreadable_image"
        return Facts(mime_type, faults=((code, malformed.sentence),))
    faults: list[Fault] = []
    if header.truncated is not None:
        faults.append(("truncated_image", header.truncated))
    if header.pixels > pixels_max:
        faults.append(
            ("too_many_pixels", f"The image has {header.pixels} pixels; the limit is {pixels_max}.")
        )
    if header.frames > 1:
        faults.append(("animated_image", f"The image is an animation of {header.frames} frames."))
    return Facts(mime_type, header.width, header.height, header.frames, tuple(faults))


def _pdf(data: bytes) -> Facts:
    """A PDF that was cut has lost its trailer (ISO 32000-2 section 7.5.5)."""
    if b"%%EOF" in data[-_PDF_TAIL:]:
        return Facts("application/pdf")
    return Facts("application/pdf", faults=(("truncated_document", "The PDF has no %%EOF at its end."),))


def _text(data: bytes) -> Facts:
    """The head was clean UTF-8; the rest is checked a megabyte at a time, without keeping the text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(data), _TEXT_SLICE):
            decoder.decode(data[at : at + _TEXT_SLICE], final=at + _TEXT_SLICE >= len(data))
    except UnicodeDecodeError:
        return Facts("text/plain", faults=(("unreadable_document", "The text is not UTF-8 throughout."),))
    return Facts("text/plain")


def inspect(data: bytes, *, pixels_max: int) -> Facts:
    """The facts of a file. Never raises.

    Args:
        data: The whole file.
        pixels_max: Width times height above which an image is a fault; the largest picture inside a
            container counts, whatever the primary one claims.
    """
    if not data:
        return Facts(None, faults=(("empty_file", "There are no bytes."),))
    mime_type = signatures.media_type(data)
    if mime_type in _PARSERS:
        return _image(data, mime_type, pixels_max)
    if mime_type == "application/pdf":
        return _pdf(data)
    if mime_type == "text/plain":
        return _text(data)
    return Facts(mime_type, seconds=seconds_of(data) if mime_type in _TIMED else None)
