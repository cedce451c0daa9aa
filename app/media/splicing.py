"""Splices bytes into a JSON skeleton as base64, piece by piece; the reverse of ``lifting``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pybase64

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.domain.generation import ImageData

# A multiple of three, so that every piece but the last ends on a whole quantum: 1 MiB of text a piece.
RAW_PIECE_BYTES: Final = 768 * 1024


def splice_iter(skeleton: bytes, blobs: Mapping[str, ImageData]) -> Iterator[bytes]:
    """The body with each quoted placeholder replaced by the base64 of its bytes.

    Args:
        skeleton: JSON text with placeholders.
        blobs: Bytes by placeholder. A placeholder that occurs twice is spliced twice.

    Yields:
        Base64 in pieces of at most 1 MiB, and the skeleton's text between placeholders. They are encoded as
        they are consumed, so that the whole body never exists at once.
    """
    end = 0
    for match in _find_placeholders(skeleton, blobs):
        yield skeleton[end : match.start(1)]
        data = memoryview(blobs[match[1].decode()])
        for start in range(0, len(data), RAW_PIECE_BYTES):
            yield pybase64.b64encode(data[start : start + RAW_PIECE_BYTES])
        end = match.end(1)
    yield skeleton[end:]


def splice(skeleton: bytes, blobs: Mapping[str, ImageData]) -> list[bytes]:
    """The pieces of ``splice_iter``, all at once."""
    return list(splice_iter(skeleton, blobs))


def compute_spliced_length(skeleton: bytes, blobs: Mapping[str, ImageData]) -> int:
    """The length of the spliced body in bytes, without building it."""
    return len(skeleton) + sum(
        -(-len(blobs[match[1].decode()]) // 3) * 4 - len(match[1])
        for match in _find_placeholders(skeleton, blobs)
    )


def _find_placeholders(skeleton: bytes, blobs: Mapping[str, ImageData]) -> Iterator[re.Match[bytes]]:
    """Matches of placeholders as whole strings; group 1 is the placeholder without its quotes."""
    if not blobs:
        return iter(())
    names = b"|".join(re.escape(placeholder.encode()) for placeholder in blobs)
    return re.finditer(rb'"(' + names + rb')(?=")', skeleton)
