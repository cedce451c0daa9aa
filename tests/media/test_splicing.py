"""Splicing: base64 goes into the text where placeholders stand, in bounded pieces of known length."""

from __future__ import annotations

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from app.media.lifting import generate_placeholders
from app.media.splicing import RAW_PIECE_BYTES, compute_spliced_length, splice, splice_iter


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_every_placeholder_becomes_the_base64_of_its_bytes(images: list[bytes]) -> None:
    blobs = dict(zip(generate_placeholders(), images, strict=False))
    skeleton = json.dumps({"prompt": "aGk=", "parts": [{"data": name} for name in blobs]}).encode()
    spliced = b"".join(splice(skeleton, blobs))
    assert [base64.b64decode(part["data"]) for part in json.loads(spliced)["parts"]] == images
    assert compute_spliced_length(skeleton, blobs) == len(spliced)


def test_a_large_image_comes_in_bounded_pieces() -> None:
    data = b"\x01\x02\x03\x04" * RAW_PIECE_BYTES
    blobs = {"name": data}
    pieces = splice(b'{"data":"name"}', blobs)
    assert max(map(len, pieces)) <= 1024 * 1024
    assert b"".join(pieces) == b'{"data":"%s"}' % base64.b64encode(data)


def test_nothing_is_encoded_before_it_is_asked_for() -> None:
    pieces = splice_iter(b'{"data":"name"}', {"name": b"\0" * 10 * RAW_PIECE_BYTES})
    assert next(pieces) == b'{"data":"'
    assert len(next(pieces)) == 1024 * 1024


def test_a_placeholder_inside_a_longer_string_is_left_alone() -> None:
    skeleton = b'{"prompt": "say name", "name2": "xname", "data": "name"}'
    assert b"".join(splice(skeleton, {"name": b"hi"})) == skeleton.replace(b'"name"', b'"aGk="')


def test_the_same_image_can_stand_in_two_places() -> None:
    assert b"".join(splice(b'["a","a","b"]', {"a": b"hi", "b": b"ho"})) == b'["aGk=","aGk=","aG8="]'


def test_a_body_without_cargo_is_itself() -> None:
    assert splice(b'{"prompt":"x"}', {}) == [b'{"prompt":"x"}']
    assert compute_spliced_length(b'{"prompt":"x"}', {}) == 14
