"""What is kept as JSON comes back the same, or is refused whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.failure import Failure
from app.domain.generation import Generation, Notice, PictureRecord, Usage
from app.generation.records import (
    UnreadableRecord,
    decode_failure,
    decode_generation,
    encode_failure,
    encode_generation,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FULL = Generation(
    "gen_h1",
    "gemini-3.1-flash-image",
    "gemini-3.1-flash-image-001",
    2**53 - 1,
    (PictureRecord("img_" + "0" * 64, "image/png", 1024, 768, 20_000_000),),
    'Words "quoted", ümlaut, 🎨, \u2028 and\x00 control',
    "STOP",
    Usage(1, 2, 3, 4, 5, 6, 7, estimated=True),
    seeds=(None, 0, 2**31 - 1),
    notices=(Notice("size_mismatch", "It is smaller."),),
)
FAILURE = Failure("content_blocked", "It was blocked.", "IMAGE_SAFETY", None, final=True)


def test_a_generation_comes_back_the_same() -> None:
    assert decode_generation(encode_generation(FULL)) == FULL


def test_a_failure_comes_back_the_same() -> None:
    assert decode_failure(encode_failure(FAILURE)) == FAILURE


def test_half_a_surrogate_pair_does_not_lose_a_paid_result() -> None:
    odd = Generation("gen_h", "m", "v", 0, (), "x\ud83d", "STOP", Usage(), notices=(Notice("c", "\udc00"),))
    found = decode_generation(encode_generation(odd))
    assert (found.text, found.notices[0].detail) == ("x?", "?")
    assert decode_failure(encode_failure(Failure("c", "d\ud83d"))).detail == "d?"


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an unknown field": lambda g: g.update(extra=1),
    "a missing field": lambda g: g.pop("model"),
    "a number as text": lambda g: g.update(created_ms="1"),
    "a fraction": lambda g: g.update(created_ms=1.5),
    "a missing count": lambda g: g["usage"].pop("thinking"),
    "a flag as a number": lambda g: g["usage"].update(estimated=1),
    "a picture without an id": lambda g: g["pictures"][0].pop("id"),
    "null for a text": lambda g: g.update(text=None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_anything_but_the_expected_fields_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    record = json.loads(encode_generation(FULL))
    change(record["generation"])
    with pytest.raises(UnreadableRecord):
        decode_generation(json.dumps(record, separators=(",", ":"), ensure_ascii=False))


@pytest.mark.parametrize("text", ["", "{}", "null", '{"v":2,"generation":{}}', '{"v":1,"generation":{}}'])
def test_another_version_is_refused(text: str) -> None:
    with pytest.raises(UnreadableRecord):
        decode_generation(text)


def test_a_cut_record_is_refused_at_every_length() -> None:
    text = encode_generation(FULL)
    for end in range(len(text)):
        with pytest.raises(UnreadableRecord):
            decode_generation(text[:end])


def test_a_failure_is_no_generation() -> None:
    with pytest.raises(UnreadableRecord):
        decode_generation(encode_failure(FAILURE))
