"""Tenants as JSON documents in the shape of the tenants' file: what the store keeps and operators edit.

Limits in dollars are numbers where a float tells them exactly, else decimal text. Hashes are in the store's
documents alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from app.domain.budget import NANO_PER_USD
from app.domain.errors import ValidationFailed, Violation
from app.domain.requirements import choices_of, code_of, requirement_of
from app.domain.tenancy import UNIX_EPOCH
from app.tenants.file import TenantEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.cards import Catalogue
    from app.domain.budget import Budget, Unit
    from app.domain.rate import Rate
    from app.domain.tenancy import CachePolicy, Key, Tenant


class UnreadableTenant(ValueError):
    """The document is not what this version writes, or names a card that it does not have."""


def moment(unix_ms: int) -> str:
    """A time as documents have it: RFC 3339 in UTC."""
    at = UNIX_EPOCH + timedelta(milliseconds=unix_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def budget_document(budget: Budget) -> dict[str, Any]:
    """A budget as the file has it."""
    document: dict[str, Any] = {
        "unit": budget.unit,
        "window": budget.window,
        "limit": limit_of(budget.unit, budget.limit),
        "mode": budget.mode,
    }
    if budget.override is not None:
        until = moment(budget.override.until_ms)
        document["override"] = {"limit": limit_of(budget.unit, budget.override.limit), "until": until}
    return document


def limit_of(unit: Unit, amount: int) -> int | float | str:
    """A limit in the unit's everyday measure."""
    if unit != "usd":
        return amount
    dollars = Decimal(amount) / NANO_PER_USD
    if dollars == dollars.to_integral_value():
        return int(dollars)
    return float(dollars) if Decimal(repr(float(dollars))) == dollars else format(dollars.normalize(), "f")


def _rate_document(rate: Rate | None) -> dict[str, Any] | None:
    return None if rate is None else asdict(rate)


def _opened_by(key: Key) -> dict[str, str]:
    if key.identity is not None:
        return {key.identity.kind: key.identity.value}
    return {"hash": f"hmac-sha256:{key.secret_hash}"}


def _cache_document(cache: CachePolicy) -> dict[str, Any]:
    document: dict[str, Any] = {"mode": cache.mode, "ttl_s": cache.ttl_s}
    if cache.quota_bytes is not None:
        document["quota_mb"] = cache.quota_bytes >> 20
    if cache.dialects != "own":
        document["dialects"] = cache.dialects
    return document


def key_document(key: Key) -> dict[str, Any]:
    """A key as the file has it, hashes included."""
    document: dict[str, Any] = {
        "id": key.id,
        **_opened_by(key),
        "scopes": sorted(key.scopes),
        "budgets": [budget_document(budget) for budget in key.budgets],
    }
    if key.project is not None:
        document["project"] = key.project
    if key.rate is not None:
        document["rate"] = _rate_document(key.rate)
    if key.models:
        document["models"] = sorted(key.models)
    if key.max_image_size is not None:
        document["max_image_size"] = key.max_image_size
    if key.preview is not None:
        document["preview"] = sorted(key.preview)
    if key.priority is not None:
        document["priority"] = key.priority
    if key.not_before_ms is not None:
        document["not_before"] = moment(key.not_before_ms)
    if key.expires_at_ms is not None:
        document["expires_at"] = moment(key.expires_at_ms)
    if key.retiring is not None:
        document["retiring"] = {
            "hash": f"hmac-sha256:{key.retiring.secret_hash}",
            "not_after": moment(key.retiring.not_after_ms),
        }
    return document


def tenant_document(tenant: Tenant) -> dict[str, Any]:
    """A tenant as the file has it, without its keys."""
    document: dict[str, Any] = {
        "id": tenant.id,
        "time_zone": tenant.time_zone.key,
        "models": sorted(tenant.models),
        "max_image_size": tenant.max_image_size,
        "preview": sorted(tenant.preview),
        "budgets": [budget_document(budget) for budget in tenant.budgets],
        "cache": _cache_document(tenant.cache),
    }
    if tenant.projects:
        document["projects"] = [
            {"id": project.id, "budgets": [budget_document(budget) for budget in project.budgets]}
            for project in tenant.projects
        ]
    if tenant.rate is not None:
        document["rate"] = _rate_document(tenant.rate)
    if tenant.strict:
        document["strict"] = True
    if tenant.priority != "interactive":
        document["priority"] = tenant.priority
    return document


def checked_tenant(document: object, catalogue: Catalogue) -> Tenant:
    """The tenant of a document. Raises ValidationFailed with every fault, each with its place."""
    try:
        tenant = TenantEntry.model_validate(document, context={"catalogue": catalogue}).tenant()
    except ValidationError as error:
        raise ValidationFailed(violations_of(error)) from None
    named = [(name, index) for index, key in enumerate(tenant.keys) for name in key.names]
    first = dict(reversed(named))
    repeated = [
        Violation(pointer("keys", index, field), "repeated", f"the {said} {value!r} stands here twice")
        for name, index in named
        for field, _, value in [name.partition(":") if ":" in name else ("id", "", name)]
        for said in [{"id": "key id", "email": "e-mail address"}.get(field, field)]
        if index != first[name]
    ]
    if repeated:
        raise ValidationFailed(tuple(repeated))
    return tenant


def encode_tenant(tenant: Tenant, catalogue: Catalogue) -> str:
    """What the store keeps. Raises ValidationFailed where the tenant as a whole breaks a rule."""
    document = {**tenant_document(tenant), "keys": [key_document(key) for key in tenant.keys]}
    checked_tenant(document, catalogue)
    return json.dumps(document, separators=(",", ":"))


def decode_tenant(text: str, catalogue: Catalogue) -> Tenant:
    """The tenant of a document in the store. Raises UnreadableTenant."""
    try:
        return TenantEntry.model_validate_json(text, context={"catalogue": catalogue}).tenant()
    except ValidationError as error:
        raise UnreadableTenant("The store holds a tenant that this version cannot read.") from error


def pointer(*steps: str | int) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def violations_of(error: ValidationError) -> tuple[Violation, ...]:
    """Every fault that pydantic found, by its place in the document; nothing of a secret is repeated."""
    return tuple(_violations(error))


def _violations(error: ValidationError) -> Iterator[Violation]:
    for fault in error.errors(include_input=False, include_url=False):
        kind, context = fault["type"], fault.get("ctx")
        place, allowed = pointer(*fault["loc"]), choices_of(kind, context)
        yield Violation(place, code_of(kind), requirement_of(kind, context), allowed)
