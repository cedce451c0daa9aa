"""Administration: tenants and their keys, usage across tenants, purges. Every change is an audit event.

Tenants of the file can be read here but only changed in the file. Secrets are generated here, returned once,
and stored as hashes.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, TypeVar

from app.domain.audit import AuditEvent
from app.domain.budget import build_window
from app.domain.end_user import build_end_user, parse_user_id
from app.domain.errors import Conflict, NotFound, PreconditionFailed, PreconditionRequired
from app.domain.keys import ENTROPY_BYTES, KEY_ID, hash_secret, mint
from app.domain.report import report
from app.domain.tenancy import Key, RetiringSecret, Tenant, TenantRecord
from app.tenants.ports import TenantChange

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import date

    from app.domain.audit import Action
    from app.domain.budget import Budget, BudgetWindow, Unit, WindowName, WindowState
    from app.domain.end_user import EndUser
    from app.domain.report import Dimension, Line, Row
    from app.generation.ports import Ledger
    from app.tenants.ports import BudgetAdjustments, Cache, Content, Registry, Reports

Expected: TypeAlias = int | Literal["any"]
T = TypeVar("T")

ATTEMPTS: Final = 5
"""Attempts at a change of keys if the tenant is changed concurrently."""

KEYS_MAX: Final = 1000
LOOKUPS_AT_ONCE: Final = 8
_NO_SUCH_KEY: Final = "The tenant has no such key."


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator, as named in the audit log, and the request."""

    name: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key with its new secret; ``text`` is the full key, which is shown only once."""

    key: Key
    text: str
    record: TenantRecord

    def __repr__(self) -> str:
        """Everything but the secret."""
        return f"IssuedKey(key={self.key!r})"


@dataclass(frozen=True, slots=True)
class BudgetName:
    """Identifies a budget of a tenant, a project, a key or an end user, by the name or the id of the user."""

    unit: Unit
    window: WindowName
    project_id: str | None = None
    key_id: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class UsageLine:
    """A budget window of a tenant, a project, a key or an end user."""

    tenant_id: str
    project_id: str | None
    key_id: str | None
    window: WindowState
    user_id: str | None = None


class OwnedWindow(NamedTuple):
    """A budget window of a tenant with the id of its project, key or end user, if it is one of theirs."""

    window: BudgetWindow
    project_id: str | None = None
    key_id: str | None = None
    user_id: str | None = None


class Administration:
    """Manages tenants and keys, reports usage, and purges results.

    Args:
        pepper: Pepper of the hashes of secrets.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        ledger: Ledger,
        cache: Cache,
        content: Content,
        adjustments: BudgetAdjustments,
        reports: Reports,
        pepper: bytes,
    ) -> None:
        self._registry = registry
        self._ledger = ledger
        self._cache = cache
        self._content = content
        self._adjustments = adjustments
        self._reports = reports
        self._pepper = pepper

    async def list_tenants(self) -> tuple[TenantRecord, ...]:
        """List all tenants, sorted by id. Raises StoreUnavailable."""
        await self._registry.refresh()
        return self._registry.records()

    async def get_tenant(self, tenant_id: str) -> TenantRecord:
        """Get a tenant. Raises NotFound or StoreUnavailable."""
        await self._registry.refresh()
        record = self._registry.find(tenant_id)
        if record is None:
            raise NotFound("There is no such tenant.")
        return record

    async def create_tenant(self, operator: Operator, tenant: Tenant) -> TenantRecord:
        """Create a tenant. Raises Conflict if its id, or the id of one of its keys, is taken."""
        await self._registry.refresh()
        _check_keys(tenant)
        record = self._registry.find(tenant.id)
        if record is not None:
            _refuse_of_file(record)
            raise Conflict("A tenant with this id already exists.")
        # In case the deletion of an earlier tenant of this id was cut off.
        await self._content.forget_tenant(tenant.id)
        return await self._write(tenant, 0, _build_event(operator, "tenant.create", tenant.id))

    async def change_tenant(
        self,
        operator: Operator,
        tenant_id: str,
        expected: Expected | None,
        change: Callable[[Tenant], Tenant],
    ) -> TenantRecord:
        """Change a tenant except for its keys.

        ``expected`` is the version that the operator saw, or ``any``. ``change`` returns the new tenant and
        may raise ValidationFailed.

        Raises:
            PreconditionRequired: ``expected`` is None.
            PreconditionFailed: The tenant has changed since.
        """
        record = await self._load_for_change(tenant_id, expected)
        tenant = replace(change(record.tenant), id=tenant_id, keys=record.tenant.keys)
        changed = tuple(
            field.name
            for field in fields(tenant)
            if getattr(tenant, field.name) != getattr(record.tenant, field.name)
        )
        if not changed:
            return record
        event = _build_event(operator, "tenant.change", tenant_id, changed=changed)
        return await self._write(tenant, record.version, event)

    async def delete_tenant(self, operator: Operator, tenant_id: str, expected: Expected | None) -> None:
        """Delete a tenant, its keys, and everything that it has stored; its usage is kept."""
        record = await self._load_for_change(tenant_id, expected)
        event = _build_event(operator, "tenant.delete", tenant_id)
        await self._registry.write(TenantChange(tenant_id, None, record.version, event))
        await self._cache.purge(tenant_id, None)
        await self._content.forget_tenant(tenant_id)

    async def create_key(self, operator: Operator, tenant_id: str, template: Key, *, env: str) -> IssuedKey:
        """Create a key with the rights of ``template``, and an id and a secret of its own."""
        minted = mint(env, secrets.token_bytes(ENTROPY_BYTES))
        key = replace(template, id=minted.key_id, secret_hash=hash_secret(self._pepper, minted.secret))
        record = await self._add_key(operator, tenant_id, key)
        return IssuedKey(key, minted.text, record)

    async def create_identity(self, operator: Operator, tenant_id: str, template: Key) -> Key:
        """Create a key without a secret; the ID tokens of a Google account open it."""
        key = replace(template, id=mint("live", secrets.token_bytes(ENTROPY_BYTES)).key_id)
        await self._add_key(operator, tenant_id, key)
        return key

    async def _add_key(self, operator: Operator, tenant_id: str, key: Key) -> TenantRecord:
        def add_key(tenant: Tenant) -> Tenant:
            return replace(tenant, keys=(*tenant.keys, key))

        event = _build_event(operator, "key.create", tenant_id, key.id)
        return await self._change_keys(tenant_id, add_key, event)

    async def rotate_key(
        self, operator: Operator, tenant_id: str, key_id: str, *, env: str, grace_s: int
    ) -> IssuedKey:
        """Rotate a secret. The previous one stays valid for ``grace_s`` seconds; older ones are invalid."""
        if not KEY_ID.fullmatch(key_id):
            raise NotFound(_NO_SUCH_KEY)
        minted = mint(env, secrets.token_bytes(ENTROPY_BYTES), key_id)
        not_after_ms = int((time.time() + grace_s) * 1000)

        def rotate(tenant: Tenant) -> Tenant:
            key = _find_key(tenant, key_id)
            if key.identity is not None:
                raise Conflict("This key has no secret; it accepts the ID tokens of a Google account.")
            retiring = None
            if grace_s:
                retiring = RetiringSecret(key.secret_hash, not_after_ms)
            digest = hash_secret(self._pepper, minted.secret)
            keys = list(tenant.keys)
            keys[keys.index(key)] = replace(key, secret_hash=digest, retiring=retiring)
            return replace(tenant, keys=tuple(keys))

        event = _build_event(operator, "key.rotate", tenant_id, key_id)
        record = await self._change_keys(tenant_id, rotate, event)
        return IssuedKey(_find_key(record.tenant, key_id), minted.text, record)

    async def revoke_key(self, operator: Operator, tenant_id: str, key_id: str) -> None:
        """Revoke a key permanently, on every replica within seconds."""

        def remove_key(tenant: Tenant) -> Tenant:
            revoked_key = _find_key(tenant, key_id)
            return replace(tenant, keys=tuple(key for key in tenant.keys if key is not revoked_key))

        event = _build_event(operator, "key.revoke", tenant_id, key_id)
        await self._change_keys(tenant_id, remove_key, event)

    async def _select_tenants(self, tenant_id: str | None) -> tuple[TenantRecord, ...]:
        if tenant_id is None:
            return await self.list_tenants()
        return (await self.get_tenant(tenant_id),)

    async def _collect(
        self, tenant_id: str | None, load: Callable[[Tenant], Awaitable[tuple[T, ...]]]
    ) -> tuple[T, ...]:
        """Load the lines of one tenant, or of all for None, a few tenants at a time."""
        limiter = asyncio.Semaphore(LOOKUPS_AT_ONCE)

        async def load_in_turn(tenant: Tenant) -> tuple[T, ...]:
            async with limiter:
                return await load(tenant)

        records = await self._select_tenants(tenant_id)
        results = await asyncio.gather(*(load_in_turn(record.tenant) for record in records))
        return tuple(line for lines in results for line in lines)

    async def list_usage(
        self, tenant_id: str | None = None, user: str | None = None
    ) -> tuple[UsageLine, ...]:
        """List the current budget windows of one tenant or all: the tenant's, its projects', its keys'.

        With the name or id of an end user, that user's windows come last.
        """

        async def list_windows(tenant: Tenant) -> tuple[UsageLine, ...]:
            return await self._list_tenant_usage(tenant, user)

        return await self._collect(tenant_id, list_windows)

    async def report(
        self, tenant_id: str | None, since: date, until: date, by: tuple[Dimension, ...]
    ) -> tuple[Line, ...]:
        """Report the usage of one tenant or all, from ``since`` through ``until`` (UTC), by dimensions."""

        async def load_rows(tenant: Tenant) -> tuple[Row, ...]:
            keys = {key.id: key for key in tenant.keys}
            rows = await self._reports.read_tenant(tenant.id, since, until)
            return tuple(_add_names(row, keys.get(row.key_id or "")) for row in rows)

        return report(await self._collect(tenant_id, load_rows), by)

    async def credit_budget(
        self, operator: Operator, tenant_id: str, name: BudgetName, amount: int, credit_id: str
    ) -> UsageLine:
        """Add prepaid credit to a lifetime budget, or take some back; repeats of a ``credit_id`` are ignored.

        The amount is a store amount. Tenants of the file can have credit too; it is in the store.

        Raises:
            Conflict: The budget is not prepaid, has too little credit, or the id was used for another credit.
        """
        owned = await self._find_window(tenant_id, name)
        state = await self._adjustments.add_credit(tenant_id, owned.window, amount, credit_id)
        detail = f"{_describe_budget(owned)} {amount:+d} by {credit_id}"
        event = _build_event(operator, "budget.credit", tenant_id, name.key_id, detail=detail)
        await self._registry.note(event)
        return UsageLine(tenant_id, owned.project_id, owned.key_id, state, owned.user_id)

    async def override_budget(
        self, operator: Operator, tenant_id: str, name: BudgetName, limit: int, until_ms: int
    ) -> UsageLine:
        """Override a limit (a store amount) until a time; a time in the past ends the override."""
        owned = await self._find_window(tenant_id, name)
        state = await self._adjustments.set_override(tenant_id, owned.window, limit, until_ms)
        detail = f"{_describe_budget(owned)} {limit} until {until_ms}"
        event = _build_event(operator, "budget.override", tenant_id, name.key_id, detail=detail)
        await self._registry.note(event)
        return UsageLine(tenant_id, owned.project_id, owned.key_id, state, owned.user_id)

    async def _find_window(self, tenant_id: str, name: BudgetName) -> OwnedWindow:
        """Find the window of a budget. Raises NotFound."""
        tenant = (await self.get_tenant(tenant_id)).tenant
        user = self._find_user(tenant, name.user)
        owner = (name.project_id, name.key_id, user and user.id)
        for owned in _list_windows(tenant, int(time.time() * 1000), user):
            budget = owned.window.budget
            if (budget.unit, budget.window, owned[1:]) == (name.unit, name.window, owner):
                return owned
        raise NotFound("The tenant has no such budget.")

    def _find_user(self, tenant: Tenant, user: str | None) -> EndUser | None:
        """Return the end user of an id, or else of a name; None for None."""
        if user is None:
            return None
        return parse_user_id(user) or build_end_user(self._pepper, tenant.id, user)

    async def purge(
        self, operator: Operator, tenant_id: str | None, fingerprint: str | None = None
    ) -> dict[str, int]:
        """Purge the cached results of one tenant, or of all for None, that were begun before now.

        A ``fingerprint`` selects one result: the ``cache.key`` of its responses. Returns the time of the
        purge by tenant, in Unix milliseconds by the store's clock.
        """
        records = await self._select_tenants(tenant_id)
        purged = {
            record.tenant.id: await self._cache.purge(record.tenant.id, fingerprint) for record in records
        }
        await self._registry.note(_build_event(operator, "cache.purge", tenant_id, fingerprint=fingerprint))
        return purged

    async def list_events(self, limit: int, before: str | None = None) -> tuple[AuditEvent, ...]:
        """List audit events, newest first; with ``before``, only those before that event id."""
        return await self._registry.list_events(limit, before)

    async def _load_for_change(self, tenant_id: str, expected: Expected | None) -> TenantRecord:
        record = await self.get_tenant(tenant_id)
        _refuse_of_file(record)
        if expected is None:
            raise PreconditionRequired("If-Match is required, with the ETag of the tenant.")
        if expected not in {record.version, "any"}:
            raise PreconditionFailed("The tenant has changed in the meantime; read it again.")
        return record

    async def _change_keys(
        self, tenant_id: str, change: Callable[[Tenant], Tenant], event: AuditEvent
    ) -> TenantRecord:
        """Change keys, and retry if the tenant is changed concurrently; changes of keys commute."""
        for _ in range(ATTEMPTS - 1):
            with suppress(PreconditionFailed):
                return await self._try_change_keys(tenant_id, change, event)
        return await self._try_change_keys(tenant_id, change, event)

    async def _try_change_keys(
        self, tenant_id: str, change: Callable[[Tenant], Tenant], event: AuditEvent
    ) -> TenantRecord:
        record = await self.get_tenant(tenant_id)
        _refuse_of_file(record)
        tenant = change(record.tenant)
        _check_keys(tenant)
        return await self._write(tenant, record.version, event)

    async def _write(self, tenant: Tenant, expected: int, event: AuditEvent) -> TenantRecord:
        written = await self._registry.write(TenantChange(tenant.id, tenant, expected, event))
        assert written is not None  # noqa: S101 - only deletions leave nothing
        return written

    async def _list_tenant_usage(self, tenant: Tenant, user: str | None) -> tuple[UsageLine, ...]:
        windows = _list_windows(tenant, int(time.time() * 1000), self._find_user(tenant, user))
        states = await self._ledger.get_windows(tenant.id, tuple(owned.window for owned in windows))
        return tuple(
            UsageLine(tenant.id, owned.project_id, owned.key_id, state, owned.user_id)
            for owned, state in zip(windows, states, strict=True)
        )


def _list_windows(tenant: Tenant, now_ms: int, user: EndUser | None = None) -> list[OwnedWindow]:
    """List the windows of a tenant: its own, its projects', its keys', and those of one end user."""

    def build(budget: Budget, owner: str, **ids: str) -> OwnedWindow:
        return OwnedWindow(build_window(budget, owner, tenant.time_zone, now_ms), **ids)

    windows = [build(budget, "t") for budget in tenant.budgets if budget.scope == "tenant"]
    for project in tenant.projects:
        windows += [build(budget, f"p:{project.id}", project_id=project.id) for budget in project.budgets]
    for key in tenant.keys:
        windows += [build(budget, f"k:{key.id}", key_id=key.id) for budget in key.budgets]
    if user is not None:
        own = [budget for budget in tenant.budgets if budget.scope == "user"]
        windows += [build(budget, user.owner, user_id=user.id) for budget in own]
    return windows


def _describe_budget(owned: OwnedWindow) -> str:
    """The name of a budget for the audit log, with the id of its end user, if it has one."""
    return " ".join(filter(None, (owned.window.budget.name, owned.user_id)))


def _add_names(row: Row, key: Key | None) -> Row:
    """The row with the project and the name that its key has now."""
    if key is None:
        return row
    return row._replace(project_id=key.project, key_name=key.name)


def _find_key(tenant: Tenant, key_id: str) -> Key:
    match = next((key for key in tenant.keys if key.id == key_id), None)
    if match is None:
        raise NotFound(_NO_SUCH_KEY)
    return match


def _check_keys(tenant: Tenant) -> None:
    if len(tenant.keys) > KEYS_MAX:
        raise Conflict(f"A tenant has at most {KEYS_MAX} keys; revoke one first.")


def _refuse_of_file(record: TenantRecord) -> None:
    if record.source == "file":
        raise Conflict("This tenant is defined in the tenants' file; change it there.")


def _build_event(
    operator: Operator,
    action: Action,
    tenant_id: str | None,
    key_id: str | None = None,
    *,
    changed: tuple[str, ...] = (),
    fingerprint: str | None = None,
    detail: str = "",
) -> AuditEvent:
    return AuditEvent(
        action, operator.name, tenant_id, key_id, changed, fingerprint, detail, operator.request_id
    )
