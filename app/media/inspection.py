"""Bytes to facts: what an input really is, how large, and what is wrong with it.

Nothing is decoded. The parsers read headers alone, so that a picture of 81 megapixels in 200 kB costs
microseconds to refuse; nothing that a caller can send makes them raise or loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.media import headers_bmff, headers_jpeg, headers_png, headers_webp, signatures, texts, videos
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


@dataclass(frozen=True, slots=True)
class Facts:
    """What the bytes say about themselves.

    Attributes:
        mime_type: By signature, or None where none fits.
        width: Pixels as stored (orientation metadata is not applied), or None where the header is unreadable
            or the type has no parser.
        height: Pixels as stored, or None.
        frames: Pictures shown one after the other; 1 for a still and for what is no image.
        faults: What is wrong, as (code, sentence): ``empty_file``, ``truncated_image``,
            ``unreadable_image``, ``too_many_pixels``, ``unreadable_document``, ``truncated_video``,
            ``unreadable_video``.
        seconds: Of a video, where its headers say them.
        text_if_no_pdf: Whether a PDF by its signature is a text where no reader of PDFs can open it.
    """

    mime_type: str | None
    width: int | None = None
    height: int | None = None
    frames: int = 1
    faults: tuple[Fault, ...] = ()
    seconds: float | None = None
    text_if_no_pdf: bool = False


def _inspect_image(data: bytes, mime_type: str, pixels_max: int) -> Facts:
    try:
        header = _PARSERS[mime_type](data)
    except Malformed as malformed:
        code = "truncated_image" if malformed.truncated else "unreadable_image"
        return Facts(mime_type, faults=((code, malformed.sentence),))
    faults: list[Fault] = []
    if header.truncated is not None:
        faults.append(("truncated_image", header.truncated))
    elif mime_type == "image/png" and (fault := headers_png.check_pixels(data)) is not None:
        faults.append(fault)
    if header.pixels > pixels_max:
        faults.append(("too_many_pixels", describe_pixel_limit(header.pixels, pixels_max)))
    return Facts(header.mime_type or mime_type, header.width, header.height, header.frames, tuple(faults))


def describe_pixel_limit(pixels: int, pixels_max: int) -> str:
    """The sentence about a limit that must not be taken for the model's, which sets none."""
    return f"The image has {pixels} pixels; {pixels_max} is the limit of this gateway, not of the model."


def inspect_text(data: bytes) -> Facts:
    """The facts of a file that is a text, or nearly one."""
    fault = texts.find_fault(data)
    return Facts("text/plain", faults=(("unreadable_document", fault),) if fault is not None else ())


def measure(data: bytes) -> Facts:
    """Type and size of a picture that nobody judges, such as the model's own. Never raises."""
    mime_type = signatures.detect_media_type(data)
    try:
        header = _PARSERS[mime_type](data) if mime_type in _PARSERS else None
    except Malformed:
        header = None
    if header is None:
        return Facts(mime_type)
    return Facts(header.mime_type or mime_type, header.width, header.height, header.frames)


def inspect(data: bytes, *, pixels_max: int) -> Facts:
    """The facts of a file. Never raises.

    Args:
        data: The whole file.
        pixels_max: Width times height above which an image is a fault; the largest picture inside a
            container counts, whatever the primary one claims.
    """
    if not data:
        return Facts(None, faults=(("empty_file", "There are no bytes."),))
    mime_type = signatures.detect_media_type(data)
    if mime_type in _PARSERS:
        return _inspect_image(data, mime_type, pixels_max)
    if mime_type in videos.TYPES:
        seconds, fault = videos.inspect_video(data, mime_type)
        return Facts(mime_type, faults=(fault,) if fault is not None else (), seconds=seconds)
    if mime_type == signatures.TEXT:
        return inspect_text(data)
    return Facts(mime_type, text_if_no_pdf=mime_type == signatures.PDF and signatures.may_be_text(data))
