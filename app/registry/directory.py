"""Tenants in the store, cached in memory on every replica, in addition to those of the file.

Keys are looked up in memory, so authentication works while the store is down. Every change is published; a
replica that misses the message finds the new version within two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from app.domain.audit import AuditEvent
from app.domain.errors import Conflict, GatewayError, PreconditionFailed, StoreUnavailable
from app.domain.keys import parse
from app.domain.tenancy import TenantRecord
from app.resilience.resources import Resource
from app.resilience.tasks import BackgroundTasks, run_in_thread
from app.store import keys
from app.store.calls import StoreCalls
from app.store.client import DEADLINE_S, FailureLog
from app.store.scripting import read_script
from app.store.topologies import describe_address, discover_nodes
from app.tenants.directory import FileDirectory, MemoryDirectory
from app.tenants.documents import UnreadableTenant, decode_tenant, encode_tenant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

    from app.cards import Catalogue
    from app.domain.tenancy import Caller, Identity, Tenant
    from app.registry.local_copy import LocalCopy
    from app.tenants.ports import TenantChange

log = logging.getLogger(__name__)

POLL_S: Final = 2.0
"""Seconds after which a replica that missed a message notices a change."""

_ID_PART_MAX: Final = 2**64 - 1

RESUBSCRIBE_S: Final = 0.5
REPETITION_MS: Final = 60_000
_EVENT = TypeAdapter(AuditEvent)


class StoredDirectory(MemoryDirectory, Resource):
    """``ports.Directory`` and ``operator_ports.Registry``: the tenants of the file and the store.

    Args:
        declared: The tenants of the file; they and their keys take precedence over stored ones of the same
            id. It knows the pools that tenants may name.
        client: Decodes replies to str.
        pepper: Pepper of the hashes of all secrets.
        catalogue: Validates documents.
        copy: What this machine remembers of the store's tenants; None without a disk.

    Use as ``async with``: it reads the store once and then follows its changes. It starts even if the store
    is down; until the store has been read, an unknown key raises StoreUnavailable instead of being refused.
    """

    def __init__(
        self,
        declared: MemoryDirectory,
        client: Redis,
        pepper: bytes,
        catalogue: Catalogue,
        *,
        copy: LocalCopy | None = None,
        clock: Callable[[], float] = time.time,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        super().__init__((), pepper, clock)
        self._declared = declared
        self._client = client
        self._catalogue = catalogue
        self._calls = StoreCalls(deadline_s)
        self._change = client.register_script(read_script(__file__, "tenants"))
        self._restore = client.register_script(read_script(__file__, "restore"))
        self._copy = copy
        self._raw: dict[str, str] = {}
        self._documents: dict[str, str] = {}
        self._stored: dict[str, TenantRecord] = {}
        self._records: dict[str, TenantRecord] = {}
        self._version: int | None = None
        self._refreshing = asyncio.Lock()
        self._reloading = asyncio.Lock()
        self._merge()

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        with contextlib.suppress(StoreUnavailable):
            await self.refresh()
        async with BackgroundTasks() as tasks:
            tasks.keep_running(self._follow, "store-tenants")
            yield

    def authenticate(self, presented: str) -> Caller | None:
        """Return the caller of a full gateway key, or None.

        Raises:
            StoreUnavailable: The key is not in the file, and this replica has not read the store yet.
        """
        caller = super().authenticate(presented)
        if caller is None and self._version is None and parse(presented) is not None:
            raise StoreUnavailable("The tenants have not been read from the store yet.", retry_after_s=1)
        return caller

    def find_by_identity(self, identities: tuple[Identity, ...]) -> Caller | None:
        """Return the caller with one of these identities, or None.

        Raises:
            StoreUnavailable: The identities are not in the file, and the store has not been read yet.
        """
        caller = super().find_by_identity(identities)
        if caller is None and self._version is None and identities:
            raise StoreUnavailable("The tenants have not been read from the store yet.", retry_after_s=1)
        return caller

    def find(self, tenant_id: str) -> TenantRecord | None:
        """Return the tenant as known to this replica, or None."""
        return self._records.get(tenant_id)

    def records(self) -> tuple[TenantRecord, ...]:
        """Return all tenants as known to this replica, sorted by id."""
        return tuple(self._records[name] for name in sorted(self._records))

    async def reload(self) -> int:
        """Reload the file, if there is one; returns how many entries had to be validated.

        Raises:
            ConfigurationError: The file is invalid, and nothing has changed.
        """
        if not isinstance(self._declared, FileDirectory):
            return 0
        async with self._reloading:
            judged = await self._declared.reload()
            self._merge()
        return judged

    async def refresh(self) -> None:
        """Load changes from the store. Raises StoreUnavailable; then the known contents stay in force."""
        async with self._refreshing:
            version = int(await self._calls.run(self._client.get(keys.TENANTS_VERSION)) or 0)
            if version == self._version:
                return
            version = await self._put_back(version)
            # A concurrent change makes these newer than the version, which only causes one more refresh.
            documents: Any = await self._calls.run(self._client.hgetall(keys.TENANTS))
            self._take(documents)
            self._documents, self._version = documents, version
            if self._copy is not None:
                try:
                    await run_in_thread(self._copy.write, version, documents)
                except OSError:
                    log.exception("the tenants cannot be copied to the disk")

    async def _put_back(self, version: int) -> int:
        """Put back what a store of an older version has lost of the tenants; returns its version now."""
        known, documents, whole = self._version, self._documents, "whole"
        if known is None and version == 0 and self._copy is not None:
            # A store that has tenants may be another one than that of the copy: then nothing is put into it.
            (known, documents), whole = await run_in_thread(self._copy.read), "part"
        if known is None or known <= version:
            return version
        arguments = [str(known), keys.TENANTS_CHANNEL, whole, str(len(documents))]
        for tenant_id, raw in documents.items():
            names: tuple[str, ...] = ()
            with contextlib.suppress(UnreadableTenant):
                names = _list_names(decode_tenant(raw.partition(";")[2], self._catalogue))
            arguments += [tenant_id, raw, str(len(names)), *names]
        names_of_keys = keys.tenant_change_keys(secrets.token_hex(16))
        restored_version, count = await self._calls.run(self._restore(names_of_keys, arguments))
        if int(count):
            log.error("the store has lost tenants, which were put back", extra={"count": int(count)})
        return int(restored_version)

    async def write(self, change: TenantChange) -> TenantRecord | None:
        """Write a change and its audit event atomically, and notify every replica; None after a deletion."""
        current = self._stored.get(change.tenant_id)
        if current is not None and current.version != change.expected:
            if change.expected:
                raise _build_refusal("changed")
            raise _build_refusal("exists")
        old_names: tuple[str, ...] = ()
        if current is not None:
            old_names = _list_names(current.tenant)
        new_names: tuple[str, ...] = ()
        document = ""
        if change.tenant is not None:
            new_names = _list_names(change.tenant)
            document = encode_tenant(change.tenant, self._catalogue, self._declared.pools)
        self._refuse_declared(change.tenant_id, new_names)
        arguments = [
            change.tenant_id,
            str(change.expected),
            document,
            _encode_event(change.event),
            keys.TENANTS_CHANNEL,
            str(REPETITION_MS),
            str(len(old_names)),
            *old_names,
            *new_names,
        ]
        names = keys.tenant_change_keys(secrets.token_hex(16))
        reply = await self._calls.run(self._change(names, arguments))
        if reply[0] != "done":
            raise _build_refusal(reply[0])
        _log_event(change.event)
        await self.refresh()
        if change.tenant is None:
            return None
        return TenantRecord(change.tenant, int(reply[1]), "store")

    async def note(self, event: AuditEvent) -> None:
        """Write an audit event without a change of a tenant."""
        fields: Any = {"event": _encode_event(event)}
        await self._calls.run(self._client.xadd(keys.AUDIT_LOG, fields, maxlen=100_000))
        _log_event(event)

    async def list_events(self, limit: int, before: str | None) -> tuple[AuditEvent, ...]:
        """List audit events, newest first; with ``before``, only those before that event id."""
        newest: str | None = "+"
        if before is not None:
            newest = _exclude_id(before)
        if newest is None:
            return ()
        entries: Any = await self._calls.run(self._client.xrevrange(keys.AUDIT_LOG, max=newest, count=limit))
        return tuple(_decode_event(event_id, fields["event"]) for event_id, fields in entries)

    def _refuse_declared(self, tenant_id: str, names: tuple[str, ...]) -> None:
        if any(tenant.id == tenant_id for tenant in self._declared.list_tenants()):
            raise Conflict("This tenant is defined in the tenants' file; change it there.")
        declared = {name for tenant in self._declared.list_tenants() for name in _list_names(tenant)}
        if declared.intersection(names):
            raise Conflict("A key with this id or identity is defined in the tenants' file.")

    def _take(self, documents: dict[str, str]) -> None:
        """Replace the stored tenants; unchanged documents are not decoded again."""
        stored = {}
        for tenant_id, raw in documents.items():
            if self._raw.get(tenant_id) == raw:
                stored[tenant_id] = self._stored[tenant_id]
                continue
            version, _, document = raw.partition(";")
            try:
                tenant = decode_tenant(document, self._catalogue)
            except UnreadableTenant:
                log.exception("a stored tenant cannot be decoded", extra={"tenant": tenant_id})
                if tenant_id in self._stored:
                    stored[tenant_id] = self._stored[tenant_id]
                continue
            stored[tenant_id] = TenantRecord(tenant, int(version), "store")
        self._raw = {tenant_id: documents[tenant_id] for tenant_id in stored}
        self._stored = stored
        self._merge()

    def _merge(self) -> None:
        """Merge the tenants of the store and the file; the file takes precedence."""
        declared = {tenant.id: TenantRecord(tenant, 0, "file") for tenant in self._declared.list_tenants()}
        self._records = {**self._stored, **declared}
        stored = tuple(record.tenant for record in self._records.values() if record.source == "store")
        # Of two callers with the same key id, the later one is used.
        self._replace_tenants((*stored, *self._declared.list_tenants()))

    async def _follow(self) -> None:
        failures = FailureLog("tenants", describe_address(self._client))
        while True:
            try:
                await self._follow_channel(failures)
            except Exception as error:  # noqa: BLE001 - whatever the client raises, following goes on
                # The last known contents stay in force until the store is back.
                failures.failed(error.__cause__ or error)
                await asyncio.sleep(RESUBSCRIBE_S)

    async def _follow_channel(self, failures: FailureLog) -> None:
        await discover_nodes(self._client)
        pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        try:
            await pubsub.subscribe(keys.TENANTS_CHANNEL)
            while True:
                await self.refresh()
                failures.over()
                await pubsub.get_message(timeout=POLL_S)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]


def _list_names(tenant: Tenant) -> tuple[str, ...]:
    """List the ids and identities of a tenant's keys, which must be unique."""
    return tuple(name for key in tenant.keys for name in key.names)


def _build_refusal(word: str) -> GatewayError:
    """Build the error for the script's refusal of a change."""
    if word == "exists":
        return Conflict("A tenant with this id already exists.")
    if word == "taken":
        return Conflict("A key with this id or identity already exists.")
    return PreconditionFailed("The tenant has changed in the meantime; read it again.")


def _log_event(event: AuditEvent) -> None:
    log.info(
        "an operator made a change",
        extra={
            "action": event.action,
            "operator": event.operator,
            "tenant": event.tenant_id,
            "key": event.key_id,
            "request_id": event.request_id,
        },
    )


def _encode_event(event: AuditEvent) -> str:
    members = asdict(event)
    return json.dumps({name: members[name] for name in members if name not in {"id", "at_ms"}})


def _exclude_id(event_id: str) -> str | None:
    """Return the end of a range that excludes this id; None if nothing can precede it.

    The store refuses ids of more than 64 bits, and excluding the smallest id.
    """
    at, number = (min(int(part), _ID_PART_MAX) for part in event_id.split("-"))
    if at or number:
        return f"({at}-{number}"
    return None


def _decode_event(event_id: str, text: str) -> AuditEvent:
    """Decode a stored event, and add the store's id and time."""
    at_ms = int(event_id.partition("-")[0])
    try:
        return _EVENT.validate_python({**json.loads(text), "id": event_id, "at_ms": at_ms})
    except (ValueError, ValidationError):
        # Written by another version: at least show that there was an event.
        return AuditEvent("unknown", "unknown", id=event_id, at_ms=at_ms)
