"""Makes domain inputs of what a dialect carries: lifted base64, form parts, addresses, earlier pictures."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from app.domain.errors import NotFound, Overloaded, Violation
from app.domain.fingerprint import compute_digest
from app.domain.media_types import classify_media_type
from app.domain.request import Input
from app.media.inspection import inspect, inspect_text
from app.media.signatures import TEXT, detect_media_type

if TYPE_CHECKING:
    from app.domain.request import InputKind
    from app.domain.tenancy import Caller
    from app.media.inspection import Facts
    from app.media.lifting import Lifted
    from app.surfaces.http.context import Service

log = logging.getLogger(__name__)

THREAD_BYTES_MIN = 100_000
"""Larger files are inspected in a thread; for smaller ones the thread would cost more than it saves."""
PDF = "application/pdf"

_BASE64_FAULTS = {
    "alphabet": "Character {offset} is not in the base64 alphabet: A-Z, a-z, 0-9, + and / (RFC 4648).",
    "padding": "The base64 text does not end with the right number of '='.",
    "not_canonical": "The base64 text is not canonical: bits after the last byte are set.",
    "too_large": "It has more than {limit} bytes.",
    "unterminated": "The base64 text does not end.",
}
_ADDRESS = "This is a URL, or a data URL that is not base64. Send the bytes as base64, also in a data URL."
_CHARACTER_FAULTS = {":": _ADDRESS}
"""Messages for characters that are not base64 and reveal the caller's mistake."""


async def inspect_input(
    service: Service, kind: InputKind, pointer: str, data: bytes, declared_mime_type: str | None
) -> Input:
    """Build an input from its bytes: type, dimensions, pages, duration and digest.

    Raises:
        Overloaded: No process is available to count the pages of a PDF.
    """

    def look() -> tuple[Facts, str]:
        return inspect(data, pixels_max=service.limits.input_pixels_max), compute_digest(data)

    facts, digest = await asyncio.to_thread(look) if len(data) > THREAD_BYTES_MIN else look()
    pages: int | None = None
    # A file over the limit is refused for its size, so its pages need not be counted.
    if kind == "document" and facts.mime_type == PDF and len(data) <= service.limits.input_bytes_max:
        facts, pages = await _count_pages(service, data, facts)
    return Input(
        kind=kind,
        pointer=pointer,
        data=data,
        declared_mime_type=declared_mime_type,
        mime_type=facts.mime_type,
        width=facts.width,
        height=facts.height,
        frames=facts.frames,
        pages=pages,
        seconds=facts.seconds,
        digest=digest,
        faults=facts.faults,
    )


async def _count_pages(service: Service, data: bytes, facts: Facts) -> tuple[Facts, int | None]:
    """Return the facts and page count of a PDF; the facts of a text if it turns out to be one."""
    try:
        pages = await service.page_counter.count(data)
    except OSError:
        log.exception("no process is available to count pages")
        raise Overloaded("The pages of the PDF cannot be counted now.", retry_after_s=1) from None
    if pages.fault is None:
        return facts, pages.count
    if facts.text_if_no_pdf:
        return await asyncio.to_thread(inspect_text, data), None
    return replace(facts, faults=(pages.fault,)), None


def detect_kind(data: bytes, declared_mime_type: str) -> InputKind:
    """Return the kind of a file in a dialect with one field for all kinds, by its bytes.

    For text the declared type decides: a web page sent as a picture is a mistake, not a document.
    """
    detected = detect_media_type(data)
    return classify_media_type(declared_mime_type if detected in (None, TEXT) else detected or "")


def build_uri_input(kind: InputKind, pointer: str, uri: str, declared_mime_type: str | None) -> Input:
    """Build an input that stays in Cloud Storage, where Google fetches it; the gateway never does."""
    digest = compute_digest(uri.encode(errors="surrogatepass"))
    return Input(kind=kind, pointer=pointer, uri=uri, declared_mime_type=declared_mime_type, digest=digest)


async def load_earlier_image(
    service: Service, caller: Caller, kind: InputKind, pointer: str, image_id: str
) -> Input | Violation:
    """Load a stored picture of this tenant as an input, or return the violation."""
    try:
        picture = await service.gateway.get_picture(caller, image_id)
    except NotFound:
        detail = "The tenant has no such image, or it has expired."
        return Violation(f"{pointer}/image_id", "unknown_image", detail)
    return await inspect_input(service, kind, pointer, bytes(picture.data), picture.mime_type)


def check_base64(lifted: Lifted, pointer: str, bytes_max: int) -> Violation | None:
    """Return the violation of an invalid base64 text, or None."""
    if lifted.fault is None:
        return None
    code = "invalid_base64"
    if lifted.fault.code == "too_large":
        code = "input_too_large"
    sentence = _CHARACTER_FAULTS.get(lifted.fault.character, _BASE64_FAULTS[lifted.fault.code])
    detail = sentence.format(offset=lifted.fault.offset, limit=bytes_max)
    return Violation(pointer, code, detail)
