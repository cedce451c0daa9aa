"""Every way in which the store can fail is StoreUnavailable, at every place where it is asked."""

from __future__ import annotations

import ast
import asyncio
import errno
import inspect
import itertools
import json
import os
import re
import ssl
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import redis.exceptions
import uvloop
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection

from app.domain.audit import AuditEvent
from app.domain.budget import Budget
from app.domain.errors import StoreUnavailable
from app.ledger import verifying
from app.ledger.adjustments import RedisBudgetAdjustments
from app.ledger.hold_records import HoldRecord
from app.ledger.operations import RedisOperations
from app.ledger.policy import LedgerConfig
from app.ledger.purging import RedisCache
from app.ledger.redis import RedisLedger
from app.ledger.reports import RedisReports
from app.ledger.restoring import Restorer
from app.observability.logs import JsonFormatter
from app.pictures.redis import RedisPictures
from app.results.index import Entry, Index
from app.results.redis import RedisResults
from app.store import client
from app.store.breaker import StoreBreaker
from app.store.capacity import StoreCapacity
from app.store.client import FailureLog, check_eviction, open_clients
from tests.store.books import ONE, Books, now_ms, picture_of, until, windows
from tests.store.test_finished import ID, KEPT
from tests.store.test_registry import change, registry, tenant_of
from tests.storeserver import running_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from app.store.client import StoreClients

Call: TypeAlias = "Callable[[], Awaitable[Any]]"
CLOSED = "unable to perform operation on <TCPTransport closed=True reading=False 0x7f>; the handler is closed"
ELSEWHERE = "1 127.0.0.1:1"  # where MOVED and ASK send their callers


def of_the_library() -> dict[str, Callable[[], Exception]]:
    """Every error that redis-py has a class for."""
    kinds = [
        kind
        for kind in vars(redis.exceptions).values()
        if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == "redis.exceptions"
    ]
    assert len(kinds) > 30
    return {kind.__name__: (lambda kind=kind: kind(ELSEWHERE)) for kind in kinds}  # type: ignore[misc]


HELD = HoldRecord("a", "held", "", now_ms(), "work", ONE, None, ())

ERRORS: dict[str, Callable[[], Exception]] = {
    **of_the_library(),
    **{
        f"the server says {word}": (lambda word=word: redis.exceptions.ResponseError(f"{word} and why"))  # type: ignore[misc]
        for word in ("MISCONF", "NOREPLICAS", "UNKILLABLE", "BUSY", "ERR", "LOADING")
    },
    "a closed transport": lambda: RuntimeError(CLOSED),
    "an end in mid-reply": lambda: asyncio.IncompleteReadError(b"", 4),
    "a reset": lambda: ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)),
    "a broken pipe": lambda: BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)),
    "no descriptor": lambda: OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    "TLS": lambda: ssl.SSLError(1, "wrong version"),
    "no answer": TimeoutError,
    "a writer that is gone": lambda: AttributeError("'NoneType' object has no attribute 'transport'"),
    "a reply that is none": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
}


def calls_of(clients: StoreClients, tenant: str) -> dict[str, Call]:
    """Every question that is put to the store, by name."""
    ledger = RedisLedger(clients.ledger)
    books = Books(ledger, clients.ledger, tenant)
    books.fingerprints = {"a": "work"}
    results = RedisResults(clients.blobs, breaker=StoreBreaker(failures_max=10**9))
    operations = RedisOperations(clients.ledger, lease_s=9, breaker=StoreBreaker(failures_max=10**9))
    directory = registry(clients)
    reports = RedisReports(clients.ledger, [("flash", "1K")])
    adjustments = RedisBudgetAdjustments(clients.ledger)
    room = StoreCapacity(clients.blobs, 1)
    index = Index(clients.blobs)
    bytes_of = RedisPictures(clients.blobs)
    restorer = Restorer(clients.ledger, ledger.scripts, LedgerConfig())
    (prepaid,) = windows(Budget("image_tokens", "lifetime", 0))
    picture, operation = picture_of(b"a").id, f"op_{'0' * 24}"
    day = datetime.now(UTC).date()
    event = AuditEvent("tenant.create", "test", tenant)

    async def exported() -> list[Any]:
        return [each async for each in verifying.read_events(clients.ledger, tenant, "test")]

    return {
        "admit": lambda: books.admit("a"),
        "peek": lambda: ledger.peek(books.request("a")),
        "dispatch": lambda: books.dispatch("a"),
        "settle": lambda: books.settle("a"),
        "windows": lambda: ledger.get_windows(tenant, books.windows),
        "rates": lambda: ledger.get_rates(tenant, ()),
        "get_picture": lambda: results.get_picture(tenant, picture),
        "get_generation": lambda: results.get_generation(tenant, ID),
        "begin": lambda: operations.begin(tenant, operation, "claim", "work"),
        "step": lambda: operations.step(tenant, operation, "claim", "running"),
        "finish": lambda: operations.finish(tenant, operation, "claim", "done", "{}", None),
        "cancel": lambda: operations.cancel(tenant, operation),
        "read": lambda: operations.read(tenant, operation),
        "refresh": directory.refresh,
        "write": lambda: directory.write(change(tenant_of(tenant))),
        "note": lambda: directory.note(event),
        "events": lambda: directory.list_events(10, None),
        "read_key": lambda: reports.read_key(tenant, "k1", day, day),
        "read_tenant": lambda: reports.read_tenant(tenant, day, day),
        "read_last_used": lambda: reports.read_last_used(tenant, ("k1",)),
        "purge": lambda: RedisCache(clients.ledger).purge(tenant, None),
        "credit": lambda: adjustments.add_credit(tenant, prepaid, 1, "c1"),
        "override": lambda: adjustments.set_override(tenant, prepaid, 1, 0),
        "measure": room.measure,
        "index": lambda: index.add(tenant, [Entry(picture, 1, 1000)]),
        "find": lambda: index.find(tenant, [picture]),
        "remove": lambda: index.remove(tenant, [picture]),
        "take": lambda: index.take(tenant),
        "exists": lambda: bytes_of.exists(tenant, picture),
        "delete": lambda: bytes_of.delete(tenant, [picture]),
        "ttl": lambda: bytes_of.get_ttl_ms(tenant, picture),
        "put_back": lambda: restorer.put_back(tenant, [HELD]),
        "rebuild": lambda: restorer.rebuild(tenant, (), "epoch", 0),
        "history": restorer.read_history,
        "look_at": lambda: restorer.look_at((tenant,)),
        "take_asides": lambda: restorer.take_asides(tenant),
        "take_checkpoint": lambda: restorer.take_checkpoint(tenant, "journal"),
        "announce_losses": lambda: restorer.announce_losses((tenant,)),
        "list_ledger_tenants": lambda: verifying.list_ledger_tenants(clients.ledger),
        "snapshot": lambda: verifying.read_snapshot(clients.ledger, tenant),
        "exported": exported,
        "check_eviction": lambda: check_eviction(clients.ledger),
    }


STEPS = {
    "connecting": (BlockingConnectionPool, "get_connection"),
    "sending": (AbstractConnection, "send_packed_command"),
    "reading": (AbstractConnection, "read_response"),
}
PAST_THE_LIBRARY = frozenset({"get_picture", "get_generation"})
"""They read and write the connection's transport themselves."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", ERRORS)
async def test_whatever_a_connection_raises_the_store_is_unavailable(
    clients: StoreClients, tenant: str, monkeypatch: pytest.MonkeyPatch, name: str, step: str
) -> None:
    async def failing(*_arguments: Any, **_named: Any) -> Any:
        error = ERRORS[name]()
        raise error

    wrong = {}
    with monkeypatch.context() as patch:
        patch.setattr(*STEPS[step], failing)
        for call, ask in calls_of(clients, tenant).items():
            if step != "connecting" and call in PAST_THE_LIBRARY:
                continue
            try:
                wrong[call] = await ask()
            except StoreUnavailable:
                continue
            except Exception as error:  # noqa: BLE001 - to tell of all of them at once
                wrong[call] = error
    assert wrong == {}


async def test_what_cannot_be_kept_is_no_error(
    clients: StoreClients, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = RedisResults(clients.blobs)

    async def failing(*_arguments: Any, **_named: Any) -> Any:
        raise RuntimeError(CLOSED)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", failing)
    assert not await results.put_pictures(tenant, (picture_of(b"a"),), 60)
    assert not await results.put_generation(tenant, KEPT, 60)
    monkeypatch.undo()
    assert await results.put_pictures(tenant, (picture_of(b"a"),), 60), "on a new connection"


async def test_who_listens_goes_on_whatever_the_client_raises(
    clients: StoreClients, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.ledger.notifications.RESUBSCRIBE_S", 0.01)
    monkeypatch.setattr("app.registry.directory.RESUBSCRIBE_S", 0.01)
    raised = 0

    async def failing(*_arguments: Any, **_named: Any) -> Any:
        nonlocal raised
        raised += 1
        raise RuntimeError(CLOSED)

    with monkeypatch.context() as patch:
        patch.setattr(PubSub, "subscribe", failing)
        async with RedisLedger(clients.ledger) as ledger, registry(clients) as directory:

            async def tried_again() -> bool:
                return raised > 6

            await until(tried_again)
            patch.undo()
            await asyncio.wait_for(ledger.notifications.listening.wait(), 10)
            await registry(clients).write(change(tenant_of(tenant)))

            async def known() -> bool:
                return directory.find(tenant) is not None

            await until(known)


LOOKS = ("peek", "windows", "read", "refresh", "events", "read_key", "read_tenant", "measure", "look_at")
"""What may be asked over and over again."""


def test_a_server_that_is_killed_again_and_again_is_unavailable_and_nothing_else() -> None:
    """On the event loop of production, whose transports raise what asyncio's do not."""

    async def ask(call: Call, seen: set[str], stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await call()
            except StoreUnavailable:
                seen.add("unavailable")
            await asyncio.sleep(0)

    async def killed(folder: Path) -> None:
        with running_server(folder) as server:
            async with open_clients(server.url) as clients:
                results = RedisResults(clients.blobs, breaker=StoreBreaker(failures_max=10**9))
                pictures = [picture_of(os.urandom(8 << 20)) for _ in range(3)]
                named = calls_of(clients, "killed")
                calls: list[Call] = [named[name] for name in LOOKS]
                calls += [partial(results.put_pictures, "killed", (each,), 60) for each in pictures]
                calls += [partial(results.get_picture, "killed", each.id) for each in pictures]
                stop, seen = asyncio.Event(), set[str]()
                asking = [asyncio.create_task(ask(call, seen, stop)) for call in calls]
                for _ in range(6):
                    await asyncio.sleep(0.3)
                    server.kill()
                    await asyncio.to_thread(server.start)
                stop.set()
                await asyncio.gather(*asking)
                assert seen == {"unavailable"}

    # A killed server may leave a child behind that still writes its log anew.
    with TemporaryDirectory(prefix="fg", ignore_cleanup_errors=True) as name:
        uvloop.run(killed(Path(name)))


def test_why_the_store_failed_is_logged_once_and_without_what_was_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    failures = FailureLog("calls", "store:6379", lambda: now)
    for _ in range(3):
        failures.failed(redis.exceptions.ResponseError("MISCONF args beginning with: a prompt"))
        failures.failed(None)  # not the store's
    for _ in range(3):
        failures.failed(closing_with(ConnectionRefusedError(errno.ECONNREFUSED, "a prompt")))
    now = client.AGAIN_S
    failures.failed(closing_with(ConnectionRefusedError(errno.ECONNREFUSED, "a prompt")))
    failures.failed(RuntimeError("a prompt"))
    failures.failed(KeyError("a prompt"))
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert [(line["reason"], line["cause"]) for line in lines] == [
        ("store_cannot_save", "ResponseError: MISCONF"),
        ("connection_refused", "ConnectionRefusedError: ECONNREFUSED: Connection refused"),
        ("connection_refused", "ConnectionRefusedError: ECONNREFUSED: Connection refused"),
        ("connection_closed", "RuntimeError"),
        ("store_fails", "KeyError"),
    ]
    assert {(line["stage"], line["address"]) for line in lines} == {("calls", "store:6379")}
    assert "a prompt" not in json.dumps(lines)
    assert ["stack_trace" in line for line in lines] == [False] * 4 + [True], "what no store does is traced"


def test_a_failure_that_comes_and_goes_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    moments = itertools.count()
    failures = FailureLog("calls", "store:6379", lambda: next(moments))
    for _ in range(20):
        failures.failed(redis.exceptions.ReadOnlyError("You can't write against a read only replica."))
        failures.over()
    assert len(caplog.records) == 4


def closing_with(cause: OSError) -> Exception:
    """The library's error for a connection that was refused."""
    try:
        try:
            raise cause
        except OSError:
            raise redis.exceptions.ConnectionError("a prompt") from None
    except redis.exceptions.ConnectionError as error:
        return error


APP = Path(inspect.getfile(client)).parents[1]
_ASKS = re.compile(r"(self\._client|self\._scripts|self\._change|\bclient|clients\.\w+|\bblobs)\b[.(]")
BELOW = frozenset({"blobs.py", "client.py", "scripting.py", "topologies.py", "embedded.py"})
"""They are called by those who translate."""
LISTENERS = frozenset({"_subscribe"})
"""Whatever they raise, they are begun anew."""


def asking_outside(path: Path) -> Iterator[str]:
    """Every place of a module that asks the store where nobody translates what that may raise."""
    tree = ast.parse(path.read_text())
    run = {
        ast.unparse(call.args[0].func).removeprefix("self.")
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Call)
        if ast.unparse(call.func).endswith("_calls.run")
    }

    def visit(node: ast.AST, *, translated: bool) -> Iterator[str]:
        if isinstance(node, ast.AsyncFunctionDef) and node.name in LISTENERS:
            return
        translated |= isinstance(node, ast.AsyncFunctionDef) and node.name in run
        asked = node.value if isinstance(node, ast.Await) else None
        asked = node.iter if isinstance(node, ast.AsyncFor | ast.comprehension) else asked
        if asked is not None and _ASKS.match(ast.unparse(asked)) and not translated:
            yield f"{path.name}:{asked.lineno}: {ast.unparse(asked)}"
        for child in ast.iter_child_nodes(node):
            yield from visit(child, translated=translated)

    yield from visit(tree, translated=False)


def test_nothing_asks_the_store_where_its_failures_are_not_translated(tmp_path: Path) -> None:
    modules = [path for path in APP.rglob("*.py") if "redis" in path.read_text() and path.name not in BELOW]
    assert {path.parent.name for path in modules} >= {"ledger", "registry", "results", "store"}
    assert [place for path in modules for place in asking_outside(path)] == []
    bare = tmp_path / "bare.py"
    bare.write_text("async def f(self, client):\n    await self._client.get(1)\n    await client.ping()\n")
    assert len(list(asking_outside(bare))) == 2
