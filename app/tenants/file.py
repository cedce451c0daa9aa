"""The tenants' file as it is written: the shape of the Admin API, each field with its rule.

Limits in dollars are decimals and become billionths exactly; no float ever touches money. Nothing here looks
at the environment or the store.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from app.domain.keys import KEY_ID
from app.domain.requirements import requirement_of
from app.domain.tenancy import (
    SCOPES,
    TENANT_ID,
    CachePolicy,
    DialectSharing,
    Identity,
    Key,
    Priority,
    RetiringSecret,
    Tenant,
)
from app.tenants.budget_entries import (
    BudgetEntry,
    Entry,
    Moment,
    ProjectEntry,
    RateEntry,
    check_budgets,
    known,
    milliseconds,
)
from app.tenants.rights_entries import RightsEntry

if TYPE_CHECKING:
    from datetime import datetime

    from pydantic_core import ErrorDetails

_HASH = re.compile(r"hmac-sha256:[0-9a-f]{64}", re.ASCII)
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}", re.ASCII)
_SUBJECT = re.compile(r"[A-Za-z0-9:._|-]{1,255}", re.ASCII)


Hash = Annotated[str, known(_HASH, "a hash is hmac-sha256: and 64 lower-case hexadecimal digits")]


class RetiringEntry(Entry):
    """The secret that a key had before, and until when it still opens."""

    hash: Hash
    not_after: Moment

    def secret(self) -> RetiringSecret:
        """The domain's retiring secret."""
        return RetiringSecret(self.hash.partition(":")[2], milliseconds(self.not_after))


class KeyEntry(RightsEntry):
    """One key: without its secret, as ``flashgate keys new`` prints it, or that of a Google account."""

    id: Annotated[str, known(KEY_ID, "a key id is 1 to 32 letters or digits")]
    email: (
        Annotated[str, known(_EMAIL, "an e-mail address is like caller@project.iam.gserviceaccount.com")]
        | None
    ) = None
    subject: Annotated[str, known(_SUBJECT, "a subject is 1 to 255 letters, digits or :._|-")] | None = None
    hash: Hash | None = Field(None, validate_default=True)
    scopes: frozenset[str] = Field(min_length=1)
    budgets: Annotated[
        tuple[BudgetEntry, ...], AfterValidator(lambda found: check_budgets(found, "key"))
    ] = ()
    not_before: Moment | None = None
    expires_at: Moment | None = None
    retiring: RetiringEntry | None = None
    project: str | None = None
    rate: RateEntry | None = None
    priority: Priority | None = None

    @field_validator("hash")
    @classmethod
    def _opened_by_one(cls, value: str | None, info: ValidationInfo) -> str | None:
        # An address or subject that is itself at fault is missing here, and told by itself.
        others = [info.data[name] for name in ("email", "subject") if name in info.data]
        if len(others) == 2 and sum(each is not None for each in (value, *others)) != 1:
            raise ValueError("exactly one of hash, email and subject is needed")
        return value

    @field_validator("expires_at")
    @classmethod
    def _after_its_begin(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        begin = info.data.get("not_before")
        if value is not None and begin is not None and value <= begin:
            raise ValueError("a key ends after its not_before")
        return value

    @field_validator("retiring")
    @classmethod
    def _of_a_hash(cls, value: RetiringEntry | None, info: ValidationInfo) -> RetiringEntry | None:
        if value is not None and info.data.get("hash", "") is None:
            raise ValueError("only a key with a hash has a secret that retires")
        return value

    @property
    def identity(self) -> Identity | None:
        """The Google account whose ID tokens open the key."""
        if self.email is not None:
            return Identity("email", self.email.lower())
        return None if self.subject is None else Identity("subject", self.subject)

    @field_validator("scopes")
    @classmethod
    def _offered(cls, value: frozenset[str]) -> frozenset[str]:
        if unknown := sorted(value - SCOPES):
            raise ValueError(f"{', '.join(unknown)}: the scopes of a key are {', '.join(sorted(SCOPES))}")
        return value

    def key(self) -> Key:
        """The domain's key."""
        return Key(
            self.id,
            "" if self.hash is None else self.hash.partition(":")[2],
            self.scopes,
            tuple(budget.budget("key") for budget in self.budgets),
            None if self.retiring is None else self.retiring.secret(),
            None if self.expires_at is None else milliseconds(self.expires_at),
            self.project,
            None if self.rate is None else self.rate.rate(),
            self.identity,
            self.models,
            self.max_image_size,
            self.preview,
            self.priority,
            None if self.not_before is None else milliseconds(self.not_before),
        )


class CacheEntry(Entry):
    """What the tenant's requests do with the cache unless they say otherwise."""

    mode: Literal["use", "refresh", "bypass"] = "use"
    ttl_s: int = Field(default=86_400, ge=1, le=31_622_400)
    quota_mb: int | None = Field(default=None, ge=0, le=1_000_000)
    dialects: DialectSharing = "own"

    def policy(self) -> CachePolicy:
        """The domain's policy."""
        quota_bytes = None if self.quota_mb is None else self.quota_mb << 20
        return CachePolicy(self.mode, self.ttl_s, quota_bytes, self.dialects)


class TenantEntry(RightsEntry):
    """One tenant as it stands in the file."""

    id: Annotated[str, known(TENANT_ID, "a tenant id is 1 to 63 of a-z, 0-9 and - and begins with no hyphen")]
    time_zone: str = "UTC"
    budgets: Annotated[tuple[BudgetEntry, ...], AfterValidator(partial(check_budgets, scope="tenant"))] = ()
    cache: CacheEntry = CacheEntry()
    keys: tuple[KeyEntry, ...] = ()
    projects: tuple[ProjectEntry, ...] = ()
    rate: RateEntry | None = None
    strict: bool = False
    priority: Priority = "interactive"

    @model_validator(mode="after")
    def _projects(self) -> TenantEntry:
        names = [project.id for project in self.projects]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"there are two projects called {', '.join(repeated)}")
        if unknown := sorted({key.project for key in self.keys if key.project} - set(names)):
            raise ValueError(f"no project is called {', '.join(unknown)}, which a key names")
        return self

    @model_validator(mode="after")
    def _models_of_keys(self) -> TenantEntry:
        for key in self.keys:
            if self.models and (beyond := sorted(key.models - self.models)):
                raise ValueError(f"the key {key.id} may use {', '.join(beyond)}, which its tenant may not")
        return self

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        if value not in _time_zones():
            raise ValueError(f"{value!r} is no IANA time zone")
        return value

    def tenant(self) -> Tenant:
        """The domain's tenant."""
        tenant = Tenant(
            id=self.id,
            time_zone=ZoneInfo(self.time_zone),
            budgets=tuple(entry.budget("tenant") for entry in self.budgets),
            keys=tuple(entry.key() for entry in self.keys),
            models=self.models,
            max_image_size=self.max_image_size,
            cache=self.cache.policy(),
            projects=tuple(entry.project() for entry in self.projects),
            rate=None if self.rate is None else self.rate.rate(),
            strict=self.strict,
            priority=self.priority,
        )
        return tenant if self.preview is None else replace(tenant, preview=self.preview)


@cache
def _time_zones() -> frozenset[str]:
    """Every name of the machine's database, which takes some milliseconds to list."""
    return frozenset(available_timezones())


class TenantsFile(Entry):
    """The whole file."""

    tenants: tuple[TenantEntry, ...]


def sentence(fault: ErrorDetails) -> str:
    """A fault that pydantic found, in a phrase that quotes no secret."""
    return requirement_of(fault["type"], fault.get("ctx"))
