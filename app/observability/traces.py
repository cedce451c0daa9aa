"""Traces that others started: read from the headers of callers and Cloud Run, and forwarded to the upstream.

Unless it exports traces itself (``app/observability/tracing.py``), the gateway creates no spans: its log
lines belong to the caller's span, and the same span is forwarded to the upstream, as W3C Trace Context allows
for a service that does not take part (section 4.3, forwarding).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from app.observability.logs import CORRELATION

if TYPE_CHECKING:
    from collections.abc import Iterable

TRACEPARENT = "traceparent"
# A later version may append fields after the flags; version ff is invalid (section 3.2.2).
_TRACEPARENT = re.compile(
    rb"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})"
    rb"-(?P<flags>[0-9a-f]{2})(?P<more>-.{0,400})?"
)
# The header of Google's front ends: the span is a decimal number, and o=1 means sampled.
_CLOUD_TRACE = re.compile(
    rb"(?P<trace>(?!0{32})[0-9a-fA-F]{32})(/(?P<span>[0-9]{1,20}))?(;o=(?P<options>[0-9]))?"
)
_SPAN_ID_MAX = (1 << 64) - 1


class Trace(NamedTuple):
    """The caller's trace: ids of 32 and 16 hexadecimal digits. The span is empty if none was sent."""

    trace_id: str
    span_id: str
    sampled: bool


def find_trace(headers: Iterable[tuple[bytes, bytes]]) -> Trace | None:
    """The trace of a request, from ``traceparent``, else from ``X-Cloud-Trace-Context``.

    Malformed headers are ignored, and so is ``traceparent`` if there are several (section 3.2.1).
    """
    trace_headers = [
        (name, value) for name, value in headers if name in {b"traceparent", b"x-cloud-trace-context"}
    ]
    traceparents = [value for name, value in trace_headers if name == b"traceparent"]
    trace = None
    if len(traceparents) == 1:
        trace = _parse_w3c(traceparents[0])
    return trace or next(
        filter(None, (_parse_cloud(value) for name, value in trace_headers if name != b"traceparent")), None
    )


def _parse_w3c(value: bytes) -> Trace | None:
    match = _TRACEPARENT.fullmatch(value)
    if match is None or (match["version"] == b"00" and match["more"] is not None):
        return None
    return Trace(match["trace"].decode(), match["span"].decode(), bool(int(match["flags"], 16) & 1))


def _parse_cloud(value: bytes) -> Trace | None:
    match = _CLOUD_TRACE.fullmatch(value)
    if match is None:
        return None
    span = int(match["span"] or 0)
    span_id = ""
    if 0 < span <= _SPAN_ID_MAX:
        span_id = f"{span:016x}"
    return Trace(match["trace"].decode().lower(), span_id, match["options"] == b"1")


def build_trace_headers() -> dict[str, str]:
    """Headers that forward the trace of the current request to the upstream; empty without a trace."""
    current = CORRELATION.get()
    if current is None or not current.span_id:
        return {}
    return {TRACEPARENT: f"00-{current.trace_id}-{current.span_id}-{int(current.sampled):02x}"}
