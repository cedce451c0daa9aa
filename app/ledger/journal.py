"""A replica's memory on disk: what it has settled, and what the store has not acknowledged yet.

Each replica has a few files of JSON lines. In the first two each line is a CloudEvent, without prompts:

* ``settled-N.jsonl``  what the store acknowledged, for rebuilding counters that the store lost
  (docs/reliability.md R22); at half of its share of the disk it becomes ``settled-N.old.jsonl`` and a new one
  begins, with a checkpoint of each tenant; when all of them are there the old one is deleted
* ``waiting-N.jsonl``  settlements that the store has not acknowledged, each on disk (fsync) before the
  caller is answered, so that neither a crash nor a restart loses one (docs/reliability.md R29)
* ``epochs-N.json``    the epoch of each tenant's ledger that this replica had seen at its last start, and
  ``epochs-N.jsonl``   the epochs seen since

``N`` is a number that the replica holds a lock on. A replica that starts takes the lowest free one and, with
it, what a dead one left behind; locks are the kernel's and vanish with their holder.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
from contextlib import suppress
from io import BytesIO, FileIO
from typing import TYPE_CHECKING, BinaryIO, Self

from app.ledger.checkpoints import CHECKPOINT_TYPE
from app.ledger.hold_records import HoldRecord
from app.ledger.journal_lines import JournalLines, decode_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

_ID = re.compile(rb"[0-9a-f]{32}")
_SUBJECT = re.compile(rb'"type":"([a-z.]+)","subject":"([^"]+)"')
_LOCK_NAME = re.compile(r"replica-(\d+)\.lock")
NUMBERS_MAX = 10_000


class JournalUnavailable(RuntimeError):
    """The journal's folder cannot be used; the message says why."""


class Journal(JournalLines):
    """The files of one replica; use as ``with``. Every method is quick except ``append_pending`` (one fsync).

    Args:
        folder: Made private to this user; may be shared by any number of replicas of one machine.
        bytes_max: Bytes of this replica's settled events, as long as checkpoints can be taken.
        source: The ``source`` of its events.
    """

    def __init__(self, folder: Path, *, bytes_max: int = 64 << 20, source: str = "flashgate") -> None:
        super().__init__(bytes_max, source)
        self.folder = folder
        self._number = -1
        self._files: dict[str, FileIO] = {}
        self._epochs: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self._open()
        except OSError as error:
            raise JournalUnavailable(f"The journal in {self.folder} cannot be written: {error}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _open(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._number, self._files["lock"] = self._lock_lowest_number()
            for kind in ("settled", "waiting", "epochs"):
                self._files[kind] = self._open_file(kind)
            self.id = _read_id(self._files["lock"])
            self._find_missing_checkpoints()
        except OSError:
            self._close()
            raise

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}

    def is_gone(self) -> bool:
        """Whether somebody has deleted or moved its files."""
        return not self._files or any(
            not _is_at(file, self._path(kind, self._number)) for kind, file in self._files.items()
        )

    def open_again(self) -> None:
        """Create the files again, empty, after they were deleted. Raises OSError."""
        self._close()
        self._epochs = {}
        self._open()

    def append_pending(self, tenant_id: str, record: HoldRecord, at_ms: int) -> None:
        """Append a settlement that the store has not acknowledged; it is on disk when this returns."""
        self._append("waiting", tenant_id, record, at_ms)
        os.fsync(self._get_file("waiting").fileno())

    def clear_pending(self) -> None:
        """Empty the pending file, because the store has acknowledged all settlements in it."""
        self._get_file("waiting").truncate(0)

    def take_over_pending(self) -> list[tuple[str, HoldRecord]]:
        """Pending settlements of this number's former holder, and of dead replicas, taken over from them."""
        pending = list(_read(self._path("waiting", self._number)))
        for number in self._list_others():
            lock = self._lock(number)
            if lock is None:
                continue
            with lock:
                path = self._path("waiting", number)
                orphans = list(_read(path))
                pending += orphans
                with suppress(OSError):  # a full disk: they stay where they are until the next start
                    for tenant_id, record in orphans:
                        self.append_pending(tenant_id, record, record.began_ms)
                    if orphans:
                        path.write_bytes(b"")
        return pending

    def _find_missing_checkpoints(self) -> None:
        """Learn from the files which tenants they are about, and whose checkpoint is missing."""
        self._covered, self._old_tenants, self._new_tenants = set(), {}, {}
        current, old = (self._path("settled", self._number, old=each) for each in (False, True))
        self._bytes, self._has_old_part = os.fstat(self._files["settled"].fileno()).st_size, old.exists()
        tenants = _read_subjects(current)
        self._covered = {tenant for tenant, has_checkpoint in tenants.items() if has_checkpoint}
        self._old_tenants = {each: None for each in _read_subjects(old) if each not in self._covered}
        for tenant in tenants:
            self.need_checkpoint(tenant)

    def _read_lines(self) -> Iterator[bytes]:
        """The lines of every replica of this folder, oldest first in each of their files.

        Living ones included: one that is being started holds its lock before it can put anything back.
        """
        for number in (self._number, *self._list_others()):
            # In this order: if a rotation comes in between, the same part is read twice, but none is missed.
            current, old = (self._path("settled", number, old=each) for each in (False, True))
            with _open_to_read(current) as later, _open_to_read(old) as earlier:
                yield from earlier
                yield from later

    def read_epochs(self) -> dict[str, str]:
        """The epoch of each tenant's ledger that the holders of this number saw last."""
        epochs: dict[str, str] = {}
        with suppress(OSError, ValueError, AttributeError):
            stored = json.loads(self._epochs_path.read_text(encoding="utf-8"))
            epochs = {str(tenant): str(epoch) for tenant, epoch in stored.items()}
        changed = False
        for line in _read_file(self._path("epochs", self._number)):
            with suppress(ValueError, TypeError):
                tenant, epoch = json.loads(line)
                epochs[str(tenant)] = str(epoch)
                changed = True
        self._epochs = epochs
        if changed:
            with suppress(OSError):  # a full disk: the lines stay and are read again next time
                self._write_epochs()
        return dict(epochs)

    def keep_epoch(self, tenant_id: str, epoch: str) -> None:
        """Append a tenant's epoch if it has changed."""
        if self._epochs.get(tenant_id) == epoch:
            return
        self._write("epochs", [tenant_id, epoch])
        self._epochs[tenant_id] = epoch

    def _write_epochs(self) -> None:
        draft = self._epochs_path.with_suffix(".draft")
        draft.write_text(json.dumps(self._epochs), encoding="utf-8")
        draft.replace(self._epochs_path)
        self._get_file("epochs").truncate(0)

    @property
    def _epochs_path(self) -> Path:
        return self.folder / f"epochs-{self._number}.json"

    def _path(self, kind: str, number: int, *, old: bool = False) -> Path:
        if kind == "lock":
            return self.folder / f"replica-{number}.lock"
        return self.folder / f"{kind}-{number}{'.old' if old else ''}.jsonl"

    def _append(self, kind: str, tenant_id: str, record: HoldRecord, at_ms: int) -> int:
        return self._write(kind, record.build_event(tenant_id, at_ms, self._source))

    def _write(self, kind: str, value: object) -> int:
        """Append one line; returns its bytes. Raises OSError where only a part may have been written."""
        # The line break comes first, so that a line torn by a crash never swallows the next one.
        line = b"\n" + json.dumps(value, separators=(",", ":")).encode()
        file, written = self._get_file(kind), 0
        while written < len(line):  # a disk that fills up takes a part and refuses the rest
            written += file.write(line[written:])
        return written

    def _get_file(self, kind: str) -> FileIO:
        if kind not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.folder))
        return self._files[kind]

    def _open_file(self, kind: str) -> FileIO:
        return FileIO(self._path(kind, self._number), "ab", opener=_open_privately)

    def _write_line(self, value: object) -> int:
        return self._write("settled", value)

    def _begin_part(self) -> None:
        with suppress(FileNotFoundError):  # an earlier rotation renamed it and could not create the new one
            self._path("settled", self._number).replace(self._path("settled", self._number, old=True))
        fresh = self._open_file("settled")
        self._get_file("settled").close()
        self._files["settled"] = fresh

    def _drop_old_part(self) -> None:
        self._path("settled", self._number, old=True).unlink(missing_ok=True)

    def _lock_lowest_number(self) -> tuple[int, FileIO]:
        for number in range(NUMBERS_MAX):
            lock = self._lock(number)
            if lock is not None:
                return number, lock
        raise OSError("every number is taken")

    def _lock(self, number: int) -> FileIO | None:
        """This number's lock, held until the file is closed; None where somebody else holds it."""
        file = FileIO(self._path("lock", number), "r+", opener=_open_privately)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if isinstance(error, BlockingIOError):
                return None
            raise
        return file

    def _list_others(self) -> list[int]:
        with suppress(FileNotFoundError):
            matches = (_LOCK_NAME.fullmatch(path.name) for path in self.folder.iterdir())
            return sorted(int(match[1]) for match in matches if match and int(match[1]) != self._number)
        return []


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_at(file: FileIO, path: Path) -> bool:
    """Whether the open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _open_to_read(path: Path) -> BinaryIO:
    """The file, or an empty one where there is none."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        return BytesIO()


def _read_file(path: Path) -> Iterator[bytes]:
    with _open_to_read(path) as lines:
        yield from lines


def _read(path: Path) -> Iterator[tuple[str, HoldRecord]]:
    """The holds of a file in order, without lines that a crash has torn."""
    for line in _read_file(path):
        entry = decode_line(line)
        if entry is not None and isinstance(entry[1], HoldRecord):
            yield entry[0], entry[1]


def _read_subjects(path: Path) -> dict[str, bool]:
    """The tenants that a file is about, and whether it has a checkpoint of them."""
    subjects: dict[str, bool] = {}
    for line in _read_file(path):
        if match := _SUBJECT.search(line):
            tenant = match[2].decode()
            subjects[tenant] = subjects.get(tenant, False) or match[1] == CHECKPOINT_TYPE.encode()
    return subjects


def _read_id(lock: FileIO) -> str:
    """The name of a journal, made at its first start; it is in the file of its lock."""
    match = _ID.fullmatch(lock.read())
    if match is None:
        lock.truncate(0)
        lock.seek(0)
        lock.write(secrets.token_hex(16).encode())
        lock.seek(0)
        match = _ID.fullmatch(lock.read())
    return secrets.token_hex(16) if match is None else match[0].decode()
