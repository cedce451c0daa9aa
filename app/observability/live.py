"""The requests that are under way in this process, for operators who watch it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.resilience.wide_event import collect_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """A request or an operation that is under way.

    Attributes:
        age_s: Seconds since it began.
        fields: What has been noted about it, by the names of the log.
    """

    age_s: float
    fields: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class _Entry:
    began: float
    noted: dict[str, Any]
    state: MutableMapping[str, Any]


class LiveRequests:
    """Collects what is noted about requests while they are served."""

    def __init__(self) -> None:
        self._entries: set[_Entry] = set()

    @contextmanager
    def follow(self, state: MutableMapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Collect the fields of a request while the block runs; ``state`` is where surfaces leave theirs."""
        with collect_fields() as noted:
            entry = _Entry(time.monotonic(), noted, state)
            self._entries.add(entry)
            try:
                yield noted
            finally:
                self._entries.discard(entry)

    def list_requests(self) -> list[LiveRequest]:
        """Every request with a tenant, the oldest first."""
        now = time.monotonic()
        entries = sorted(self._entries, key=lambda entry: entry.began)
        return [
            LiveRequest(now - entry.began, {**entry.noted, **_select_own(entry.state)})
            for entry in entries
            if entry.state.get("tenant")
        ]


def _select_own(state: MutableMapping[str, Any]) -> dict[str, Any]:
    return {name: state[name] for name in ("request_id", "tenant", "key") if state.get(name)}
