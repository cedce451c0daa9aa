"""The journal as the ledger uses it: a failing disk stops nothing, and operators see it in log and metrics.

What cannot be written stays in memory; settlements that wait are written as soon as the disk takes them
again. A folder that is deleted while the gateway runs is created again. Without a disk, memory keeps what it
would.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import secrets
import time
from typing import TYPE_CHECKING, Protocol

from app.ledger.journal_lines import MemoryJournal
from app.resilience.diagnosis import Diagnosis, describe_system_error
from app.resilience.tasks import run_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Container, Iterable, Sized

    from app.ledger.checkpoints import Adjustment, Checkpoint
    from app.ledger.hold_records import HoldRecord
    from app.ledger.journal import Journal
    from app.ledger.journal_lines import JournalLines, Remembered

log = logging.getLogger(__name__)

AGAIN_S = 60.0
"""Seconds between log lines about the same fault."""

_REMEDIES = {
    errno.ENOSPC: "Free space on that disk, or set FLASHGATE_JOURNAL_DIR to a folder on another",
    errno.EDQUOT: "Raise the quota of the gateway's user, or set FLASHGATE_JOURNAL_DIR to a folder elsewhere",
    errno.EACCES: "Let the gateway's user write in that folder",
    errno.EROFS: "Set FLASHGATE_JOURNAL_DIR to a folder that can be written",
    errno.ENOENT: "Make the folder's parent again, or set FLASHGATE_JOURNAL_DIR to a folder that stays",
    errno.EMFILE: "Raise the limit on open files (ulimit -n)",
}
_REMEDY = "Look at that disk, or set FLASHGATE_JOURNAL_DIR to a folder on another"


class JournalMetrics(Protocol):
    """Counts failures; metrics in production."""

    def count_journal_failure(self, error: str) -> None:
        """Count a failed write; ``error`` is the system's name for it, such as ENOSPC."""


class Journaling:
    """Writes a journal, and keeps track of whether that works.

    Args:
        journal: Open, or None where this replica has no disk.

    Attributes:
        on_disk: The holds whose waiting settlements are on disk.
    """

    def __init__(self, journal: Journal | None, metrics: JournalMetrics) -> None:
        self._journal = journal
        self._memory = MemoryJournal(secrets.token_hex(16))
        self._metrics = metrics
        self._lock = asyncio.Lock()
        self._fault: Diagnosis | None = None
        self._logged_at = 0.0
        self.on_disk: set[str] = set()

    @property
    def condition(self) -> str:
        """``ok``, ``none`` where there is no journal, or what is wrong with it."""
        if self._journal is None:
            return "none"
        return "ok" if self._fault is None else str(self._fault)

    def take_over_pending(self) -> list[tuple[str, HoldRecord]]:
        """See Journal."""
        pending = [] if self._journal is None else self._journal.take_over_pending()
        self.on_disk.update(record.hold_id for _, record in pending)
        return pending

    def read_epochs(self) -> dict[str, str]:
        """See Journal."""
        return {} if self._journal is None else self._journal.read_epochs()

    @property
    def due(self) -> list[tuple[JournalLines, str]]:
        """Checkpoints that are missing: for which journal, and of which tenant."""
        return [(lines, tenant_id) for lines in self._all_lines() for tenant_id in lines.due]

    def need_checkpoints(self, tenant_ids: Iterable[str]) -> None:
        """Let the checkpoints of these tenants be missing where they are."""
        for tenant_id in tenant_ids:
            (self._journal or self._memory).need_checkpoint(tenant_id)

    async def read_checkpoints(self) -> dict[str, Checkpoint]:
        """The latest of each tenant, read beside the event loop. Raises OSError where that fails."""
        checkpoints: dict[str, Checkpoint] = {}
        for lines in self._all_lines():
            for tenant_id, checkpoint in (await asyncio.to_thread(lines.read_checkpoints)).items():
                known = checkpoints.get(tenant_id)
                if known is None or known.number < checkpoint.number:
                    checkpoints[tenant_id] = checkpoint
        return checkpoints

    async def read(self, part: int) -> AsyncGenerator[tuple[str, Remembered], None]:
        """See JournalLines; files are read beside the event loop. Raises OSError where they cannot be."""
        for lines in self._all_lines():
            with contextlib.closing(lines.read(part)) as parts:
                while (tenants := await asyncio.to_thread(next, parts, None)) is not None:
                    for tenant_id, remembered in tenants.items():
                        yield tenant_id, remembered

    def note(self, tenant_id: str, record: HoldRecord, at_ms: int, epoch: str | None) -> None:
        """Remember a transition that the store has acknowledged, and the epoch of the tenant's books."""
        if self._write(lambda lines: lines.note(tenant_id, record, at_ms)) and epoch is not None:
            self.keep_epoch(tenant_id, epoch)

    def note_adjustment(self, tenant_id: str, adjustment: Adjustment, at_ms: int) -> None:
        """Remember what an operator changed."""
        self._write(lambda lines: lines.note_adjustment(tenant_id, adjustment, at_ms))

    def note_checkpoint(self, lines: JournalLines, checkpoint: Checkpoint) -> None:
        """Remember a checkpoint that was taken for one of the journals."""
        try:
            lines.note_checkpoint(checkpoint)
        except OSError as error:
            self._report_failure(error)
        else:
            self._report_recovery()

    def keep_epoch(self, tenant_id: str, epoch: str) -> None:
        """Remember the epoch of a tenant's ledger."""
        if self._journal is None:
            return
        try:
            self._journal.keep_epoch(tenant_id, epoch)
        except OSError as error:
            self._report_failure(error)

    def _all_lines(self) -> tuple[JournalLines, ...]:
        return (self._memory,) if self._journal is None else (self._journal, self._memory)

    def _write(self, write: Callable[[JournalLines], None]) -> bool:
        """Write to the disk, or to memory where there is none that takes it; whether it is on disk."""
        if self._journal is not None:
            try:
                write(self._journal)
            except OSError as error:
                self._report_failure(error)
            else:
                self._report_recovery()
                return True
        write(self._memory)
        return False

    async def append_pending(
        self, records: Iterable[tuple[str, HoldRecord]], waiting: Container[str]
    ) -> None:
        """Write the settlements that still wait and are not on disk yet, as far as the disk takes them."""
        if self._journal is None:
            return
        async with self._lock:
            try:
                for tenant_id, record in records:
                    if record.hold_id in waiting and record.hold_id not in self.on_disk:
                        await run_in_thread(self._journal.append_pending, tenant_id, record, _now_ms())
                        self._report_recovery()
                        if record.hold_id in waiting:
                            self.on_disk.add(record.hold_id)
            except OSError as error:
                self._report_failure(error)

    async def clear_pending_unless(self, waiting: Sized) -> bool:
        """Empty the pending file once the store has acknowledged all. False where some wait again."""
        async with self._lock:
            if waiting:
                return False
            self.on_disk.clear()
            try:
                if self._journal is not None:
                    self._journal.clear_pending()
            except OSError as error:
                # What stays is settled again at the next start, which changes nothing.
                self._report_failure(error)
        return True

    async def recreate_if_gone(self) -> bool:
        """Create the files again if they are gone; whether that was done."""
        if self._journal is None:
            return False
        async with self._lock:
            if not self._journal.is_gone():
                return False
            self.on_disk.clear()
            try:
                self._journal.open_again()
            except OSError as error:
                self._report_failure(error)
                return False
        log.error(
            "the journal's files were gone and have been made again; what they held is in them as sums alone",
            extra={
                "diagnosis": Diagnosis(
                    "journal_gone",
                    str(self._journal.folder),
                    "its files were not there",
                    "Find out what deletes them: each replica needs its journal for as long as it runs",
                )
            },
        )
        self._metrics.count_journal_failure("gone")
        self._report_recovery()
        return True

    def _report_failure(self, error: OSError) -> None:
        assert self._journal is not None  # noqa: S101 - it has just failed
        cause = f"{type(error).__qualname__}: {describe_system_error(error)}"
        remedy = _REMEDIES.get(error.errno or 0, _REMEDY)
        fault = Diagnosis("journal_failing", str(self._journal.folder), cause, remedy)
        if fault != self._fault or time.monotonic() >= self._logged_at + AGAIN_S:
            log.error(
                "the journal cannot be written; settlements that the store does not take wait in memory "
                "alone, and are lost if the process ends",
                extra={"diagnosis": fault},
            )
            self._logged_at = time.monotonic()
        self._fault = fault
        self._metrics.count_journal_failure(errno.errorcode.get(error.errno or 0, "other"))

    def _report_recovery(self) -> None:
        if self._fault is None:
            return
        self._fault = None
        log.warning("the journal can be written again")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
