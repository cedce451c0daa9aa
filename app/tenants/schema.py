"""Tenants and keys as operators write them: the tenants' file, the Admin API, and what the registry keeps.

One set of models validates documents, is their schema in OpenAPI, and is the stored form. Nothing here reads
the environment or the store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003 (read by pydantic)
from functools import cache
from typing import TYPE_CHECKING, Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, ValidationInfo, field_validator, model_validator

from app.domain.bound import Tail  # noqa: TC001 (read by pydantic)
from app.domain.end_user import UserLimits
from app.domain.keys import KEY_ID
from app.domain.migration import ModelAlias  # noqa: TC001 (read by pydantic)
from app.domain.tenancy import (
    DEFAULT_POOL,
    POOL,
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
    UserLimitsDocument,
    datetime_from_ms,
    get_catalogue,
    matching,
    to_unix_ms,
)

if TYPE_CHECKING:
    from datetime import datetime

_HASH = re.compile(r"hmac-sha256:[0-9a-f]{64}", re.ASCII)
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}", re.ASCII)
_SUBJECT = re.compile(r"[A-Za-z0-9:._|-]{1,255}", re.ASCII)
_NAME = re.compile(r"[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]{0,61}[^\s\x00-\x1f\x7f])?")
_ACCOUNT = "search@my-project.iam.gserviceaccount.com"

Hash = Annotated[str, *matching(_HASH, "a hash is hmac-sha256: and 64 lower-case hexadecimal digits")]
Email = Annotated[str, *matching(_EMAIL, "an e-mail address is like caller@project.iam.gserviceaccount.com")]
Subject = Annotated[str, *matching(_SUBJECT, "a subject is 1 to 255 letters, digits or :._|-")]
Scopes = Annotated[Names, Field(min_length=1)]


class CachePolicyDocument(Document):
    """A tenant's default use of the cache."""

    mode: Literal["use", "refresh", "bypass"] = Field(
        "use", description="use reads and writes the cache, refresh only writes, bypass does neither."
    )
    ttl_s: int = Field(86_400, ge=1, le=31_622_400, description="Seconds for which results are cached.")
    quota_mb: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="Cache quota for pictures, in MiB; those that expire first are evicted first. Null for "
        "FLASHGATE_PICTURES_QUOTA_MB.",
        examples=[512],
    )
    dialects: DialectSharing = Field(
        "own",
        description="Caching of unseeded requests in Google's and OpenAI's dialects. own: each gets its "
        "own picture, as with the original API. share: equal requests share a picture, according to `mode`.",
        examples=["share"],
    )

    def build_policy(self) -> CachePolicy:
        """Return the cache policy of the domain."""
        quota_bytes = None
        if self.quota_mb is not None:
            quota_bytes = self.quota_mb << 20
        return CachePolicy(self.mode, self.ttl_s, quota_bytes, self.dialects)

    @classmethod
    def from_policy(cls, policy: CachePolicy) -> Self:
        """Return the document of a cache policy."""
        quota_mb = None
        if policy.quota_bytes is not None:
            quota_mb = policy.quota_bytes >> 20
        return cls.model_validate(
            {"mode": policy.mode, "ttl_s": policy.ttl_s, "quota_mb": quota_mb, "dialects": policy.dialects}
        )


class RetiringSecretDocument(Document):
    """The secret of a key before its last rotation."""

    hash: Hash = Field(description="HMAC of the previous secret.", examples=["hmac-sha256:" + "0" * 64])
    not_after: Moment = Field(description="Time until which the previous secret is valid.")


class KeyFields(Rights):
    """Rights and limits of a key."""

    scopes: Scopes = Field(description="Permissions of the key: images, admin.", examples=[["images"]])
    name: Annotated[str, *matching(_NAME, "a name is 1 to 63 printable characters")] | None = Field(
        None, description="Name for people, such as the team's, in reports and lists.", examples=["Search"]
    )
    project: str | None = Field(None, description="Id of the project whose budgets also apply.")
    budgets: KeyBudgets = Field((), description="Budgets of this key.")
    rate: RateLimitDocument | None = Field(None, description="Request rate and concurrency cap of this key.")
    priority: Priority | None = Field(None, description="Priority under load; null for the tenant's.")
    not_before: Moment | None = Field(
        None, description="Time from which the key is valid; null for immediately."
    )
    expires_at: Moment | None = Field(None, description="Time until which the key is valid; null for no end.")

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
            raise ValueError("expires_at must be later than not_before")
        return value

    def build_key(
        self,
        key_id: str = "",
        *,
        secret_hash: str = "",
        retiring: RetiringSecret | None = None,
        identity: Identity | None = None,
    ) -> Key:
        """Return the key of the domain."""
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
            name=self.name,
        )


class IdentityFields(KeyFields):
    """A key that accepts the ID tokens of a Google account, by e-mail address or subject."""

    email: Email | None = Field(
        None, description="Verified e-mail address of the account, in any case.", examples=[_ACCOUNT]
    )
    subject: Subject | None = Field(
        None, description="Subject of the account, which never changes.", examples=["103117966615020283234"]
    )

    @property
    def identity(self) -> Identity | None:
        """The Google account whose ID tokens the key accepts."""
        if self.email is not None:
            return Identity("email", self.email.lower())
        if self.subject is None:
            return None
        return Identity("subject", self.subject)


class KeyDocument(IdentityFields):
    """A key whose secret was generated elsewhere, as by `flashgate keys new`, or a Google account's key."""

    id: Annotated[str, *matching(KEY_ID, "a key id is 1 to 32 letters or digits")] = Field(
        description="Key id, unique in the deployment.", examples=["k1"]
    )
    hash: Hash | None = Field(
        None,
        validate_default=True,
        description="HMAC of the secret; exactly one of hash, email and subject is required.",
        examples=["hmac-sha256:" + "0" * 64],
    )
    retiring: RetiringSecretDocument | None = Field(
        None, description="The previous secret, while it is still valid."
    )

    @field_validator("hash")
    @classmethod
    def _check_one_credential(cls, value: str | None, info: ValidationInfo) -> str | None:
        # An invalid address or subject is missing here and is reported on its own.
        others = [info.data[name] for name in ("email", "subject") if name in info.data]
        if len(others) == 2 and sum(each is not None for each in (value, *others)) != 1:
            raise ValueError("exactly one of hash, email and subject is required")
        return value

    @field_validator("retiring")
    @classmethod
    def _check_retiring(
        cls, value: RetiringSecretDocument | None, info: ValidationInfo
    ) -> RetiringSecretDocument | None:
        if value is not None and info.data.get("hash", "") is None:
            raise ValueError("only a key with a hash has a previous secret")
        return value

    def build(self) -> Key:
        """Return the key of the domain."""
        retiring = None
        if self.retiring is not None:
            not_after_ms = to_unix_ms(self.retiring.not_after)
            retiring = RetiringSecret(_strip_algorithm(self.retiring.hash), not_after_ms)
        secret_hash = _strip_algorithm(self.hash or "")
        return self.build_key(self.id, secret_hash=secret_hash, retiring=retiring, identity=self.identity)

    @classmethod
    def from_key(cls, key: Key) -> Self:
        """Return the document of a key, with its hashes."""
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
                "name": key.name,
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
    """Rights, limits and defaults of a tenant."""

    time_zone: str = Field(
        "UTC", description="IANA time zone; budget windows start at its midnight.", examples=["Europe/Berlin"]
    )
    budgets: TenantBudgets = Field(
        (), description="Budgets of all keys together, and with the scope user those of each end user."
    )
    cache: CachePolicyDocument = Field(CachePolicyDocument(), description="Default use of the cache.")
    projects: tuple[ProjectDocument, ...] = Field((), description="Groups of keys with budgets of their own.")
    rate: RateLimitDocument | None = Field(
        None, description="Request rate and concurrency cap of all keys together."
    )
    users: UserLimitsDocument | None = Field(
        None, description="Rules for end users: rates, requests that name none, how many."
    )
    strict: bool = Field(
        default=False,
        description="Whether input is reserved at its maximum; `tail` is then `refuse` by default.",
    )
    tail: Tail | None = Field(
        None,
        description="How the last of a budget is used: serve_one admits one call if its expected cost fits; "
        "refuse admits a call only if its maximum fits. Default: serve_one, or refuse for strict tenants.",
    )
    priority: Priority = Field(
        "interactive", description="Priority under load: batch is shed first, critical last."
    )
    pool: Annotated[str, *matching(POOL, "a pool has 1 to 40 of a-z, 0-9 and -")] | None = Field(
        None,
        validate_default=True,
        description="Pool of the credentials' file with which the tenant's calls are made, or one credential "
        "of it; no other credential serves them. Null for the pool `default`.",
        examples=["search"],
    )
    aliases: Mapping[str, ModelAlias] = Field(
        {},
        description="Models whose requests another model serves, or a share of them; they outrank those of "
        "the deployment.",
        examples=[{"gemini-3.1-flash-image": {"to": "gemini-nano-banana-2.1", "share": 0.05}}],
    )

    @field_validator("pool")
    @classmethod
    def _check_pool(cls, value: str | None, info: ValidationInfo) -> str | None:
        pools = (info.context or {}).get("pools")
        if pools is not None and (value or DEFAULT_POOL) not in pools:
            known = ", ".join(sorted(pools)) or "none"
            raise ValueError(f"there is no pool or credential {value or DEFAULT_POOL}; there are {known}")
        return value

    @field_validator("aliases")
    @classmethod
    def _check_aliases(
        cls, value: Mapping[str, ModelAlias], info: ValidationInfo
    ) -> Mapping[str, ModelAlias]:
        catalogue = get_catalogue(info)
        if catalogue is None:
            return value
        return catalogue.resolve_aliases(value)

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, value: str) -> str:
        if value not in _list_time_zones():
            raise ValueError(f"{value!r} is not an IANA time zone")
        return value


class TenantDocument(TenantFields):
    """A tenant with its keys."""

    id: Annotated[
        str,
        *matching(TENANT_ID, "a tenant id has 1 to 63 of a-z, 0-9 and -, and does not start with a hyphen"),
    ] = Field(description="Tenant id, unique in the deployment.", examples=["search"])
    keys: tuple[KeyDocument, ...] = Field((), description="Keys whose secrets were generated elsewhere.")

    @model_validator(mode="after")
    def _check_projects(self) -> Self:
        names = [project.id for project in self.projects]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"duplicate projects: {', '.join(repeated)}")
        if unknown := sorted({key.project for key in self.keys if key.project} - set(names)):
            raise ValueError(f"a key names unknown projects: {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _check_key_models(self) -> Self:
        for key in self.keys:
            if self.models and (excess := sorted(key.models - self.models)):
                raise ValueError(
                    f"the key {key.id} allows models that its tenant does not: {', '.join(excess)}"
                )
        return self

    def build_tenant(self) -> Tenant:
        """Return the tenant of the domain."""
        return Tenant(
            id=self.id,
            time_zone=ZoneInfo(self.time_zone),
            budgets=tuple(
                entry.build_budget("user" if entry.scope == "user" else "tenant") for entry in self.budgets
            ),
            keys=tuple(entry.build() for entry in self.keys),
            models=self.models,
            max_image_size=self.max_image_size,
            preview=self.preview,
            cache=self.cache.build_policy(),
            projects=tuple(entry.build_project() for entry in self.projects),
            rate=None if self.rate is None else self.rate.build_rate(),
            strict=self.strict,
            tail=self.tail,
            priority=self.priority,
            pool=self.pool or DEFAULT_POOL,
            aliases=self.aliases,
            users=UserLimits() if self.users is None else self.users.build_limits(),
        )

    @classmethod
    def from_tenant(cls, tenant: Tenant) -> Self:
        """Return the document of a tenant, with the hashes of its keys."""
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
            tail=tenant.tail,
            priority=tenant.priority,
            pool=None if tenant.pool == DEFAULT_POOL else tenant.pool,
            aliases=tenant.aliases,
            users=UserLimitsDocument.from_limits(tenant.users),
        )


class TenantsFile(Document):
    """The tenants' file."""

    tenants: tuple[TenantDocument, ...] = Field(description="Tenants of the file.")


def _strip_algorithm(text: str) -> str:
    """Return the hexadecimal digits of a hash."""
    return text.partition(":")[2]


@cache
def _list_time_zones() -> frozenset[str]:
    """List the time zones of the machine; cached, because it takes some milliseconds."""
    return frozenset(available_timezones())
