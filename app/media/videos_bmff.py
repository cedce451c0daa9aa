"""MP4, QuickTime and 3GPP: the movie header and fragments (ISO/IEC 14496-12 sections 8.2, 8.8, 8.16.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.media.boxes import Box, index_children, iterate_boxes
from app.media.headers import Malformed, VideoHeader, number

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOP_LEVEL_MAX = 8192  # two boxes a fragment: more than an hour in fragments of a second
_TRACKS_MAX = 64
_STEPS_MAX = 50_000  # fragments, and durations that are added up one by one: more than any context holds
_HAS_DEFAULT_DURATION = 0x08
_TRUN_FIELDS = (0x100, 0x200, 0x400, 0x800)  # of each sample: its duration first, then three others
_UNKNOWN = {4: 0xFFFF_FFFF, 8: 0xFFFF_FFFF_FFFF_FFFF}
"""All ones: the length is not known, by the width of the field."""


@dataclass(slots=True)
class _Track:
    scale: int
    sample_ticks: int = 0
    end_ticks: int = 0


@dataclass(slots=True)
class _Movie:
    tracks: dict[int, _Track] = field(default_factory=dict)
    has_video: bool = False
    scale: int = 0
    seconds: list[float] = field(default_factory=list)
    steps_left: int = _STEPS_MAX

    def step(self, count: int = 1) -> None:
        """Count steps before they are taken. Raises Malformed after too many."""
        self.steps_left -= count
        if self.steps_left < 0:
            raise Malformed("The video is in more pieces than are counted.")


def parse(data: bytes) -> VideoHeader:
    """The longest duration that the file states.

    Raises Malformed if there is no movie box, which a recorder writes last.
    """
    movie: _Movie | None = None
    complete = True
    try:
        for box in iterate_boxes(data, 0, len(data), _TOP_LEVEL_MAX):
            if box.kind == b"moov" and movie is None:
                movie = _read_movie(data, box)
            elif box.kind == b"sidx" and movie is not None:
                movie.seconds.append(_read_segment_index(data, box, movie))
            elif box.kind == b"moof" and movie is not None:
                _read_fragment(data, box, movie)
    except Malformed:
        if movie is None:
            raise
        complete = False
    if movie is None:
        raise Malformed("The video has no moov box, which says how to play it.", truncated=True)
    if complete:
        movie.seconds += [track.end_ticks / track.scale for track in movie.tracks.values() if track.scale]
    return VideoHeader(max(movie.seconds, default=0.0), movie.has_video)


def _read_length(data: bytes, at: int, width: int, end: int, scale: int) -> Iterator[float]:
    """Yield a duration in seconds, or nothing if it is unknown."""
    ticks = number(data, at, width, end)
    if scale and ticks and ticks != _UNKNOWN[width]:
        yield ticks / scale


def _read_time_width(data: bytes, box: Box) -> int:
    """The bytes of a time in a box: 4 in version 0, 8 since."""
    if number(data, box.start, 1, box.end) == 0:
        return 4
    return 8


def _read_timescale(data: bytes, header: Box) -> tuple[int, int, int]:
    """The ticks per second of a ``mvhd`` or ``mdhd`` box, and the offset and width of its duration."""
    width = _read_time_width(data, header)
    # Version and flags, two timestamps of ``width`` bytes, then the ticks per second and the duration.
    return number(data, header.start + 4 + 2 * width, 4, header.end), header.start + 8 + 2 * width, width


def _read_movie(data: bytes, box: Box) -> _Movie:
    if box.end > len(data):
        raise Malformed("The video ends inside its moov box, which says how to play it.", truncated=True)
    movie = _Movie()
    children = index_children(data, box)
    if b"mvhd" in children:
        movie.scale, at, width = _read_timescale(data, children[b"mvhd"])
        movie.seconds += _read_length(data, at, width, children[b"mvhd"].end, movie.scale)
    for child in [each for each in iterate_boxes(data, box.start, box.end) if each.kind == b"trak"][
        :_TRACKS_MAX
    ]:
        _read_track(data, child, movie)
    if b"mvex" in children:
        _read_extends_box(data, children[b"mvex"], movie)
    movie.has_video = movie.has_video or b"cmov" in children  # a compressed header, as QuickTime 3 has it
    return movie


def _read_track(data: bytes, box: Box, movie: _Movie) -> None:
    children = index_children(data, box)
    media = {}
    if b"mdia" in children:
        media = index_children(data, children[b"mdia"])
    if b"hdlr" in media:
        handler = media[b"hdlr"]
        movie.has_video = movie.has_video or data[handler.start + 8 : handler.start + 12] == b"vide"
    if b"mdhd" in media and b"tkhd" in children:
        header = children[b"tkhd"]
        at = header.start + (20 if number(data, header.start, 1, header.end) else 12)
        scale, _, _ = _read_timescale(data, media[b"mdhd"])
        movie.tracks[number(data, at, 4, header.end)] = _Track(scale)


def _read_extends_box(data: bytes, box: Box, movie: _Movie) -> None:
    """Read the defaults of a fragmented movie: its duration, and the duration of a sample."""
    for child in iterate_boxes(data, box.start, box.end):
        if child.kind == b"mehd":
            width = _read_time_width(data, child)
            movie.seconds += _read_length(data, child.start + 4, width, child.end, movie.scale)
        elif child.kind == b"trex":
            track = movie.tracks.get(number(data, child.start + 4, 4, child.end))
            if track is not None:
                track.sample_ticks = number(data, child.start + 12, 4, child.end)


def _read_segment_index(data: bytes, box: Box, movie: _Movie) -> float:
    """The seconds that a segment index covers; 0.0 if it has no time scale."""
    width = _read_time_width(data, box)
    scale = number(data, box.start + 8, 4, box.end)
    first = number(data, box.start + 12, width, box.end)
    at = box.start + 14 + 2 * width
    count = number(data, at, 2, box.end)
    movie.step(count)
    ticks = sum(number(data, at + 6 + 12 * index, 4, box.end) for index in range(count))
    if not scale:
        return 0.0
    return (first + ticks) / scale


def _read_fragment(data: bytes, box: Box, movie: _Movie) -> None:
    for part in iterate_boxes(data, box.start, min(box.end, len(data))):
        movie.step()
        if part.kind == b"traf":
            _read_track_fragment(data, part, movie)


def _read_track_fragment(data: bytes, box: Box, movie: _Movie) -> None:
    track: _Track | None = None
    sample_ticks = 0
    for child in iterate_boxes(data, box.start, box.end):
        movie.step()
        if child.kind == b"tfhd":
            flags = number(data, child.start + 1, 3, child.end)
            track = movie.tracks.get(number(data, child.start + 4, 4, child.end))
            sample_ticks = 0
            if track is not None:
                sample_ticks = track.sample_ticks
            if flags & _HAS_DEFAULT_DURATION:
                at = child.start + 8 + 8 * (flags & 1) + 4 * (flags >> 1 & 1)
                sample_ticks = number(data, at, 4, child.end)
        elif track is None:
            continue
        elif child.kind == b"tfdt":
            width = _read_time_width(data, child)
            track.end_ticks = max(track.end_ticks, number(data, child.start + 4, width, child.end))
        elif child.kind == b"trun":
            track.end_ticks += _read_run(data, child, sample_ticks, movie)


def _read_run(data: bytes, box: Box, sample_ticks: int, movie: _Movie) -> int:
    """The ticks of a run of samples. Raises Malformed if there are too many to add up."""
    flags, count = number(data, box.start + 1, 3, box.end), number(data, box.start + 4, 4, box.end)
    if not flags & _TRUN_FIELDS[0]:
        return count * sample_ticks
    movie.step(count)
    at = box.start + 8 + 4 * (flags & 1) + 4 * (flags >> 2 & 1)
    step = 4 * sum(bool(flags & each) for each in _TRUN_FIELDS)
    return sum(number(data, at + step * index, 4, box.end) for index in range(count))
