"""A start-up test that lifting works on this Python, because an image that it loses has been paid for."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final

import pybase64

from app.media.lifting import Lifter
from app.media.splicing import splice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PICTURES: Final = (b"", b"\xff", bytes(range(256)), b"\xfb\xef\xbe" * 20)
_CHUNK_LENGTHS: Final = (1, 2, 3, 7, 64, 1 << 16)
_SPELLINGS: Final = ((b'"data"', b"+", b"/", b"="), (rb'"d\u0061ta"', rb"\u002B", rb"\/", rb"\u003d"))


class LiftingBroken(RuntimeError):
    """On this Python, lifting does not reproduce the bytes of images."""


def check_lifting(new_lifter: Callable[[], Lifter] = Lifter) -> None:
    """Lift known bytes out of a JSON text in chunks, and splice them back.

    Raises:
        LiftingBroken: The result differs from the input.
    """
    texts = [pybase64.b64encode(picture) for picture in _PICTURES]
    for key, plus, slash, equals in _SPELLINGS:
        escaped = (text.replace(b"+", plus).replace(b"/", slash).replace(b"=", equals) for text in texts)
        arriving, wanted = _build_document(key, escaped), _build_document(key, texts)
        for length in _CHUNK_LENGTHS:
            lifter = new_lifter()
            for start in range(0, len(arriving), length):
                lifter.feed(arriving[start : start + length])
            body = lifter.close()
            spliced = b"".join(splice(body.skeleton, {item.placeholder: item.data for item in body.blobs}))
            if tuple(item.data for item in body.blobs) != _PICTURES or spliced != wanted:
                raise LiftingBroken(
                    "pictures would be paid for and lost, because known bytes do not come back from a JSON "
                    f"text in chunks of {length} bytes. Most likely the re module of this Python "
                    f"({platform.python_implementation()} {platform.python_version()}) is at fault: "
                    "install flashgate with another release of Python."
                )


def _build_document(key: bytes, texts: Iterable[bytes]) -> bytes:
    """A JSON text with difficult strings before the ones to lift."""
    quoting = rb'"short": "\"data\": \"aGk=\" \\", "long": "longer than any key, and with one quote \" in it"'
    members = b", ".join(b'{"mimeType": "image/png", %s\n:\t"%s"}' % (key, text) for text in texts)
    return b'{%s, "x": ["data", 1.5], "y": {"data": 0}, "z": [%s]}' % (quoting, members)
