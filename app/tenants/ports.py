"""The ports of administration. Errors are the domain's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import date

    from app.domain.audit import AuditEvent
    from app.domain.budget import BudgetWindow, WindowState
    from app.domain.report import Row
    from app.domain.tenancy import Tenant, TenantRecord


class BudgetAdjustments(Protocol):
    """Changes of budgets by operators; each is one command and idempotent."""

    async def add_credit(
        self, tenant_id: str, window: BudgetWindow, amount: int, credit_id: str
    ) -> WindowState:
        """Add credit to a lifetime budget, or take some back with an amount below zero.

        Repeats of a ``credit_id`` are ignored. Returns the window with its new limit.

        Raises:
            Conflict: There is less credit than is taken back, or the id was used for another credit.
            StoreUnavailable: It is unknown whether it was added; retrying with the same id is safe.
        """

    async def set_override(
        self, tenant_id: str, window: BudgetWindow, limit: int, until_ms: int
    ) -> WindowState:
        """Override a limit until a time by the store's clock; a time in the past ends the override."""


class Reports(Protocol):
    """Usage and savings by day. Raises StoreUnavailable."""

    async def read_key(self, tenant_id: str, key_id: str, since: date, until: date) -> tuple[Row, ...]:
        """Read the usage of a key from ``since`` through ``until`` (UTC)."""

    async def read_user(self, tenant_id: str, user_id: str, since: date, until: date) -> tuple[Row, ...]:
        """Read the usage of an end user from ``since`` through ``until`` (UTC)."""

    async def read_tenant(self, tenant_id: str, since: date, until: date) -> tuple[Row, ...]:
        """Read the usage of a tenant on these days, by key, model and size, and again by label."""

    async def read_last_used(self, tenant_id: str, key_ids: tuple[str, ...]) -> dict[str, int]:
        """Return when keys were last used, by id, in Unix milliseconds; unused keys are omitted."""


@dataclass(frozen=True, slots=True)
class TenantChange:
    """An atomic change of a stored tenant.

    Attributes:
        tenant: The new tenant; None to delete it.
        expected: The version to change; 0 if the tenant must not exist.
        event: The audit event of the change.
    """

    tenant_id: str
    tenant: Tenant | None
    expected: int
    event: AuditEvent


class Registry(Protocol):
    """Tenants in the store, in addition to those of the file. It never holds a secret."""

    def find(self, tenant_id: str) -> TenantRecord | None:
        """Return the tenant as known to this replica, or None."""

    def records(self) -> tuple[TenantRecord, ...]:
        """Return all tenants as known to this replica, sorted by id."""

    async def refresh(self) -> None:
        """Load changes from the store. Raises StoreUnavailable; then the known contents stay in force."""

    async def write(self, change: TenantChange) -> TenantRecord | None:
        """Write a change and its audit event atomically, and notify every replica; None after a deletion.

        Raises:
            Conflict: The id of the tenant or of a key is taken, or the tenant is defined in the file.
            PreconditionFailed: The version is not the expected one.
            ValidationFailed: The tenant breaks a rule as a whole.
            StoreUnavailable: It is unknown whether it was written; retrying is safe.
        """

    async def note(self, event: AuditEvent) -> None:
        """Write an audit event without a change of a tenant."""

    async def list_events(self, limit: int, before: str | None) -> tuple[AuditEvent, ...]:
        """List audit events, newest first; with ``before``, only those before that event id."""


class Content(Protocol):
    """What tenants have stored."""

    async def forget_tenant(self, tenant_id: str) -> None:
        """Delete every picture and generation of a tenant; repeating it is safe. Raises StoreUnavailable."""


class Cache(Protocol):
    """Purges cached results."""

    async def purge(self, tenant_id: str, fingerprint: str | None) -> int:
        """Purge the results that were begun before now, of one fingerprint or of all.

        Returns the time of the purge, by the store's clock in Unix milliseconds. Requests in flight are
        served and paid for, but their results are not cached (docs/reliability.md R44). Pictures stay
        available at their URLs until they expire.

        Raises:
            StoreUnavailable: It is unknown whether it was done; retrying is safe.
        """
