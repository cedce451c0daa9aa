"""Backgrounds: flat geometry over a gradient, chosen by a seed; pure functions of their arguments."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Callable

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Palette:
    """Two ends of a sky, shapes from far to near, one accent, and the ink of panels."""

    above: Colour
    below: Colour
    layers: tuple[Colour, ...]
    accent: Colour
    ink: Colour


def _parse_colour(code: str) -> Colour:
    return int(code[0:2], 16), int(code[2:4], 16), int(code[4:6], 16)


def _build_palette(above: str, below: str, layers: str, accent: str, ink: str) -> Palette:
    shades = tuple(_parse_colour(code) for code in layers.split())
    return Palette(
        _parse_colour(above), _parse_colour(below), shades, _parse_colour(accent), _parse_colour(ink)
    )


PALETTES = (
    _build_palette("1b2a49", "f08a5d", "b83b5e 8a2f5c 6a2c70 4a1f56", "f9ed69", "1a1030"),  # dusk
    _build_palette("bfe3dd", "fdf3e0", "8fc1b5 5f9ea0 3c6e71 284b63", "ee6c4d", "12303a"),  # lagoon
    _build_palette("f6d6ad", "fbeedb", "e8a87c d27d5b a85751 6b3a44", "41b3a3", "33202a"),  # terracotta
    _build_palette("0b132b", "3a506b", "2f4865 263a56 1c2b45 121d33", "5bc0be", "070c1c"),  # night
    _build_palette("ffe8d6", "ddbea9", "cb997e b7a98f a5a58d 6b705c", "bc4749", "2f3127"),  # sage
    _build_palette("cdb4db", "ffe5ec", "ffafcc d59bc9 a58ac6 6d6aa8", "ffd166", "2b2450"),  # blossom
    _build_palette("8ecae6", "fef9ef", "73b3d1 4091b5 219ebc 126782", "ffb703", "023047"),  # coast
    _build_palette("fbc687", "ea907a", "d77a6a b05f6d 7d5a78 4d4c7d", "f4f7c5", "231f45"),  # desert
)


def draw_background(width: int, height: int, seed: int) -> tuple[Image.Image, Palette]:
    """A background of exactly this size, and the palette it was drawn with."""
    dice = random.Random(seed)
    palette = dice.choice(PALETTES)
    picture = _draw_sky(width, height, palette)
    motif = dice.choice(_MOTIFS)
    motif(picture, palette, dice)
    return picture, palette


def _draw_sky(width: int, height: int, palette: Palette) -> Image.Image:
    ramp = Image.linear_gradient("L").resize((1, height))
    strip = Image.composite(
        Image.new("RGB", (1, height), palette.below), Image.new("RGB", (1, height), palette.above), ramp
    )
    return strip.resize((width, height), Image.Resampling.NEAREST)


def _draw_hills(picture: Image.Image, palette: Palette, dice: random.Random) -> None:
    """A sun behind rows of hills."""
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    unit = min(width, height)
    radius = unit * dice.uniform(0.16, 0.24)
    _draw_disc(
        draw, width * dice.uniform(0.2, 0.8), height * dice.uniform(0.22, 0.42), radius, palette.accent
    )
    step = max(2, width // 240)
    for row, colour in enumerate(palette.layers):
        base = height * (0.46 + 0.15 * row)
        swing = min(height * 0.09, unit * 0.16)
        waves = [(dice.uniform(0.8, 2.6) / unit, dice.uniform(0, math.tau)) for _ in range(3)]
        crest = [
            (x, base + swing * sum(math.sin(x * pace * 2 + shift) for pace, shift in waves) / 2)
            for x in range(0, width + step, step)
        ]
        draw.polygon([*crest, (width, height), (0, height)], fill=colour)


def _draw_orbits(picture: Image.Image, palette: Palette, dice: random.Random) -> None:
    """Large overlapping discs and rings."""
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    unit = min(width, height)
    count = max(5, min(14, round(4 * max(width, height) / unit)))
    for number in range(count):
        along = (number + dice.uniform(0.1, 0.9)) / count
        across = dice.uniform(0.05, 0.95)
        x, y = (along * width, across * height) if width >= height else (across * width, along * height)
        radius = unit * dice.uniform(0.14, 0.42)
        colour = palette.accent if number % 5 == 2 else dice.choice(palette.layers)
        _draw_disc(draw, x, y, radius, colour)
        if dice.random() < 0.6:
            line = max(1, round(unit * 0.012))
            for ring in (1.12, 1.24):
                box = (x - radius * ring, y - radius * ring, x + radius * ring, y + radius * ring)
                draw.ellipse(box, outline=colour, width=line)


def _draw_tiles(picture: Image.Image, palette: Palette, dice: random.Random) -> None:
    """A quilt of quarter circles, half discs and triangles."""
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    cell = max(16, math.ceil(min(width, height) / dice.choice((3, 4, 5))))
    for top in range(0, height, cell):
        for left in range(0, width, cell):
            ground = dice.choice((*palette.layers, palette.below, palette.above))
            figures = (*palette.layers, palette.accent, palette.below)
            figure = dice.choice([colour for colour in figures if colour != ground])
            box = (left, top, left + cell - 1, top + cell - 1)
            draw.rectangle(box, fill=ground)
            turn = dice.randrange(4)
            shape = dice.randrange(4)
            if shape == 0:
                x, y = left + cell * (turn & 1), top + cell * (turn >> 1)
                quarter = ((0, 90), (90, 180), (270, 360), (180, 270))[turn]
                draw.pieslice((x - cell, y - cell, x + cell, y + cell), *quarter, fill=figure)
            elif shape == 1:
                draw.pieslice(box, turn * 90, turn * 90 + 180, fill=figure)
            elif shape == 2:
                corners = [(left, top), (left + cell, top), (left + cell, top + cell), (left, top + cell)]
                del corners[turn]
                draw.polygon(corners, fill=figure)
            else:
                inset = cell * 0.22
                draw.ellipse(
                    (left + inset, top + inset, left + cell - inset, top + cell - inset), fill=figure
                )


def _draw_ribbons(picture: Image.Image, palette: Palette, dice: random.Random) -> None:
    """Broad bands that sweep through from the long side's beginning to its end."""
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    long, short = max(width, height), min(width, height)
    step = max(2, long // 240)
    colours = [*palette.layers, palette.accent]
    thickness = short * 0.13
    phase, pace = dice.uniform(0, math.tau), dice.uniform(1.4, 2.4) / short
    for number, colour in enumerate(colours):
        centre = short * (0.16 + 0.17 * number)
        near, far = [], []
        for along in range(0, long + step, step):
            sway = short * 0.16 * math.sin(along * pace + phase + number * 0.35)
            near.append((along, centre + sway - thickness / 2))
            far.append((along, centre + sway + thickness / 2))
        outline = [*near, *reversed(far)]
        draw.polygon(outline if width >= height else [(y, x) for x, y in outline], fill=colour)


def _draw_disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: Colour) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


_MOTIFS: tuple[Callable[[Image.Image, Palette, random.Random], None], ...] = (
    _draw_hills,
    _draw_orbits,
    _draw_tiles,
    _draw_ribbons,
)


@lru_cache(maxsize=2)
def _build_grain_tile(side: int) -> Image.Image:
    """Fine noise around middle grey, the same in every process."""
    noise = [
        Image.frombytes("L", (side, side), random.Random(number).randbytes(side * side))
        for number in range(4)
    ]
    pairs = (ImageChops.blend(noise[0], noise[1], 0.5), ImageChops.blend(noise[2], noise[3], 0.5))
    return ImageChops.blend(*pairs, 0.5)


def add_grain(picture: Image.Image, strength: float) -> Image.Image:
    """The picture as if printed on paper; also what makes it compress about as badly as a photograph."""
    tile = _build_grain_tile(256)
    sheet = Image.new("L", picture.size)
    sheet.paste(tile, (0, 0))
    width, height = picture.size
    across = tile.width
    while across < width:
        sheet.paste(sheet.crop((0, 0, min(across, width - across), tile.height)), (across, 0))
        across *= 2
    down = tile.height
    while down < height:
        sheet.paste(sheet.crop((0, 0, width, min(down, height - down))), (0, down))
        down *= 2
    soft = sheet.point([round(128 + (value - 128) * strength) for value in range(256)])
    return ImageChops.add(picture, Image.merge("RGB", (soft, soft, soft)), scale=1, offset=-128)
