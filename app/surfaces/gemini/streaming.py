"""``streamGenerateContent``: one document as server-sent events or in an array."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from app.media.splicing import splice_iter
from app.surfaces.gemini.errors import encode_error
from app.surfaces.gemini.response import MEDIA_TYPES, encode_document
from app.surfaces.http.streams import StreamDialect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.errors import GatewayError
    from app.domain.generation import ImageData
    from app.surfaces.gemini.response import StreamFormat

# White space in either format. A comment would be usual, but Google's Python client takes it for broken JSON.
_BEATS: Final[Mapping[StreamFormat, bytes]] = {"array": b"\r\n", "sse": b"\r\n\r\n"}


@dataclass(frozen=True, slots=True)
class RenderedAnswer:
    """A response: a document in Google's dialect, its bytes by placeholder, and headers."""

    document: str
    blobs: Mapping[str, ImageData] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def build_dialect(form: StreamFormat, request_id: str, path: str) -> StreamDialect[RenderedAnswer]:
    """Build the encoding of a stream of one document: a generation is sent once it is stored and paid.

    Args:
        form: ``sse`` or ``array``.
        request_id: Request id, for an error after the status line.
        path: Path of the request, likewise.
    """

    def piece_of_error(error: GatewayError) -> bytes:
        return encode_document(encode_error(error, request_id, path), form)

    return StreamDialect(
        media_type=MEDIA_TYPES[form],
        beat=_BEATS[form],
        pieces_of=lambda answered: splice_iter(encode_document(answered.document, form), answered.blobs),
        piece_of_error=piece_of_error,
        headers_of=lambda answered: answered.headers,
    )
