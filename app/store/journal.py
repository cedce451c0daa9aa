"""A replica's own memory on disk: what it settled, and what the store has not acknowledged yet.

Three files a replica, in JSON lines, each line a CloudEvent without a word of any prompt:

* ``settled-N.jsonl``  what the store acknowledged, for rebuilding counters that the store lost
  (docs/reliability.md R22); at half of its share of the disk it becomes ``settled-N.old.jsonl`` and a new one
  begins
* ``waiting-N.jsonl``  settlements that the store has not acknowledged, each on disk (fsync) before the
  caller is answered, so that neither a crash nor a restart loses one (docs/reliability.md R29)
* ``epochs-N.json``    which epoch of each tenant's books this replica has seen

``N`` is a number that the replica holds a lock on. A replica that starts takes the lowest free one and, with
it, what a dead one left behind; locks are the kernel's and vanish with their holder.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

from app.store.hold_records import HoldRecord, UnreadableHold

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path
    from types import TracebackType

_LOCK_NAME = re.compile(r"replica-(\d+)\.lock")
NUMBERS_MAX = 10_000


class JournalUnavailable(RuntimeError):
    """The journal's folder cannot be used; the message says why."""


class Journal:
    """The files of one replica; use as ``with``. Every method is quick except ``wait_for`` (one fsync).

    Args:
        folder: Made private to this user; may be shared by any number of replicas of one machine.
        bytes_max: What this replica's settled events may take; the oldest half goes first.
        source: Names this replica in its events.
    """

    def __init__(self, folder: Path, *, bytes_max: int = 64 << 20, source: str = "flashgate") -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._source = source
        self._number = -1
        self._files = ExitStack()
        self._settled = -1
        self._waiting = -1
        self._settled_bytes = 0
        self._epochs: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._number = self._lowest_free(self._files)
            self._settled = self._opened("settled")
            self._waiting = self._opened("waiting")
            self._settled_bytes = os.fstat(self._settled).st_size
        except OSError as error:
            self._files.close()
            raise JournalUnavailable(f"The journal in {self._folder} cannot be written: {error}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()

    def note(self, tenant_id: str, record: HoldRecord, at_ms: int) -> None:
        """Remember a transition that the store has acknowledged. The store has it too, so without fsync."""
        if self._settled_bytes > self._bytes_max // 2:
            self._rotate()
        self._settled_bytes += self._append(self._settled, tenant_id, record, at_ms)

    def wait_for(self, tenant_id: str, record: HoldRecord, at_ms: int) -> None:
        """Remember a settlement that the store has not acknowledged; on disk when this returns."""
        self._append(self._waiting, tenant_id, record, at_ms)
        os.fsync(self._waiting)

    def none_waits(self) -> None:
        """Forget the waiting ones: the store has acknowledged all of them."""
        os.ftruncate(self._waiting, 0)

    def left_behind(self) -> list[tuple[str, HoldRecord]]:
        """Settlements of this number's former holder, and of dead replicas; the latter become this one's."""
        found = list(_read(self._path("waiting", self._number)))
        for number in self._others():
            with ExitStack() as lock:
                if not self._locked(number, lock):
                    continue
                path = self._path("waiting", number)
                orphans = list(_read(path))
                for tenant_id, record in orphans:
                    self.wait_for(tenant_id, record, record.began_ms)
                if orphans:
                    path.write_bytes(b"")
                found += orphans
        return found

    def settled_of(self, tenant_id: str) -> dict[str, HoldRecord]:
        """The last state of every hold of a tenant that this replica or a dead one remembers.

        A hold that a dead replica sent may have been settled by another, so it is not the order of the files
        that tells which state is the last.
        """
        records: dict[str, HoldRecord] = {}
        for owner, record in self._settled_lines():
            if owner == tenant_id:
                _remember(records, record)
        return records

    def settled(self, part: int) -> Generator[dict[str, dict[str, HoldRecord]]]:
        """The same of all tenants, by tenant; a part at a time, so that no more than that is in memory."""
        tenants: dict[str, dict[str, HoldRecord]] = {}
        for count, (owner, record) in enumerate(self._settled_lines(), 1):
            _remember(tenants.setdefault(owner, {}), record)
            if count % part == 0:
                yield tenants
                tenants = {}
        yield tenants

    def _settled_lines(self) -> Iterator[tuple[str, HoldRecord]]:
        """What this replica and dead ones have noted, oldest first in each of their files."""
        for number in (self._number, *self._others()):
            with ExitStack() as lock:
                if number != self._number and not self._locked(number, lock, fcntl.LOCK_SH):
                    continue
                for old in (True, False):
                    yield from _read(self._path("settled", number, old=old))

    def epochs(self) -> dict[str, str]:
        """Which epoch of each tenant's books was seen last, by this number's holders."""
        with suppress(OSError, ValueError):
            found = json.loads(self._epochs_path.read_text(encoding="utf-8"))
            self._epochs = {str(tenant): str(epoch) for tenant, epoch in found.items()}
        return dict(self._epochs)

    def unlike(self, epochs: dict[str, str]) -> bool:
        """Whether these are other epochs than those that were remembered last."""
        return epochs != self._epochs

    def keep_epochs(self, epochs: dict[str, str]) -> None:
        """Remember the epochs; all of them, or as before."""
        draft = self._epochs_path.with_suffix(".draft")
        draft.write_text(json.dumps(epochs), encoding="utf-8")
        draft.replace(self._epochs_path)
        self._epochs = dict(epochs)

    @property
    def _epochs_path(self) -> Path:
        return self._folder / f"epochs-{self._number}.json"

    def _path(self, kind: str, number: int, *, old: bool = False) -> Path:
        return self._folder / f"{kind}-{number}{'.old' if old else ''}.jsonl"

    def _append(self, descriptor: int, tenant_id: str, record: HoldRecord, at_ms: int) -> int:
        event = record.event(tenant_id, at_ms, self._source)
        # The line break comes first, so that a line torn by a crash never swallows the next one.
        return os.write(descriptor, b"\n" + json.dumps(event, separators=(",", ":")).encode())

    def _opened(self, kind: str) -> int:
        path = self._path(kind, self._number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._files.callback(os.close, descriptor)
        return descriptor

    def _rotate(self) -> None:
        self._path("settled", self._number).replace(self._path("settled", self._number, old=True))
        self._settled = self._opened("settled")
        self._settled_bytes = 0

    def _lowest_free(self, stack: ExitStack) -> int:
        for number in range(NUMBERS_MAX):
            if self._locked(number, stack):
                return number
        raise OSError("every number is taken")

    def _locked(self, number: int, stack: ExitStack, kind: int = fcntl.LOCK_EX) -> bool:
        """Whether this number's lock could be taken; it is held until the stack is closed.

        Readers share it, so that several replicas that read a dead one's part at once all see it.
        """
        path = self._folder / f"replica-{number}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        stack.callback(os.close, descriptor)
        return True

    def _others(self) -> list[int]:
        found = (_LOCK_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(int(match[1]) for match in found if match and int(match[1]) != self._number)


def _read(path: Path) -> Iterator[tuple[str, HoldRecord]]:
    """The holds of a file in order; a line that a crash has torn is none."""
    with suppress(FileNotFoundError), path.open("rb") as lines:
        for line in lines:
            try:
                event: Any = json.loads(line)
                found = HoldRecord.of_event(event)
            except (ValueError, UnreadableHold):
                continue
            yield found


def _remember(records: dict[str, HoldRecord], record: HoldRecord) -> None:
    """Keep the record unless a later state of the hold is known."""
    known = records.get(record.hold_id)
    if known is None or record.progress >= known.progress:
        records[record.hold_id] = record
