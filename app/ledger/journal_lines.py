"""What a journal remembers, wherever it is kept: lines in two parts, and which tenants need a checkpoint.

Lines are appended to the current part. When that is full it becomes the old part, a new one begins, and every
tenant of the old one needs a checkpoint; when the last of them is there, the old part goes. A tenant that is
seen for the first time needs one as well, because what others did before is in no line here.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.ledger.checkpoints import (
    ADJUSTMENT_PREFIX,
    CHECKPOINT_TYPE,
    Adjustment,
    Checkpoint,
    UnreadableEvent,
)
from app.ledger.hold_records import HoldRecord, UnreadableHold

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

MEMORY_BYTES = 16 << 20
"""What a journal in memory may take: at 1 kB a hold, half of it is 8,000 of them."""
_CHECKPOINT = CHECKPOINT_TYPE.encode()


@dataclass(slots=True)
class Remembered:
    """Lines of one tenant: the last known state of holds, and changes by operators."""

    holds: dict[str, HoldRecord] = field(default_factory=dict)
    adjustments: list[Adjustment] = field(default_factory=list)

    def keep(self, record: HoldRecord) -> None:
        """Keep the record unless a later state of the hold is known.

        A hold that a dead replica sent may have been settled by another, so it is not the order of the files
        that tells which state is the last.
        """
        known = self.holds.get(record.hold_id)
        if known is None or record.progress >= known.progress:
            self.holds[record.hold_id] = record


class JournalLines(ABC):
    """The lines of one journal.

    Args:
        bytes_max: What the lines may take, as long as checkpoints can be taken.
        source: Names this replica in its events.

    Attributes:
        id: Names the journal in checkpoints.
    """

    def __init__(self, bytes_max: int, source: str) -> None:
        self._bytes_max = bytes_max
        self._source = source
        self._bytes = 0
        self._covered: set[str] = set()
        self._old_tenants: dict[str, None] = {}
        self._new_tenants: dict[str, None] = {}
        self._has_old_part = False
        self.id = ""

    @property
    def due(self) -> list[str]:
        """Tenants whose checkpoint is missing, those that keep the old part first."""
        return list(self._old_tenants | self._new_tenants)

    def need_checkpoint(self, tenant_id: str) -> None:
        """Let a tenant's checkpoint be missing, unless it is there."""
        if tenant_id not in self._covered and tenant_id not in self._old_tenants:
            self._new_tenants[tenant_id] = None

    def note(self, tenant_id: str, record: HoldRecord, at_ms: int) -> None:
        """Remember a transition that the store has acknowledged. The store has it too, so without fsync."""
        self._append_line(tenant_id, record.build_event(tenant_id, at_ms, self._source))

    def note_adjustment(self, tenant_id: str, adjustment: Adjustment, at_ms: int) -> None:
        """Remember what an operator changed."""
        self._append_line(tenant_id, adjustment.build_event(tenant_id, at_ms, self._source))

    def note_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Remember a checkpoint that was taken for this journal; the old part goes with the last of them."""
        if not checkpoint.empty:
            self._write_line(checkpoint.build_event(self._source))
        self._covered.add(checkpoint.tenant_id)
        self._new_tenants.pop(checkpoint.tenant_id, None)
        self._old_tenants.pop(checkpoint.tenant_id, None)
        if self._has_old_part and not self._old_tenants:
            self._drop_old_part()
            self._has_old_part = False

    def _append_line(self, tenant_id: str, event: dict[str, Any]) -> None:
        if self._bytes > self._bytes_max // 2 and self._may_begin_part():
            self._begin_part()
            self._bytes = 0
            self._has_old_part = True
            self._old_tenants |= dict.fromkeys([*self._covered, *self._new_tenants])
            self._covered, self._new_tenants = set(), {}
        self._bytes += self._write_line(event)
        self.need_checkpoint(tenant_id)

    def _may_begin_part(self) -> bool:
        return not self._has_old_part

    @abstractmethod
    def _write_line(self, value: object) -> int:
        """Append a line as a whole to the current part; returns its bytes. Raises OSError."""

    @abstractmethod
    def _begin_part(self) -> None:
        """Make the current part the old one, and begin another. Raises OSError."""

    @abstractmethod
    def _drop_old_part(self) -> None:
        """Forget the old part. Raises OSError."""

    @abstractmethod
    def _read_lines(self) -> Iterator[bytes]:
        """Every line, oldest first."""

    def read_checkpoints(self) -> dict[str, Checkpoint]:
        """The latest checkpoint of each tenant."""
        checkpoints: dict[str, Checkpoint] = {}
        for line in self._read_lines():
            if _CHECKPOINT not in line:
                continue
            try:
                checkpoint = Checkpoint.from_event(json.loads(line))
            except ValueError:
                continue
            known = checkpoints.get(checkpoint.tenant_id)
            if known is None or known.number < checkpoint.number:
                checkpoints[checkpoint.tenant_id] = checkpoint
        return checkpoints

    def read_settled_of(self, tenant_id: str) -> dict[str, HoldRecord]:
        """The last state of every hold of a tenant that is remembered."""
        remembered = Remembered()
        for owner, entry in self._read_entries():
            if owner == tenant_id and isinstance(entry, HoldRecord):
                remembered.keep(entry)
        return remembered.holds

    def read(self, part: int) -> Generator[dict[str, Remembered]]:
        """Everything but checkpoints, by tenant; so many lines at a time are in memory."""
        tenants: dict[str, Remembered] = {}
        for count, (owner, entry) in enumerate(self._read_entries(), 1):
            remembered = tenants.setdefault(owner, Remembered())
            if isinstance(entry, HoldRecord):
                remembered.keep(entry)
            else:
                remembered.adjustments.append(entry)
            if count % part == 0:
                yield tenants
                tenants = {}
        yield tenants

    def _read_entries(self) -> Iterator[tuple[str, HoldRecord | Adjustment]]:
        for line in self._read_lines():
            if _CHECKPOINT not in line and (entry := decode_line(line)) is not None:
                yield entry


class MemoryJournal(JournalLines):
    """A journal where there is no disk, or none that takes anything: it lasts as long as the process."""

    def __init__(self, journal_id: str, *, source: str = "flashgate") -> None:
        super().__init__(MEMORY_BYTES, source)
        self.id = journal_id
        self._old: list[bytes] = []
        self._current: list[bytes] = []

    def _write_line(self, value: object) -> int:
        line = json.dumps(value, separators=(",", ":")).encode()
        self._current.append(line)
        return len(line)

    def _may_begin_part(self) -> bool:
        # Memory is bounded in any case: where no checkpoint can be taken, the oldest goes.
        return not self._has_old_part or self._bytes > self._bytes_max

    def _begin_part(self) -> None:
        self._old, self._current = self._current, []

    def _drop_old_part(self) -> None:
        self._old = []

    def _read_lines(self) -> Iterator[bytes]:
        yield from [*self._old, *self._current]


def decode_line(line: bytes) -> tuple[str, HoldRecord | Adjustment] | None:
    """The tenant of a line, and the hold or the change by an operator; None where a crash has torn it."""
    try:
        event: Any = json.loads(line)
        if str(event["type"]).startswith(ADJUSTMENT_PREFIX):
            return str(event["subject"]), Adjustment.from_event(event)
        return HoldRecord.from_event(event)
    except (ValueError, KeyError, TypeError, UnreadableHold, UnreadableEvent):
        return None
