"""``streamGenerateContent``: one document as server-sent events or in an array."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from app.media.splicing import splice_iter
from app.surfaces.gemini.errors import error_document
from app.surfaces.gemini.response import MEDIA_TYPES, written
from app.surfaces.http.streams import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.errors import GatewayError
    from app.surfaces.gemini.response import Form

# White space in either form. Google's Python client takes a comment, which would be usual, for broken JSON.
_BEATS: Final[Mapping[Form, bytes]] = {"array": b"\r\n", "sse": b"\r\n\r\n"}


@dataclass(frozen=True, slots=True)
class Answered:
    """What a caller gets: a document in Google's words, its bytes beside it, and headers."""

    document: str
    cargo: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def dialect_of(form: Form, request_id: str, path: str) -> Dialect[Answered]:
    """How the stream is written: of one document, because a generation is delivered when it is kept and paid.

    Args:
        form: ``sse`` or ``array``.
        request_id: For an error after the status line.
        path: Likewise.
    """

    def piece_of_error(error: GatewayError) -> bytes:
        return written(error_document(error, request_id, path), form)

    return Dialect(
        media_type=MEDIA_TYPES[form],
        beat=_BEATS[form],
        pieces_of=lambda answered: splice_iter(written(answered.document, form), answered.cargo),
        piece_of_error=piece_of_error,
        headers_of=lambda answered: answered.headers,
    )
