"""The pictures themselves: sizes, determinism, legibility. No server is needed for these."""

from __future__ import annotations

import pytest
from PIL import Image, ImageChops

from app.cards import load_catalogue
from app.emulator import painter, text
from app.emulator.painter import Brief
from tests.fixtures import BY_MIME_TYPE, ImageName, bomb, image_bytes
from tests.media.files import IDAT, IEND, ihdr, png

CARD = load_catalogue().names["gemini-3.1-flash-image"]
# Of the larger pictures four are enough: they differ from the others in nothing but their numbers.
CELLS = [
    (ratio, size)
    for ratio, sizes in CARD.pixels.items()
    for size in sizes
    if size in {"512", "1K"} or ratio in {"1:1", "16:9", "1:8", "8:1"}
]
PROMPT = "A heron at the edge of a lake in fog, seen from a jetty, with reeds and one red boat"


def brief(width: int = 512, height: int = 512, words: str = PROMPT, seed: int = 1) -> Brief:
    return Brief(words, (), width, height, "a caption", seed)


@pytest.mark.parametrize(("ratio", "size"), CELLS, ids=[f"{ratio}-{size}" for ratio, size in CELLS])
def test_every_cell_of_the_card_is_drawn_at_its_exact_size(ratio: str, size: str) -> None:
    width, height = CARD.pixels[ratio][size]
    assert painter.paint(brief(width, height)).size == (width, height)


def test_the_cells_are_those_of_fifteen_ratios() -> None:
    assert len(CELLS) == 15 * 2 + 4 * 2


@pytest.mark.parametrize("mime_type", ["image/jpeg", "image/png", "image/webp"])
def test_the_same_brief_gives_the_same_bytes(mime_type: str) -> None:
    first, second = (painter.encode(painter.paint(brief()), mime_type, 90) for _ in range(2))
    assert first == second


def test_another_seed_or_prompt_gives_another_picture() -> None:
    plain = painter.paint(brief())
    others = (painter.paint(brief(seed=2)), painter.paint(brief(words=PROMPT + "!")))
    assert all(ImageChops.difference(plain, other).getbbox() is not None for other in others)


@pytest.mark.parametrize(
    "words", ["漢字とかな", "Привет, мир", "مرحبا", "😀" * 40, "x" * 3000, "a\u0000b\n\tc", " "]
)
def test_words_of_any_script_and_length_are_drawn_without_fault(words: str) -> None:
    assert painter.paint(brief(192, 1536, words)).size == (192, 1536)


@pytest.mark.parametrize(("width", "height"), [(400, 300), (150, 1400), (1500, 120), (60, 60)])
@pytest.mark.parametrize("words", ["Fox", PROMPT, PROMPT * 12, "w" * 200])
def test_lettering_stays_inside_its_box(width: int, height: int, words: str) -> None:
    setting = text.fit_text(words, width, height, 200)
    face = text.load_font(setting.size)
    assert setting.lines
    assert setting.height <= max(height, setting.size * 2)
    assert all(face.getlength(line) <= width for line in setting.lines)


def test_a_prompt_that_fits_is_lettered_whole() -> None:
    setting = text.fit_text(PROMPT, 400, 300, 60)
    assert " ".join(setting.lines) == PROMPT


def test_accented_letters_are_set_plain() -> None:
    assert (
        text.fit_text("Schöne Straße, año \N{EN DASH} œuvre", 400, 300, 30)
        .lines[0]
        .startswith("Schone Strasse, ano -")
    )


def test_a_longer_prompt_is_set_smaller() -> None:
    assert text.fit_text(PROMPT * 6, 500, 300, 60).size < text.fit_text(PROMPT, 500, 300, 60).size


@pytest.mark.parametrize("name", BY_MIME_TYPE.values())
def test_every_format_on_the_card_is_opened(name: ImageName) -> None:
    opened = painter.open_reference(image_bytes(name))
    assert opened is not None
    assert opened.mode == "RGB"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("orchard-turned.jpg", (240, 320)),
        ("dunes-16bit.png", (120, 54)),
        ("dunes-cmyk.jpg", (360, 160)),
        ("dunes-lossless.webp", (180, 80)),
        ("harbour-animated.webp", (160, 120)),
        ("harbour-alpha.png", (160, 120)),
    ],
)
def test_an_odd_file_is_opened_upright(name: ImageName, size: tuple[int, int]) -> None:
    opened = painter.open_reference(image_bytes(name))
    assert opened is not None
    assert (opened.size, opened.mode) == (size, "RGB")


@pytest.mark.parametrize(
    "name", ["harbour-truncated.jpg", "dunes.gif", "dunes.avif", "text-not.png", "empty.png"]
)
def test_what_is_no_picture_for_the_model_is_refused(name: ImageName) -> None:
    with pytest.raises(painter.UnreadableImageError):
        painter.open_reference(image_bytes(name))


@pytest.mark.parametrize("data", [bomb(), png(ihdr(16_384, 12_288), IDAT, IEND)], ids=["289", "201"])
def test_a_picture_of_too_many_megapixels_to_decode_is_neither_decoded_nor_refused(data: bytes) -> None:
    assert painter.open_reference(data) is None


@pytest.mark.parametrize("size", [(1376, 768), (768, 1376), (1536, 192), (192, 1536)])
@pytest.mark.parametrize("count", [1, 3, 14])
def test_every_reference_is_seen_in_the_picture(size: tuple[int, int], count: int) -> None:
    magenta = Image.new("RGB", (300, 200), (255, 0, 255))
    picture = painter.paint(Brief(PROMPT, (magenta,) * count, *size, "a caption", 3))
    red, green, blue = picture.split()
    pure = ImageChops.darker(ImageChops.darker(red, ImageChops.invert(green)), blue).point(
        lambda value: 255 if value > 250 else 0
    )
    shown = sum(1 for value in pure.get_flattened_data() if value)
    assert shown >= count * 60


def test_the_nearest_ratio_is_the_cards() -> None:
    found = [
        painter.find_nearest_ratio(CARD, *size) for size in ((1000, 990), (1920, 1080), (240, 320), (90, 900))
    ]
    assert found == ["1:1", "16:9", "3:4", "1:8"]
