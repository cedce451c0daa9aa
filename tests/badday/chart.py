"""A bad day as a picture: what callers got, what back ends were asked, and what it took, minute by minute."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from tests.badday.phases import DAY, HOUR_MIN, phase_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.badday.report import Report

# Drawn at twice its size, because Pillow's lines have no soft edges.
_SCALE = 2
_WIDTH, _HEIGHT = 1500, 1160
_LEFT, _RIGHT = 92, 1440
_INK, _SOFT, _GRID, _PAPER = "#1f2933", "#616e7c", "#e4e7eb", "#ffffff"
_OUTCOMES = {
    "served": ("served", "#2a9d8f"),
    "upstream_quota": ("quota", "#e9a23b"),
    "upstream_unavailable": ("unavailable", "#d1495b"),
    "overloaded": ("shed", "#7b5ea7"),
    "upstream_error": ("outcome unknown", "#8d99ae"),
}
_OTHERS = ("other", "#3e4c59")
_BACK_ENDS = ("#3d6ea5", "#93bfdd")
_SIZES = {"512": "#a7c957", "1K": "#2a9d8f", "2K": "#3d6ea5", "4K": "#d1495b"}
_BANDS = {"429": "#fdf3dd", "503 everywhere": "#fbe4e6", "4K slow and failing": "#f1ebf8",
          "first back end dead": "#ececec"}  # fmt: skip
_LATENCY_S = (0.05, 20.0)


@dataclass(frozen=True)
class Panel:
    """A place on the picture with axes of its own; ``top`` and ``bottom`` in pixels, ``most`` in units."""

    top: int
    bottom: int
    most: float

    def y(self, value: float) -> float:
        """Where a value lies."""
        return self.bottom - (self.bottom - self.top) * min(value, self.most) / self.most


class _Canvas:
    def __init__(self) -> None:
        self.image = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE), _PAPER)
        self._draw = ImageDraw.Draw(self.image)
        self._fonts = {size: ImageFont.load_default(size=size * _SCALE) for size in (14, 15, 16, 19, 30)}

    def text(self, x: float, y: float, words: str, size: int = 15, fill: str = _INK, at: str = "la") -> None:
        self._draw.text((x * _SCALE, y * _SCALE), words, fill, self._fonts[size], anchor=at)

    def wide(self, words: str, size: int) -> float:
        return self._draw.textlength(words, self._fonts[size]) / _SCALE

    def box(self, x: float, y: float, right: float, bottom: float, fill: str) -> None:
        if right > x and bottom > y:
            self._draw.rectangle([x * _SCALE, y * _SCALE, right * _SCALE - 1, bottom * _SCALE - 1], fill)

    def line(self, points: Sequence[tuple[float, float]], fill: str, width: float) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.line(scaled, fill, round(width * _SCALE), joint="curve")

    def dot(self, x: float, y: float, radius: float, fill: str) -> None:
        corners = [(x - radius) * _SCALE, (y - radius) * _SCALE, (x + radius) * _SCALE, (y + radius) * _SCALE]
        self._draw.ellipse(corners, fill, outline=_PAPER)

    def legend(self, y: float, entries: Sequence[tuple[str, str]]) -> None:
        """Entries from the right edge to the left, in the order given."""
        x = _RIGHT - sum(self.wide(words, 15) + 40 for words, _ in entries) + 18
        for words, colour in entries:
            self.box(x, y + 2, x + 14, y + 16, colour)
            self.text(x + 20, y, words, fill=_SOFT)
            x += self.wide(words, 15) + 40


def _x(minute: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * minute / HOUR_MIN


def drawn(report: Report) -> Image.Image:
    """The picture, 1500 by 1160."""
    canvas = _Canvas()
    seen = report.seen
    canvas.text(_LEFT - 52, 26, "Google on a bad day", 30)
    canvas.text(
        _LEFT - 52, 68,
        f"An hour in {seen.seconds:.0f} seconds, {len(report.asked)} requests, "
        f"two back ends, seed {seen.seed}",
        16, _SOFT,
    )  # fmt: skip
    _headlines(canvas, report)
    minutes = Counter(int(each.came) for each in report.asked)
    most = _rounded(max(minutes.values(), default=1) * 1.3)
    called = _rounded(max(report.called_in(minute) for minute in range(int(HOUR_MIN))) * 1.05)
    answers, calls, latency = Panel(180, 470, most), Panel(560, 760, called), Panel(850, 1090, 1.0)
    for panel, title in (
        (answers, "Answers to callers, a minute"),
        (calls, "Calls of the back ends, a minute, as they ended"),
        (latency, "Seconds of the run until a picture came"),
    ):
        _bands(canvas, panel, named=panel is answers)
        canvas.text(_LEFT - 52, panel.top - 40, title, 19)
    _scale(canvas, answers)
    _scale(canvas, calls)
    _answers(canvas, report, answers)
    _calls(canvas, report, calls)
    _latency(canvas, report, latency)
    canvas.text(_RIGHT, 1130, "minute of the hour", 15, _SOFT, "ra")
    return canvas.image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)


def _headlines(canvas: _Canvas, report: Report) -> None:
    """Three numbers, right of the title."""
    told = (
        (f"{report.goodput:.0%}", "of what could be served"),
        (f"{report.total['retries']} of {report.retries_max}", "retries in the budget"),
        (f"{report.seen.books['images']:.0f} = {report.delivered} + {report.unknown}",
         "booked = delivered + unknown"),
    )  # fmt: skip
    x = float(_RIGHT)
    for number, words in reversed(told):
        canvas.text(x, 26, number, 30, "#2a9d8f" if not report.faults else "#d1495b", "ra")
        canvas.text(x, 68, words, 16, _SOFT, "ra")
        x -= max(canvas.wide(number, 30), canvas.wide(words, 16)) + 48


def _bands(canvas: _Canvas, panel: Panel, *, named: bool) -> None:
    for phase in DAY:
        fill = _BANDS.get(phase.said)
        if fill is not None:
            canvas.box(_x(phase.begin), panel.top, _x(phase.end), panel.bottom, fill)
        if named and phase.said:
            canvas.text(_x((phase.begin + phase.end) / 2), panel.top + 8, phase.said, 14, _SOFT, "ma")
    canvas.line([(_LEFT, panel.bottom), (_RIGHT, panel.bottom)], _INK, 1)
    for minute in range(0, int(HOUR_MIN) + 1, 5):
        canvas.line([(_x(minute), panel.bottom), (_x(minute), panel.bottom + 5)], _INK, 1)
        canvas.text(_x(minute), panel.bottom + 9, str(minute), 14, _SOFT, "ma")


def _scale(canvas: _Canvas, panel: Panel) -> None:
    step = _rounded(panel.most / 4)
    value = step
    while value < panel.most:
        canvas.line([(_LEFT, panel.y(value)), (_RIGHT, panel.y(value))], _GRID, 1)
        canvas.text(_LEFT - 10, panel.y(value), f"{value:.0f}", 14, _SOFT, "rm")
        value += step


def _rounded(value: float) -> float:
    """A number that reads well, not below the value."""
    power: float = 10 ** math.floor(math.log10(max(value, 1)))
    return next(float(step * power) for step in (1, 2, 2.5, 5, 10) if step * power >= value)


def _stacked(canvas: _Canvas, panel: Panel, minute: int, parts: Sequence[tuple[float, str]]) -> None:
    height = 0.0
    for count, colour in parts:
        canvas.box(_x(minute) + 1.5, panel.y(height + count), _x(minute + 1) - 1.5, panel.y(height), colour)
        height += count


def _answers(canvas: _Canvas, report: Report, panel: Panel) -> None:
    kinds = {**_OUTCOMES, "": _OTHERS}
    seen: set[str] = set()
    for minute in range(int(HOUR_MIN)):
        came = Counter(
            each.outcome if each.outcome in kinds else "" for each in report.asked if int(each.came) == minute
        )
        seen |= came.keys()
        _stacked(canvas, panel, minute, [(came[kind], colour) for kind, (_, colour) in kinds.items()])
    ideal: list[tuple[float, float]] = []
    for minute in range(int(HOUR_MIN)):
        serves = phase_at(minute).serves
        asked = sum(int(each.came) == minute for each in report.asked) if serves else 0
        ideal += [(_x(minute), panel.y(asked)), (_x(minute + 1), panel.y(asked))]
    canvas.line(ideal, _INK, 2)
    canvas.legend(panel.top - 38, [*(kinds[kind] for kind in kinds if kind in seen), ("ideal", _INK)])
    for row in report.rows:
        if row.ideal and row.phase.said:
            middle = _x((row.phase.begin + row.phase.end) / 2)
            canvas.text(middle, panel.top + 26, f"{len(row.served) / row.ideal:.0%}", 14, _INK, "ma")


def _calls(canvas: _Canvas, report: Report, panel: Panel) -> None:
    names = [name for name in ("calls emulator", "calls gemini") if report.total[name]]
    allowed: list[tuple[float, float]] = []
    for minute in range(int(HOUR_MIN)):
        before, after = report.counted_at(minute), report.counted_at(minute + 1)
        counts = [(float(after[name] - before[name]), colour)
                  for name, colour in zip(names, _BACK_ENDS, strict=False)]  # fmt: skip
        _stacked(canvas, panel, minute, counts)
        asked = sum(int(each.came) == minute for each in report.asked)
        allowed += [(_x(minute), panel.y(asked)), (_x(minute + 1), panel.y(asked))]
    canvas.line(allowed, _INK, 1.5)
    labels = ("first back end", "second back end")[: len(names)]
    canvas.legend(panel.top - 38, [*zip(labels, _BACK_ENDS, strict=False), ("requests", _INK)])


def _latency(canvas: _Canvas, report: Report, panel: Panel) -> None:
    least, most = map(math.log10, _LATENCY_S)

    def share(seconds: float) -> float:
        return (math.log10(min(max(seconds, _LATENCY_S[0]), _LATENCY_S[1])) - least) / (most - least)

    for seconds in (0.1, 0.3, 1, 3, 10):
        canvas.line([(_LEFT, panel.y(share(seconds))), (_RIGHT, panel.y(share(seconds)))], _GRID, 1)
        canvas.text(_LEFT - 10, panel.y(share(seconds)), f"{seconds:g}", 14, _SOFT, "rm")
    for each in report.asked:
        if each.outcome == "served":
            canvas.dot(_x(each.came), panel.y(share(each.took_s)), 3.6, _SIZES[each.image_size])
    canvas.legend(panel.top - 38, list(_SIZES.items()))
