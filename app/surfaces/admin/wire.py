"""Requests and answers of administration, as JSON has them, in the words of ``app/tenants/schema.py``."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.budget import Unit, WindowName
from app.surfaces.http.amounts import Amount
from app.surfaces.http.reports import UseWire
from app.tenants.limits import Document, Limit, Moment
from app.tenants.schema import IdentityFields, KeyFields, Scopes, TenantFields

GRACE_S_MAX = 7_776_000
ENVIRONMENT = r"^[a-z0-9]{1,16}$"
FINGERPRINT = r"^[A-Za-z0-9_-]{1,128}$"
CREDIT_ID = r"^[A-Za-z0-9_.:-]{1,100}$"
EVENT_ID = r"^[0-9]{1,20}-[0-9]{1,20}$"


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class KeyWire(KeyFields):
    """A key without its secret."""

    id: str = Field(description="The second part of the key's text.", examples=["k1"])
    email: str | None = Field(
        None, description="The Google account whose ID tokens open it in place of a secret; null for none."
    )
    subject: str | None = Field(None, description="The account's subject, in place of its address.")
    retiring_until: Moment | None = Field(
        None, description="When the secret before the last rotation stops opening it."
    )
    last_used_at: Moment | None = Field(
        None,
        description="When it was last served with pictures; null where that is not told here, or longer ago "
        "than reports of usage reach.",
    )


class TenantPatch(TenantFields):
    """A JSON merge patch (RFC 7396): what is left out stays, null means the default, lists are replaced."""


class TenantWire(TenantFields):
    """A tenant as it is in force."""

    id: str = Field(description="Tenant id.", examples=["search"])
    keys: list[KeyWire] = Field(description="Its keys, without their secrets.")
    source: Literal["file", "store"] = Field(description="A tenant of the file is changed there alone.")


class TenantsWire(_Answer):
    """Every tenant."""

    tenants: list[TenantWire] = Field(description="By id.")


class KeysWire(_Answer):
    """The keys of a tenant."""

    keys: list[KeyWire] = Field(description="In the order in which they were made.")


class KeyCreation(KeyFields):
    """A new key; its secret is made by the gateway."""

    scopes: Scopes = Field(frozenset({"images"}), description="What it may do: images, admin.")
    env: Annotated[str, Field(pattern=ENVIRONMENT)] = Field(
        "live", description="A word in the key that tells where it belongs."
    )


class IdentityCreation(IdentityFields):
    """A Google account whose ID tokens open a key that has no secret; exactly one of its names is given."""

    scopes: Scopes = Field(frozenset({"images"}), description="What it may do: images, admin.")


class KeyRotation(Document):
    """How a key gets another secret."""

    grace_s: int = Field(
        86_400,
        strict=True,
        ge=0,
        le=GRACE_S_MAX,
        description="How long the present secret opens as well, in seconds.",
    )
    env: Annotated[str, Field(pattern=ENVIRONMENT)] = Field(
        "live", description="A word in the key that tells where it belongs."
    )


class IssuedKeyWire(KeyWire):
    """A key whose secret was just made."""

    key: str = Field(description="The whole key; it is shown this once.", examples=["fg_live_k1_…_…"])


class UsageLineWire(_Answer):
    """One budget window as it stands."""

    tenant: str = Field(description="Whose.", examples=["search"])
    project: str | None = Field(description="The project's own window, or null.")
    key: str | None = Field(description="The key's own window, or null.", examples=["k1"])
    name: str = Field(
        description="The policy's name, as in the RateLimit headers.", examples=["tenant-day-images"]
    )
    unit: str = Field(description="output_tokens, total_tokens, images or usd.", examples=["images"])
    window: str = Field(description="In the tenant's time zone.", examples=["day"])
    mode: str = Field(description="enforce, or shadow: counted and never refused.", examples=["enforce"])
    limit: Amount = Field(description="In the unit; dollars for usd.", examples=[1000])
    settled: Amount = Field(description="Booked.", examples=[12])
    held: Amount = Field(description="Reserved by running requests.", examples=[0])
    remaining: Amount = Field(description="Left, never below zero.", examples=[988])
    starts_at: datetime = Field(description="When the window began.", examples=["2026-11-22T00:00:00Z"])
    credit: Amount = Field(description="The part of the limit that was added by credit.", examples=[0])
    resets_at: datetime | None = Field(
        description="When it ends; null for a lifetime.", examples=["2026-11-23T00:00:00Z"]
    )


class AdminUsageWire(_Answer):
    """What was used, across tenants."""

    windows: list[UsageLineWire] = Field(description="By tenant; its own windows before those of its keys.")


class ReportLineWire(UseWire):
    """One line of a report; what it was not asked by is null."""

    tenant: str | None = Field(None, description="Whose.", examples=["search"])
    day: date | None = Field(None, description="Of UTC.", examples=["2026-11-22"])
    month: str | None = Field(None, description="Of UTC.", examples=["2026-11"])
    key: str | None = Field(
        None,
        description="The key's id; with model and size null for what nobody can attribute: charged because "
        "the outcome is unknown, or put back after a loss of the store.",
        examples=["k1"],
    )
    model: str | None = Field(None, description="Card id.", examples=["gemini-3.1-flash-image"])
    size: str | None = Field(None, description="Of the pictures.", examples=["1K"])
    label: str | None = Field(
        None,
        description="A request's label as name=value; null for those beyond the day's limit.",
        examples=["team=search"],
    )


class ReportWire(_Answer):
    """What was used, added up."""

    since: date = Field(description="First day of UTC.", examples=["2026-11-01"])
    until: date = Field(description="Last day of UTC.", examples=["2026-11-22"])
    by: list[str] = Field(description="By what it is added up.", examples=[["tenant", "day"]])
    lines: list[ReportLineWire] = Field(description="In the order of what it is added up by.")


class _BudgetNamed(Document):
    """Which budget of the tenant."""

    unit: Unit = Field(description="Unit of the budget.")
    project: str | None = Field(None, description="For the budget of one of its projects.")
    key: str | None = Field(None, description="For the budget of one of its keys.")


class CreditRequest(_BudgetNamed):
    """Prepaid credit for a budget whose window is `lifetime`."""

    amount: Decimal = Field(
        description="In the unit; dollars for usd. Below zero takes credit back.", examples=[500]
    )
    credit_id: Annotated[str, Field(pattern=CREDIT_ID)] = Field(
        description="Names this credit: sent again, it is not added again.", examples=["invoice-2026-1042"]
    )


class OverrideRequest(_BudgetNamed):
    """Another limit for a time."""

    window: WindowName = Field(description="Window of the budget.")
    limit: Limit = Field(description="In the unit; dollars for usd.", examples=[60000])
    until: Moment = Field(
        description="Until then; a moment that is past ends an override now.",
        examples=["2026-12-01T00:00:00Z"],
    )


class PurgeRequest(Document):
    """Whose finished results are served no more: exactly one of `tenant` and `all`."""

    tenant: str | None = Field(None, description="Of one tenant.", examples=["search"])
    all: bool = Field(default=False, description="Of every tenant.")
    fingerprint: Annotated[str, Field(pattern=FINGERPRINT)] | None = Field(
        None, description="Of the tenant's one piece of work, as answers name it in `cache.key`."
    )


class PurgeWire(_Answer):
    """What was purged."""

    purged_until: dict[str, datetime] = Field(
        description="By tenant: results begun until then are served no more.",
        examples=[{"search": "2026-11-22T12:00:00Z"}],
    )


class AuditEventWire(_Answer):
    """A change that an operator made."""

    id: str = Field(description="Later events have greater ones.", examples=["1795348800000-0"])
    at: datetime = Field(description="By the store's clock.", examples=["2026-11-22T12:00:00Z"])
    action: str = Field(description="What was done.", examples=["key.rotate"])
    operator: str = Field(description="environment, or tenant and id of the admin key.", examples=["ops/k1"])
    tenant: str | None = Field(description="Whom it concerned; null for all.", examples=["search"])
    key: str | None = Field(description="The key that it concerned.", examples=["k1"])
    changed: list[str] = Field(
        description="The tenant's fields that have another value now.", examples=[["budgets"]]
    )
    fingerprint: str | None = Field(description="The one piece of work that was purged.", examples=[None])
    detail: str = Field(
        description="What became of a budget: amounts as the store counts them, dollars in billionths.",
        examples=["tenant-lifetime-usd +5000000000 by invoice-7"],
    )
    request_id: str = Field(description="Of the request that asked for it.", examples=["5f0c4f6e2c1b4a1d"])


class AuditWire(_Answer):
    """The audit log."""

    events: list[AuditEventWire] = Field(description="Newest first.")
    next_before: str | None = Field(description="Give this as `before` for older ones; null at the end.")
