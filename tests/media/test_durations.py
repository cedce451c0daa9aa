"""How long a video is comes from its header alone, and no header makes the reader raise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.policy import PIXELS_MAX
from app.media.durations import seconds_of
from app.media.inspection import inspect
from tests.media.files import MDAT, box, ftyp, mvhd, video

ALL_ONES = {False: 2**32 - 1, True: 2**64 - 1}


@pytest.mark.parametrize("brand", [b"isom", b"qt  ", b"3gp5"])
def test_a_video_says_how_long_it_is(brand: bytes) -> None:
    assert inspect(video(12.5, brand), pixels_max=PIXELS_MAX).seconds == 12.5


def test_both_versions_of_the_header_and_any_order_of_boxes_are_read() -> None:
    wide = box(b"moov", box(b"free") + mvhd(90_000 * 7, 90_000, wide=True))
    assert seconds_of(ftyp(b"mp42") + MDAT + wide) == 7


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("ticks", [0, "all ones"])
def test_a_length_that_is_not_known_is_none(wide: bool, ticks: int | str) -> None:
    told = ALL_ONES[wide] if ticks == "all ones" else 0
    assert seconds_of(ftyp(b"isom") + box(b"moov", mvhd(told, wide=wide))) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        ftyp(b"isom") + MDAT,
        ftyp(b"isom") + box(b"moov"),
        ftyp(b"isom") + box(b"moov", mvhd(1000, 0)),
        ftyp(b"isom") + box(b"moov", mvhd(1000))[:20],
        ftyp(b"isom") + box(b"moov", mvhd(1000), length=12),
        ftyp(b"isom") + box(b"free") * 300 + box(b"moov", mvhd(1000)),
        b"\x1aE\xdf\xa3" + bytes(40),
    ],
    ids=["nothing", "no movie", "empty", "no scale", "cut", "liar", "too many boxes", "webm"],
)
def test_no_header_that_can_be_read_is_none(data: bytes) -> None:
    assert seconds_of(data) is None


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_nothing_makes_it_raise(noise: bytes, at: int) -> None:
    whole = video(3)
    found = seconds_of(whole[:at] + noise + whole[at:])
    assert found is None or found > 0
