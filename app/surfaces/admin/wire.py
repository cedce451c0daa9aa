"""JSON requests and responses of the Admin API, built on the models of ``app/tenants/schema.py``."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.budget import UNITS, WindowName
from app.domain.credential_state import State
from app.surfaces.http.amounts import Amount
from app.surfaces.http.reports import UseWire
from app.tenants.limits import BudgetUnit, Document, Limit, Moment
from app.tenants.schema import IdentityFields, KeyFields, Scopes, TenantFields

GRACE_S_MAX = 7_776_000
ENVIRONMENT = r"^[a-z0-9]{1,16}$"
FINGERPRINT = r"^[A-Za-z0-9_-]{1,128}$"
CREDIT_ID = r"^[A-Za-z0-9_.:-]{1,100}$"
EVENT_ID = r"^[0-9]{1,20}-[0-9]{1,20}$"


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


class KeyWire(KeyFields):
    """A key without its secret."""

    id: str = Field(description="Key id, as in the text of the key.", examples=["k1"])
    email: str | None = Field(
        None, description="E-mail address of the Google account whose ID tokens this key accepts, or null."
    )
    subject: str | None = Field(None, description="Subject of the Google account, or null.")
    retiring_until: Moment | None = Field(None, description="Time until which the previous secret is valid.")
    last_used_at: Moment | None = Field(
        None,
        description="Time of the last request that got pictures; null if it is not reported here or lies "
        "before the oldest usage report.",
    )


class TenantPatch(TenantFields):
    """A JSON merge patch (RFC 7396): omitted members stay, null resets to the default, lists are replaced."""


class TenantWire(TenantFields):
    """A tenant with its current configuration."""

    id: str = Field(description="Tenant id.", examples=["search"])
    keys: list[KeyWire] = Field(description="Keys of the tenant, without secrets.")
    source: Literal["file", "store"] = Field(
        description="Where the tenant is defined: file (read-only here) or store."
    )


class TenantsWire(_Response):
    """Every tenant."""

    tenants: list[TenantWire] = Field(description="Tenants, sorted by id.")


class KeysWire(_Response):
    """The keys of a tenant."""

    keys: list[KeyWire] = Field(description="Keys, in the order of creation.")


class KeyCreation(KeyFields):
    """A new key; the gateway generates its secret."""

    scopes: Scopes = Field(frozenset({"images"}), description="Permissions of the key: images, admin.")
    env: Annotated[str, Field(pattern=ENVIRONMENT)] = Field(
        "live", description="Environment name that becomes part of the key's text."
    )


class IdentityCreation(IdentityFields):
    """A key without a secret, for a Google account; exactly one of `email` and `subject` is required."""

    scopes: Scopes = Field(frozenset({"images"}), description="Permissions of the key: images, admin.")


class KeyRotation(Document):
    """Options of a key rotation."""

    grace_s: int = Field(
        86_400,
        strict=True,
        ge=0,
        le=GRACE_S_MAX,
        description="Seconds for which the current secret stays valid.",
    )
    env: Annotated[str, Field(pattern=ENVIRONMENT)] = Field(
        "live", description="Environment name that becomes part of the key's text."
    )


class IssuedKeyWire(KeyWire):
    """A key with its new secret."""

    key: str = Field(description="The full key, which is shown only once.", examples=["fg_live_k1_…_…"])


class UsageLineWire(_Response):
    """Current state of a budget window."""

    tenant: str = Field(description="Tenant id.", examples=["search"])
    project: str | None = Field(description="Project id; null unless it is a project's budget.")
    key: str | None = Field(description="Key id; null unless it is a key's budget.", examples=["k1"])
    user: str | None = Field(description="Id of the end user; null unless it is a user's budget.")
    name: str = Field(description="Policy name, as in the RateLimit headers.", examples=["tenant-day-images"])
    unit: str = Field(description=f"Unit of the budget: {', '.join(UNITS)}.", examples=["images"])
    window: str = Field(description="Length of the window, in the tenant's time zone.", examples=["day"])
    mode: str = Field(
        description="enforce, or shadow: usage is counted but never refused.", examples=["enforce"]
    )
    limit: Amount = Field(description="Current limit, in the unit (US dollars for usd).", examples=[1000])
    settled: Amount = Field(description="Amount that has been charged.", examples=[12])
    held: Amount = Field(
        description="Amount reserved by running requests, at the most that they can cost.", examples=[0]
    )
    unresolved: Amount = Field(
        description="Amount set aside, beyond what was charged, for calls whose outcome is unknown.",
        examples=[0],
    )
    remaining: Amount = Field(description="Amount that remains, never below zero.", examples=[988])
    starts_at: datetime = Field(description="Start of the window.", examples=["2026-11-22T00:00:00Z"])
    credit: Amount = Field(description="Part of the limit that was added as credit.", examples=[0])
    resets_at: datetime | None = Field(
        description="End of the window; null for a lifetime budget.", examples=["2026-11-23T00:00:00Z"]
    )


class AdminUsageWire(_Response):
    """Budget windows across tenants."""

    windows: list[UsageLineWire] = Field(
        description="Windows by tenant; the tenant's own come before those of its keys."
    )


class ReportLineWire(UseWire):
    """A line of a report; dimensions that were not requested are null."""

    tenant: str | None = Field(None, description="Tenant id.", examples=["search"])
    day: date | None = Field(None, description="Day, UTC.", examples=["2026-11-22"])
    month: str | None = Field(None, description="Month, UTC.", examples=["2026-11"])
    project: str | None = Field(None, description="Project that the key belongs to now.", examples=["web"])
    key: str | None = Field(
        None,
        description="Key id. Null, with model, size and tier, for usage that cannot be attributed: charged "
        "because the outcome is unknown, or restored after the store lost data.",
        examples=["k1"],
    )
    key_name: str | None = Field(
        None, description="Name that the key has now.", examples=["Search, production"]
    )
    model: str | None = Field(None, description="Model id.", examples=["gemini-3.1-flash-image"])
    size: str | None = Field(None, description="Image size.", examples=["1K"])
    tier: str | None = Field(
        None,
        description="Service tier by Google's report; standard if it reported none, estimated if it reported "
        "no usage and the gateway booked its own figures.",
        examples=["standard"],
    )
    label: str | None = Field(
        None,
        description="Label as name=value; null for labels beyond the daily limit.",
        examples=["team=search"],
    )
    user: str | None = Field(
        None,
        description="Id of the end user; null for users beyond the daily limit.",
        examples=["usr_Qm9va3Mgb3BlbiBh"],
    )
    parameter: str | None = Field(
        None,
        description="A parameter that the requests used, with its value or class if it has one; null for "
        "parameters beyond the daily limit.",
        examples=["aspect_ratio=16:9"],
    )
    parameters: str | None = Field(
        None,
        description="All parameters that the requests used, separated by semicolons; null beyond the daily "
        "limit.",
        examples=["image_size=1K;aspect_ratio=16:9;seed"],
    )


class ReportWire(_Response):
    """A usage report."""

    since: date = Field(description="First day of the report, UTC.", examples=["2026-11-01"])
    until: date = Field(description="Last day of the report, UTC.", examples=["2026-11-22"])
    by: list[str] = Field(description="Dimensions of the report.", examples=[["tenant", "day"]])
    lines: list[ReportLineWire] = Field(description="Lines, sorted by the dimensions.")


class _BudgetReference(Document):
    """Names a budget of the tenant."""

    unit: BudgetUnit = Field(description="Unit of the budget.")
    project: str | None = Field(None, description="Project id, for a project's budget.")
    key: str | None = Field(None, description="Key id, for a key's budget.")
    user: str | None = Field(
        None, min_length=1, description="Name or id (`usr_…`) of an end user, for the budget of that user."
    )


class CreditRequest(_BudgetReference):
    """Prepaid credit for a budget whose window is `lifetime`."""

    amount: Decimal = Field(
        description="Credit in the unit (US dollars for usd); negative to take credit back.", examples=[500]
    )
    credit_id: Annotated[str, Field(pattern=CREDIT_ID)] = Field(
        description="Idempotency id of the credit: repeats are ignored.", examples=["invoice-2026-1042"]
    )


class OverrideRequest(_BudgetReference):
    """A temporary limit for a budget."""

    window: WindowName = Field(description="Window of the budget.")
    limit: Limit = Field(description="Temporary limit in the unit (US dollars for usd).", examples=[60000])
    until: Moment = Field(
        description="End of the override; a time in the past ends it now.",
        examples=["2026-12-01T00:00:00Z"],
    )


class PurgeRequest(Document):
    """Which cached results to purge: exactly one of `tenant` and `all` is required."""

    tenant: str | None = Field(None, description="Id of the tenant to purge.", examples=["search"])
    all: bool = Field(default=False, description="Purge the results of every tenant.")
    fingerprint: Annotated[str, Field(pattern=FINGERPRINT)] | None = Field(
        None, description="Purge one result of the tenant: the `cache.key` of its responses."
    )


class PurgeWire(_Response):
    """The result of a purge."""

    purged_until: dict[str, datetime] = Field(
        description="Per tenant, the time of the purge: results begun before it are not served again.",
        examples=[{"search": "2026-11-22T12:00:00Z"}],
    )


class LiveRequestWire(_Response):
    """A request or an operation that is under way."""

    tenant: str = Field(description="Tenant id.", examples=["search"])
    key: str | None = Field(description="Key id.", examples=["k1"])
    request_id: str | None = Field(description="Id of the request.", examples=["5f0c4f6e2c1b4a1d"])
    operation_id: str | None = Field(description="Id of the operation, or null.", examples=[None])
    model: str | None = Field(
        description="Model id; null before the request is validated.", examples=["gemini-3.1-flash-image"]
    )
    image_size: str | None = Field(description="Image size.", examples=["1K"])
    images: int | None = Field(description="Number of pictures.", examples=[1])
    step: str | None = Field(
        description="Present step: admit, wait (for equal work), upstream or settle.", examples=["upstream"]
    )
    back_end: str | None = Field(description="Back end that was called last.", examples=["vertex"])
    attempts: int = Field(description="Calls of the model so far.", examples=[1])
    age_s: float = Field(description="Seconds since it began.", examples=[4.2])


class LiveRequestsWire(_Response):
    """What is under way in one instance."""

    requests: list[LiveRequestWire] = Field(description="Requests and operations, the oldest first.")


class CredentialStateWire(_Response):
    """A key or a project of a back end, as the instance that answers sees it."""

    name: str = Field(
        description="Back end, and the credential's name if it has one.", examples=["vertex/images-a"]
    )
    pools: list[str] = Field(
        description="Names by which tenants reach it: its pool's and its own.",
        examples=[["default", "images-a"]],
    )
    weight: int = Field(description="Share of its pool's calls.", examples=[1])
    state: State = Field(
        description="serving; resting, after a 429 for at least one model; refused, by Google; spending_cap.",
        examples=["serving"],
    )
    detail: str | None = Field(description="Google's reason, or null.", examples=[None])
    rests_s: dict[str, float] = Field(
        description="Seconds for which others of its pool are called first, by model; * for all models.",
        examples=[{"gemini-3.1-flash-image": 12.5}],
    )
    running: int = Field(description="Calls under way.", examples=[3])
    waiting: int = Field(description="Calls that wait for a slot.", examples=[0])


class CredentialStatesWire(_Response):
    """Credentials of the back ends in one instance."""

    credentials: list[CredentialStateWire] = Field(
        description="Credentials, in the order in which back ends are tried."
    )


class AuditEventWire(_Response):
    """A change that an operator made."""

    id: str = Field(description="Event id; later events have greater ids.", examples=["1795348800000-0"])
    at: datetime = Field(
        description="Time of the change, by the store's clock.", examples=["2026-11-22T12:00:00Z"]
    )
    action: str = Field(description="Action of the operator.", examples=["key.rotate"])
    operator: str = Field(
        description="environment, or the tenant and id of the admin key.", examples=["ops/k1"]
    )
    tenant: str | None = Field(description="Id of the tenant; null for all tenants.", examples=["search"])
    key: str | None = Field(description="Id of the key.", examples=["k1"])
    changed: list[str] = Field(description="Fields of the tenant that were changed.", examples=[["budgets"]])
    fingerprint: str | None = Field(description="Fingerprint of the purged result.", examples=[None])
    detail: str = Field(
        description="Change of a budget, in the store's amounts (billionths for dollars).",
        examples=["tenant-lifetime-usd +5000000000 by invoice-7"],
    )
    request_id: str = Field(
        description="Id of the request that made the change.", examples=["5f0c4f6e2c1b4a1d"]
    )


class AuditWire(_Response):
    """The audit log."""

    events: list[AuditEventWire] = Field(description="Events, newest first.")
    next_before: str | None = Field(description="Value of `before` for the next page; null on the last page.")
