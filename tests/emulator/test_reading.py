"""Whatever is sent, the emulator reads it or refuses it; nothing else may come out of reading."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cards import load_catalogue
from app.emulator import schema
from app.emulator.errors import GoogleError
from app.emulator.messages import GENERATE_REQUESTS, Dialect
from app.emulator.requests import read_generate
from app.emulator.signatures import is_signature, sign

CARD = load_catalogue().names["gemini-3.1-flash-image"]
JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    1e300,
    0.5,
    "",
    "x",
    "\x00",
    [],
    [None],
    {},
    {"": {}},
    {"a": 1},
)
WORDS = ("user", "model", "image/png", "application/pdf", "text/plain", "16:9", "1K", "gs://b/o", "", "A fox")
REQUESTS = 1500


SCALARS: dict[str, tuple[Any, ...]] = {
    "bytes": ("", "AAAA", "-_8", "iVBORw0KGgo="),
    "int32": (0, 1, 2, 747, 32768, -(2**31), 2**31 - 1),
    "float": (0, 0.5, 1.0, 2.5, -1e38),
    "bool": (True, False),
    "string": WORDS,
}


def arbitrary(shape: schema.Shape, dice: random.Random) -> Any:
    """A value that mostly fits the shape."""
    if isinstance(shape, schema.Anything) or dice.random() < 0.04:
        return dice.choice(JUNK)
    if isinstance(shape, schema.Message):
        chosen = [name for name in shape.fields if dice.random() < 0.3]
        return {name: arbitrary(shape.fields[name], dice) for name in chosen}
    if isinstance(shape, schema.Repeated):
        return [arbitrary(shape.element, dice) for _ in range(dice.randrange(4))]
    pool = sorted(shape.words) if isinstance(shape, schema.Enumeration) else SCALARS[shape.kind]
    return dice.choice(pool)


@pytest.mark.parametrize("dialect", ["gemini", "vertex"])
def test_a_request_is_read_or_refused(dialect: Dialect) -> None:
    dice = random.Random(dialect)
    codes: Counter[int] = Counter()
    for _ in range(REQUESTS):
        document = arbitrary(GENERATE_REQUESTS[dialect], dice)
        if isinstance(document, dict) and dice.random() < 0.5:
            document |= {"contents": [{"parts": [{"text": "A fox"}]}], "tools": [], "systemInstruction": None}
        try:
            read_generate(json.dumps(document).encode(), CARD, dialect)
        except GoogleError as refused:
            codes[refused.code] += 1
        else:
            codes[200] += 1
    assert codes.keys() == {200, 400}


@given(st.binary(max_size=60))
def test_bytes_are_read_in_both_alphabets_with_and_without_padding(raw: bytes) -> None:
    for encoded in (base64.standard_b64encode(raw), base64.urlsafe_b64encode(raw)):
        assert schema.decode_base64(encoded.decode()) == raw
        assert schema.decode_base64(encoded.decode().rstrip("=")) == raw


@pytest.mark.parametrize("text", ["A", "AA AA", "AAAA\n", "AA=A", "ÄÄÄÄ", "%%%%"])
def test_what_is_not_base64_is_not_read(text: str) -> None:
    assert schema.decode_base64(text) is None


@pytest.mark.parametrize(
    "body", [b'{"contents": [{"parts": [{"text": "\\ud800"}]}]}', b"[" * 100_000, b'{"a": NaN}']
)
def test_hostile_json_is_refused(body: bytes) -> None:
    with pytest.raises(GoogleError):
        read_generate(body, CARD, "gemini")


@given(st.binary(min_size=1, max_size=40), st.integers(0, 100))
def test_a_signature_with_one_changed_byte_is_no_signature(subject: bytes, place: int) -> None:
    signed = bytearray(sign(subject, "a-model"))
    assert is_signature(bytes(signed), "a-model")
    assert not is_signature(bytes(signed), "another-model")
    signed[place % len(signed)] ^= 1
    assert not is_signature(bytes(signed), "a-model")
