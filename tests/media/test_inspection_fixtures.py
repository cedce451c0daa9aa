"""Inspection beside a decoder, on files that other software has written."""

from __future__ import annotations

import io
from typing import get_args

import pillow_heif
import pytest
from PIL import Image

from app.domain.policy import PIXELS_MAX
from app.media.inspection import inspect
from tests.fixtures import BY_MIME_TYPE, ImageName, image_bytes

pillow_heif.register_heif_opener()

UNREADABLE: frozenset[ImageName] = frozenset(
    {"text-not.png", "empty.png", "harbour-truncated.jpg", "dunes.gif"}
)
READABLE = [name for name in get_args(ImageName) if name not in UNREADABLE]


@pytest.mark.parametrize("name", READABLE)
def test_a_header_says_what_the_decoder_sees(name: ImageName) -> None:
    facts = inspect(image_bytes(name), pixels_max=PIXELS_MAX)
    with Image.open(io.BytesIO(image_bytes(name))) as seen:
        assert (facts.width, facts.height) == seen.size
        assert facts.frames == getattr(seen, "n_frames", 1)
    assert facts.faults == ()


@pytest.mark.parametrize("mime_type", BY_MIME_TYPE)
def test_every_type_on_the_card_is_told_by_its_signature(mime_type: str) -> None:
    assert inspect(image_bytes(BY_MIME_TYPE[mime_type]), pixels_max=PIXELS_MAX).mime_type == mime_type


@pytest.mark.parametrize(
    ("name", "mime_type", "faults"),
    [
        ("harbour-truncated.jpg", "image/jpeg", ["truncated_image"]),
        ("dunes.gif", "image/gif", []),
        ("dunes.avif", "image/avif", []),
        ("text-not.png", "text/plain", []),
        ("empty.png", None, ["empty_file"]),
    ],
)
def test_what_the_model_does_not_take_is_named(
    name: ImageName, mime_type: str | None, faults: list[str]
) -> None:
    facts = inspect(image_bytes(name), pixels_max=PIXELS_MAX)
    assert facts.mime_type == mime_type
    assert [code for code, _ in facts.faults] == faults


@pytest.mark.parametrize("name", READABLE)
def test_a_file_cut_anywhere_is_never_whole(name: ImageName) -> None:
    data = image_bytes(name)
    for cut in range(64, len(data), max(1, len(data) // 97)):
        facts = inspect(data[:cut], pixels_max=PIXELS_MAX)
        assert facts.faults or facts.mime_type is None, f"cut at {cut} of {len(data)}"
