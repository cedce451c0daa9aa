"""Spans of a trace: what a part of the request path says about when it began and ended.

The parts know no tracing library. Where traces are exported, ``app/observability/tracing.py`` puts a tracer
into the context of each request; elsewhere nothing is recorded, and nothing is loaded.
"""

from __future__ import annotations

from contextlib import nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    Attributes = Mapping[str, str | float | bool | list[str]]

SpanKind = Literal["internal", "server", "client"]


class Span(Protocol):
    """A span that is open."""

    def rename(self, name: str) -> None:
        """Give it the name that is known only now."""

    def set(self, attributes: Attributes) -> None:
        """Set attributes that are known only now."""

    def fail(self, reason: str) -> None:
        """Mark it as failed, with a stable word for the reason."""


class Tracer(Protocol):
    """Records spans."""

    def open(self, name: str, kind: SpanKind, attributes: Attributes) -> AbstractContextManager[Span]:
        """Open a span below the one that is open in this context, until the block ends."""


class _NoSpan:
    def rename(self, name: str) -> None:
        pass

    def set(self, attributes: Attributes) -> None:
        pass

    def fail(self, reason: str) -> None:
        pass


NO_SPAN = _NoSpan()
TRACER: ContextVar[Tracer | None] = ContextVar("tracer", default=None)
"""The tracer of the current request, if its trace is recorded."""


def open_span(
    name: str, kind: SpanKind = "internal", attributes: Attributes | None = None
) -> AbstractContextManager[Span]:
    """Open a span until the block ends; an exception that leaves the block marks it as failed."""
    tracer = TRACER.get()
    if tracer is None:
        return nullcontext(NO_SPAN)
    return tracer.open(name, kind, attributes or {})
