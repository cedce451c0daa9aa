"""Tenants in the store: changes whose answers are lost, and replicas that missed the announcement."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio.client import PubSub

from app.cards import load_catalogue
from app.domain.audit import AuditEvent
from app.domain.budget import Budget
from app.domain.errors import Conflict, PreconditionFailed
from app.domain.keys import ENTROPY_BYTES, hash_secret, mint
from app.domain.tenancy import Key, Tenant
from app.registry.directory import StoredDirectory
from app.registry.local_copy import LocalCopy
from app.store import keys
from app.store.client import open_clients
from app.tenants.directory import MemoryDirectory
from app.tenants.ports import TenantChange
from tests.faultproxy import FaultProxy
from tests.store.books import until
from tests.store.conftest import PATIENCE_S
from tests.storeserver import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.store.client import StoreClients
    from tests.storeserver import ServerProcess

PEPPER = b"pepper"


def registry(clients: StoreClients, copy: LocalCopy | None = None) -> StoredDirectory:
    nobody = MemoryDirectory((), PEPPER)
    return StoredDirectory(nobody, clients.ledger, PEPPER, load_catalogue(), copy=copy, deadline_s=PATIENCE_S)


def tenant_of(tenant_id: str, *, limit: int = 1, key_id: str | None = None) -> Tenant:
    budgets = (Budget("image_tokens", "day", limit),)
    found = () if key_id is None else (Key(key_id, hash_secret(PEPPER, key_id), frozenset({"images"})),)
    return Tenant(tenant_id, ZoneInfo("UTC"), budgets, found)


def change(tenant: Tenant, expected: int = 0) -> TenantChange:
    return TenantChange(tenant.id, tenant, expected, AuditEvent("tenant.create", "test", tenant.id))


@pytest.mark.parametrize("cut", [True, False], ids=["connection lost", "no answer"])
async def test_a_change_whose_answer_is_lost_is_made_once(
    server: ServerProcess, tenant: str, cut: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="fg") as folder:
        async with (
            FaultProxy(Path(folder) / "p.sock", server.socket) as proxy,
            open_clients(proxy.url) as clients,
        ):
            directory = registry(clients)
            await directory.refresh()
            await directory.write(change(tenant_of(f"{tenant}-first")))  # the server knows the script now
            await directory.refresh()
            proxy.cut, proxy.swallow = cut, 1
            made = await directory.write(change(tenant_of(tenant)))
            assert proxy.swallowed == 1
            assert made is not None
            found = directory.find(tenant)
            assert found == made
            events = await directory.list_events(1000, None)
            assert [event.tenant_id for event in events].count(tenant) == 1


async def test_two_replicas_never_give_one_key_id_to_two_tenants(clients: StoreClients, tenant: str) -> None:
    one, two = registry(clients), registry(clients)
    await one.refresh()
    await two.refresh()
    await one.write(change(tenant_of(tenant, key_id=f"k{tenant[7:]}")))
    with pytest.raises(Conflict, match="key"):
        await two.write(change(tenant_of(f"{tenant}-b", key_id=f"k{tenant[7:]}")))
    with pytest.raises(Conflict, match="tenant"):
        await two.write(change(tenant_of(tenant)))


async def test_a_change_of_an_older_version_is_refused_by_the_store_itself(
    clients: StoreClients, tenant: str
) -> None:
    one, two = registry(clients), registry(clients)
    await one.refresh()
    first = await one.write(change(tenant_of(tenant)))
    assert first is not None
    await two.refresh()
    second = await two.write(change(tenant_of(tenant, limit=2), first.version))
    assert second is not None
    with pytest.raises(PreconditionFailed):
        await one.write(change(tenant_of(tenant, limit=3), first.version))
    await one.refresh()
    assert one.find(tenant) == second


async def test_a_replica_learns_of_a_change_that_was_never_announced(
    clients: StoreClients, tenant: str
) -> None:
    minted = mint("test", bytes(range(ENTROPY_BYTES)), f"q{tenant[7:]}")
    held = Key(minted.key_id, hash_secret(PEPPER, minted.secret), frozenset({"images"}))
    async with registry(clients) as follower:
        writer = registry(clients)
        await writer.refresh()
        await writer.write(change(Tenant(tenant, ZoneInfo("UTC"), (), (held,))))

        async def known() -> bool:
            return follower.authenticate(minted.text) is not None

        await until(known)
        # Behind everybody's back, as an announcement that was lost would leave it.
        await clients.ledger.hdel(keys.TENANTS, tenant)
        await clients.ledger.incr(keys.TENANTS_VERSION)

        async def gone() -> bool:
            return follower.authenticate(minted.text) is None

        await until(gone)


async def test_a_document_that_cannot_be_read_takes_no_other_tenant_away(
    clients: StoreClients, tenant: str
) -> None:
    directory = registry(clients)
    await directory.refresh()
    await directory.write(change(tenant_of(tenant)))
    await directory.write(change(tenant_of(f"{tenant}-b")))
    known = directory.find(tenant)
    await clients.ledger.hset(keys.TENANTS, tenant, '999999;{"id":"from the future","surprise":1}')
    await clients.ledger.incr(keys.TENANTS_VERSION)
    await directory.refresh()
    assert directory.find(tenant) == known, "the last known contents stay in force"
    fresh = registry(clients)
    await fresh.refresh()
    assert fresh.find(tenant) is None, "who never knew it lets nobody in by it"
    assert fresh.find(f"{tenant}-b") is not None
    await clients.ledger.hdel(keys.TENANTS, tenant)


async def test_leaving_ends_a_follower_whose_client_takes_a_cancellation_for_a_broken_connection(
    clients: StoreClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancellations, listening = [], asyncio.Event()

    async def swallowing(self: PubSub, **_options: object) -> None:
        listening.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancellations.append(self)
            if len(cancellations) > 1:
                raise
            raise ConnectionResetError from None

    monkeypatch.setattr(PubSub, "get_message", swallowing)

    async def follow() -> None:
        async with registry(clients):
            await listening.wait()

    done, _ = await asyncio.wait({asyncio.create_task(follow())}, timeout=5)
    assert done
    assert cancellations


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "s", "--appendfsync", "always") as server:
        yield server


async def test_tenants_that_a_store_has_lost_are_put_back(own_store: ServerProcess) -> None:
    async with open_clients(own_store.url, ledger_timeout_s=PATIENCE_S) as clients:
        one, two = registry(clients), registry(clients)
        for name in ("a", "b"):
            await one.refresh()
            await one.write(change(tenant_of(name, key_id=f"key{name}")))
        await two.refresh()
        await clients.ledger.flushall()
        await two.refresh()
        await one.refresh()
        assert [record.tenant.id for record in one.records()] == ["a", "b"]
        assert one.records() == two.records()
        with pytest.raises(Conflict, match="key"):
            await one.write(change(tenant_of("c", key_id="keya")))


async def test_a_tenant_that_was_deleted_does_not_come_back_with_a_backup(
    own_store: ServerProcess, tmp_path: Path
) -> None:
    async with open_clients(own_store.url, ledger_timeout_s=PATIENCE_S) as clients:
        one = registry(clients)
        await one.refresh()
        changed = await one.write(change(tenant_of("changed", limit=1)))
        deleted = await one.write(change(tenant_of("deleted", key_id="keyd")))
        assert changed is not None
        assert deleted is not None
        shutil.copytree(own_store.folder / "appendonlydir", tmp_path / "backup")
        await one.write(change(tenant_of("changed", limit=2), changed.version))
        await one.write(TenantChange("deleted", None, deleted.version, AuditEvent("tenant.delete", "test")))
        own_store.kill()
        shutil.rmtree(own_store.folder / "appendonlydir")
        shutil.copytree(tmp_path / "backup", own_store.folder / "appendonlydir")
        own_store.start()
        other = registry(clients)
        await other.refresh()
        assert len(other.records()) == 2, "as the backup has it"
        await one.refresh()
        await other.refresh()
        [record] = other.records()
        assert record.tenant.budgets[0].limit == 2
        await one.write(change(tenant_of("another", key_id="keyd")))


async def test_a_replica_that_starts_after_the_loss_puts_tenants_back_from_its_disk(
    own_store: ServerProcess, tmp_path: Path
) -> None:
    copy = LocalCopy(tmp_path / "journal" / "tenants.json")
    async with open_clients(own_store.url, ledger_timeout_s=PATIENCE_S) as clients:
        former = registry(clients, copy)
        await former.refresh()
        await former.write(change(tenant_of("a", key_id="keya")))
        await clients.ledger.flushall()
        next_one = registry(clients, copy)
        await next_one.refresh()
        assert next_one.records() == former.records()
        await next_one.write(change(tenant_of("b")))
        assert (tmp_path / "journal" / "tenants.json").stat().st_mode & 0o777 == 0o600
        elsewhere = registry(clients, LocalCopy(tmp_path / "old.json"))
        LocalCopy(tmp_path / "old.json").write(99, {"x": "99;{}"})
        await elsewhere.refresh()
        assert len(elsewhere.records()) == 2, "a store that has tenants is left as it is"
