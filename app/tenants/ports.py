"""The ports of administration: what operators change and look at. Errors are the domain's."""

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
    """What operators change of a budget while it runs; one command each, repeatable without harm."""

    async def add_credit(
        self, tenant_id: str, window: BudgetWindow, amount: int, credit_id: str
    ) -> WindowState:
        """Add credit to a lifetime budget, or take some back with an amount below zero.

        ``credit_id`` makes a repetition harmless. Returns the window with its new limit.

        Raises:
            Conflict: Less credit is there than is to be taken, or the id was used for another credit.
            StoreUnavailable: Nobody knows whether it was added; repeating with the same id is safe.
        """

    async def set_override(
        self, tenant_id: str, window: BudgetWindow, limit: int, until_ms: int
    ) -> WindowState:
        """Let another limit be in force until a moment by the store's clock; one that is past ends it now."""


class Reports(Protocol):
    """What was used and saved, day by day. Raises StoreUnavailable."""

    async def read_key(self, tenant_id: str, key_id: str, since: date, until: date) -> tuple[Row, ...]:
        """What one key used on these days of UTC, the last included."""

    async def read_tenant(self, tenant_id: str, since: date, until: date) -> tuple[Row, ...]:
        """What a tenant used on these days, by key, model and size, and once more by label."""

    async def read_last_used(self, tenant_id: str, key_ids: tuple[str, ...]) -> dict[str, int]:
        """When keys were last served, by id, in Unix milliseconds; keys that never were are left out."""


@dataclass(frozen=True, slots=True)
class TenantChange:
    """One change of a stored tenant, all or nothing.

    Attributes:
        tenant: What it becomes; None to delete it.
        expected: The version that is changed; 0 where there must be none yet.
        event: What is written into the audit log with it.
    """

    tenant_id: str
    tenant: Tenant | None
    expected: int
    event: AuditEvent


class Registry(Protocol):
    """Tenants that operators keep in the store, beside those of the file. No secret ever enters it."""

    def find(self, tenant_id: str) -> TenantRecord | None:
        """The tenant as this replica knows it."""

    def records(self) -> tuple[TenantRecord, ...]:
        """Every tenant as this replica knows it, by id."""

    async def refresh(self) -> None:
        """Know what the store knows. Raises StoreUnavailable; then the last known contents stay."""

    async def write(self, change: TenantChange) -> TenantRecord | None:
        """Make a change and its audit event in one step, and tell every replica; None after a deletion.

        Raises:
            Conflict: The id of the tenant or of a key is taken, or a file has the tenant.
            PreconditionFailed: The version is not the expected one.
            ValidationFailed: The tenant as a whole breaks a rule of the file.
            StoreUnavailable: Nobody knows whether it was made; repeating is safe.
        """

    async def note(self, event: AuditEvent) -> None:
        """Write an audit event that changes no tenant."""

    async def list_events(self, limit: int, before: str | None) -> tuple[AuditEvent, ...]:
        """The latest audit events, newest first; only those before an event's id where one is given."""


class Cache(Protocol):
    """Finished results, for those who must be rid of them."""

    async def purge(self, tenant_id: str, fingerprint: str | None) -> int:
        """Serve and keep no result any more that was begun until now, of one piece of work or of all.

        Returns that moment, by the store's clock in Unix milliseconds. What is in flight ends and is paid,
        and its own caller gets it, but it is not kept (docs/reliability.md R44). Pictures stay under their
        own addresses until they expire.

        Raises:
            StoreUnavailable: Nobody knows whether it was done; repeating is safe.
        """
