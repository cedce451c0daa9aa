"""Settlements outlive the store's absence, this process' end, and the store's memory."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

import pytest

from app.domain.errors import StoreUnavailable
from app.generation.ports import Hit, Lead
from app.ledger import durable, recovery
from app.ledger.durable import DurabilityConfig, DurableLedger
from app.ledger.journal import Journal
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.ledger.restoring import Restored, Restorer
from app.ledger.verifying import read_snapshot
from app.store.breaker import FAILURES_MAX, StoreBreaker
from app.store.client import open_clients
from tests.store.books import ONE, Books, until
from tests.storeserver import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from app.domain.budget import Amounts, BudgetWindow
    from app.generation.ports import Settled, Settlement
    from app.ledger.recovery import DataLossPolicy


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "s", "--appendfsync", "always") as found:
        yield found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are looked for often, and rebuilt books open soon."""
    monkeypatch.setattr(recovery, "LOOK_S", 0.02)
    monkeypatch.setattr(recovery, "CLOSED_S", 0.3)
    monkeypatch.setattr(recovery, "SETTLE_S", 0.05)
    monkeypatch.setattr(durable, "WATCH_S", 0.02)


def raising(error: Exception) -> Callable[..., None]:
    """A method that does nothing else."""

    def method(*_arguments: object, **_named: object) -> None:
        raise error

    return method


@dataclass
class Told:
    """What a ledger told its metrics."""

    waiting: list[tuple[int, int]] = field(default_factory=list)
    journal_failures: list[str] = field(default_factory=list)
    losses: list[tuple[str, int]] = field(default_factory=list)
    missing: list[Amounts] = field(default_factory=list)
    histories: list[str] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)

    def set_settlements_waiting(self, on_disk: int, in_memory: int) -> None:
        if self.waiting[-1:] != [(on_disk, in_memory)]:
            self.waiting.append((on_disk, in_memory))

    def count_journal_failure(self, error: str) -> None:
        self.journal_failures.append(error)

    def count_data_loss(self, policy: str, restored: int, missing: Amounts) -> None:
        self.losses.append((policy, restored))
        self.missing.append(missing)

    def count_malformed_entry(self, kind: str) -> None:
        self.malformed.append(kind)

    def count_history_change(self, missing: str) -> None:
        self.histories.append(missing)


@dataclass
class Replica:
    """One replica's ledger, and a tenant's books through it."""

    books: Books
    durable: DurableLedger
    told: Told

    async def nothing_waits(self) -> None:
        async def settled() -> bool:
            return self.durable.conditions()["settlements_waiting"] == 0

        await until(settled, 10)

    async def has_looked(self) -> None:
        """After its first look a replica has told the store what it knows, so that no loss is half seen."""

        async def looked() -> bool:
            return self.durable.recovery.history != ""

        await until(looked, 10)

    async def lead(self) -> Lead:
        """A new hold, asked for until it is given."""
        number = len(self.books.fingerprints)

        async def asked() -> Lead | None:
            with contextlib.suppress(StoreUnavailable):
                answer = await self.books.admit(f"new-{id(self)}-{number}")
                return answer if isinstance(answer, Lead) else None
            return None

        return cast("Lead", await until(asked, 10))


@contextlib.asynccontextmanager
async def replica(
    url: str,
    folder: Path | None,
    data_loss_policy: DataLossPolicy = "rebuild",
    settle_s: float = 0.0,
    grace: int = 0,
    journal_bytes: int = 64 << 20,
) -> AsyncIterator[Replica]:
    policy = LedgerConfig(lease_s=5)
    told = Told()
    async with contextlib.AsyncExitStack() as stack:
        clients = await stack.enter_async_context(open_clients(url))
        breaker = StoreBreaker(pause_s=0.05)
        ledger = await stack.enter_async_context(RedisLedger(clients.ledger, policy, breaker=breaker))
        restorer = Restorer(clients.ledger, ledger.scripts, policy, breaker)
        journal = stack.enter_context(Journal(folder, bytes_max=journal_bytes)) if folder else None
        around = DurableLedger(
            ledger,
            restorer,
            breaker,
            metrics=told,
            journal=journal,
            config=DurabilityConfig(
                data_loss_policy=data_loss_policy, settle_s=settle_s, store_grace_tokens=grace
            ),
        )
        await stack.enter_async_context(around)
        yield Replica(Books(around, clients.ledger, "acme"), around, told)  # type: ignore[arg-type]


async def test_a_settlement_waits_for_the_store_and_its_caller_does_not(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    async with replica(own_server.url, tmp_path / "journal") as one:
        await one.books.admit("a", "work")
        await one.books.dispatch("a")
        own_server.kill()
        settled: Settled = await one.books.publish("a")
        assert (settled.state, settled.windows) == ("deferred", ())
        assert one.durable.conditions()["settlements_waiting"] == 1
        waiting = (tmp_path / "journal" / "waiting-0.jsonl").read_text()
        event = json.loads(waiting)
        assert (event["specversion"], event["id"], event["subject"]) == ("1.0", "a:settled", "acme")
        assert event["data"]["actual"]["image_tokens"] == 1120
        assert "here" not in waiting, "no word of the model is in it"
        own_server.start()
        await one.nothing_waits()
        assert one.told.waiting == [(1, 0), (0, 0)]
        assert (tmp_path / "journal" / "waiting-0.jsonl").read_bytes() == b""
        assert await one.books.totals() == [(1120, 0)]
        assert isinstance(await one.books.admit("b", "work"), Hit), "its result was published as well"


NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("error", [NO_SPACE, RuntimeError("can't start new thread")], ids=repr)
async def test_a_settlement_that_no_disk_takes_waits_in_memory(
    own_server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async with replica(own_server.url, tmp_path / "journal") as one:
        monkeypatch.setattr(Journal, "append_pending", raising(error))
        monkeypatch.setattr(Journal, "note", raising(error))
        await one.books.admit("a")
        await one.books.dispatch("a")
        own_server.kill()
        assert (await one.books.settle("a")).state == "deferred"
        own_server.start()
        await one.nothing_waits()
        assert await one.books.totals() == [(1120, 0)]


async def test_settling_goes_on_where_the_journal_cannot_be_emptied(
    own_server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replica(own_server.url, tmp_path / "journal") as one:
        monkeypatch.setattr(Journal, "clear_pending", raising(NO_SPACE))
        for hold in ("a", "b"):
            await one.books.admit(hold)
            await one.books.dispatch(hold)
            own_server.kill()
            assert (await one.books.settle(hold)).state == "deferred"
            own_server.start()
            await one.nothing_waits()
        assert await one.books.totals() == [(2 * 1120, 0)]
    monkeypatch.undo()
    async with replica(own_server.url, tmp_path / "journal") as again:
        await again.nothing_waits()
        assert await again.books.totals() == [(2 * 1120, 0)], "what was left over is settled once"


async def test_a_settlement_that_cannot_be_told_holds_up_no_other(
    own_server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RedisLedger.settle

    async def of_one_never(
        ledger: RedisLedger, settlement: Settlement, windows: tuple[BudgetWindow, ...]
    ) -> Settled:
        if settlement.hold_id == "odd":
            raise ValueError
        return await real(ledger, settlement, windows)

    async with replica(own_server.url, tmp_path / "journal") as one:
        for hold in ("odd", "b"):
            await one.books.admit(hold)
            await one.books.dispatch(hold)
        own_server.kill()
        for hold in ("odd", "b"):
            await one.books.settle(hold, ONE._replace(image_tokens=747))
        monkeypatch.setattr(RedisLedger, "settle", of_one_never)
        own_server.start()
        await one.nothing_waits()
        ((settled, held),) = await one.books.totals()
        # The odd one is left to its lease, or was lost with the server and is put back as the journal has it.
        assert (settled, held) in {(747, 1120), (747 + 1120, 0), (747 + 747, 0)}


async def test_losses_are_looked_for_whatever_a_look_raises(
    own_server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def failing(_restorer: Restorer, *_arguments: object) -> None:
        looks.append("looked")
        raise NO_SPACE

    async def looked_again() -> bool:
        return len(looks) > 2

    async with replica(own_server.url, tmp_path / "journal") as one:
        with monkeypatch.context() as patch:
            patch.setattr(Restorer, "look_at", failing)
            await one.books.admit("a")
            await until(looked_again, 10)
        await one.has_looked()


async def test_a_hold_that_ran_out_during_its_call_is_kept_on_disk_like_any_other(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    async with replica(own_server.url, tmp_path) as first:
        await first.books.admit("a")
        await first.books.dispatch("a")
        await first.books.expire("a")
        assert not await first.books.dispatch("a"), "a heartbeat that comes too late"
        own_server.kill()
        await first.books.settle("a", ONE._replace(image_tokens=747))
    own_server.start()
    async with replica(own_server.url, tmp_path) as second:
        await second.nothing_waits()
        assert await second.books.totals() == [(747, 0)], "the estimate is corrected"


async def test_what_waits_when_the_process_ends_is_settled_by_the_next_one(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    async with replica(own_server.url, tmp_path) as first:
        for hold in ("a", "b", "c"):
            await first.books.admit(hold)
            await first.books.dispatch(hold)
        own_server.kill()
        await first.books.settle("a", ONE._replace(image_tokens=747))
        await first.books.settle("b", outcome="void")
        await first.books.settle("c", outcome="charge")
    own_server.start()
    async with replica(own_server.url, tmp_path) as second:
        await second.nothing_waits()
        assert await second.books.totals() == [(747 + 1120, 0)]
    async with replica(own_server.url, tmp_path) as third:
        assert third.told.waiting == [], "and no third one does it again"


async def test_a_dead_replicas_settlements_are_taken_over_by_one_that_lives(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    async with replica(own_server.url, tmp_path) as zero:
        async with replica(own_server.url, tmp_path) as one:
            await one.books.admit("a")
            await one.books.dispatch("a")
            own_server.kill()
            await one.books.settle("a", ONE._replace(image_tokens=747))
        assert zero.told.waiting == []
        own_server.start()
    (tmp_path / "waiting-0.jsonl").unlink()
    async with replica(own_server.url, tmp_path) as another:
        await another.nothing_waits()
        assert await another.books.totals() == [(747, 0)]


async def test_leaving_waits_for_the_store_within_its_time(own_server: ServerProcess) -> None:
    async with replica(own_server.url, None, settle_s=10) as one:
        await one.books.admit("a")
        own_server.kill()
        await one.books.settle("a")
        own_server.start()
    assert one.told.waiting == [(0, 1), (0, 0)]


async def test_a_hold_that_the_store_has_forgotten_is_booked_all_the_same(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    async with replica(own_server.url, tmp_path, "open") as one:
        await one.books.admit("a")
        await one.books.dispatch("a")
        await one.books.client.flushall()
        settled = await one.books.settle("a", ONE._replace(image_tokens=747))
        assert settled.state == "settled"
        again = await one.durable._ledger.get_windows("acme", one.books.windows)
        assert [(window.settled, window.held) for window in again] == [(747, 0)]


async def test_four_replicas_rebuild_lost_books_to_the_very_same_amounts(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    """Each puts back its own part, holds in flight included; nobody is admitted before all have."""
    async with contextlib.AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(replica(own_server.url, tmp_path)) for _ in range(4)]
        async with replica(own_server.url, tmp_path) as fifth:
            await fifth.books.admit("of-the-fifth")
            await fifth.books.dispatch("of-the-fifth")
            await fifth.books.settle("of-the-fifth", ONE._replace(image_tokens=1000))
        for number, one in enumerate(replicas):
            await one.books.admit(f"done-{number}")
            await one.books.dispatch(f"done-{number}")
            await one.books.settle(f"done-{number}", ONE._replace(image_tokens=100 + number))
        await replicas[0].books.admit("open")
        await replicas[0].books.dispatch("open")
        before = await replicas[1].books.totals()
        assert before == [(1406, 1120)]
        for one in replicas:
            await one.has_looked()
        await replicas[0].books.client.flushall()
        await replicas[3].lead()
        totals = await replicas[1].books.totals()
        assert totals == [(1406, 2 * 1120)], "the fifth's part, which all four have read, counts once"
        assert all(one.told.losses for one in replicas)
        assert sum(restored for one in replicas for _, restored in one.told.losses) == 6
        await replicas[0].books.settle("open", ONE._replace(image_tokens=50))
        assert await replicas[1].books.totals() == [(1456, 1120)]


async def test_books_that_know_a_call_was_sent_learn_that_it_was_settled(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    """Of a dead replica's call one remembers that it was sent, and another, who took over, what it cost."""
    async with replica(own_server.url, tmp_path / "a") as sender, replica(own_server.url, None) as other:
        await sender.books.admit("a")
        await sender.books.dispatch("a")
        await sender.books.admit("b")
        await sender.books.dispatch("b")
        open_records = (await read_snapshot(other.books.client, "acme")).holds
        await sender.books.settle("a", ONE._replace(image_tokens=100))
        await sender.books.settle("b", ONE._replace(image_tokens=2000))
        settled_records = (await read_snapshot(other.books.client, "acme")).holds
        await sender.books.client.flushall()
        ledger = RedisLedger(sender.books.client, LedgerConfig())
        restorer = Restorer(sender.books.client, ledger.scripts, LedgerConfig())
        for records in (open_records, settled_records, open_records, settled_records):
            await restorer.rebuild("acme", records, "epoch", 0)
        assert await other.books.totals() == [(2100, 0)]
        assert await other.books.overage() == 2000 - 1120
        assert (await read_snapshot(other.books.client, "acme")).find_differences() == []


async def test_a_store_that_was_set_back_learns_what_it_has_lost(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    """As when a replica of the store is promoted that had not heard of the last holds."""
    async with replica(own_server.url, tmp_path / "j") as one, replica(own_server.url, tmp_path / "j") as two:
        for name, each in (("before", one), ("sent", one), ("open", two)):
            await each.books.admit(name)
            await each.books.dispatch(name)
        await one.books.settle("before", ONE._replace(image_tokens=100))
        shutil.copytree(own_server.folder / "appendonlydir", tmp_path / "backup")
        await one.books.settle("sent", ONE._replace(image_tokens=10))
        await two.books.admit("after")
        await two.books.settle("after", ONE._replace(image_tokens=1))
        truth = await one.books.totals()
        assert truth == [(111, 1120)]
        own_server.kill()
        shutil.rmtree(own_server.folder / "appendonlydir")
        shutil.copytree(tmp_path / "backup", own_server.folder / "appendonlydir")
        own_server.start()

        async def whole() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return await one.books.totals() == truth
            return False

        await until(whole, 10)

        async def told() -> bool:
            return sum(count for each in (one, two) for _, count in each.told.losses) == 2

        await until(told, 10)
        await two.books.settle("open", ONE._replace(image_tokens=1000))
        assert await one.books.totals() == [(1111, 0)]
        assert (await read_snapshot(one.books.client, "acme")).find_differences() == []


async def test_a_store_that_came_back_whole_is_told_nothing(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    async with replica(own_server.url, tmp_path / "j") as one:
        await one.books.admit("a")
        await one.books.dispatch("a")
        await one.books.settle("a")

        async def told(history: str) -> bool:
            return one.durable.recovery.history != history

        await one.has_looked()
        before = one.durable.recovery.history
        own_server.kill()
        own_server.start()

        await until(lambda: told(before), 10)
        assert await one.books.totals() == [(1120, 0)]
        assert one.told.losses == []
        assert one.told.histories == ["no"]


async def test_a_replica_that_starts_after_the_loss_still_knows_of_it(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    async with replica(own_server.url, tmp_path) as first:
        await first.books.admit("a")
        await first.books.dispatch("a")
        await first.books.settle("a")
        await first.books.client.flushall()
    async with replica(own_server.url, tmp_path) as second:
        await second.lead()
        assert await second.books.totals() == [(1120, 1120)]


async def test_closed_books_stay_closed_until_a_restart(own_server: ServerProcess) -> None:
    async with replica(own_server.url, None, "closed") as one:
        await one.books.admit("a")
        await one.books.client.flushall()
        for number in range(3):
            with pytest.raises(StoreUnavailable) as refused:
                await one.books.admit(f"b{number}")
            assert refused.value.retry_after_s == 60
    async with replica(own_server.url, None, "closed") as restarted:
        assert isinstance(await restarted.books.admit("c"), Lead)


async def test_a_tenant_whose_books_are_closed_keeps_nobody_else_from_the_store(
    own_server: ServerProcess,
) -> None:
    async with replica(own_server.url, None, "closed") as one:
        await one.books.admit("a")
        await one.books.client.flushall()
        for number in range(FAILURES_MAX + 1):
            with pytest.raises(StoreUnavailable):
                await one.books.admit(f"b{number}")
        assert one.durable.breaker.state == "closed"
        other = Books(one.durable, one.books.client, "other")  # type: ignore[arg-type]
        assert isinstance(await other.admit("c"), Lead)


async def test_open_books_begin_anew_at_once(own_server: ServerProcess) -> None:
    async with replica(own_server.url, None, "open") as one:
        await one.books.admit("a")
        await one.books.settle("a")
        await one.books.client.flushall()
        assert isinstance(await one.books.admit("b"), Lead)
        assert await one.books.totals() == [(0, 1120)]

        async def told() -> bool:
            return one.told.losses == [("open", 0)]

        await until(told)  # by whichever call has met the loss first


async def test_a_queue_that_is_full_admits_nothing_more(
    own_server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.ledger.durable.WAITING_MAX", 1)
    async with replica(own_server.url, None) as one:
        await one.books.admit("a")
        await one.books.admit("b")
        own_server.kill()
        await one.books.settle("a")
        own_server.start()
        # The settlement that waits goes first, whenever that is.
        await one.lead()
        assert (await one.books.settle("b")).state == "settled"


@pytest.mark.parametrize(("outcome", "lines"), [("void", 0), ("settle", 1)])
async def test_only_what_was_not_booked_is_said_to_have_come_too_late(
    own_server: ServerProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    outcome: Literal["void", "settle"],
    lines: int,
) -> None:
    async def too_old(_restorer: Restorer, *_arguments: object) -> Restored:
        return Restored()

    monkeypatch.setattr(Restorer, "put_back", too_old)
    async with replica(own_server.url, tmp_path, "open") as one:
        await one.books.admit("a")
        own_server.kill()
        await one.books.settle("a", outcome=outcome)
        shutil.rmtree(own_server.folder / "appendonlydir")
        own_server.start()
        await one.nothing_waits()
    assert sum("too late" in record.getMessage() for record in caplog.records) == lines
