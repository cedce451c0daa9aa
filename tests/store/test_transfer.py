"""A deployment's ledger is carried from one store to another, with the runbook's own commands."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.domain.budget import Budget
from app.generation.ports import Answered, Claim, Lead, Replayed, Settlement
from app.ledger.adjustments import RedisBudgetAdjustments
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.ledger.transfer import UnusableFile, check_file, summarize
from app.store.client import open_clients
from tests.store.books import DAY, ONE, Books, generation
from tests.store.test_registry import change, registry, tenant_of
from tests.storeserver import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.storeserver import ServerProcess

ROOT = Path(__file__).parents[2]
BUDGETS = (DAY, Budget("images", "lifetime", 5))


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    with running_server(tmp_path / "a") as old, running_server(tmp_path / "b") as new:
        yield old, new


def commands() -> list[str]:
    """The commands of the runbook, in order."""
    section = (ROOT / "deploy/RUNBOOK.md").read_text().split("### Move to another store")[1].split("###")[0]
    return re.findall(r"(?m)^    (FLASHGATE_REDIS_URL=.+)$", section)


@contextmanager
def on_path(folder: Path) -> Iterator[dict[str, str]]:
    """An environment in which ``flashgate`` is this one."""
    script = folder / "flashgate"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m app "$@"\n')
    script.chmod(0o755)
    yield {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "FLASHGATE_STATE_DIR": str(folder / "state"),
    }


async def spend(url: str) -> None:
    """Some of everything that a ledger keeps."""
    async with (
        open_clients(url) as clients,
        RedisLedger(clients.ledger, LedgerConfig(deadline_s=10)) as ledger,
    ):
        books = Books(ledger, clients.ledger, "acme", BUDGETS)
        prepaid = books.windows[1]
        await RedisBudgetAdjustments(clients.ledger, 10).add_credit("acme", prepaid, 7, "c1")
        await RedisBudgetAdjustments(clients.ledger, 10).set_override("acme", books.windows[0], 9000, 2**45)
        claim = Claim("d" * 64, "me", 86_400)
        assert isinstance(await ledger.admit(replace(books.request("a"), claim=claim)), Lead)
        answered = Answered(claim, "done", generation("a"))
        await ledger.settle(
            Settlement("acme", "a", "work-a", "settle", ONE, answered=answered), books.windows
        )
        for hold in ("b", "open"):
            await books.admit(hold)
            await books.dispatch(hold)
        await books.settle("b", outcome="charge")
        directory = registry(clients)
        await directory.refresh()
        await directory.write(change(tenant_of("stored", key_id="kstored")))


async def test_the_runbooks_commands_carry_a_ledger_to_another_store(
    stores: tuple[ServerProcess, ServerProcess], tmp_path: Path
) -> None:
    old, new = stores
    await spend(old.url)
    with on_path(tmp_path) as environment:
        environment |= {"OLD": old.url, "NEW": new.url}
        assert len(commands()) == 4
        for command in commands():
            done = await asyncio.to_thread(
                subprocess.run,
                ["sh", "-c", command],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        again = await asyncio.to_thread(
            subprocess.run,
            ["sh", "-c", commands()[2]],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (again.returncode, "empty" in again.stderr) == (2, True)
    assert (tmp_path / "ledger.jsonl").stat().st_mode & 0o777 == 0o600
    async with open_clients(old.url) as before, open_clients(new.url) as after:
        assert await summarize(before.ledger) == await summarize(after.ledger)
        async with RedisLedger(after.ledger, LedgerConfig(deadline_s=10)) as ledger:
            books = Books(ledger, after.ledger, "acme", BUDGETS)
            windows = await ledger.get_windows("acme", books.windows)
            assert [(window.budget.limit, window.settled, window.held) for window in windows] == [
                (9000, 2240, 1120),
                (12, 2, 1),
            ]
            repeated = replace(books.request("r", "work-a"), claim=Claim("d" * 64, "other", 60))
            assert isinstance(await ledger.admit(repeated), Replayed)
            books.fingerprints["open"] = "work-open"
            assert (await books.settle("open")).state == "settled"
        directory = registry(after)
        await directory.refresh()
        assert [record.tenant.id for record in directory.records()] == ["stored"]


@pytest.mark.parametrize("damage", ["cut", "changed", "other"])
async def test_a_file_that_is_not_whole_is_refused(
    stores: tuple[ServerProcess, ServerProcess], tmp_path: Path, damage: str
) -> None:
    old, _ = stores
    await spend(old.url)
    with on_path(tmp_path) as environment:
        command = commands()[1]
        await asyncio.to_thread(
            subprocess.run,
            ["sh", "-c", command],
            env={**environment, "OLD": old.url},
            cwd=tmp_path,
            check=True,
        )
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    check_file(lines)
    if damage == "cut":
        lines = lines[:-1]
    elif damage == "changed":
        lines[2] = lines[2].replace("1", "2", 1)
    else:
        lines = ["{}"]
    with pytest.raises(UnusableFile):
        check_file(lines)
