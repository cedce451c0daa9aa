"""The duration of a video, and whether it has a video track, by its headers only.

Nothing is decoded. If no header states the duration, it is None, and the estimate reserves the rest of the
context. Strict tenants' estimates allow for headers that lie (docs/decisions/0008).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.media import videos_asf, videos_avi, videos_bmff, videos_ebml, videos_flv, videos_mpeg
from app.media.headers import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.media.headers import VideoHeader

    Reader = Callable[[bytes], VideoHeader]

_READERS: dict[str, Reader] = {
    "video/mp4": videos_bmff.parse,
    "video/quicktime": videos_bmff.parse,
    "video/3gpp": videos_bmff.parse,
    "video/webm": videos_ebml.parse,
    "video/x-matroska": videos_ebml.parse,
    "video/avi": videos_avi.parse,
    "video/x-flv": videos_flv.parse,
    "video/wmv": videos_asf.parse,
    "video/mpeg": videos_mpeg.parse,
}
TYPES = frozenset(_READERS)
"""Video types whose headers are read."""

_LONGEST_S = 10.0**7


def inspect_video(data: bytes, mime_type: str) -> tuple[float | None, tuple[str, str] | None]:
    """The duration in seconds or None, and the fault as (code, sentence) or None. Never raises."""
    try:
        film = _READERS[mime_type](data)
    except Malformed as malformed:
        return None, ("truncated_video" if malformed.truncated else "unreadable_video", malformed.sentence)
    if not film.has_video:
        return None, ("unreadable_video", "The file has no video track.")
    if film.seconds is None or not 0 < film.seconds < _LONGEST_S:
        return None, None
    return film.seconds, None
