"""Tenants and keys as operators write them: the tenants' file, the Admin API, and what the registry keeps.

One set of models judges a document, is its schema in OpenAPI, and is the stored form. Nothing here looks at
the environment or the store.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, ValidationInfo, field_validator, model_validator

from app.domain.keys import KEY_ID
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
from app.tenants.limits import (
    BudgetLimitDocument,
    Document,
    KeyBudgets,
    Moment,
    Names,
    ProjectDocument,
    RateLimitDocument,
    Rights,
    TenantBudgets,
    datetime_from_ms,
    matching,
    to_unix_ms,
)

if TYPE_CHECKING:
    from datetime import datetime

_HASH = re.compile(r"hmac-sha256:[0-9a-f]{64}", re.ASCII)
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}", re.ASCII)
_SUBJECT = re.compile(r"[A-Za-z0-9:._|-]{1,255}", re.ASCII)
_ACCOUNT = "search@my-project.iam.gserviceaccount.com"

Hash = Annotated[str, *matching(_HASH, "a hash is hmac-sha256: and 64 lower-case hexadecimal digits")]
Email = Annotated[str, *matching(_EMAIL, "an e-mail address is like caller@project.iam.gserviceaccount.com")]
Subject = Annotated[str, *matching(_SUBJECT, "a subject is 1 to 255 letters, digits or :._|-")]
Scopes = Annotated[Names, Field(min_length=1)]


class CachePolicyDocument(Document):
    """What a tenant's requests do with the cache unless they say otherwise."""

    mode: Literal["use", "refresh", "bypass"] = Field(
        "use", description="use reads and writes, refresh only writes, bypass does neither."
    )
    ttl_s: int = Field(86_400, ge=1, le=31_622_400, description="Seconds that results are kept.")
    quota_mb: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="MiB that its kept pictures may take together; those that expire first go first. "
        "null for no limit.",
        examples=[512],
    )
    dialects: DialectSharing = Field(
        "own",
        description="Unseeded requests in Google's and OpenAI's dialects: own, each draws its own picture as "
        "with the original; share, equal ones share one as `mode` says.",
        examples=["share"],
    )

    def build_policy(self) -> CachePolicy:
        """The domain's policy."""
        quota_bytes = None if self.quota_mb is None else self.quota_mb << 20
        return CachePolicy(self.mode, self.ttl_s, quota_bytes, self.dialects)

    @classmethod
    def from_policy(cls, policy: CachePolicy) -> Self:
        """The document of a policy."""
        quota_mb = None if policy.quota_bytes is None else policy.quota_bytes >> 20
        return cls.model_validate(
            {"mode": policy.mode, "ttl_s": policy.ttl_s, "quota_mb": quota_mb, "dialects": policy.dialects}
        )


class RetiringSecretDocument(Document):
    """The secret that a key had before its last rotation."""

    hash: Hash = Field(description="HMAC of the secret.", examples=["hmac-sha256:" + "0" * 64])
    not_after: Moment = Field(description="When it stops opening the key.")


class KeyFields(Rights):
    """What a key may do within its tenant, whoever made it and however it opens."""

    scopes: Scopes = Field(description="What it may do: images, admin.", examples=[["images"]])
    project: str | None = Field(None, description="The project whose budgets it counts in as well.")
    budgets: KeyBudgets = Field((), description="Limits of this key.")
    rate: RateLimitDocument | None = Field(None, description="Its own rate.")
    priority: Priority | None = Field(None, description="Its class under load; null for its tenant's.")
    not_before: Moment | None = Field(None, description="When it begins to open; null for at once.")
    expires_at: Moment | None = Field(None, description="When it stops opening; null for never.")

    @field_validator("scopes")
    @classmethod
    def _check_scopes(cls, value: frozenset[str]) -> frozenset[str]:
        if unknown := sorted(value - SCOPES):
            raise ValueError(f"{', '.join(unknown)}: the scopes of a key are {', '.join(sorted(SCOPES))}")
        return value

    @field_validator("expires_at")
    @classmethod
    def _check_period(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        begin = info.data.get("not_before")
        if value is not None and begin is not None and value <= begin:
            raise ValueError("a key ends after its not_before")
        return value

    def build_key(
        self,
        key_id: str = "",
        *,
        secret_hash: str = "",
        retiring: RetiringSecret | None = None,
        identity: Identity | None = None,
    ) -> Key:
        """The domain's key of this id that may do so."""
        return Key(
            id=key_id,
            secret_hash=secret_hash,
            scopes=self.scopes,
            budgets=tuple(entry.build_budget("key") for entry in self.budgets),
            retiring=retiring,
            expires_at_ms=None if self.expires_at is None else to_unix_ms(self.expires_at),
            project=self.project,
            rate=None if self.rate is None else self.rate.build_rate(),
            identity=identity,
            models=self.models,
            max_image_size=self.max_image_size,
            preview=self.preview,
            priority=self.priority,
            not_before_ms=None if self.not_before is None else to_unix_ms(self.not_before),
        )


class IdentityFields(KeyFields):
    """A key that the ID tokens of a Google account open, by its address or its subject."""

    email: Email | None = Field(
        None, description="The account's verified e-mail address, in any case.", examples=[_ACCOUNT]
    )
    subject: Subject | None = Field(
        None, description="The account's subject, which never changes.", examples=["103117966615020283234"]
    )

    @property
    def identity(self) -> Identity | None:
        """The Google account whose ID tokens open the key."""
        if self.email is not None:
            return Identity("email", self.email.lower())
        return None if self.subject is None else Identity("subject", self.subject)


class KeyDocument(IdentityFields):
    """A key whose secret was made elsewhere, as `flashgate keys new` prints it, or a Google account's."""

    id: Annotated[str, *matching(KEY_ID, "a key id is 1 to 32 letters or digits")] = Field(
        description="Key id, unique in the deployment.", examples=["k1"]
    )
    hash: Hash | None = Field(
        None,
        validate_default=True,
        description="HMAC of its secret; exactly one of hash, email and subject is given.",
        examples=["hmac-sha256:" + "0" * 64],
    )
    retiring: RetiringSecretDocument | None = Field(
        None, description="The secret before the last rotation, while it still opens the key."
    )

    @field_validator("hash")
    @classmethod
    def _check_one_credential(cls, value: str | None, info: ValidationInfo) -> str | None:
        # An address or subject that is itself at fault is missing here, and reported by itself.
        others = [info.data[name] for name in ("email", "subject") if name in info.data]
        if len(others) == 2 and sum(each is not None for each in (value, *others)) != 1:
            raise ValueError("exactly one of hash, email and subject is needed")
        return value

    @field_validator("retiring")
    @classmethod
    def _check_retiring(
        cls, value: RetiringSecretDocument | None, info: ValidationInfo
    ) -> RetiringSecretDocument | None:
        if value is not None and info.data.get("hash", "") is None:
            raise ValueError("only a key with a hash has a secret that retires")
        return value

    def build(self) -> Key:
        """The domain's key."""
        retiring = None
        if self.retiring is not None:
            not_after_ms = to_unix_ms(self.retiring.not_after)
            retiring = RetiringSecret(_strip_algorithm(self.retiring.hash), not_after_ms)
        secret_hash = _strip_algorithm(self.hash or "")
        return self.build_key(self.id, secret_hash=secret_hash, retiring=retiring, identity=self.identity)

    @classmethod
    def from_key(cls, key: Key) -> Self:
        """The document of a key, hashes included."""
        opens = {"hash": f"hmac-sha256:{key.secret_hash}"}
        if key.identity is not None:
            opens = {key.identity.kind: key.identity.value}
        retiring = key.retiring and {
            "hash": f"hmac-sha256:{key.retiring.secret_hash}",
            "not_after": datetime_from_ms(key.retiring.not_after_ms),
        }
        return cls.model_validate(
            {
                **opens,
                "id": key.id,
                "scopes": key.scopes,
                "project": key.project,
                "budgets": tuple(map(BudgetLimitDocument.from_budget, key.budgets)),
                "rate": RateLimitDocument.from_rate(key.rate),
                "models": key.models,
                "max_image_size": key.max_image_size,
                "preview": key.preview,
                "priority": key.priority,
                "not_before": None if key.not_before_ms is None else datetime_from_ms(key.not_before_ms),
                "expires_at": None if key.expires_at_ms is None else datetime_from_ms(key.expires_at_ms),
                "retiring": retiring,
            }
        )


class TenantFields(Rights):
    """What an operator decides about a tenant."""

    time_zone: str = Field(
        "UTC", description="IANA time zone; budget windows begin at its midnight.", examples=["Europe/Berlin"]
    )
    budgets: TenantBudgets = Field((), description="Limits of all its keys together.")
    cache: CachePolicyDocument = Field(CachePolicyDocument(), description="Its use of the cache.")
    projects: tuple[ProjectDocument, ...] = Field((), description="Parts of it with budgets of their own.")
    rate: RateLimitDocument | None = Field(None, description="What all its keys together may ask.")
    strict: bool = Field(default=False, description="Whether the upstream stops where the reservation ends.")
    priority: Priority = Field(
        "interactive", description="Who gives way under load: batch first, interactive, critical last."
    )

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, value: str) -> str:
        if value not in _list_time_zones():
            raise ValueError(f"{value!r} is no IANA time zone")
        return value


class TenantDocument(TenantFields):
    """A tenant with its keys."""

    id: Annotated[
        str, *matching(TENANT_ID, "a tenant id is 1 to 63 of a-z, 0-9 and - and begins with no hyphen")
    ] = Field(description="Tenant id, unique in the deployment.", examples=["search"])
    keys: tuple[KeyDocument, ...] = Field((), description="Keys whose secrets were made elsewhere.")

    @model_validator(mode="after")
    def _check_projects(self) -> Self:
        names = [project.id for project in self.projects]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"there are two projects called {', '.join(repeated)}")
        if unknown := sorted({key.project for key in self.keys if key.project} - set(names)):
            raise ValueError(f"no project is called {', '.join(unknown)}, which a key names")
        return self

    @model_validator(mode="after")
    def _check_key_models(self) -> Self:
        for key in self.keys:
            if self.models and (beyond := sorted(key.models - self.models)):
                raise ValueError(f"the key {key.id} may use {', '.join(beyond)}, which its tenant may not")
        return self

    def build_tenant(self) -> Tenant:
        """The domain's tenant."""
        return Tenant(
            id=self.id,
            time_zone=ZoneInfo(self.time_zone),
            budgets=tuple(entry.build_budget("tenant") for entry in self.budgets),
            keys=tuple(entry.build() for entry in self.keys),
            models=self.models,
            max_image_size=self.max_image_size,
            preview=self.preview,
            cache=self.cache.build_policy(),
            projects=tuple(entry.build_project() for entry in self.projects),
            rate=None if self.rate is None else self.rate.build_rate(),
            strict=self.strict,
            priority=self.priority,
        )

    @classmethod
    def from_tenant(cls, tenant: Tenant) -> Self:
        """The document of a tenant, its keys with their hashes included."""
        return cls(
            id=tenant.id,
            time_zone=tenant.time_zone.key,
            budgets=tuple(map(BudgetLimitDocument.from_budget, tenant.budgets)),
            keys=tuple(map(KeyDocument.from_key, tenant.keys)),
            models=tenant.models,
            max_image_size=tenant.max_image_size,
            preview=tenant.preview,
            cache=CachePolicyDocument.from_policy(tenant.cache),
            projects=tuple(map(ProjectDocument.from_project, tenant.projects)),
            rate=RateLimitDocument.from_rate(tenant.rate),
            strict=tenant.strict,
            priority=tenant.priority,
        )


class TenantsFile(Document):
    """The tenants' file."""

    tenants: tuple[TenantDocument, ...] = Field(description="Every tenant of the file.")


def _strip_algorithm(text: str) -> str:
    """The hexadecimal digits of a hash."""
    return text.partition(":")[2]


@cache
def _list_time_zones() -> frozenset[str]:
    """Every name of the machine's database, which takes some milliseconds to list."""
    return frozenset(available_timezones())
