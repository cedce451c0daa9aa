"""Reads request bodies: JSON, whose images are lifted out while it streams in, and multipart forms."""

from __future__ import annotations

from codecs import BOM_UTF8
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request
from pydantic_core import from_json
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.domain.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from app.media.lifting import TEXT_BYTES_MAX, Lifted, Lifter, SkeletonTooLarge, TooManyStrings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping

    from app.surfaces.http.context import Limits

_CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii"})
NAME_LENGTH_MAX = 63
JSON_VALUES_MAX = 2000
"""Most values in the JSON of one request: validating a value costs far more than sending it."""
_TEXT_TOO_LONG = (
    f"A text under the key data has more than {TEXT_BYTES_MAX} bytes; only the base64 of a file may."
)


@dataclass(frozen=True, slots=True)
class BytesFormat:
    """How a dialect carries bytes in JSON: the keys of base64 strings (see ``Lifter``).

    Every dialect reads base64 in any spelling that leaves no doubt about the bytes: either alphabet, with or
    without padding, with line breaks, in a data URL.

    Attributes:
        strings_per_input: Base64 strings that a request may have per input.
    """

    keys: Collection[str] = frozenset({"data"})
    strings_per_input: int = 1


@dataclass(frozen=True, slots=True)
class JsonBody:
    """A JSON object with placeholders in place of its images, and the images by placeholder."""

    members: dict[str, Any]
    blobs: Mapping[str, Lifted]

    def restore(self, value: Any) -> Any:
        """Return JSON of the body with the strings put back that were lifted out of it and are no files.

        Args:
            value: A member of the body, or an element of one.

        Raises:
            InvalidRequest: A string is not valid JSON or is too long.
        """
        if isinstance(value, dict):
            return {name: self.restore(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.restore(item) for item in value]
        if not isinstance(value, str) or value not in self.blobs:
            return value
        text = self.blobs[value].text
        if text is None:
            raise InvalidRequest(_TEXT_TOO_LONG)
        return _parse_body(b'"' + text + b'"')


@dataclass(frozen=True, slots=True)
class FormBody:
    """A multipart form: text fields and file parts by name, each in order."""

    fields: dict[str, list[str]]
    files: dict[str, list[UploadFile]]


def _read_media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request, limits: Limits, spelling: BytesFormat = BytesFormat()) -> JsonBody:
    """Read the body of a JSON request.

    Raises:
        UnsupportedMediaType: The Content-Type is not JSON.
        InvalidRequest: It is not a JSON object in UTF-8, or has too many values or files.
        BodyTooLarge: More JSON beside the images than ``light_bytes_max``.
    """
    media_type = _read_media_type(request)
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType("Send a JSON object with Content-Type: application/json.")
    strings_max = limits.inputs_max * spelling.strings_per_input
    lifter = Lifter(
        spelling.keys,
        alphabets="either",
        padding="optional",
        wrapped=True,
        string_bytes_max=limits.input_bytes_max,
        strings_max=strings_max,
        light_bytes_max=limits.light_bytes_max,
    )
    try:
        async for chunk in request.stream():
            lifter.feed(chunk)
        lifted = lifter.close()
    except SkeletonTooLarge:
        raise BodyTooLarge(
            f"The JSON without its images must not exceed {limits.light_bytes_max} bytes."
        ) from None
    except TooManyStrings:
        keys = " or ".join(sorted(spelling.keys))
        raise InvalidRequest(
            f"The body contains more than {strings_max} strings under {keys}, as files have."
        ) from None
    members = _parse_body(lifted.skeleton.removeprefix(BOM_UTF8))
    if not isinstance(members, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return JsonBody(members, {item.placeholder: item for item in lifted.blobs})


def _parse_body(text: bytes) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        # The parser's message names a place and what it expected there, but never quotes the input.
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None


def parse_json(text: str | bytes) -> Any:
    """Parse JSON. Raises ValueError if it is not valid, InvalidRequest if it has too many values."""
    document = from_json(text, allow_inf_nan=False)
    count, pending = 1, [document]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            children = list(value.values())
        elif isinstance(value, list):
            children = value
        else:
            continue
        count += len(children)
        if count > JSON_VALUES_MAX:
            raise InvalidRequest(f"The JSON contains more than {JSON_VALUES_MAX} values.")
        pending.extend(children)
    return document


@asynccontextmanager
async def read_form(request: Request, limits: Limits) -> AsyncIterator[FormBody]:
    """Read the body of a multipart request; its files are closed on exit.

    Raises:
        UnsupportedMediaType: The Content-Type is not multipart/form-data.
        InvalidRequest: The body is not a valid form.
    """
    if _read_media_type(request) != "multipart/form-data":
        raise UnsupportedMediaType("Send a form with Content-Type: multipart/form-data.")
    parser = MultiPartParser(
        _build_latin1_headers(request.headers.get("content-type", "")),
        request.stream(),
        max_files=limits.inputs_max,
        max_fields=200,
        max_part_size=limits.light_bytes_max,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidRequest(f"The form cannot be read: {error.message}") from None
    try:
        yield _collect_parts(form.multi_items())
    finally:
        await form.close()


def _build_latin1_headers(content_type: str) -> Headers:
    """Return headers that make the parser decode a form as Latin-1, in which every byte is a character.

    Otherwise the parser falls back to Latin-1 for text that is not UTF-8, and the difference is lost.

    Raises:
        UnsupportedMediaType: The form declares another encoding than UTF-8.
        InvalidRequest: The Content-Type has no boundary.
    """
    _, options = parse_options_header(content_type)
    charset, boundary = options.get(b"charset", b"utf-8"), options.get(b"boundary")
    if charset.lower() not in _CHARSETS:
        raise UnsupportedMediaType("A form must be encoded in UTF-8.")
    if not boundary:
        raise InvalidRequest("The form cannot be read: its Content-Type has no boundary.")
    escaped = boundary.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    value = b'multipart/form-data; charset=latin-1; boundary="' + escaped + b'"'
    return Headers(raw=[(b"content-type", value)])


def _collect_parts(items: Iterable[tuple[str, str | UploadFile]]) -> FormBody:
    """Return text fields and files by name, with the text decoded from Latin-1 back to UTF-8."""
    fields: dict[str, list[str]] = {}
    files: dict[str, list[UploadFile]] = {}
    for raw_name, value in items:
        name = raw_name.encode("latin-1").decode(errors="replace")
        if isinstance(value, UploadFile):
            files.setdefault(name, []).append(value)
            continue
        try:
            fields.setdefault(name, []).append(value.encode("latin-1").decode())
        except UnicodeDecodeError:
            raise InvalidRequest(f"The form field {name[:NAME_LENGTH_MAX]!r} is not UTF-8.") from None
    return FormBody(fields, files)
