"""Operations whose store is away, whose process is slow, or who are cancelled elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from app.cards import load_catalogue
from app.domain.errors import Draining, OperationCancelled, StoreUnavailable
from app.domain.generation import Usage
from app.generation.operations import LongRunning, OperationConfig, OperationEncoder
from app.ledger.operations import RedisOperations
from app.store import keys
from app.store.client import open_clients
from tests.store.books import let_lease_end
from tests.store.conftest import PATIENCE_S
from tests.storefaults import Fault, StoreProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.domain.operation import Operation
    from app.generation.gateway import Gateway
    from app.generation.job import Job
    from app.generation.order import GenerationResult
    from app.generation.progress import Progress
    from app.store.client import StoreClients
    from tests.storeserver import ServerProcess

LEASE_S = 0.6
TELLING = OperationEncoder(lambda result: f'"{result}"', lambda error: f'"{error.code}"')


class Drawn:
    """Stands for a result."""

    generation = SimpleNamespace(id="gen_" + "a" * 24)
    card = next(iter(load_catalogue()))
    cost = Usage(image_output=1120)

    def __str__(self) -> str:
        return "a picture"


class Work:
    """Stands for a gateway whose work ends when it is told to."""

    def __init__(self) -> None:
        self.may_send, self.go_on = asyncio.Event(), asyncio.Event()
        self.may_send.set()
        self.outcome: Drawn | Exception = Drawn()
        self.sends = False

    async def require_admission(self, _job: Any) -> None:
        """Admit everything."""

    async def serve(self, job: Any, progress: Progress) -> Drawn:
        await self.may_send.wait()
        if self.sends:
            await progress.before_sending()
            progress.sent = True
        await self.go_on.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Carrier:
    """A process that carries operations, its store behind a proxy, and a look at the store past it."""

    def __init__(self, proxy: StoreProxy, clients: StoreClients, seen: StoreClients, tenant: str) -> None:
        self.proxy, self.seen, self.tenant = proxy, seen, tenant
        self.work, self.endings = Work(), list[str]()
        self.running = LongRunning(
            cast("Gateway", self.work),
            RedisOperations(clients.ledger, lease_s=LEASE_S),
            lease_s=LEASE_S,
            config=OperationConfig(max=10),
            on_ended=self.endings.append,
        )
        self.elsewhere = RedisOperations(seen.ledger, lease_s=60, deadline_s=PATIENCE_S)

    async def start(self) -> tuple[str, asyncio.Task[GenerationResult]]:
        caller = SimpleNamespace(key=SimpleNamespace(id="k1", project=None), user=None)
        request = SimpleNamespace(image_size="1K", n=1)
        job = SimpleNamespace(
            tenant_id=self.tenant, fingerprint="work", original="work",
            caller=caller, card=Drawn.card, request=request,
        )  # fmt: skip
        operation, task = await self.running.start(cast("Job", job), None, TELLING)
        assert task is not None
        return operation.id, task

    async def read(self, operation_id: str) -> Operation:
        found = await self.elsewhere.read(self.tenant, operation_id)
        assert found is not None
        return found

    async def until(self, operation_id: str, **wanted: object) -> Operation:
        """The operation once it is like that."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await self.read(operation_id)
                if all(getattr(found, name) == value for name, value in wanted.items()):
                    return found
                await asyncio.sleep(0.01)


@pytest.fixture
async def carrier(server: ServerProcess, clients: StoreClients, tenant: str) -> AsyncIterator[Carrier]:
    with TemporaryDirectory(prefix="fg") as folder:
        socket = Path(folder) / "p.sock"
        with StoreProxy(socket, server.socket) as proxy:
            async with open_clients(proxy.url) as own:
                found = Carrier(proxy, own, clients, tenant)
                yield found
                proxy.fault = None
                found.work.go_on.set()
                await found.running.aclose()


async def test_a_result_is_told_as_soon_as_the_store_is_back(carrier: Carrier) -> None:
    operation_id, task = await carrier.start()
    carrier.proxy.fault = Fault("refuse")
    carrier.work.go_on.set()
    await carrier.until(operation_id, lost=True)
    assert not task.done()
    carrier.proxy.fault = None
    assert str(await task) == "a picture"
    assert (await carrier.read(operation_id)).text == '"a picture"'
    assert carrier.endings == ["done"]


async def test_one_that_nobody_could_tell_of_is_not_begun(carrier: Carrier) -> None:
    carrier.proxy.fault = Fault("refuse")
    with pytest.raises(StoreUnavailable):
        await carrier.start()


async def test_a_slow_operation_outlives_its_lease_by_its_heartbeat(carrier: Carrier) -> None:
    carrier.work.sends = True
    operation_id, task = await carrier.start()
    await carrier.until(operation_id, state="running")
    running, *_ = keys.operation_keys(carrier.tenant, operation_id)
    leases = set[str]()
    async with asyncio.timeout(PATIENCE_S):
        while len(leases) < 6:
            leases.add(str(await carrier.seen.ledger.hget(running, operation_id)).split(";")[4])
            assert (await carrier.read(operation_id)).state == "running"
    carrier.work.go_on.set()
    await task
    assert (await carrier.read(operation_id)).state == "done"


async def test_what_was_cancelled_elsewhere_stops_at_the_next_heartbeat(carrier: Carrier) -> None:
    operation_id, task = await carrier.start()
    await carrier.elsewhere.cancel(carrier.tenant, operation_id)
    with pytest.raises(OperationCancelled):
        await asyncio.wait_for(task, PATIENCE_S)
    assert carrier.endings == ["cancelled"]


async def test_what_was_cancelled_elsewhere_is_never_sent(carrier: Carrier) -> None:
    carrier.work.sends = True
    carrier.work.may_send.clear()
    operation_id, task = await carrier.start()
    await carrier.elsewhere.cancel(carrier.tenant, operation_id)
    carrier.work.may_send.set()
    carrier.work.go_on.set()
    with pytest.raises(OperationCancelled):
        await task
    assert (await carrier.read(operation_id)).state == "cancelled"


async def test_one_that_another_process_began_anew_is_not_ended_by_the_first(carrier: Carrier) -> None:
    operation_id, task = await carrier.start()
    mine = False
    while not mine:  # a heartbeat may come in between
        await let_lease_end(carrier.seen.ledger, carrier.tenant, operation_id)
        _, mine = await carrier.elsewhere.begin(carrier.tenant, operation_id, "another", "work")
    carrier.work.go_on.set()
    assert str(await task) == "a picture", "who waits for the first gets it all the same"
    assert (await carrier.read(operation_id)).state == "waiting"


@pytest.mark.parametrize(
    ("outcome", "code"), [(Draining(), "draining"), (ValueError("a prompt"), "internal")]
)
async def test_a_failure_is_told_whatever_it_is(carrier: Carrier, outcome: Exception, code: str) -> None:
    carrier.work.outcome = outcome
    carrier.work.go_on.set()
    operation_id, task = await carrier.start()
    with pytest.raises(type(outcome)):
        await task
    found = await carrier.read(operation_id)
    assert (found.state, found.text) == ("failed", f'"{code}"')
    assert carrier.endings == ["failed"]


async def test_what_is_carried_when_the_process_ends_is_told_as_failed(carrier: Carrier) -> None:
    operation_id, task = await carrier.start()
    await carrier.running.aclose()
    with pytest.raises(Draining):
        await task
    found = await carrier.read(operation_id)
    assert (found.state, found.text) == ("failed", '"draining"')
