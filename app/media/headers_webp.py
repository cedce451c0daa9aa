"""WebP: the RIFF container and the images in it (RFC 9649)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.media.headers import STEPS_MAX, Header, Malformed, check_size, number_le, read

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST_CHUNK = 12
_ANIMATION_FLAG = 0x02


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    end: int


def _iterate_chunks(data: bytes, at: int, end: int) -> Iterator[_Chunk]:
    """The chunks between two offsets; the last one may claim to reach beyond the end."""
    for _ in range(STEPS_MAX):
        if at + 8 > end:
            return
        length = number_le(data, at + 4, 4)
        yield _Chunk(data[at : at + 4], at + 8, at + 8 + length)
        at += 8 + length + (length & 1)
    raise Malformed("The WebP has more chunks than any picture needs.")


def _read_lossy_size(data: bytes, start: int) -> tuple[int, int]:
    """Width and height of a VP8 key frame (RFC 6386 section 9.1)."""
    frame = read(data, start, 10)
    if frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":
        raise Malformed("The WebP's VP8 chunk does not begin with a key frame.")
    return (
        int.from_bytes(frame[6:8], "little") & 0x3FFF,
        int.from_bytes(frame[8:10], "little") & 0x3FFF,
    )


def _read_lossless_size(data: bytes, start: int) -> tuple[int, int]:
    """Width and height of a VP8L stream (RFC 9649 section 3.4)."""
    head = read(data, start, 5)
    bits = int.from_bytes(head[1:5], "little")
    if head[0] != 0x2F or bits >> 29:
        raise Malformed("The WebP's VP8L chunk does not begin as one must.")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


_PICTURES = {b"VP8 ": _read_lossy_size, b"VP8L": _read_lossless_size}


def _check_end(chunk: _Chunk, end: int) -> str | None:
    if chunk.end > end:
        return "The WebP ends inside one of its chunks."
    return None


def _parse_extended(data: bytes, first: _Chunk, end: int, truncated: str | None) -> Header:
    """A file with a VP8X canvas: metadata, transparency or animation."""
    head = read(data, first.start, 10)
    canvas = int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    sizes: list[tuple[int, int]] = []
    frames = 0
    for chunk in _iterate_chunks(data, first.end + (first.end - first.start & 1), end):
        truncated = truncated or _check_end(chunk, end)
        if chunk.kind == b"ANMF":
            frames += 1
            position = read(data, chunk.start, 12)
            sizes.append(
                (int.from_bytes(position[6:9], "little") + 1, int.from_bytes(position[9:12], "little") + 1)
            )
        elif chunk.kind in _PICTURES:
            sizes.append(_PICTURES[chunk.kind](data, chunk.start))
    if not sizes and truncated is None:
        raise Malformed("The WebP has no picture in it.")
    animated = bool(head[0] & _ANIMATION_FLAG)
    if not animated and any(size != canvas for size in sizes):
        raise Malformed("The WebP's picture has another size than its canvas.")
    pixels = max(width * height for width, height in (canvas, *sizes))
    return Header(*canvas, frames if animated and frames else 1, pixels, truncated)


def parse(data: bytes) -> Header:
    """Size, frames and wholeness of a WebP. Raises Malformed."""
    claimed = number_le(data, 4, 4) + 8
    truncated = None
    if claimed > len(data):
        truncated = "The WebP is shorter than its RIFF header says."
    end = min(claimed, len(data))
    first = next(_iterate_chunks(data, _FIRST_CHUNK, end), None)
    if first is None:
        raise Malformed("The WebP has no chunk in it.", truncated=truncated is not None)
    if first.kind == b"VP8X":
        return _parse_extended(data, first, end, truncated)
    if first.kind not in _PICTURES:
        raise Malformed("The WebP does not begin with a picture.")
    width, height = _PICTURES[first.kind](data, first.start)
    check_size(width, height)
    return Header(width, height, 1, width * height, truncated or _check_end(first, end))
