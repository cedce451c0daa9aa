"""How long a video is and whether it can be played comes from its headers alone, whatever they hold."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.policy import PIXELS_MAX
from app.media.inspection import inspect
from app.media.videos import TYPES, inspect_video
from tests.fixtures import FILES, file_bytes
from tests.media.files import MDAT, box, ftyp, handler, mvhd, video
from tests.media.films import (
    audio,
    cluster,
    ebml,
    flv,
    flv_metadata,
    flv_tag,
    fragment,
    fragmented,
    program_stream,
    sidx,
    tfhd,
    transport_stream,
    trex,
    trun,
    webm,
    webm_info,
    webm_track,
)

if TYPE_CHECKING:
    from types import FrameType

ALL_ONES = {False: 2**32 - 1, True: 2**64 - 1}
LONG = [400] * 5


def seconds_of(data: bytes) -> float | None:
    """Of an MP4."""
    return inspect_video(data, "video/mp4")[0]


@pytest.mark.parametrize("brand", [b"isom", b"qt  ", b"3gp5", b"3g2a", b"XAVC", b"MSNV", b"pana", b"zzzz"])
def test_a_video_says_how_long_it_is(brand: bytes) -> None:
    facts = inspect(video(12.5, brand), pixels_max=PIXELS_MAX)
    assert (facts.seconds, facts.faults) == (12.5, ())
    assert facts.mime_type == {b"qt  ": "video/quicktime", b"3gp5": "video/3gpp", b"3g2a": "video/3gpp"}.get(
        brand, "video/mp4"
    )


@pytest.mark.parametrize("first", [b"wide", b"mdat", b"free", b"moov"])
def test_a_quicktime_file_from_before_brands_is_one(first: bytes) -> None:
    movie = box(b"moov", mvhd(3000) + handler())
    data = movie if first == b"moov" else box(first, bytes(20)) + MDAT + movie
    facts = inspect(data, pixels_max=PIXELS_MAX)
    assert (facts.mime_type, facts.seconds, facts.faults) == ("video/quicktime", 3.0, ())


def test_both_versions_of_the_header_and_any_order_of_boxes_are_read() -> None:
    wide = box(b"moov", box(b"free") + mvhd(90_000 * 7, 90_000, wide=True) + handler())
    assert seconds_of(ftyp(b"mp42") + MDAT + wide) == 7


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("ticks", [0, "all ones"])
def test_a_length_that_is_not_known_is_none(wide: bool, ticks: int | str) -> None:
    told = ALL_ONES[wide] if ticks == "all ones" else 0
    assert seconds_of(ftyp(b"isom") + box(b"moov", mvhd(told, wide=wide) + handler())) is None


FRAGMENTS: dict[str, tuple[bytes, float | None]] = {
    "each sample's own length": (fragmented(*[fragment(tfhd(), trun(5, *LONG))] * 3), 6.0),
    "the fragment's length of a sample": (fragmented(fragment(tfhd(400), trun(5))), 2.0),
    "the movie's length of a sample": (fragmented(fragment(tfhd(), trun(5)), extends=trex(300)), 1.5),
    "two runs": (fragmented(fragment(tfhd(400), trun(5), trun(5))), 4.0),
    "a time to begin at": (
        fragmented(fragment(tfhd(400), box(b"tfdt", bytes(4) + struct.pack(">I", 8000)), trun(5))), 10.0
    ),
    "their length in all": (fragmented(extends=box(b"mehd", bytes(4) + struct.pack(">I", 7000))), 7.0),
    "an index": (fragmented(sidx(1000, 2000, 2500)), 4.5),
    "the longest of all": (fragmented(sidx(1000, 2000), fragment(tfhd(400), trun(9)), stated=999), 3.6),
    "nothing": (fragmented(), None),
    "samples of no length": (fragmented(fragment(tfhd(), trun(5))), None),
    "samples of another track": (fragmented(fragment(tfhd(400, number=9), trun(5))), None),
    "a fragment without its head": (fragmented(fragment(trun(5))), None),
    "a run that is cut": (fragmented(fragment(tfhd(), trun(500, *LONG))), None),
    "a million samples": (fragmented(fragment(tfhd(), trun(10**6, *[1] * 10**6))), None),
    "four thousand fragments": (fragmented(*[fragment(tfhd(100), trun(10))] * 4000), 4000.0),
    "too many fragments": (fragmented(*[fragment(tfhd(100), trun(10))] * 9000), None),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_video_in_fragments_is_as_long_as_they_are_or_of_unknown_length(name: str) -> None:
    data, seconds = FRAGMENTS[name]
    facts = inspect(data, pixels_max=PIXELS_MAX)
    assert (facts.mime_type, facts.faults) == ("video/mp4", ())
    assert facts.seconds == (pytest.approx(seconds) if seconds else None)


OTHERS: dict[str, tuple[bytes, str, float | None]] = {
    "webm": (webm(webm_info(2500.0), webm_track()), "video/webm", 2.5),
    "webm of another scale": (webm(webm_info(25.0, 100_000_000), webm_track()), "video/webm", 2.5),
    "webm of a browser": (
        webm(webm_info(), webm_track(), cluster(0, 0, 40), cluster(5000, 0, 120, unknown=True), unknown=True),
        "video/webm", 5.12,
    ),
    "webm whose last block is cut": (
        webm(webm_info(), webm_track(), cluster(5000, 0, 120), unknown=True)[:-1], "video/webm", 5.12
    ),
    "webm in groups of blocks": (
        webm(webm_track(), ebml(0x1F43B675, ebml(0xE7, b"\x05") + ebml(0xA0, ebml(0xA1, b"\x81\0\x05\0")))),
        "video/webm", 0.01,
    ),
    "webm of no length": (webm(webm_info(), webm_track()), "video/webm", None),
    "webm of infinite length": (webm(webm_info(float("inf")), webm_track()), "video/webm", None),
    "webm of negative length": (webm(webm_info(-5.0), webm_track()), "video/webm", None),
    "webm whose length is no number": (webm(webm_info(float("nan")), webm_track()), "video/webm", None),
    "matroska": (webm(webm_info(2500.0), webm_track(), doctype=b"matroska"), "video/x-matroska", 2.5),
    "flv": (flv(flv_metadata(7.5), flv_tag(9, 0)), "video/x-flv", 7.5),
    "flv without metadata": (flv(flv_tag(9, 0), flv_tag(9, 20_000_000)), "video/x-flv", 20_000.0),
    "flv whose flags lie": (flv(flv_tag(9, 0), flv_tag(9, 900), flags=0), "video/x-flv", 0.9),
    "flv of nothing": (flv(), "video/x-flv", None),
    "mpeg program stream": (program_stream(1, 2, 3.5), "video/mpeg", 3.2),
    "mpeg program stream whose clock wraps": (program_stream(2**33 / 90_000 - 1, 1), "video/mpeg", 2.7),
    "mpeg program stream of one pack": (program_stream(1), "video/mpeg", None),
    "mpeg video without a container": (b"\x00\x00\x01\xb3" + bytes(40), "video/mpeg", None),
    "mpeg transport stream": (transport_stream(None, 1, None, 3, None), "video/mpeg", 2.7),
    "transport stream of a camera": (transport_stream(1, None, 3, None, length=192), "video/mpeg", 2.7),
    "transport stream without a clock": (transport_stream(None, None, None), "video/mpeg", None),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_containers_say_it_too(name: str) -> None:
    data, mime_type, seconds = OTHERS[name]
    facts = inspect(data, pixels_max=PIXELS_MAX)
    assert (facts.mime_type, facts.faults) == (mime_type, ())
    assert facts.seconds == (pytest.approx(seconds) if seconds else None)


UNPLAYABLE = {
    "a movie that was cut before its header": (ftyp(b"isom") + MDAT, "truncated_video"),
    "a movie cut in its header": (video(3)[:-60], "truncated_video"),
    "a header larger than the file": (ftyp(b"mp42") + box(b"moov", mvhd(9), length=9999), "truncated_video"),
    "a box smaller than itself": (ftyp(b"isom") + MDAT + box(b"moov", mvhd(9), length=7), "unreadable_video"),
    "sound alone": (audio(3), "unreadable_video"),
    "a movie of no track": (ftyp(b"isom") + box(b"moov", mvhd(3000)), "unreadable_video"),
    "webm of sound alone": (webm(webm_info(9.0), webm_track(2)), "unreadable_video"),
    "webm without tracks": (webm(webm_info(9.0)), "truncated_video"),
    "webm of its head alone": (webm()[:30], "truncated_video"),
    "webm of noise": (b"\x1aE\xdf\xa3\x80" + bytes(60), "unreadable_video"),
    "webm of empty elements": (webm(ebml(0xEC, b"") * 50_000, webm_track()), "truncated_video"),
    "webm of tracks in tracks": (webm(ebml(0x1654AE6B, ebml(0xAE, webm_track()) * 300)), "unreadable_video"),
    "flv of sound alone": (flv(flv_tag(8, 0), flags=4), "unreadable_video"),
    "mpeg of sound alone": (program_stream(1, 2, stream=0xC0), "unreadable_video"),
    "avi without headers": (b"RIFF\x20\x00\x00\x00AVI " + bytes(60), "truncated_video"),
    "wmv cut in its header": (file_bytes("v-wmv.wmv")[:200], "truncated_video"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNPLAYABLE)
def test_what_nobody_can_play_is_named(name: str) -> None:
    data, code = UNPLAYABLE[name]
    assert [found for found, _ in inspect(data, pixels_max=PIXELS_MAX).faults] == [code]


DEEP = b""
for _ in range(20_000):
    DEEP = box(b"moov", DEEP[:200_000])
HOSTILE = {
    "boxes in boxes": ftyp(b"isom") + DEEP,
    "empty boxes": ftyp(b"isom") + box(b"moov", mvhd(9) + handler()) + box(b"free") * 300_000,
    "empty tracks": ftyp(b"isom") + box(b"moov", mvhd(9) + box(b"trak") * 100_000),
    "fragments of fragments": fragmented(*[box(b"moof", box(b"traf") * 250)] * 1000),
    "indexes": fragmented(*[sidx(1000, *[1] * 60_000)] * 9),
    "elements": webm(webm_track(), *[ebml(0xEC, b"")] * 200_000, unknown=True),
    "tracks": webm(ebml(0x1654AE6B, ebml(0xAE, ebml(0xEC, b"") * 5000) * 100)),
    "groups of blocks": webm(
        webm_track(), ebml(0x1F43B675, ebml(0xA0, ebml(0xA1, b"") * 400) * 2000), unknown=True
    ),
    "clusters": webm(webm_track(), b"\x1f\x43\xb6\x75" * 1_000_000, unknown=True),
    "avi lists": b"RIFF\x20\x00\x00\x00AVI " + b"LIST\x04\x00\x00\x00hdrl" * 200_000,
    "flv tags": flv(*[flv_tag(8, 0, b"")] * 100_000, flags=0),
    "asf objects": file_bytes("v-wmv.wmv")[:16] + struct.pack("<Q", 3_000_000) + bytes(3_000_000),
    "packs": b"\x00\x00\x01\xba" * 1_000_000,
    "transport packets": transport_stream(None) * 30_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_video_is_looked_at_in_bounded_steps(name: str) -> None:
    steps = 0

    def count(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return count

    sys.settrace(count)
    try:
        inspect(HOSTILE[name], pixels_max=PIXELS_MAX)
    finally:
        sys.settrace(None)
    assert steps < 1_300_000, steps


FILMS = sorted(path.name for path in FILES.glob("v-*"))


@pytest.mark.parametrize("name", FILMS)
def test_a_video_cut_anywhere_is_named_or_looked_at_without_harm(name: str) -> None:
    data = file_bytes(name)
    for cut in range(0, len(data), max(1, len(data) // 60)):
        facts = inspect(data[:cut], pixels_max=PIXELS_MAX)
        assert facts.seconds is None or facts.seconds > 0


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([video(3), *(data for data, _ in FRAGMENTS.values() if len(data) < 9999),
                     *(data for data, _, _ in OTHERS.values()), *(file_bytes(name) for name in FILMS)]),
    st.binary(max_size=60), st.integers(0, 2000),
)  # fmt: skip
def test_nothing_makes_it_raise(whole: bytes, noise: bytes, at: int) -> None:
    for data in (whole[:at] + noise + whole[at:], whole[:at] + noise + whole[at + len(noise) :]):
        for mime_type in TYPES if len(data) < 5000 else ():
            if mime_type != "video/mpeg":
                found, _ = inspect_video(data, mime_type)
                assert found is None or found > 0
        facts = inspect(data, pixels_max=PIXELS_MAX)
        assert facts.seconds is None or facts.seconds > 0
