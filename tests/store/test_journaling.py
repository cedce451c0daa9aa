"""A journal whose disk fails, or whose folder is deleted: operators are told, and nobody is stopped."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

import pytest

from app.ledger import durable
from app.ledger.journal import Journal
from app.resilience.diagnosis import Diagnosis
from tests.store.books import until
from tests.store.test_durable import Replica, own_server, replica

if TYPE_CHECKING:
    from pathlib import Path

    from tests.store.smalldisk import SmallDisk
    from tests.storeserver import ServerProcess

__all__ = ["own_server"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deleted journal is missed soon."""
    monkeypatch.setattr(durable, "WATCH_S", 0.02)


def told(caplog: pytest.LogCaptureFixture) -> list[Diagnosis]:
    """What operators were told of the journal."""
    found = [getattr(record, "diagnosis", None) for record in caplog.records]
    return [each for each in found if isinstance(each, Diagnosis) and each.reason.startswith("journal_")]


async def comes(one: Replica, name: str, value: str | int) -> None:
    async def there() -> bool:
        return one.durable.conditions()[name] == value

    await until(there, 10)


async def test_on_a_full_disk_settlements_wait_in_memory_and_are_written_when_it_has_room(
    own_server: ServerProcess, tmp_path: Path, small_disk: type[SmallDisk], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "journal"
    async with replica(own_server.url, folder) as one:
        await one.books.admit("a")
        await one.books.admit("b")
        own_server.kill()
        small_disk.room = 0
        assert (await one.books.settle("a")).state == "deferred"
        assert one.durable.conditions()["settlements_in_memory"] == 1
        condition = str(one.durable.conditions()["journal"])
        assert str(folder) in condition
        assert "ENOSPC: No space left on device" in condition
        assert "FLASHGATE_JOURNAL_DIR" in condition
        await one.books.settle("b")
        assert one.told.waiting[-1] == (0, 2)
        assert len(told(caplog)) == 1, "the same fault is not told again and again"
        assert told(caplog)[0].address == str(folder)
        assert set(one.told.journal_failures) == {"ENOSPC"}
        small_disk.room = 1 << 30
        await comes(one, "settlements_in_memory", 0)
        assert one.told.waiting[-1] == (2, 0), "the store is away still"
        assert one.durable.conditions()["journal"] == "ok"
    own_server.start()
    async with replica(own_server.url, folder) as again:
        await again.nothing_waits()
        assert await again.books.totals() == [(2240, 0)]


async def test_whoever_leaves_with_settlements_in_memory_alone_says_that_they_are_lost(
    own_server: ServerProcess, tmp_path: Path, small_disk: type[SmallDisk], caplog: pytest.LogCaptureFixture
) -> None:
    async with replica(own_server.url, tmp_path / "journal") as one:
        await one.books.admit("a")
        await one.books.admit("b")
        own_server.kill()
        await one.books.settle("a")
        small_disk.room = 0
        await one.books.settle("b")
    said = {record.getMessage().split(";")[0]: record for record in caplog.records}
    assert said["settlements are left for the next start"].__dict__["count"] == 1
    assert said["settlements that were in memory alone are lost"].__dict__["count"] == 1


async def test_a_full_disk_refuses_no_admission_and_no_settlement(
    own_server: ServerProcess, tmp_path: Path, small_disk: type[SmallDisk]
) -> None:
    async with replica(own_server.url, tmp_path / "journal") as one:
        small_disk.room = 0
        await one.books.admit("a")
        await one.books.dispatch("a")
        assert (await one.books.settle("a")).state == "settled"
        assert "ENOSPC" in str(one.durable.conditions()["journal"])
        small_disk.room = 1 << 30
        await one.books.admit("b")
        await one.books.dispatch("b")
        assert one.durable.conditions()["journal"] == "ok"


async def test_a_folder_that_is_deleted_is_made_again_with_what_waits_and_what_is_open(
    own_server: ServerProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "journal"
    async with replica(own_server.url, folder) as one:
        for hold in ("open", "waiting"):
            await one.books.admit(hold)
            await one.books.dispatch(hold)
        own_server.kill()
        await one.books.settle("waiting")
        shutil.rmtree(folder)

        told_again = {
            folder / "waiting-0.jsonl": b"waiting:settled",
            folder / "settled-0.jsonl": b"open:dispatched",
            folder / "epochs-0.jsonl": b'["acme",',
        }

        async def made_again() -> bool:
            return all(file.exists() and text in file.read_bytes() for file, text in told_again.items())

        await until(made_again, 10)
        assert [each.address for each in told(caplog)] == [str(folder)]
        with Journal(folder) as other:
            assert other.take_over_pending() == [], "the number is this replica's again"
    own_server.start()
    async with replica(own_server.url, folder) as again:
        await again.nothing_waits()
        assert await again.books.totals() == [(1120, 1120)]


async def test_a_folder_that_cannot_be_made_again_is_told_until_it_can(
    own_server: ServerProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "journal"
    async with replica(own_server.url, folder) as one:
        await one.books.admit("a")
        shutil.rmtree(folder)
        folder.write_text("not a folder")
        await comes(one, "journal", str(await until(lambda: fault_of(one), 10)))
        assert "EEXIST" in str(one.durable.conditions()["journal"])
        assert (await one.books.settle("a")).state == "settled"
        folder.unlink()
        await comes(one, "journal", "ok")
        assert (folder / "settled-0.jsonl").exists()


async def fault_of(one: Replica) -> str:
    condition = str(one.durable.conditions()["journal"])
    return "" if condition == "ok" else condition


async def test_a_replica_without_a_journal_says_so(own_server: ServerProcess) -> None:
    async with replica(own_server.url, None) as one:
        assert one.durable.conditions()["journal"] == "none"


async def test_a_store_of_another_history_is_told_what_is_open_although_the_journal_is_gone(
    own_server: ServerProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Looking for losses must outlive a folder that is not there to be read."""
    monkeypatch.setattr(durable, "WATCH_S", 60)
    async with replica(own_server.url, tmp_path / "journal") as one:
        await one.books.admit("a")
        await one.books.dispatch("a")
        await one.has_looked()
        shutil.rmtree(tmp_path / "journal")
        own_server.kill()
        shutil.rmtree(own_server.folder / "appendonlydir")
        caplog.set_level(logging.ERROR)
        own_server.start()

        async def restored() -> bool:
            return one.told.losses != []

        await until(restored, 10)
        assert one.told.losses == [("rebuild", 1)]
