"""The journal as the ledger uses it: a failing disk stops nothing, and operators see it in log and metrics.

What cannot be written waits in memory until the disk takes it again. A folder that is deleted while the
gateway runs is created again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from typing import TYPE_CHECKING, Protocol

from app.resilience.diagnosis import Diagnosis, describe_system_error
from app.resilience.tasks import run_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Container, Iterable, Sized

    from app.ledger.hold_records import HoldRecord
    from app.ledger.journal import Journal

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

    async def read_settled_of(self, tenant_id: str) -> dict[str, HoldRecord]:
        """See Journal. Raises OSError where the files cannot be read."""
        return (
            {} if self._journal is None else await asyncio.to_thread(self._journal.read_settled_of, tenant_id)
        )

    async def read_settled(self, part: int) -> AsyncGenerator[tuple[str, Iterable[HoldRecord]], None]:
        """See Journal; the files are read beside the event loop. Raises OSError where they cannot be."""
        if self._journal is None:
            return
        with contextlib.closing(self._journal.read_settled(part)) as parts:
            while (part_of_tenants := await asyncio.to_thread(next, parts, None)) is not None:
                for tenant_id, records in part_of_tenants.items():
                    yield tenant_id, records.values()

    def note(self, tenant_id: str, record: HoldRecord, at_ms: int, epoch: str | None) -> None:
        """Remember a transition that the store has acknowledged, and the epoch of the tenant's ledger."""
        if self._journal is None:
            return
        try:
            self._journal.note(tenant_id, record, at_ms)
            if epoch is not None:
                self._journal.keep_epoch(tenant_id, epoch)
        except OSError as error:
            # The store has it; only a rebuilding would miss it.
            self._report_failure(error)
        else:
            self._report_recovery()

    def keep_epoch(self, tenant_id: str, epoch: str) -> None:
        """Remember the epoch of a tenant's ledger that was rebuilt."""
        if self._journal is None:
            return
        try:
            self._journal.keep_epoch(tenant_id, epoch)
        except OSError as error:
            self._report_failure(error)

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
            "the journal's files were gone and have been made again; what they held cannot be told to a "
            "store that loses its ledger",
            extra={
                "diagnosis": Diagnosis(
                    "journal_gone",
                    str(self._journal.folder),
                    "its files were not there",
                    "Find out what deletes them: each replica needs its journal for as long as it runs",
                )
            },
        )
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
