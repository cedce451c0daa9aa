"""Draws the image of a request: its text, its reference images and a mark over a background.

The same brief gives the same bytes.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFilter, ImageOps
from pillow_heif import register_heif_opener

from app.emulator import background, text

if TYPE_CHECKING:
    from app.domain.card import Card

register_heif_opener(thumbnails=False)

# The largest picture that the model makes has 19 million; a small file can claim any number.
_PIXELS_MAX = 64_000_000
_THUMBNAIL_SIDE = 1536
_ART_SIDE_MAX = 3072
_FORMATS = ("PNG", "JPEG", "WEBP", "HEIF")
_GRAIN = 0.2
_WHITE = (255, 255, 255)
_MARK_INK = (226, 222, 214)
_MARK_SIZE_MIN = 11
# Below this share of the picture's side, words take all the room there is.
_COMFORTABLE = 0.03
_LARGEST = 0.085
_MARK = "drawn by the flashgate emulator"


class UnreadableImageError(ValueError):
    """Bytes that are no picture in a format that the model reads."""


@dataclass(frozen=True, slots=True)
class Brief:
    """What to draw.

    Attributes:
        words: Lettered on the picture; may be empty.
        references: Pictures to compose in; None stands for one whose bytes are elsewhere.
        width: Pixels of the result.
        height: Pixels of the result.
        caption: Written small beside the mark.
        seed: Chooses the background.
    """

    words: str
    references: tuple[Image.Image | None, ...]
    width: int
    height: int
    caption: str
    seed: int


def open_reference(data: bytes) -> Image.Image | None:
    """The picture upright, in RGB, its longer side at most 1536 pixels.

    None stands for one that would take too much memory to decode: it is drawn as a frame, and not refused.

    Raises:
        UnreadableImageError: The bytes are no picture.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            if picture.width * picture.height > _PIXELS_MAX:
                return None
            picture.draft("RGB", (_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            upright.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
            return _flatten(upright)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    # Decoders of untrusted bytes raise whatever they stumble on; all of it means the same here.
    except Exception as error:
        raise UnreadableImageError(type(error).__name__) from error


def _flatten(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        picture = picture.convert("I").point(lambda value: value / 257).convert("L")
    if "A" in picture.getbands() or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (238, 238, 232, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


def find_nearest_ratio(card: Card, width: int, height: int) -> str:
    """The card's aspect ratio that is closest to this picture's."""

    def measure_distance(ratio: str) -> float:
        across, down = ratio.split(":")
        return abs(math.log(int(across) / int(down)) - math.log(width / height))

    return min(card.aspect_ratios, key=measure_distance)


def encode(picture: Image.Image, mime_type: str, quality: int) -> bytes:
    """The picture as ``image/jpeg``, ``image/png`` or ``image/webp``."""
    target = io.BytesIO()
    if mime_type == "image/png":
        picture.save(target, "PNG", compress_level=1)
    elif mime_type == "image/webp":
        picture.save(target, "WEBP", quality=quality, method=0)
    else:
        picture.save(target, "JPEG", quality=max(1, quality))
    return target.getvalue()


def paint(brief: Brief) -> Image.Image:
    """Draw it, at exactly the size asked for."""
    layout = _Layout.from_brief(brief)
    # The background is drawn at twice the size where that is cheap, which smooths its edges, and at half
    # or less where the result is large; the words are always set at the final size.
    scale = min(2.0, _ART_SIDE_MAX / max(brief.width, brief.height))
    art_size = max(1, round(brief.width * scale)), max(1, round(brief.height * scale))
    art, palette = background.draw_background(*art_size, brief.seed)
    for panel in layout.panels:
        _blur_panel(art, panel, scale, palette, layout.radius)
    size = (brief.width, brief.height)
    picture = art.reduce(2) if scale == 2 else art.resize(size, Image.Resampling.BILINEAR)
    picture = background.add_grain(picture, _GRAIN)
    for reference, frame in zip(brief.references, layout.frames, strict=False):
        _paste_reference(picture, reference, frame, palette)
    draw = ImageDraw.Draw(picture)
    text.draw_text(draw, layout.words, layout.words_at, _WHITE)
    text.draw_text(draw, layout.mark, layout.mark_at, _MARK_INK)
    return picture


Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything goes; boxes are (left, top, right, bottom) in pixels of the result."""

    panels: tuple[Box, ...]
    frames: tuple[Box, ...]
    words: text.TextLayout
    words_at: tuple[int, int]
    mark: text.TextLayout
    mark_at: tuple[int, int]
    radius: int

    @classmethod
    def from_brief(cls, brief: Brief) -> _Layout:
        """References first in reading direction, then the words in a panel, the mark along the bottom."""
        width, height = brief.width, brief.height
        short, side = min(width, height), math.sqrt(width * height)
        margin = max(8, round(short * 0.06))
        gap = max(6, margin // 2)
        mark_size = max(_MARK_SIZE_MIN, round(side * 0.016))
        mark = text.fit_text(
            f"{_MARK}  ·  {brief.caption}",
            width - 2 * margin,
            height // 5,
            mark_size,
            smallest=_MARK_SIZE_MIN,
        )
        mark_panel = (0, height - mark.height - 2 * gap, width, height)
        field = (margin, margin, width - margin, mark_panel[1] - margin)
        words = brief.words.strip()
        frames: tuple[Box, ...] = ()
        room = _choose_text_area(field)
        if brief.references:
            gallery, field = _divide(field, gap, has_words=bool(words))
            frames = _place_frames(gallery, brief.references, gap)
            room = field
        mark_at = (margin, mark_panel[1] + gap)
        if not words:
            return cls((mark_panel,), frames, text.TextLayout((), 0, 0, 0), (0, 0), mark, mark_at, gap)
        pad = max(6, round(short * 0.045))
        setting = _fit_words(words, room, pad, side)
        if setting.size < side * _COMFORTABLE:
            room = field
            setting = _fit_words(words, room, pad, side)
        left, _, _, bottom = room
        top = bottom - setting.height - 2 * pad
        if width >= 2 * height or brief.references:
            top = (room[1] + top) // 2
        panel = (left, top, left + setting.width + 2 * pad, top + setting.height + 2 * pad)
        return cls((panel, mark_panel), frames, setting, (left + pad, top + pad), mark, mark_at, gap)


def _fit_words(words: str, room: Box, pad: int, side: float) -> text.TextLayout:
    left, top, right, bottom = room
    return text.fit_text(words, right - left - 2 * pad, bottom - top - 2 * pad, round(side * _LARGEST))


def _choose_text_area(field: Box) -> Box:
    """The part of the field that words may take at first, so that the scene stays to be seen."""
    left, top, right, bottom = field
    if right - left >= 2 * (bottom - top):
        return left, top, left + round((right - left) * 0.62), bottom
    return left, bottom - round((bottom - top) * 0.6), right, bottom


def _divide(field: Box, gap: int, *, has_words: bool) -> tuple[Box, Box]:
    """The field as a gallery and the room for words beside or below it."""
    left, top, right, bottom = field
    if not has_words:
        return field, (left, bottom, right, bottom)
    if right - left > 1.2 * (bottom - top):
        middle = left + round((right - left) * 0.46)
        return (left, top, middle - gap, bottom), (middle + gap, top, right, bottom)
    middle = top + round((bottom - top) * 0.5)
    return (left, top, right, middle - gap), (left, middle + gap, right, bottom)


def _place_frames(room: Box, pictures: tuple[Image.Image | None, ...], gap: int) -> tuple[Box, ...]:
    """Frames in the grid that shows the pictures largest, each with its picture's own proportions."""
    left, top, right, bottom = room
    count = len(pictures)

    def cell(columns: int) -> tuple[float, float]:
        rows = math.ceil(count / columns)
        return (right - left - gap * (columns - 1)) / columns, (bottom - top - gap * (rows - 1)) / rows

    columns = max(range(1, count + 1), key=lambda number: min(cell(number)))
    across, down = cell(columns)
    across, down = max(1.0, across), max(1.0, down)
    frames = []
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        shape = (1, 1)
        if picture is not None:
            shape = picture.size
        scale = min(across / shape[0], down / shape[1])
        wide, high = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
        in_row = min(columns, count - row * columns)
        indent = (right - left - in_row * across - (in_row - 1) * gap) / 2
        x = round(left + indent + column * (across + gap) + (across - wide) / 2)
        y = round(top + row * (down + gap) + (down - high) / 2)
        frames.append((x, y, x + wide, y + high))
    return tuple(frames)


def _blur_panel(art: Image.Image, box: Box, scale: float, palette: background.Palette, radius: int) -> None:
    """Darken and blur what lies under a panel, so that any words on it can be read."""
    left, top, right, bottom = (round(edge * scale) for edge in box)
    left, top, right, bottom = max(0, left), max(0, top), min(art.width, right), min(art.height, bottom)
    if right - left < 1 or bottom - top < 1:
        return
    under = art.crop((left, top, right, bottom))
    blurred = (
        under.reduce(12).filter(ImageFilter.GaussianBlur(2)).resize(under.size, Image.Resampling.BILINEAR)
    )
    glass = Image.blend(blurred, Image.new("RGB", under.size, palette.ink), 0.74)
    if bottom == art.height:
        art.paste(glass, (left, top))
        return
    mask = Image.new("L", under.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle(
        (0, 0, under.width - 1, under.height - 1), radius * scale, fill=255
    )
    art.paste(glass, (left, top), mask)


def _paste_reference(
    picture: Image.Image, reference: Image.Image | None, frame: Box, palette: background.Palette
) -> None:
    """Put a reference image into its frame, with a white mount."""
    left, top, right, bottom = frame
    wide, high = right - left, bottom - top
    border = max(1, round(min(wide, high) * 0.025))
    shown = None
    if reference is not None:
        shown = reference.resize((wide, high), Image.Resampling.BICUBIC)
    if shown is None:
        shown = Image.new("RGB", (wide, high), palette.layers[0])
        ImageDraw.Draw(shown).line((0, 0, wide, high), fill=palette.accent, width=border)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left - border, top - border, right + border - 1, bottom + border - 1), fill=_WHITE)
    picture.paste(shown, (left, top))
