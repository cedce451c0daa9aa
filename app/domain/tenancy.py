"""Tenants, their keys, and who is calling."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from app.domain.budget import BudgetWindow, build_window
from app.domain.card import compute_edge
from app.domain.rate import RateLimit, build_rate_limits

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from app.domain.bound import Tail
    from app.domain.budget import Budget
    from app.domain.rate import Rate
    from app.domain.request import CacheMode

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TENANT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)

# What a key can be allowed to do. Nothing is allowed by default.
SCOPES = frozenset({"images", "admin"})

Priority = Literal["critical", "interactive", "batch"]
DialectSharing = Literal["own", "share"]


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """What a tenant's requests do with the cache unless they say otherwise.

    Attributes:
        dialects: Whether unseeded requests in the drop-in dialects follow ``mode`` (``share``), or are each
            work of their own as with the original (``own``).
        quota_bytes: What its kept pictures may take together; None for no limit.
    """

    mode: CacheMode = "use"
    ttl_s: int = 86_400
    quota_bytes: int | None = None
    dialects: DialectSharing = "own"


@dataclass(frozen=True, slots=True)
class RetiringSecret:
    """The secret that a key had before its last rotation; it opens until ``not_after_ms`` (Unix time)."""

    secret_hash: str = field(repr=False)
    not_after_ms: int


@dataclass(frozen=True, slots=True)
class Identity:
    """A Google account, by one of the two names that an ID token gives it (docs/reliability.md R61).

    Attributes:
        value: The verified e-mail address in lower case, or the subject, which never changes.
    """

    kind: Literal["email", "subject"]
    value: str

    @property
    def name(self) -> str:
        """Both parts in one; no key id is like it, because those hold no colon."""
        return f"{self.kind}:{self.value}"


@dataclass(frozen=True, slots=True)
class Key:
    """A gateway key without its secret; ``secret_hash`` is an HMAC-SHA-256 in hexadecimal.

    Attributes:
        id: Unique in the whole deployment, because a key is looked up by it.
        secret_hash: Empty for the key of an identity, which no secret opens.
        retiring: The secret before the present one, while both open (docs/reliability.md R59).
        not_before_ms: Until this moment (Unix time) nothing opens the key; None for at once.
        expires_at_ms: From this moment on nothing opens the key; None for never.
        project: The tenant's project whose budgets this key counts in as well, or None.
        rate: What the key may ask in a minute and at once.
        identity: Whose ID tokens open the key in place of a secret, or None. Unique in the whole deployment.
        models: Card ids that it may use, among its tenant's; empty for all of them.
        max_image_size: The largest size that it may ask for, or None for its tenant's.
        preview: Preview features that it may use where its tenant may, or None for all of them.
        priority: Its class in place of the tenant's, or None.
    """

    id: str
    secret_hash: str = field(repr=False)
    scopes: frozenset[str]
    budgets: tuple[Budget, ...] = ()
    retiring: RetiringSecret | None = None
    expires_at_ms: int | None = None
    project: str | None = None
    rate: Rate | None = None
    identity: Identity | None = None
    models: frozenset[str] = frozenset()
    max_image_size: str | None = None
    preview: frozenset[str] | None = None
    priority: Priority | None = None
    not_before_ms: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What no other key of the deployment may have."""
        return (self.id,) if self.identity is None else (self.id, self.identity.name)

    def is_live(self, now_ms: int) -> bool:
        """Whether anything opens the key at this moment: its time has begun, and is not over."""
        has_begun = self.not_before_ms is None or now_ms >= self.not_before_ms
        return has_begun and (self.expires_at_ms is None or now_ms < self.expires_at_ms)

    def hashes(self, now_ms: int) -> tuple[str, ...]:
        """The hashes of the secrets that open at this moment: none, one, or two after a rotation."""
        if not self.is_live(now_ms) or self.identity is not None:
            return ()
        if self.retiring is None or now_ms >= self.retiring.not_after_ms:
            return (self.secret_hash,)
        return (self.secret_hash, self.retiring.secret_hash)


@dataclass(frozen=True, slots=True)
class Project:
    """A part of a tenant with budgets that its keys share. ``id`` is unique in the tenant."""

    id: str
    budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer of the gateway.

    Attributes:
        id: ``[a-z0-9][a-z0-9-]{0,62}``; it appears in store keys and metric labels.
        time_zone: Budget windows begin at this zone's midnight.
        models: Card ids that the tenant may use; empty for all.
        max_image_size: The largest size that it may ask for, or None.
        preview: Preview features that it may use, such as ``4K`` and ``video``; None for all.
        projects: Parts of it that keys belong to.
        rate: What all its keys together may ask in a minute and at once.
        strict: Whether input is expected to be as much as it can be, and the last of a budget is refused.
        tail: What the last of a budget is for, in place of the usual: ``serve_one`` serves one call whose
            expected cost fits, ``refuse`` none whose worst does not.
        priority: Who gives way where there is more work than slots: batch first, critical last.
    """

    id: str
    time_zone: ZoneInfo
    budgets: tuple[Budget, ...]
    keys: tuple[Key, ...]
    models: frozenset[str] = frozenset()
    max_image_size: str | None = None
    preview: frozenset[str] | None = None
    cache: CachePolicy = CachePolicy()
    projects: tuple[Project, ...] = ()
    rate: Rate | None = None
    strict: bool = False
    priority: Priority = "interactive"
    tail: Tail | None = None

    @property
    def tail_rule(self) -> Tail:
        """What the last of a budget is for."""
        return self.tail or ("refuse" if self.strict else "serve_one")


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant and the key it showed."""

    tenant: Tenant
    key: Key

    @property
    def project(self) -> Project | None:
        """The project that the key belongs to, or None."""
        return next((each for each in self.tenant.projects if each.id == self.key.project), None)

    @property
    def models(self) -> frozenset[str]:
        """Card ids that may be used; empty for all. A key's own are some of its tenant's."""
        return self.key.models or self.tenant.models

    @property
    def max_image_size(self) -> str | None:
        """The largest size that tenant and key both allow, or None."""
        sizes = [size for size in (self.tenant.max_image_size, self.key.max_image_size) if size is not None]
        return min(sizes, key=compute_edge, default=None)

    @property
    def preview(self) -> frozenset[str] | None:
        """Preview features that tenant and key both allow; None for all."""
        allowed = [each for each in (self.tenant.preview, self.key.preview) if each is not None]
        return frozenset.intersection(*allowed) if allowed else None

    @property
    def priority(self) -> Priority:
        """The class of the caller's work: the key's, else the tenant's."""
        return self.key.priority or self.tenant.priority

    @property
    def needs_prices(self) -> bool:
        """Whether everything must have a price: strict holds, and an enforced budget that it counts in."""
        owners = (self.tenant, self.project, self.key)
        budgets = (budget for owner in owners if owner is not None for budget in owner.budgets)
        return self.tenant.strict and any(
            budget.mode == "enforce" and budget.unit in {"total_tokens", "usd"} for budget in budgets
        )

    def may(self, scope: str) -> bool:
        """Whether the key carries this scope; nothing is allowed by default."""
        return scope in self.key.scopes


def list_budget_windows(caller: Caller, now_ms: int) -> tuple[BudgetWindow, ...]:
    """Every budget window that a request is counted in: the tenant's, its project's, then the key's."""
    tenant, project, key = caller.tenant, caller.project, caller.key
    owned = [("t", budget) for budget in tenant.budgets]
    if project is not None:
        owned += [(f"p:{project.id}", budget) for budget in project.budgets]
    owned += [(f"k:{key.id}", budget) for budget in key.budgets]
    return tuple(build_window(budget, owner, tenant.time_zone, now_ms) for owner, budget in owned)


def list_rate_limits(caller: Caller) -> tuple[RateLimit, ...]:
    """Every limit that a caller's request is checked against: the tenant's, then the key's."""
    return build_rate_limits("tenant", "t", caller.tenant.rate) + build_rate_limits(
        "key", f"k:{caller.key.id}", caller.key.rate
    )


Source = Literal["file", "store"]


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """A tenant as operators see it.

    Attributes:
        version: Grows with every change of any stored tenant, so that no two states share one; 0 in a file.
        source: A tenant of a file is changed in the file alone.
    """

    tenant: Tenant
    version: int
    source: Source
