"""Responses that carry images, raw or spliced into JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse

from app.media.splicing import compute_spliced_length, splice_iter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from app.domain.generation import ImageData, Picture
    from app.generation.order import GenerationResult

SLICE_BYTES = 1 << 20
# A range with more digits than any length can have is ignored, as RFC 9110 section 14.2 allows.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def _split_bytes(data: ImageData) -> Iterable[memoryview]:
    view = memoryview(data)
    return (view[at : at + SLICE_BYTES] for at in range(0, len(view), SLICE_BYTES))


def _stream_pieces(
    pieces: Iterable[ImageData],
    length: int,
    chunked_above: int,
    headers: Mapping[str, str],
    media_type: str,
) -> Response:
    """Stream a response, without Content-Length above ``chunked_above``: some front ends cap such bodies."""

    async def iterate_pieces() -> AsyncIterator[ImageData]:
        for piece in pieces:
            yield piece

    length_header = {} if length > chunked_above else {"Content-Length": str(length)}
    return StreamingResponse(iterate_pieces(), headers={**headers, **length_header}, media_type=media_type)


def build_json_response(
    skeleton: bytes, blobs: Mapping[str, ImageData], headers: Mapping[str, str], chunked_above: int
) -> Response:
    """Build a JSON response whose placeholders are replaced by base64 images while it is sent."""
    if not blobs:
        return Response(skeleton, headers=dict(headers), media_type="application/json")
    length = compute_spliced_length(skeleton, blobs)
    return _stream_pieces(splice_iter(skeleton, blobs), length, chunked_above, headers, "application/json")


def build_image_response(picture: Picture, headers: Mapping[str, str], chunked_above: int) -> Response:
    """Build a response of a picture's bytes."""
    all_headers = {**headers, "ETag": f'"{picture.id}"'}
    if picture.length <= SLICE_BYTES:
        return Response(picture.data, headers=all_headers, media_type=picture.mime_type)
    return _stream_pieces(
        _split_bytes(picture.data), picture.length, chunked_above, all_headers, picture.mime_type
    )


def build_stored_image_response(
    picture: Picture,
    *,
    if_none_match: str | None,
    range_header: str | None,
    if_range: str | None,
    chunked_above: int,
) -> Response:
    """Build the response for a stored picture: 200, 206 for one range, 304, or 416 (RFC 9110)."""
    etag = f'"{picture.id}"'
    headers = {
        "Cache-Control": "private, max-age=31536000, immutable",
        "Accept-Ranges": "bytes",
        "ETag": etag,
    }
    if if_none_match is not None and _matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    requested = None
    if range_header:
        requested = _RANGE.fullmatch(range_header.strip())
    if requested is None or requested[0] == "bytes=-" or (if_range is not None and if_range != etag):
        return build_image_response(picture, headers, chunked_above)
    first, last = _resolve_range(requested[1], requested[2], picture.length)
    if first > last:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{picture.length}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{picture.length}"
    part = picture.data[first : last + 1]
    return Response(part, 206, headers=headers, media_type=picture.mime_type)


def _matches(if_none_match: str, etag: str) -> bool:
    etags = {item.strip().removeprefix("W/") for item in if_none_match.split(",")}
    return etag in etags or "*" in etags


def _resolve_range(first: str, last: str, length: int) -> tuple[int, int]:
    """Return the first and last byte of a range; first > last if it cannot be satisfied."""
    if not first:
        return max(0, length - int(last)), length - 1 if int(last) else -1
    return int(first), min(length - 1, int(last)) if last else length - 1


def build_generation_headers(result: GenerationResult) -> dict[str, str]:
    """Build Cache-Status (RFC 9211), Age, Server-Timing, the tokens spent, and the codes of notices.

    Notices are in a header because bodies in Google's dialect and raw pictures have no place for them.
    """
    status = {
        "hit": "flashgate; hit",
        "miss": "flashgate; fwd=miss; stored",
        "coalesced": "flashgate; fwd=miss; collapsed",
        "bypass": "flashgate; fwd=bypass",
    }[result.cache_status]
    timings = ", ".join(f"{stage};dur={spent:.1f}" for stage, spent in result.timings_ms.items())
    headers = {
        "Cache-Status": f'{status}; key="{result.fingerprint[:16]}"',
        "Cache-Control": "private",
        "Server-Timing": timings,
        "Age": str(result.age_s),
    }
    if result.replayed:
        headers["Idempotency-Replayed"] = "true"
    if result.generation.back_end:
        # The name of its credential is the operators' own affair.
        headers["X-Flashgate-Back-End"] = result.generation.back_end.partition("/")[0]
    if result.cache_status in {"miss", "bypass"}:
        headers["X-Flashgate-Image-Tokens"] = str(result.cost.image_output)
    if result.notices:
        headers["X-Flashgate-Notices"] = ", ".join(dict.fromkeys(notice.code for notice in result.notices))
    return headers
