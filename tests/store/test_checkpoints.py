"""Journals begin with checkpoints: what has rotated away is rebuilt as well, whoever tells what and when."""

from __future__ import annotations

import contextlib
import random
import secrets
import shutil
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Literal

import pytest

from app.domain.bound import Bound
from app.domain.budget import Amounts, Budget
from app.domain.errors import StoreUnavailable
from app.domain.report import sum_rows
from app.generation.ports import Lead, Refused
from app.ledger import journal_lines, recovery
from app.ledger.adjustments import RedisBudgetAdjustments
from app.ledger.reports import RedisReports
from app.ledger.restoring import Restorer
from app.ledger.verifying import read_snapshot
from tests.store.books import ONE, until
from tests.store.test_bounds import REST, TIGHT
from tests.store.test_durable import Replica, own_server, quick, replica
from tests.storeserver import running_server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from app.ledger.checkpoints import Checkpoint
    from tests.storeserver import ServerProcess

__all__ = ["own_server", "quick"]

IMAGES = Budget("images", "month", 1600)
CHEAP = Amounts(*(int(unit == "images") for unit in Amounts._fields))


async def draw(one: Replica, hold: str, used: Amounts = CHEAP) -> bool:
    """Whether a picture was admitted, then drawn and settled."""
    admission = await one.books.admit(hold, amounts=used)
    if not isinstance(admission, Lead):
        return False
    await one.books.dispatch(hold)
    assert (await one.books.settle(hold, used)).state == "settled"
    return True


async def has_checkpoints(one: Replica) -> None:
    async def none_due() -> bool:
        return not one.durable._journal.due

    await until(none_due, 20)


async def has_told(one: Replica) -> bool:
    """Whether a loss was told of."""
    return bool(one.told.missing)


async def serve_again(one: Replica) -> None:
    """Return when the tenant is admitted again after a loss."""
    hold, books = f"again-{secrets.token_hex(4)}", replace(one.books, bounds=())

    async def open_again() -> bool:
        with contextlib.suppress(StoreUnavailable):
            return isinstance(await books.admit(hold, amounts=Amounts()), Lead | Refused)
        return False

    await until(open_again, 20)


def budgeted(one: Replica, *budgets: Budget) -> Replica:
    one.books.budgets = budgets
    return one


@pytest.mark.parametrize("on_disk", [True, False], ids=["disk", "memory"])
async def test_rotation_forgets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_disk: bool
) -> None:
    """1,500 of 1,600 pictures are drawn and the store flushed: 100 more are admitted, and no other."""
    small = 200_000
    monkeypatch.setattr(journal_lines, "MEMORY_BYTES", small)
    folder = tmp_path / "journal" if on_disk else None
    with running_server(tmp_path / "s") as server:
        async with replica(server.url, folder, journal_bytes=small) as one:
            budgeted(one, IMAGES)
            for number in range(1500):
                assert await draw(one, f"h{number}")
            await has_checkpoints(one)
            if folder is not None:
                assert sum(path.stat().st_size for path in folder.glob("settled-*")) < small
            await one.books.client.flushall()
            await serve_again(one)
            assert await one.books.totals() == [(1500, 0)]
            assert (await read_snapshot(one.books.client, "acme")).find_differences() == []
            drawn = [await draw(one, f"more-{number}") for number in range(110)]
            assert sum(drawn) == 100
        if folder is None:
            return
        async with replica(server.url, folder, journal_bytes=small) as again:
            await budgeted(again, IMAGES).books.client.flushall()
            await serve_again(again)
            assert await again.books.totals() == [(1600, 0)], "the next holder of the journal knows it all"


async def test_what_is_unresolved_is_rebuilt_too(own_server: ServerProcess, tmp_path: Path) -> None:
    async with replica(own_server.url, tmp_path / "journal", journal_bytes=20_000) as one:
        budgeted(one, Budget("image_tokens", "month", 10**9)).books.bounds = (TIGHT,)

        async def stands() -> tuple[int, int, int]:
            (window,) = await one.durable.get_windows("acme", one.books.windows)
            return window.settled, window.held, window.unresolved

        for number in range(200):
            hold = f"h{number}"
            await one.books.admit(hold)
            await one.books.dispatch(hold)
            if number % 2:
                await one.books.settle(hold, outcome="charge")
            else:
                await one.books.settle(hold, ONE, unresolved=REST)
        await has_checkpoints(one)
        assert await stands() == (200 * 1120, 0, 200 * 560)
        one.books.bounds = ()
        await one.books.client.flushall()
        await serve_again(one)
        await until(lambda: has_told(one), 20)
        assert await stands() == (200 * 1120, 0, 200 * 560)
        assert (await read_snapshot(one.books.client, "acme")).find_differences() == []


@pytest.mark.parametrize("checkpoint_first", [True, False])
async def test_what_was_charged_unseen_is_in_the_reports_whichever_comes_back_first(
    own_server: ServerProcess, *, checkpoint_first: bool
) -> None:
    """A replica remembers that a call was sent, and a checkpoint that its hold had ended by then."""
    async with replica(own_server.url, None) as one:
        await one.has_looked()
        await one.books.admit("a")
        await one.books.dispatch("a")
        _, sent = one.durable._open["a"]
        await one.books.expire("a")
        assert await one.books.totals() == [(ONE.image_tokens, 0)]
        checkpoint = await checkpoint_of(one)
        await one.books.client.flushall()
        rebuild = partial(one.durable._restorer.rebuild, "acme", epoch="e", closed_s=0)
        if checkpoint_first:
            await rebuild([], checkpoint=checkpoint)
        await rebuild([sent])
        await rebuild([], checkpoint=checkpoint)
        assert await one.books.totals() == [(ONE.image_tokens, 0)]
        rows = await RedisReports(one.books.client, ()).read_tenant("acme", date.min, date.max)
        assert sum_rows(rows).image_tokens == ONE.image_tokens


async def test_a_journal_that_comes_late_knows_what_was_before(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    """After a rolling deployment no disk is left that saw the first pictures."""
    async with replica(own_server.url, tmp_path / "former") as former:
        for number in range(5):
            await draw(budgeted(former, IMAGES), f"former-{number}")
    shutil.rmtree(tmp_path / "former")
    async with replica(own_server.url, tmp_path / "new") as one:
        await draw(budgeted(one, IMAGES), "new")
        await has_checkpoints(one)
        await draw(one, "newer")
        await one.books.client.flushall()
        await serve_again(one)
        await until(lambda: has_told(one), 20)
        assert await one.books.totals() == [(7, 0)]
        assert one.told.missing[-1].images == 7


@pytest.mark.parametrize("on_disk", [True, False], ids=["disk", "memory"])
async def test_a_backup_older_than_the_journal_is_made_whole(
    own_server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_disk: bool
) -> None:
    monkeypatch.setattr(journal_lines, "MEMORY_BYTES", 20_000)
    folder = tmp_path / "j" if on_disk else None
    async with replica(own_server.url, folder, journal_bytes=20_000) as one:
        budgeted(one, IMAGES)
        for number in range(20):
            await draw(one, f"h{number}")
        shutil.copytree(own_server.folder / "appendonlydir", tmp_path / "backup")
        for number in range(20, 80):
            await draw(one, f"h{number}")
        await has_checkpoints(one)
        await one.has_looked()
        restore_backup(own_server, tmp_path / "backup")

        async def whole() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return await one.books.totals() == [(80, 0)]
            return False

        await until(whole, 20)
        await until(lambda: has_told(one), 20)
        assert one.told.missing[-1].images == 60
        assert one.told.histories == ["yes"]
        assert (await read_snapshot(one.books.client, "acme")).find_differences() == []


def restore_backup(server: ServerProcess, backup: Path) -> None:
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    shutil.copytree(backup, server.folder / "appendonlydir")
    server.start()


async def test_a_journal_that_is_deleted_is_made_again_with_its_checkpoint(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    async with replica(own_server.url, folder) as one:
        for number in range(5):
            await draw(budgeted(one, IMAGES), f"h{number}")
        shutil.rmtree(folder)

        async def made_again() -> bool:
            lines = folder / "settled-0.jsonl"
            return lines.exists() and b"flashgate.ledger.checkpoint" in lines.read_bytes()

        await until(made_again, 20)
        assert "gone" in one.told.journal_failures
        await draw(one, "h5")
        await one.books.client.flushall()
        await serve_again(one)
        assert await one.books.totals() == [(6, 0)]


async def test_a_replica_begins_no_empty_ledger_in_place_of_one_that_only_others_have_used(
    own_server: ServerProcess,
) -> None:
    """Neither one that was there when the ledger began, nor one that has been started since."""
    async with replica(own_server.url, None) as one, replica(own_server.url, None) as two:
        await one.has_looked()
        await two.has_looked()
        assert await draw(one, "a", ONE)
        async with replica(own_server.url, None) as three:

            async def known() -> bool:
                return all(one.books.tenant in each.durable._ledger.epochs for each in (two, three))

            await until(known, 10)
            await one.books.client.flushall()
            for other in (two, three):
                with pytest.raises(StoreUnavailable, match="rebuilt"):
                    await other.books.admit(f"of-{id(other)}")

            async def whole() -> bool:
                return await one.books.totals() == [(ONE.image_tokens, 0)]

            await until(whole, 10)


async def test_losses_are_looked_for_by_turns(
    own_server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look is a bounded number of tenants; once one of them is lost, all are looked at."""
    looks: list[int] = []
    real = Restorer.look_at

    async def recording(restorer: Restorer, tenant_ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
        looks.append(len(tenant_ids))
        return await real(restorer, tenant_ids)

    async with replica(own_server.url, tmp_path / "a") as one, replica(own_server.url, tmp_path / "b") as two:
        pipeline = one.books.client.pipeline()
        for number in range(1, 1000):
            one.durable._ledger.epochs[f"t{number}"] = "e"
            pipeline.hset(f"fg:{{t{number}}}:win", "!epoch", "e;0")
        await pipeline.execute()
        await draw(budgeted(two, IMAGES), "of-two")
        await draw(budgeted(one, IMAGES), "of-one")
        monkeypatch.setattr(Restorer, "look_at", recording)

        async def around() -> bool:
            return sum(looks) > 2000

        await until(around, 20)
        assert max(looks) <= recovery.LOOKED_AT_ONCE
        await one.books.client.flushall()
        await serve_again(one)
        assert await one.books.totals() == [(2, 0)]

        async def all_lost() -> bool:
            return len(one.told.losses) == 1000

        await until(all_lost, 20)


PREPAID = Budget("images", "lifetime", 0)


@pytest.mark.parametrize("checkpointed", [True, False])
@pytest.mark.parametrize("on_disk", [True, False], ids=["disk", "memory"])
async def test_credit_and_limits_of_operators_come_back(
    own_server: ServerProcess, tmp_path: Path, *, on_disk: bool, checkpointed: bool
) -> None:
    folder = tmp_path / "journal" if on_disk else None
    async with replica(own_server.url, folder) as one:
        prepaid, day = budgeted(one, PREPAID, Budget("images", "day", 5)).books.windows
        adjustments = RedisBudgetAdjustments(one.books.client, 10, note=one.durable.note_adjustment)
        await adjustments.add_credit("acme", prepaid, 50, "c1")
        await draw(one, "a")
        await has_checkpoints(one)
        await adjustments.add_credit("acme", prepaid, 7, "c2")
        await adjustments.add_credit("acme", prepaid, -2, "c3")
        await adjustments.set_override("acme", day, 9, day.spans[1].end_ms)
        if checkpointed:
            one.durable._journal.note_checkpoint(
                one.durable._journal._all_lines()[0],
                await checkpoint_of(one),
            )
        await draw(one, "b")
        for _ in range(2):
            await one.books.client.flushall()
            await serve_again(one)
            windows = await one.durable.get_windows("acme", one.books.windows)
            assert [(window.budget.limit, window.settled) for window in windows] == [(55, 2), (9, 2)]
        await adjustments.add_credit("acme", prepaid, 7, "c2")
        windows = await one.durable.get_windows("acme", one.books.windows)
        assert windows[0].budget.limit == 55, "a credit that is repeated is added once"


async def checkpoint_of(one: Replica) -> Checkpoint:
    journal_id = one.durable._journal._all_lines()[0].id
    checkpoint = await one.durable._restorer.take_checkpoint("acme", journal_id)
    assert checkpoint is not None
    return checkpoint


BUDGETS = (
    Budget("images", "month", 10**6),
    Budget("image_tokens", "day", 10**9),
    Budget("usd", "lifetime", 10**15),
)


Outcome = Literal["settle", "void", "charge"]
WORST = Amounts(*(3 * amount for amount in ONE))
PART = Amounts(*(amount // 2 for amount in ONE))


@dataclass
class Story:
    """What three replicas and their store live through; ``truth`` is what ended holds have used."""

    chance: random.Random
    replicas: list[Replica]
    server: ServerProcess
    folder: Path
    open: dict[str, Replica] = field(default_factory=dict)
    truth: dict[str, Amounts] = field(default_factory=dict)
    unresolved: dict[str, int] = field(default_factory=dict)
    count: int = 0

    async def step(self) -> None:
        one = self.chance.choice(self.replicas)
        kind = self.chance.choices(["begin", "end", "expire", "late"], [5, 5, 1, 1])[0]
        if kind == "begin":
            hold = f"h{self.count}"
            self.count += 1
            await one.books.admit(hold, amounts=ONE)
            if self.chance.random() < 0.9:
                await one.books.dispatch(hold)
            self.open[hold] = one
        elif self.open:
            hold = self.chance.choice(list(self.open))
            books = self.open[hold].books
            if kind != "end" and await books.client.zscore(books.key("exp"), hold):
                await books.expire(hold)
                await books.totals()
            if kind != "expire":
                await self.end(hold)

    async def end(self, hold: str) -> None:
        used = ONE._replace(image_tokens=self.chance.randrange(1, 3000))
        outcome: Outcome = self.chance.choice(["settle", "settle", "settle", "void", "charge"])
        one = self.open.pop(hold)
        rest = PART if outcome == "settle" and self.chance.random() < 0.3 else Amounts()
        settled = await one.books.settle(hold, used, outcome, unresolved=rest)
        assert settled.state in {"settled", "voided", "charged", "deferred"}
        await one.nothing_waits()
        self.truth[hold] = {"settle": used, "void": Amounts(), "charge": ONE}[outcome]
        aside = {"settle": rest.image_tokens, "void": 0, "charge": WORST.image_tokens - ONE.image_tokens}
        self.unresolved[hold] = aside[outcome]

    async def totals(self) -> list[tuple[int, int]]:
        return await self.replicas[0].books.totals()

    async def lose(self, how: str) -> None:
        """The store loses everything, or goes back to the last backup, and learns again what it knew."""
        before = [settled + held for settled, held in await self.totals()]
        if how == "flush":
            await self.replicas[0].books.client.flushall()
            await serve_again(self.replicas[0])
        else:
            histories = [one.durable.recovery.history for one in self.replicas]
            restore_backup(self.server, self.folder / "backup")

            async def looked() -> bool:
                return all(
                    one.durable.recovery.history != history
                    for one, history in zip(self.replicas, histories, strict=True)
                )

            await until(looked, 20)
        after = [settled + held for settled, held in await self.totals()]
        assert all(new >= old for new, old in zip(after, before, strict=True)), (before, after)

    async def end_all(self) -> None:
        for hold in list(self.open):
            await self.end(hold)
        whole = [sum(column) for column in zip(*self.truth.values(), strict=True)]
        found = dict(zip(("images", "image_tokens", "usd"), await self.totals(), strict=True))
        assert found == {unit: (whole[Amounts._fields.index(unit)], 0) for unit in found}
        books = self.replicas[0].books
        (window,) = await books.ledger.get_windows("acme", books.windows[1:2])
        assert window.unresolved == sum(self.unresolved.values())

    async def back_up(self) -> None:
        shutil.rmtree(self.folder / "backup", ignore_errors=True)
        shutil.copytree(self.server.folder / "appendonlydir", self.folder / "backup")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_lost_the_ledger_comes_back_exactly(
    own_server: ServerProcess, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three replicas with journals that rotate all the time, one of them in memory alone."""
    monkeypatch.setattr(journal_lines, "MEMORY_BYTES", 20_000)
    async with contextlib.AsyncExitStack() as stack:
        replicas = []
        for folder in (tmp_path / "a", tmp_path / "b", None):
            one = await stack.enter_async_context(replica(own_server.url, folder, journal_bytes=20_000))
            one.books.bounds = (Bound(0, WORST),)
            replicas.append(budgeted(one, *BUDGETS))
        story = Story(random.Random(seed), replicas, own_server, tmp_path)
        for how in story.chance.choices(["flush", "backup"], k=4):
            for _ in range(10):
                await story.step()
            await story.back_up()
            for _ in range(story.chance.randrange(6)):
                await story.step()
            if story.chance.random() < 0.7:
                for one in replicas:
                    await has_checkpoints(one)
                for _ in range(story.chance.randrange(20)):
                    await story.step()
            for one in replicas:
                await one.has_looked()
            await story.lose(how)
            await story.end_all()
            assert (await read_snapshot(replicas[0].books.client, "acme")).find_differences() == []
