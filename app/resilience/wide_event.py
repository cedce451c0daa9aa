"""What is noted about a request while it is served, for the one wide line that the log has about it.

Whatever part knows a fact first notes it, so no result has to carry it to the end. Names and forms are those
of ``app/observability/logs.py``; like all fields of the log, they never hold anything that a caller wrote.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIELDS: ContextVar[dict[str, Any] | None] = ContextVar("wide_event", default=None)


@contextmanager
def collect_fields() -> Iterator[dict[str, Any]]:
    """Collect what is noted inside the block, also by tasks that begin there, even if they outlive it."""
    fields: dict[str, Any] = {}
    token = _FIELDS.set(fields)
    try:
        yield fields
    finally:
        _FIELDS.reset(token)


def note(**fields: str | float | bool | list[str] | None) -> None:
    """Note fields of the current event; one that is None or empty is left out."""
    event = _FIELDS.get()
    if event is not None:
        event.update({name: value for name, value in fields.items() if value is not None and value != ""})


def add_to(name: str, amount: float) -> None:
    """Add to a number of the current event, which begins at 0."""
    event = _FIELDS.get()
    if event is not None:
        event[name] = event.get(name, 0) + amount


def get_noted() -> dict[str, Any]:
    """What has been noted so far; empty outside an event."""
    return dict(_FIELDS.get() or {})
