"""Tenants that operators keep in the store, in memory on every replica, beside those of the file.

A key is looked up in memory alone, so authentication works while the store is down. Every change is
announced, and whoever missed the announcement finds a greater version within two seconds.
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
from app.resilience.tasks import BackgroundTasks
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
    from app.tenants.ports import TenantChange

log = logging.getLogger(__name__)

POLL_S: Final = 2.0
"""How late a replica that missed an announcement learns of a change."""

_ID_PART_MAX: Final = 2**64 - 1

RESUBSCRIBE_S: Final = 0.5
REPETITION_MS: Final = 60_000
_EVENT = TypeAdapter(AuditEvent)


class StoredDirectory(MemoryDirectory, Resource):
    """``ports.Directory`` and ``operator_ports.Registry``: the tenants of the file, then those of the store.

    Args:
        declared: The tenants of the file; they win over stored ones of the same id, and their keys too.
        client: Decoding replies to str.
        pepper: Under which the secrets of all keys are hashed.
        catalogue: For reading documents.

    Use as ``async with``: reads the store once and then follows it. A store that is down at that moment is
    no error; until it was read once, a key that is not known is nobody's to refuse.
    """

    def __init__(
        self,
        declared: MemoryDirectory,
        client: Redis,
        pepper: bytes,
        catalogue: Catalogue,
        *,
        clock: Callable[[], float] = time.time,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        super().__init__((), pepper, clock)
        self._declared = declared
        self._client = client
        self._catalogue = catalogue
        self._calls = StoreCalls(deadline_s)
        self._change = client.register_script(read_script(__file__, "tenants"))
        self._raw: dict[str, str] = {}
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
        """The caller for a full gateway key, or None.

        Raises:
            StoreUnavailable: The key is none of the file's, and the store was never read by this replica.
        """
        caller = super().authenticate(presented)
        if caller is None and self._version is None and parse(presented) is not None:
            raise StoreUnavailable("The tenants could not be read from the store yet.", retry_after_s=1)
        return caller

    def find_by_identity(self, identities: tuple[Identity, ...]) -> Caller | None:
        """The caller whose key one of these identities opens, or None.

        Raises:
            StoreUnavailable: The identities are none of the file's, and the store was never read.
        """
        caller = super().find_by_identity(identities)
        if caller is None and self._version is None and identities:
            raise StoreUnavailable("The tenants could not be read from the store yet.", retry_after_s=1)
        return caller

    def find(self, tenant_id: str) -> TenantRecord | None:
        """The tenant as this replica knows it."""
        return self._records.get(tenant_id)

    def records(self) -> tuple[TenantRecord, ...]:
        """Every tenant as this replica knows it, by id."""
        return tuple(self._records[name] for name in sorted(self._records))

    async def reload(self) -> int:
        """Read the file again, if there is one; returns how many tenants had to be judged anew.

        Raises:
            ConfigurationError: The file has faults, and nothing has changed.
        """
        if not isinstance(self._declared, FileDirectory):
            return 0
        async with self._reloading:
            judged = await self._declared.reload()
            self._merge()
        return judged

    async def refresh(self) -> None:
        """Know what the store knows. Raises StoreUnavailable; then the last known contents stay."""
        async with self._refreshing:
            version = int(await self._calls.run(self._client.get(keys.TENANTS_VERSION)) or 0)
            if version == self._version:
                return
            # A change in between makes these newer than the version, which costs one more reading.
            documents: Any = await self._calls.run(self._client.hgetall(keys.TENANTS))
            if self._version is not None and version < self._version:
                log.error("the store has an older version of the tenants than it had before")
            self._take(documents)
            self._version = version

    async def write(self, change: TenantChange) -> TenantRecord | None:
        """Make a change and its audit event in one step, and tell every replica; None after a deletion."""
        current = self._stored.get(change.tenant_id)
        if current is not None and current.version != change.expected:
            raise _build_refusal("changed" if change.expected else "exists")
        old_names = () if current is None else _list_names(current.tenant)
        new_names = () if change.tenant is None else _list_names(change.tenant)
        self._refuse_declared(change.tenant_id, new_names)
        arguments = [
            change.tenant_id,
            str(change.expected),
            "" if change.tenant is None else encode_tenant(change.tenant, self._catalogue),
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
        return None if change.tenant is None else TenantRecord(change.tenant, int(reply[1]), "store")

    async def note(self, event: AuditEvent) -> None:
        """Write an audit event that changes no tenant."""
        fields: Any = {"event": _encode_event(event)}
        await self._calls.run(self._client.xadd(keys.AUDIT_LOG, fields, maxlen=100_000))
        _log_event(event)

    async def list_events(self, limit: int, before: str | None) -> tuple[AuditEvent, ...]:
        """The latest audit events, newest first; only those before an event's id where one is given."""
        newest = "+" if before is None else _exclude_id(before)
        if newest is None:
            return ()
        entries: Any = await self._calls.run(self._client.xrevrange(keys.AUDIT_LOG, max=newest, count=limit))
        return tuple(_decode_event(event_id, fields["event"]) for event_id, fields in entries)

    def _refuse_declared(self, tenant_id: str, names: tuple[str, ...]) -> None:
        if any(tenant.id == tenant_id for tenant in self._declared.list_tenants()):
            raise Conflict("This tenant stands in the tenants' file and is changed there.")
        declared = {name for tenant in self._declared.list_tenants() for name in _list_names(tenant)}
        if declared.intersection(names):
            raise Conflict("A key of this id or identity stands in the tenants' file.")

    def _take(self, documents: dict[str, str]) -> None:
        """Replace the stored contents; documents that are as before are not read again."""
        stored = {}
        for tenant_id, raw in documents.items():
            if self._raw.get(tenant_id) == raw:
                stored[tenant_id] = self._stored[tenant_id]
                continue
            version, _, document = raw.partition(";")
            try:
                tenant = decode_tenant(document, self._catalogue)
            except UnreadableTenant:
                log.exception("a stored tenant cannot be read", extra={"tenant": tenant_id})
                if tenant_id in self._stored:
                    stored[tenant_id] = self._stored[tenant_id]
                continue
            stored[tenant_id] = TenantRecord(tenant, int(version), "store")
        self._raw = {tenant_id: documents[tenant_id] for tenant_id in stored}
        self._stored = stored
        self._merge()

    def _merge(self) -> None:
        """Make the contents in force anew: what the file says wins."""
        declared = {tenant.id: TenantRecord(tenant, 0, "file") for tenant in self._declared.list_tenants()}
        self._records = {**self._stored, **declared}
        stored = tuple(record.tenant for record in self._records.values() if record.source == "store")
        # Of two callers by one key id the later is kept.
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
    """What no key of another tenant may have: ids and identities."""
    return tuple(name for key in tenant.keys for name in key.names)


def _build_refusal(word: str) -> GatewayError:
    """What a refused change is answered with, by the script's word."""
    if word == "exists":
        return Conflict("There is a tenant of this id.")
    if word == "taken":
        return Conflict("There is a key of this id or identity.")
    return PreconditionFailed("The tenant was changed in between; read it again.")


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
    """The end of a range that leaves this id out; None where nothing can be before it.

    The store refuses ids of more than 64 bits, and to leave out the least of all.
    """
    at, number = (min(int(part), _ID_PART_MAX) for part in event_id.split("-"))
    return f"({at}-{number}" if at or number else None


def _decode_event(event_id: str, text: str) -> AuditEvent:
    """An event as it was kept, with the store's id and time."""
    at_ms = int(event_id.partition("-")[0])
    try:
        return _EVENT.validate_python({**json.loads(text), "id": event_id, "at_ms": at_ms})
    except (ValueError, ValidationError):
        # Another version's event: that there was one is worth more than nothing.
        return AuditEvent("unknown", "unknown", id=event_id, at_ms=at_ms)
