"""Compressed bodies: every form that clients send, in pieces of any length, and none that fills memory."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest

from app.media.inflating import PIECE_BYTES, Inflater, NotDecodable, find_coding

TEXT = b'{"prompt": "A fox", "data": "' + random.Random(7).randbytes(300_000).hex().encode() + b'"}'
RAW = zlib.compressobj(wbits=-15)
DEFLATED = RAW.compress(TEXT) + RAW.flush()
SENT = {
    "gzip": ("gzip", gzip.compress(TEXT)),
    "members": ("gzip", gzip.compress(TEXT[:9]) + gzip.compress(b"") + gzip.compress(TEXT[9:])),
    "deflate": ("deflate", zlib.compress(TEXT)),
    "without zlib's header": ("deflate", DEFLATED),
}


def decode(coding: str, data: bytes, step: int) -> bytes:
    inflater = Inflater(coding)
    pieces: list[bytes] = []
    for at in range(0, len(data), step):
        pieces += inflater.feed(data[at : at + step])
    inflater.close()
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("form", SENT)
@pytest.mark.parametrize("step", [1, 3, 4096, 10_000_000])
def test_what_was_compressed_comes_back_whole(form: str, step: int) -> None:
    coding, data = SENT[form]
    assert decode(coding, data, step) == TEXT


@pytest.mark.parametrize("form", SENT)
def test_what_ends_early_is_not_whole(form: str) -> None:
    coding, data = SENT[form]
    for end in (1, 30, len(data) // 2, len(data) - 1):
        with pytest.raises(NotDecodable, match="ends before"):
            decode(coding, data[:end], 4096)


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", TEXT),
        ("gzip", zlib.compress(TEXT)),
        ("deflate", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT) + b"more"),
        ("deflate", zlib.compress(TEXT) + b"more"),
        ("gzip", gzip.compress(TEXT)[:-8] + bytes(8)),
    ],
)
def test_other_bytes_than_declared_are_refused(coding: str, data: bytes) -> None:
    with pytest.raises(NotDecodable):
        decode(coding, data, 4096)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_is_refused_after_a_hundred_times_its_length(coding: str) -> None:
    bomb = (gzip if coding == "gzip" else zlib).compress(bytes(50_000_000))
    decoded: list[int] = []
    with pytest.raises(NotDecodable, match="more than 100 times"):
        decoded.extend(len(piece) for piece in Inflater(coding).feed(bomb))
    assert 0 < sum(decoded) <= len(bomb) * 100 < 6_000_000


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", ""),
        ("identity", ""),
        ("gzip", "gzip"),
        (" GZip ", "gzip"),
        ("x-gzip", "gzip"),
        ("identity, deflate", "deflate"),
        ("br", None),
        ("zstd", None),
        ("gzip, gzip", None),
        ("gzip;q=1", None),
    ],
)
def test_a_header_names_one_coding(header: str, coding: str | None) -> None:
    assert find_coding(header) == coding
