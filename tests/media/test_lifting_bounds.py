"""How many strings one text may hold to lift, and what the scanner's own bounds change: nothing."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from app.media.base64_text import Fault
from app.media.lifting import LiftedBody, Lifter, TooManyStrings

REPETITIONS = 2000
"""How often a group of the scanner's patterns repeats before the scanner matches again."""


def lift(text: bytes, every: int) -> LiftedBody:
    lifter = Lifter()
    for start in range(0, len(text), every):
        lifter.feed(text[start : start + every])
    return lifter.close()


def test_no_more_strings_are_lifted_than_allowed() -> None:
    allowed = Lifter(strings_max=2)
    allowed.feed(b'[{"data": "QQ=="}, {"data": "QQ=="}]')
    assert len(allowed.close().blobs) == 2
    with pytest.raises(TooManyStrings):
        allowed.feed(b' {"data": "')


@pytest.mark.parametrize("count", [REPETITIONS + n for n in (-1, 0, 1, REPETITIONS, REPETITIONS + 1)])
@pytest.mark.parametrize("every", [1 << 20, 1000, 7])
@pytest.mark.parametrize(
    "document",
    [
        lambda count: [*[""] * count, {"a": 1, "data": "aGk="}],
        lambda count: {"prompt": '"' * count, "a": "\n", "data": "aGk="},
        lambda count: {"a": "\n" * count, "b": "\\" * count, "data": "aGk="},
    ],
)
def test_any_number_of_strings_and_escapes_may_stand_before_a_picture(
    document: Any, every: int, count: int
) -> None:
    text = json.dumps(document(count)).encode()
    body = lift(text, every)
    [item] = body.blobs
    assert (item.data, item.fault) == (b"hi", None)
    assert body.skeleton.replace(item.placeholder.encode(), b"aGk=") == text


@pytest.mark.parametrize("count", [REPETITIONS - 1, REPETITIONS, 2 * REPETITIONS + 1])
@pytest.mark.parametrize("every", [1 << 20, 1000, 7])
def test_a_picture_may_have_any_number_of_escapes(every: int, count: int) -> None:
    picture = bytes(count % 251 for count in range(count * 3 // 4))
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in base64.b64encode(picture).decode())
    [item] = lift(b'{"data": "%s"}' % escaped.encode(), every).blobs
    assert (item.data, item.fault) == (picture, None)


@pytest.mark.parametrize(
    ("value", "offset"),
    [(rb"\/\q", 1), (rb"\/\u00zz", 1), (rb"\u0041\u0041\u\u\u", 2), (rb"AAA\u004\/", 3), (rb"\n\q", 0)],
)
@pytest.mark.parametrize("every", [1, 2, 3, 4, 5, 6, 7, 100])
def test_an_escape_that_json_does_not_know_is_a_fault_in_its_place(
    value: bytes, offset: int, every: int
) -> None:
    [item] = lift(b'{"data": "%s"}' % value, every).blobs
    assert item.fault == Fault("alphabet", offset)


@pytest.mark.parametrize("wrong", [rb"\u", rb"\q", rb"\u00", rb"\/\u"])
def test_wrong_escapes_take_no_longer_than_right_ones(wrong: bytes) -> None:
    """A scanner that searches the rest of the chunk at each of them takes a second for 64 KiB."""

    def seconds(escape: bytes) -> float:
        text = b'{"data": "' + escape * (65_536 // len(escape))
        times = []
        for _ in range(3):
            began = time.process_time()
            lift(text, len(text))
            times.append(time.process_time() - began)
        return min(times)

    assert seconds(wrong) < 20 * seconds(rb"\u0041")
