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
"""Files above this are looked at in a thread: what a small one costs is less than what the thread does."""
PDF = "application/pdf"

_BASE64_FAULTS = {
    "alphabet": "Character {offset} is not in the base64 alphabet: A-Z, a-z, 0-9, + and / (RFC 4648).",
    "padding": "The base64 text does not end with the right number of '='.",
    "not_canonical": "The base64 text has set bits behind the last byte; another text means the same bytes.",
    "too_large": "It has more than {limit} bytes.",
    "unterminated": "The base64 text does not end.",
}
_BROKEN_UP = (
    "The base64 text is broken by white space, first at character {offset}; send it as one unbroken string."
)
_ADDRESS = (
    "This is an address or a data URL. Send the bytes alone, in base64; in a data URL they follow the comma."
)
_URL_SAFE = "Character {offset} is of the URL-safe alphabet; write + for - and / for _ (RFC 4648 section 4)."
_CHARACTER_FAULTS = {**dict.fromkeys("\r\n\t ", _BROKEN_UP), ":": _ADDRESS, **dict.fromkeys("-_", _URL_SAFE)}
"""What a character that is no base64 tells of how the text came about."""


async def inspect_input(
    service: Service, kind: InputKind, pointer: str, data: bytes, declared_mime_type: str | None
) -> Input:
    """An input with the facts that its bytes tell; all but small ones are looked at off the event loop.

    Raises:
        Overloaded: The pages of a PDF cannot be counted now, for want of a process.
    """

    def look() -> tuple[Facts, str]:
        return inspect(data, pixels_max=service.limits.input_pixels_max), compute_digest(data)

    facts, digest = await asyncio.to_thread(look) if len(data) > THREAD_BYTES_MIN else look()
    pages: int | None = None
    # What is over the limit is refused for its length, and no child has to read it.
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
    """The facts and pages of a PDF, with what keeps it from being opened; or those of the text that it is."""
    try:
        pages = await service.page_counter.count(data)
    except OSError:
        log.exception("no process to count pages in")
        raise Overloaded("The pages of the PDF cannot be counted now.", retry_after_s=1) from None
    if pages.fault is None:
        return facts, pages.count
    if facts.text_if_no_pdf:
        return await asyncio.to_thread(inspect_text, data), None
    return replace(facts, faults=(pages.fault,)), None


def detect_kind(data: bytes, declared_mime_type: str) -> InputKind:
    """What a file is offered as in a dialect that has one field for all: its bytes decide, and not its name.

    Text is the exception, for a web page in place of a picture is a mistake and no document.
    """
    detected = detect_media_type(data)
    return classify_media_type(declared_mime_type if detected in (None, TEXT) else detected or "")


def build_uri_input(kind: InputKind, pointer: str, uri: str, declared_mime_type: str | None) -> Input:
    """An input that stays in Cloud Storage; Google fetches it, the gateway never does."""
    digest = compute_digest(uri.encode(errors="surrogatepass"))
    return Input(kind=kind, pointer=pointer, uri=uri, declared_mime_type=declared_mime_type, digest=digest)


async def load_earlier_image(
    service: Service, caller: Caller, kind: InputKind, pointer: str, image_id: str
) -> Input | Violation:
    """An earlier picture of this tenant as an input, or why there is none."""
    try:
        picture = await service.gateway.get_picture(caller, image_id)
    except NotFound:
        detail = "There is no such image of this tenant, or it has expired."
        return Violation(f"{pointer}/image_id", "unknown_image", detail)
    return await inspect_input(service, kind, pointer, picture.data, picture.mime_type)


def check_base64(lifted: Lifted, pointer: str, bytes_max: int) -> Violation | None:
    """What is wrong with a base64 text itself, or None."""
    if lifted.fault is None:
        return None
    code = "input_too_large" if lifted.fault.code == "too_large" else "invalid_base64"
    sentence = _CHARACTER_FAULTS.get(lifted.fault.character, _BASE64_FAULTS[lifted.fault.code])
    detail = sentence.format(offset=lifted.fault.offset, limit=bytes_max)
    return Violation(pointer, code, detail)
