"""Decodes compressed bodies piece by piece, within bounds, so that a small body cannot fill the memory."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CODINGS: Final = ("gzip", "deflate")
"""Content codings that are decoded (RFC 9110 section 8.4.1); ``x-gzip`` is another name of the first."""
PIECE_BYTES: Final = 65_536
"""Longest piece, in decoded bytes."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS
_FREE_BYTES: Final = 1_000_000
_RATIO_MAX: Final = 100
_ALIASES: Final[Mapping[str, str]] = {"x-gzip": "gzip"}


class NotDecodable(ValueError):
    """The bytes are not in the declared coding, end too early, or expand beyond the bound."""


def find_coding(header: str) -> str | None:
    """Return the coding that a ``Content-Encoding`` names; empty for none, None for one not decoded."""
    names = [name.strip().lower() for name in header.split(",")]
    named = [name for name in names if name not in {"", "identity"}]
    if not named:
        return ""
    coding = _ALIASES.get(named[0], named[0])
    if len(named) > 1 or coding not in CODINGS:
        return None
    return coding


class Inflater:
    """Decodes one body.

    After a million bytes it may not be more than a hundred times as long as what was sent. JSON and forms are
    at most a few times as long.

    Args:
        coding: One of ``CODINGS``. For ``deflate`` both forms that clients send are read: with the header of
            zlib, as RFC 9110 says, and without.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._stream: zlib._Decompress | None = None
        self._start = b""
        self._sent = 0
        self._decoded = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces of the next bytes.

        Raises:
            NotDecodable: The bytes are not in the coding, or expand beyond the bound.
        """
        self._sent += len(data)
        data = self._start + data
        self._start = b""
        while data:
            if self._stream is None:
                if len(data) < 2:
                    self._start = data  # what the form of deflate is can be told from two bytes
                    return
                self._stream = zlib.decompressobj(self._choose_window(data))
            piece, data = self._decode_piece(self._stream, data)
            if piece:
                yield piece

    def close(self) -> None:
        """Check that the body ended where its coding says. Raises NotDecodable if it did not."""
        if self._start or (self._stream is not None and not self._stream.eof):
            raise NotDecodable(f"The body ends before its {self._coding} data does.")

    def _choose_window(self, data: bytes) -> int:
        if self._coding == "gzip":
            return _GZIP
        has_header = data[0] & 15 == zlib.DEFLATED and int.from_bytes(data[:2]) % 31 == 0
        if has_header:
            return zlib.MAX_WBITS
        return _RAW

    def _decode_piece(self, stream: zlib._Decompress, data: bytes) -> tuple[bytes, bytes]:
        """Return a piece and the bytes that are still to be decoded."""
        try:
            piece = stream.decompress(data, PIECE_BYTES)
        except zlib.error:
            raise NotDecodable(
                f"The body is not {self._coding} data, as its Content-Encoding says."
            ) from None
        self._decoded += len(piece)
        if self._decoded > max(_FREE_BYTES, self._sent * _RATIO_MAX):
            raise NotDecodable(f"The body expands to more than {_RATIO_MAX} times its length.")
        if not stream.eof:
            return piece, stream.unconsumed_tail
        rest = stream.unused_data
        if not rest:
            return piece, b""
        if self._coding != "gzip":
            raise NotDecodable("The body continues after its deflate data.")
        self._stream = None  # gzip data may consist of several members (RFC 1952 section 2.2)
        return piece, rest
