"""Records as they are stored: small, and readable whoever wrote them."""

from __future__ import annotations

import secrets
import zlib

import pytest

from app.generation import packing
from app.generation.packing import (
    DICTIONARY,
    PACKED_BYTES_MAX,
    UnreadablePacking,
    pack,
    pack_text,
    unpack,
    unpack_text,
)

RECORDS = ("{}", '{"v":1,"text":"Füchse 🦊;,"}', f'{{"v":1,"signature":"{secrets.token_urlsafe(3000)}"}}')


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_comes_back_as_it_was(record: str) -> None:
    assert unpack(pack(record)) == record
    text = pack_text(record)
    assert text.isascii()
    assert unpack_text(text) == record


def test_what_earlier_versions_wrote_is_read() -> None:
    record = RECORDS[1]
    assert unpack(record.encode()) == record
    assert unpack(zlib.compress(record.encode(), 1)) == record
    assert unpack_text(record) == record


def test_a_long_record_is_stored_as_it_is() -> None:
    record = f'{{"v":1,"signature":"{"x" * PACKED_BYTES_MAX}"}}'
    assert pack(record) == record.encode()
    assert unpack(pack(record)) == record
    assert pack_text(record) == record == unpack_text(record)


@pytest.mark.parametrize("value", [b"", b"x\x9c", b"\x00\x01", b"{\xff"])
def test_damage_is_told(value: bytes) -> None:
    with pytest.raises(UnreadablePacking):
        packing.unpack(value)


@pytest.mark.parametrize("text", ["z1:", "z1:Füchse", "z1:!!!!!", "z1: "])
def test_damaged_text_is_told(text: str) -> None:
    with pytest.raises(UnreadablePacking):
        unpack_text(text)


def test_the_dictionary_is_the_one_with_which_everything_is_packed() -> None:
    assert zlib.adler32(DICTIONARY) == 807316906, "a changed dictionary needs another mark"
