"""Tenants, their keys, and who is calling."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from app.domain.budget import BudgetWindow, build_window
from app.domain.card import compute_edge
from app.domain.end_user import UNNAMED, EndUser, UserLimits
from app.domain.rate import RateLimit, build_rate_limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from app.domain.bound import Tail
    from app.domain.budget import Budget
    from app.domain.migration import ModelAlias
    from app.domain.rate import Rate
    from app.domain.request import CacheMode

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DEFAULT_POOL = "default"
POOL = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.ASCII)
"""Names of pools and credentials."""

TENANT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)

# What a key can be allowed to do. Nothing is allowed by default.
SCOPES = frozenset({"images", "admin"})

Priority = Literal["critical", "interactive", "batch"]
DialectSharing = Literal["own", "share"]


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How a tenant's requests use the cache by default.

    Attributes:
        dialects: Whether requests without a seed in the drop-in dialects follow ``mode`` (``share``), or are
            separate work each, as in the original APIs (``own``).
        quota_bytes: The most that the tenant's cached pictures may take together; None for no limit.
    """

    mode: CacheMode = "use"
    ttl_s: int = 86_400
    quota_bytes: int | None = None
    dialects: DialectSharing = "own"


@dataclass(frozen=True, slots=True)
class RetiringSecret:
    """The secret that a key had before its last rotation; valid until ``not_after_ms`` (Unix time)."""

    secret_hash: str = field(repr=False)
    not_after_ms: int


@dataclass(frozen=True, slots=True)
class Identity:
    """A Google account, named by one of two claims of its ID tokens (docs/reliability.md R61).

    Attributes:
        value: The verified e-mail address in lower case, or the subject, which never changes.
    """

    kind: Literal["email", "subject"]
    value: str

    @property
    def name(self) -> str:
        """Kind and value, joined by a colon; key ids contain no colon, so none is equal to it."""
        return f"{self.kind}:{self.value}"


@dataclass(frozen=True, slots=True)
class Key:
    """A gateway key without its secret; ``secret_hash`` is an HMAC-SHA-256 in hexadecimal.

    Attributes:
        id: Unique in the whole deployment, because a key is looked up by it.
        secret_hash: Empty for the key of an identity, which has no secret.
        retiring: The previous secret, while both are valid (docs/reliability.md R59).
        name: For people, such as the team's; None without one.
        not_before_ms: The key is not valid before this time (Unix time); None for at once.
        expires_at_ms: The key is not valid from this time on (Unix time); None for never.
        project: The tenant's project whose budgets this key counts in as well, or None.
        rate: Requests per minute and concurrent requests that the key may make.
        identity: The account whose ID tokens replace the secret, or None. Unique in the whole deployment.
        models: Card ids that it may use, a subset of its tenant's; empty for all of those.
        max_image_size: The largest size that it may request, or None for its tenant's.
        preview: Preview features that it may use if its tenant may, or None for all of the tenant's.
        priority: Its class instead of the tenant's, or None.
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
    name: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names that must be unique in the deployment."""
        return (self.id,) if self.identity is None else (self.id, self.identity.name)

    def is_live(self, now_ms: int) -> bool:
        """Whether the key's period of validity has begun and is not over."""
        has_begun = self.not_before_ms is None or now_ms >= self.not_before_ms
        return has_begun and (self.expires_at_ms is None or now_ms < self.expires_at_ms)

    def hashes(self, now_ms: int) -> tuple[str, ...]:
        """The hashes of the secrets that are valid now: none, one, or two after a rotation."""
        if not self.is_live(now_ms) or self.identity is not None:
            return ()
        if self.retiring is None or now_ms >= self.retiring.not_after_ms:
            return (self.secret_hash,)
        return (self.secret_hash, self.retiring.secret_hash)


@dataclass(frozen=True, slots=True)
class Project:
    """A part of a tenant whose keys share budgets. ``id`` is unique in the tenant."""

    id: str
    budgets: tuple[Budget, ...] = ()


def _has_enforced(budgets: tuple[Budget, ...]) -> bool:
    return any(budget.mode == "enforce" for budget in budgets)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer of the gateway.

    Attributes:
        id: ``[a-z0-9][a-z0-9-]{0,62}``; it appears in store keys and metric labels.
        time_zone: Budget windows begin at this zone's midnight.
        models: Card ids that the tenant may use; empty for all.
        max_image_size: The largest size that it may request, or None.
        preview: Preview features that it may use, such as ``4K`` and ``video``; None for all.
        projects: Its projects, which keys belong to.
        rate: Requests per minute and concurrent requests that all its keys together may make.
        strict: Whether input is estimated at its maximum, and the last request of a budget is refused.
        tail: What happens when a budget is almost used up, or None for the default: ``serve_one`` serves one
            call if its expected cost fits, ``refuse`` serves none unless its worst cost fits.
        budgets: Those of all its keys together, and those that each end user has (scope ``user``).
        users: Rules for its end users.
        priority: Who gives way if there is more work than slots: batch first, critical last.
        pool: The pool of credentials, or the one credential, that its calls are made with.
        aliases: By card id, the models that serve its requests for others; they outrank the deployment's.
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
    aliases: Mapping[str, ModelAlias] = field(default_factory=dict)
    users: UserLimits = UserLimits()  # noqa: RUF009 (it cannot change)
    pool: str = DEFAULT_POOL

    @property
    def limits_users(self) -> bool:
        """Whether a limit of each end user is enforced, so that a request has to name its user."""
        budgets = any(budget.scope == "user" and budget.mode == "enforce" for budget in self.budgets)
        return budgets or self.users.rate is not None

    @property
    def is_limited(self) -> bool:
        """Whether an enforced budget limits each key. Those of end users do not: there may be any number."""
        if any(budget.scope == "tenant" and budget.mode == "enforce" for budget in self.budgets):
            return True
        limited = {project.id for project in self.projects if _has_enforced(project.budgets)}
        return all(key.project in limited or _has_enforced(key.budgets) for key in self.keys)

    @property
    def tail_rule(self) -> Tail:
        """What happens when a budget is almost used up."""
        return self.tail or ("refuse" if self.strict else "serve_one")


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant, the key that it presented, and the end user that it names, or None."""

    tenant: Tenant
    key: Key
    user: EndUser | None = None

    @property
    def counted_user(self) -> EndUser | None:
        """The end user whose limits apply: requests without a name may share those of one."""
        if self.user is None and self.tenant.users.unnamed == "share":
            return UNNAMED
        return self.user

    @property
    def lacks_user(self) -> bool:
        """Whether the request has to name an end user and does not."""
        return self.tenant.limits_users and self.counted_user is None

    @property
    def project(self) -> Project | None:
        """The project that the key belongs to, or None."""
        return next((each for each in self.tenant.projects if each.id == self.key.project), None)

    @property
    def models(self) -> frozenset[str]:
        """Card ids that may be used; empty for all. A key's list is a subset of its tenant's."""
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
        """Whether the key has this scope; nothing is allowed by default."""
        return scope in self.key.scopes


def list_budget_windows(caller: Caller, now_ms: int) -> tuple[BudgetWindow, ...]:
    """Every budget window that a request is counted in: of the tenant, project, key and end user."""
    tenant, project, key, user = caller.tenant, caller.project, caller.key, caller.counted_user
    owned = [("t", budget) for budget in tenant.budgets if budget.scope == "tenant"]
    if project is not None:
        owned += [(f"p:{project.id}", budget) for budget in project.budgets]
    owned += [(f"k:{key.id}", budget) for budget in key.budgets]
    if user is not None:
        owned += [(user.owner, budget) for budget in tenant.budgets if budget.scope == "user"]
    return tuple(build_window(budget, owner, tenant.time_zone, now_ms) for owner, budget in owned)


def list_rate_limits(caller: Caller) -> tuple[RateLimit, ...]:
    """Every rate limit that applies to a caller's request: the tenant's, the key's, then the user's."""
    tenant, key, user = caller.tenant, caller.key, caller.counted_user
    limits = build_rate_limits("tenant", "t", tenant.rate) + build_rate_limits("key", f"k:{key.id}", key.rate)
    if user is None:
        return limits
    return limits + build_rate_limits("user", user.owner, tenant.users.rate)


Source = Literal["file", "store"]


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """A tenant as operators see it.

    Attributes:
        version: Increases with every change of any stored tenant, so that it identifies a state; 0 in a file.
        source: A tenant from a file can only be changed in the file.
    """

    tenant: Tenant
    version: int
    source: Source
