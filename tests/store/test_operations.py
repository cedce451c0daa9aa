"""Operations in the store: every transition, by the one who owns it, and nothing after the end."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.errors import StoreUnavailable
from app.domain.generation import Spent, Usage
from app.domain.operation import OperationResult
from app.domain.repetition import IdempotencyMismatch, TooManyOperations
from app.generation.operations import OperationConfig
from app.ledger.operations import RedisOperations
from app.store import keys
from app.store.client import open_clients
from tests.store.books import Books, let_lease_end, now_ms
from tests.store.conftest import PATIENCE_S

if TYPE_CHECKING:
    from app.domain.operation import Operation
    from app.store.client import StoreClients

_numbers = itertools.count(1)
KEPT_MAX = 5
MADE = OperationResult("gen_" + "a" * 24, Spent(Usage(24, 0, 1120, 414, 88, estimated=True), 72_000_000))


class Told:
    """One operation of a tenant of its own, seen from its process and from others."""

    def __init__(self, clients: StoreClients, tenant: str, lease_s: float = 60) -> None:
        self.clients = clients
        self.tenant = tenant
        self.id = f"op_{next(_numbers):024x}"
        self.operations = RedisOperations(
            clients.ledger,
            lease_s=lease_s,
            config=OperationConfig(keep_s=100, kept_max=KEPT_MAX),
            deadline_s=PATIENCE_S,
        )

    async def begin(self, claim: str = "me", work: str = "work") -> Operation | None:
        """None where it began; what is there already otherwise."""
        found, mine = await self.operations.begin(self.tenant, self.id, claim, work)
        return None if mine else found

    async def step(self, state: Any, claim: str = "me") -> bool:
        return await self.operations.step(self.tenant, self.id, claim, state)

    async def finish(
        self, state: Any, text: str = "{}", claim: str = "me", result: OperationResult | None = MADE
    ) -> bool:
        return await self.operations.finish(self.tenant, self.id, claim, state, text, result)

    async def cancel(self) -> Operation:
        found = await self.operations.cancel(self.tenant, self.id)
        assert found is not None
        return found

    async def read(self) -> Operation:
        found = await self.operations.read(self.tenant, self.id)
        assert found is not None
        return found

    async def reach(self, state: str) -> None:
        """Begin it and bring it into a state."""
        assert await self.begin() is None
        if state == "running":
            assert await self.step("running")
        if state in {"done", "failed"}:
            assert await self.finish(state, '{"a":"ü"}')
        if state == "cancelled":
            await self.cancel()
        if state == "lost":
            await let_lease_end(self.clients.ledger, self.tenant, self.id)


@pytest.fixture
def told(clients: StoreClients, tenant: str) -> Told:
    return Told(clients, tenant)


async def test_an_operation_is_read_as_it_was_told(told: Told) -> None:
    assert await told.operations.read(told.tenant, told.id) is None
    assert await told.operations.cancel(told.tenant, told.id) is None
    assert await told.begin() is None
    begun = await told.read()
    assert (begun.state, begun.alive, begun.lost, begun.text) == ("waiting", True, False, "")
    assert 0 < begun.expires_ms - begun.created_ms <= 101_000
    assert await told.step("running")
    assert await told.step("waiting"), "a heartbeat that was under way does not set it back"
    assert (await told.read()).state == "running"
    assert await told.finish("done", '{"text":"ü🎨"}')
    done = await told.read()
    assert (done.state, done.text, done.lost) == ("done", '{"text":"ü🎨"}', False)
    assert await told.operations.read(f"{told.tenant}-x", told.id) is None
    assert await told.clients.ledger.pttl(keys.operation_keys(told.tenant, told.id)[-1]) > 90_000


@pytest.mark.parametrize(
    ("state", "cancelled", "steps", "finishes", "begins"),
    [
        ("waiting", "cancelled", True, True, "kept"),
        ("running", "running", True, True, "kept"),
        ("done", "done", False, False, "kept"),
        ("failed", "failed", False, False, "anew"),
        ("cancelled", "cancelled", False, False, "anew"),
        ("lost", "cancelled", True, True, "anew"),
    ],
)
async def test_what_each_state_allows(
    clients: StoreClients,
    tenant: str,
    state: str,
    cancelled: str,
    steps: bool,
    finishes: bool,
    begins: str,
) -> None:
    """The table of ``app/ledger/scripts/operation.lua``, cell by cell."""
    cells = [Told(clients, tenant) for _ in range(5)]
    for each in cells:
        await each.reach(state)
    assert (await cells[0].cancel()).state == cancelled
    assert (await cells[0].read()).cancel_requested == (state == "running")
    assert await cells[1].step("running") == steps
    assert not await cells[1].step("running", claim="another")
    other = "failed" if state == "done" else "done"
    assert await cells[2].finish(other) == finishes
    kept = await cells[3].begin("another")
    assert (kept is not None) == (begins == "kept")
    if begins == "anew":
        assert (await cells[3].read()).state == "waiting"
        assert not await cells[3].finish("done", claim="me"), "the one before it says nothing any more"
    if begins == "kept":
        with pytest.raises(IdempotencyMismatch):
            await cells[4].begin("another", work="other work")


async def test_a_call_whose_answer_was_lost_may_be_repeated(told: Told) -> None:
    assert await told.begin() is None
    assert await told.begin() is None
    assert await told.finish("failed", "{}")
    assert await told.finish("failed", "{}")


async def test_one_without_a_heartbeat_is_lost_until_it_is_told_again(
    clients: StoreClients, tenant: str
) -> None:
    told = Told(clients, tenant)
    await told.reach("lost")
    assert (await told.read()).lost
    assert await told.step("running")
    assert not (await told.read()).lost


@pytest.mark.parametrize("odd", ["", "op_", "op_" + "0" * 23, "op_" + "F" * 24, "op_" + "0" * 24 + "\n"])
async def test_what_is_no_operation_id_never_reaches_the_store(odd: str) -> None:
    async with open_clients("unix:///nowhere.sock") as clients:
        operations = RedisOperations(clients.ledger, lease_s=1)
        assert await operations.read("a", odd) is None
        assert await operations.cancel("a", odd) is None
        with pytest.raises(ValueError, match="operation id"):
            await operations.step("a", odd, "me", "running")
        with pytest.raises(StoreUnavailable):
            await operations.read("a", "op_" + "0" * 24)


async def booked(told: Told) -> list[str]:
    """The operations that no store may forget."""
    names = keys.operation_keys(told.tenant, told.id)
    found: Any = await told.clients.ledger.hkeys(names[0])
    assert sorted(found) == sorted(await told.clients.ledger.zrange(names[1], 0, -1))
    assert [await told.clients.ledger.pttl(name) for name in names[:2] if found] == [-1] * (2 if found else 0)
    return list(found)


async def evict(told: Told) -> None:
    """Everything of the operation that has a TTL."""
    await told.clients.ledger.delete(keys.operation_keys(told.tenant, told.id)[-1])


@pytest.mark.parametrize("state", ["waiting", "running", "done", "failed"])
async def test_what_may_have_cost_something_is_never_evicted(told: Told, state: str) -> None:
    await told.reach(state)
    before = await told.read()
    await evict(told)
    after = await told.read()
    assert (after.state, after.created_ms, after.alive) == (before.state, before.created_ms, True)
    ended = state in {"done", "failed"}
    assert (after.text, after.result) == ("", MADE if ended else None)
    assert await booked(told) == [told.id]


async def test_what_cost_nothing_takes_no_room_that_cannot_be_had_back(told: Told) -> None:
    assert await told.begin() is None
    assert await told.finish("failed", '{"code":"budget_exceeded"}', result=None)
    assert await booked(told) == []
    assert (await told.read()).text == '{"code":"budget_exceeded"}'
    assert await told.finish("failed", result=None), "the same call again"
    assert await told.begin("another") is None
    assert (await told.cancel()).state == "cancelled"
    assert await booked(told) == []
    assert (await told.read()).state == "cancelled"


async def test_a_tenant_has_so_many_operations_and_no_more(clients: StoreClients, tenant: str) -> None:
    cells = [Told(clients, tenant) for _ in range(KEPT_MAX + 1)]
    for each, state in zip(cells, ["waiting", "running", "done", "failed", "lost"], strict=False):
        await each.reach(state)
    with pytest.raises(TooManyOperations, match=f"has {KEPT_MAX} operations") as refused:
        await cells[-1].begin()
    assert 90 <= (refused.value.retry_after_s or 0) <= 100
    assert await cells[3].begin("another") is None, "one that is begun anew takes no further place"
    assert await cells[3].finish("failed", claim="another", result=None)
    assert await cells[-1].begin() is None, "what cost nothing frees its place"


async def test_operations_whose_time_is_over_vanish(clients: StoreClients, tenant: str, books: Books) -> None:
    cells = [Told(clients, tenant) for _ in range(2)]
    for each in cells:
        await each.reach("done")
        running, ends, op = keys.operation_keys(tenant, each.id)
        fields = str(await clients.ledger.hget(running, each.id)).split(";")
        await clients.ledger.hset(running, each.id, ";".join([*fields[:5], "1", *fields[6:]]))
        await clients.ledger.zadd(ends, {each.id: 1})
        await clients.ledger.delete(op)
        assert await each.operations.read(tenant, each.id) is None
    await books.admit("a")
    assert await booked(cells[0]) == [], "an admission of the tenant forgets them"


async def test_an_operation_of_an_earlier_version_is_read_as_long_as_it_lives(told: Told) -> None:
    op: Any = {"claim": "them", "work": "work", "created": "5", "wish": ""}
    name = keys.operation_keys(told.tenant, told.id)[-1]
    ledger = told.clients.ledger
    await ledger.hset(name, mapping={**op, "state": "running", "lease": str(now_ms() + 60_000), "text": ""})
    await ledger.pexpire(name, 60_000)
    found = await told.read()
    assert (found.state, found.created_ms, found.alive, found.text) == ("running", 5, True, "")
    assert await told.begin("me") is not None
    assert (await told.cancel()).cancel_requested
    await ledger.hset(name, mapping={"state": "done", "text": "{}"})
    assert (await told.read()).text == "{}"
    await ledger.hset(name, mapping={"state": "failed"})
    assert await told.begin("me") is None
    assert (await told.read()).text == ""
