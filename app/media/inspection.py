"""Inspects inputs: their real type, their size and their faults.

Nothing is decoded. The parsers read headers only, so that an image of 81 megapixels in 200 kB is refused in
microseconds. No input can make them raise or loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.media import headers_bmff, headers_jpeg, headers_png, headers_webp, signatures, texts, videos
from app.media.headers import Header, Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

Fault = tuple[str, str]
"""A stable code, and a sentence for people."""

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
    """Facts about a file.

    Attributes:
        mime_type: The type by signature, or None if none matches.
        width: Width in pixels as stored (orientation metadata is not applied), or None if the header is
            unreadable or the type has no parser.
        height: Height in pixels as stored, or None.
        frames: Frames of an animation; 1 for a still image and for other files.
        faults: Pairs of (code, sentence). Codes: ``empty_file``, ``truncated_image``,
            ``unreadable_image``, ``too_many_pixels``, ``unreadable_document``, ``truncated_video``,
            ``unreadable_video``.
        seconds: Duration of a video, if its headers state it.
        text_if_no_pdf: Whether a file with a PDF signature counts as a text if it cannot be opened as a PDF.
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
        code = "unreadable_image"
        if malformed.truncated:
            code = "truncated_image"
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
    """A sentence that says that the limit is the gateway's, because the model has none."""
    return f"The image has {pixels} pixels; {pixels_max} is the limit of this gateway, not of the model."


def inspect_text(data: bytes) -> Facts:
    """Inspect a file that is a text, or nearly one."""
    fault = texts.find_fault(data)
    if fault is None:
        return Facts("text/plain")
    return Facts("text/plain", faults=(("unreadable_document", fault),))


def measure(data: bytes) -> Facts:
    """Type and size of an image without a check for faults, such as the model's own. Never raises."""
    mime_type = signatures.detect_media_type(data)
    try:
        header = None
        if mime_type in _PARSERS:
            header = _PARSERS[mime_type](data)
    except Malformed:
        header = None
    if header is None:
        return Facts(mime_type)
    return Facts(header.mime_type or mime_type, header.width, header.height, header.frames)


def inspect(data: bytes, *, pixels_max: int) -> Facts:
    """Inspect a file. Never raises.

    Args:
        data: The whole file.
        pixels_max: Most pixels (width times height) of an image; in a container, the largest image counts.
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
