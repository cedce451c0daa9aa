"""What inspection says of real files, of false ones, and of noise."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.domain.policy import PIXELS_MAX
from app.media.inspection import Facts, inspect
from tests.fixtures import bomb
from tests.media.files import (
    EOI,
    IDAT,
    IEND,
    MDAT,
    PNG_SIGNATURE,
    SOI,
    animated,
    box,
    encoded,
    frame,
    ftyp,
    full,
    ihdr,
    ipma,
    ispe,
    meta,
    png,
)
from tests.media.inspection_cases import HARMLESS, HOSTILE, SIGNATURES

if TYPE_CHECKING:
    from types import FrameType

REAL: dict[str, tuple[str, dict[str, Any], str]] = {
    "png": ("PNG", {}, "image/png"),
    "png interlaced palette": ("PNG", {"optimize": True}, "image/png"),
    "jpeg": ("JPEG", {}, "image/jpeg"),
    "jpeg progressive": ("JPEG", {"progressive": True, "quality": 30}, "image/jpeg"),
    "jpeg with comment": ("JPEG", {"comment": b"x" * 60_000}, "image/jpeg"),
    "jpeg with thumbnail in exif": ("JPEG", {"exif": b"Exif\x00\x00" + SOI + EOI}, "image/jpeg"),
    "webp": ("WEBP", {}, "image/webp"),
    "webp lossless": ("WEBP", {"lossless": True}, "image/webp"),
    "webp with metadata": ("WEBP", {"exif": b"Exif\x00\x00MM\x00*"}, "image/webp"),
    "heic": ("HEIF", {}, "image/heic"),
    "avif": ("AVIF", {}, "image/avif"),
}
SIZES = ((1, 1), (17, 5), (64, 64), (301, 200))


def faults_of(data: bytes) -> list[str]:
    """The codes alone."""
    return [code for code, _ in inspect(data, pixels_max=PIXELS_MAX).faults]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", REAL)
def test_a_real_picture_has_the_size_that_its_decoder_sees(name: str, size: tuple[int, int]) -> None:
    kind, options, mime_type = REAL[name]
    data = encoded(kind, *size, **options)
    with Image.open(io.BytesIO(data)) as seen:
        assert inspect(data, pixels_max=PIXELS_MAX) == Facts(mime_type, *seen.size)


@pytest.mark.parametrize("name", REAL)
def test_a_real_picture_cut_anywhere_is_never_whole(name: str) -> None:
    kind, options, _ = REAL[name]
    data = encoded(kind, 64, 48, **options)
    for cut in {*range(24, 200), *range(200, len(data), max(1, len(data) // 60)), len(data) - 1} - {
        len(data)
    }:
        if cut >= len(data):
            continue
        facts = inspect(data[:cut], pixels_max=PIXELS_MAX)
        assert facts.mime_type is None or facts.faults, f"cut at {cut} of {len(data)}"


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_an_animation_is_a_picture_with_its_number_of_frames(kind: str) -> None:
    facts = inspect(animated(kind, 5), pixels_max=PIXELS_MAX)
    assert (facts.frames, facts.faults) == (5, ())


def test_a_bomb_of_289_megapixels_is_refused_by_its_header_in_a_few_kilobytes() -> None:
    data = bomb()
    tracemalloc.start()
    facts = inspect(data, pixels_max=PIXELS_MAX)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (facts.width, facts.height) == (17_000, 17_000)
    assert [code for code, _ in facts.faults] == ["too_many_pixels"]
    assert peak < 64_000


def test_the_cap_is_the_callers_and_exact() -> None:
    data = png(ihdr(100, 10), IDAT, IEND)
    assert inspect(data, pixels_max=1000).faults == ()
    assert [code for code, _ in inspect(data, pixels_max=999).faults] == ["too_many_pixels"]


def test_rotation_in_metadata_is_not_applied() -> None:
    picture = Image.new("RGB", (30, 20))
    picture.getexif()[0x0112] = 6
    stream = io.BytesIO()
    picture.save(stream, "JPEG", exif=picture.getexif())
    facts = inspect(stream.getvalue(), pixels_max=PIXELS_MAX)
    assert (facts.width, facts.height) == (30, 20)


@pytest.mark.parametrize("name", HARMLESS)
def test_an_unusual_picture_is_no_fault(name: str) -> None:
    facts = inspect(HARMLESS[name], pixels_max=PIXELS_MAX)
    assert facts.faults == ()
    assert facts.width in {9, 10}
    assert facts.width == facts.height


@pytest.mark.parametrize("name", HOSTILE)
def test_a_false_picture_is_named_for_what_it_is(name: str) -> None:
    data, code = HOSTILE[name]
    assert faults_of(data) == [code]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_false_picture_costs_a_bounded_number_of_steps(name: str) -> None:
    data, _ = HOSTILE[name]
    steps = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal steps
        steps += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        inspect(data, pixels_max=PIXELS_MAX)
    finally:
        sys.setprofile(None)
    assert steps < 150_000


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_type_is_read_from_the_first_bytes(name: str) -> None:
    data, mime_type = SIGNATURES[name]
    facts = inspect(data, pixels_max=PIXELS_MAX)
    assert facts.mime_type == mime_type
    assert facts.faults == ()
    assert (facts.width, facts.height, facts.frames) == (None, None, 1)


def test_a_box_that_cannot_hold_itself_is_named() -> None:
    data = ftyp() + box(b"meta", bytes(2000), length=4)
    (fault,) = inspect(data, pixels_max=PIXELS_MAX).faults
    assert fault == ("unreadable_image", "The box at byte 20 is shorter than its own header.")


@pytest.mark.parametrize(
    ("brands", "mime_type"),
    [
        ((b"heic", b"mif1"), "image/heic"),
        ((b"heix",), "image/heic"),
        ((b"hevc", b"msf1"), "image/heic"),
        ((b"mif1", b"heic"), "image/heif"),
        ((b"mif1",), "image/heif"),
        ((b"msf1", b"hevc"), "image/heif"),
        ((b"avif", b"mif1"), "image/avif"),
        ((b"mif1", b"avif"), "image/avif"),
        ((b"mif1", b"avif", b"heic"), "image/heif"),
    ],
)
def test_the_major_brand_tells_heic_heif_and_avif_apart(brands: tuple[bytes, ...], mime_type: str) -> None:
    assert inspect(ftyp(*brands) + meta(ispe(9, 9)) + MDAT, pixels_max=9**9).mime_type == mime_type


def test_the_primary_item_gives_the_size_whatever_comes_first() -> None:
    associations = ipma((5, (1,)), (1, (0x82,)))
    data = ftyp() + meta(ispe(64, 48), ispe(4032, 3024), associations=associations) + MDAT
    facts = inspect(data, pixels_max=PIXELS_MAX)
    assert (facts.width, facts.height, facts.faults) == (4032, 3024, ())


def test_a_sequence_is_named_with_its_frames() -> None:
    sizes = full(b"stsz", struct.pack(">II", 0, 12))
    track = box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", sizes))))
    data = ftyp(b"hevc", b"msf1") + meta(ispe(9, 9)) + box(b"moov", track) + MDAT
    facts = inspect(data, pixels_max=PIXELS_MAX)
    assert (facts.frames, facts.faults) == (12, ())
    still = ftyp(b"heic") + meta(ispe(9, 9)) + box(b"moov", track) + MDAT
    assert inspect(still, pixels_max=PIXELS_MAX).frames == 1


MUTABLE = [encoded(kind, 40, 30, **options) for kind, options, _ in REAL.values()] + [
    animated(kind, 3) for kind in ("PNG", "WEBP", "AVIF")
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(MUTABLE),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6),
    st.integers(0, 3000),
)
def test_a_damaged_picture_never_breaks_inspection(
    data: bytes, changes: list[tuple[int, bytes]], cut: int
) -> None:
    damaged = bytearray(data)
    for at, new in changes:
        damaged[at % len(damaged) : at % len(damaged) + len(new)] = new
    facts = inspect(bytes(damaged[: len(damaged) - cut % 50]), pixels_max=PIXELS_MAX)
    _check(facts)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([
        b"", PNG_SIGNATURE, png(ihdr(9, 9)), SOI, SOI + frame(9, 9),
        b"RIFF\xff\x00\x00\x00WEBP",
        b"RIFF\x20\x00\x00\x00WEBPVP8X",
        ftyp(), ftyp() + b"\x00\x00\x00\x60meta\x00\x00\x00\x00", b"%PDF-", b"\xef\xbb\xbf",
    ]),
    st.binary(max_size=400),
)  # fmt: skip
def test_noise_behind_a_signature_never_breaks_inspection(head: bytes, noise: bytes) -> None:
    _check(inspect(head + noise, pixels_max=PIXELS_MAX))


def _check(facts: Facts) -> None:
    assert (facts.width is None) == (facts.height is None)
    assert facts.frames >= 1
    for code, sentence in facts.faults:
        assert code.isidentifier()
        assert sentence.endswith(".")
        sentence.encode()
        assert len(sentence) < 200
