"""Parses requests of the Admin API with the models of the tenants' file; reports all violations at once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from app.domain.errors import ValidationFailed, Violation
from app.domain.pointers import build_pointer
from app.domain.report import KINDS
from app.surfaces.admin.wire import (
    CreditRequest,
    IdentityCreation,
    KeyCreation,
    OverrideRequest,
    PurgeRequest,
    TenantPatch,
)
from app.tenants.administration import BudgetName
from app.tenants.documents import build_violations, parse_tenant
from app.tenants.limits import compute_amount, to_unix_ms
from app.tenants.schema import TenantDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    from app.cards import Catalogue
    from app.domain.budget import Unit
    from app.domain.report import Dimension
    from app.domain.tenancy import Key, Tenant
    from app.tenants.administration import Expected

M = TypeVar("M", bound=BaseModel)
_ETAG = re.compile(r'"(\d{1,15})"', re.ASCII)
_NO_VERSION: Final = -1
_IDENTITY_FIELDS: Final = ("email", "subject")


def _build_violations(code: str, sentence: str, *names: str) -> dict[str, Violation]:
    """Build violations of members that are not accepted here, by pointer."""
    return {f"/{name}": Violation(f"/{name}", code, sentence) for name in names}


_NOT_IN_KEYS: Final = {
    **_build_violations("read_only", "the gateway generates this", "id", "hash", "retiring"),
    **_build_violations("unknown_field", "create an identity below /identities", *_IDENTITY_FIELDS),
}
_NOT_IN_IDENTITIES: Final = _build_violations(
    "read_only", "an identity has no secret, and the gateway generates its id", "id", "hash", "retiring"
)


def format_etag(version: int) -> str:
    """Return the ETag of a tenant's version."""
    return f'"{version}"'


def parse_if_match(if_match: str | None) -> Expected | None:
    """Return the version in If-Match. Foreign and weak ETags match no version."""
    if if_match is None:
        return None
    if if_match.strip() == "*":
        return "any"
    match = _ETAG.fullmatch(if_match.strip())
    if match:
        return int(match[1])
    return _NO_VERSION


def parse_body(
    model: type[M],
    members: dict[str, Any],
    catalogue: Catalogue | None = None,
    overrides: Mapping[str, Violation] | None = None,
) -> M:
    """Validate a body against its model and the cards. Raises ValidationFailed with all violations."""
    try:
        return model.model_validate(members, context={"catalogue": catalogue})
    except ValidationError as error:
        raise ValidationFailed(build_violations(error, overrides)) from None


def tenant_of(members: dict[str, Any], catalogue: Catalogue) -> Tenant:
    """A new tenant in the shape of the file, keys whose secrets were made elsewhere included."""
    return parse_tenant(members, catalogue)


def parse_patch(members: dict[str, Any], catalogue: Catalogue) -> Callable[[Tenant], Tenant]:
    """Parse a JSON merge patch (RFC 7396) into a change of a tenant; keys have routes of their own."""
    reserved = {"id": "the id of a tenant cannot change", "keys": "keys are changed below /keys"}
    faults: list[Violation] = []
    for name in members:
        if name in reserved:
            faults.append(Violation(build_pointer(name), "read_only", reserved[name]))
        elif name not in TenantPatch.model_fields:
            faults.append(Violation(build_pointer(name), "unknown_field", "is not a known field"))

    def apply_patch(tenant: Tenant) -> Tenant:
        current = TenantDocument.from_tenant(replace(tenant, keys=())).model_dump(
            mode="json", exclude_none=True
        )
        try:
            updated = parse_tenant({**merge_patch(current, members), "id": tenant.id, "keys": []}, catalogue)
        except ValidationFailed as failed:
            reported = {fault.pointer for fault in faults}
            others = [fault for fault in failed.violations if fault.pointer not in reported]
            raise ValidationFailed((*faults, *others)) from None
        if faults:
            raise ValidationFailed(tuple(faults))
        return updated

    return apply_patch


def merge_patch(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Apply RFC 7396: null removes a member, objects are merged, everything else is replaced."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            old_value = result.get(name)
            result[name] = merge_patch(old_value if isinstance(old_value, dict) else {}, value)
        else:
            result[name] = value
    return result


def parse_key(members: dict[str, Any], catalogue: Catalogue) -> tuple[Key, str]:
    """Parse a new key into a key without id and secret, and its environment name."""
    creation = parse_body(KeyCreation, members, catalogue, _NOT_IN_KEYS)
    return creation.build_key(), creation.env


def parse_identity(members: dict[str, Any], catalogue: Catalogue) -> Key:
    """Parse a new identity into a key without id."""
    if sum(members.get(name) is not None for name in _IDENTITY_FIELDS) != 1:
        raise ValidationFailed((Violation("", "one_of", "exactly one of email and subject is required"),))
    creation = parse_body(IdentityCreation, members, catalogue, _NOT_IN_IDENTITIES)
    return creation.build_key(identity=creation.identity)


def parse_credit(members: dict[str, Any]) -> tuple[BudgetName, int, str]:
    """Return the budget, the credit as a store amount, and the credit id."""
    credit = parse_body(CreditRequest, members)
    name = BudgetName(credit.unit, "lifetime", credit.project, credit.key, credit.user)
    amount = _parse_amount(credit.unit, abs(credit.amount), "/amount")
    return name, -amount if credit.amount < 0 else amount, credit.credit_id


def parse_override(members: dict[str, Any]) -> tuple[BudgetName, int, int]:
    """Return the budget, the limit as a store amount, and the end in Unix milliseconds."""
    override = parse_body(OverrideRequest, members)
    name = BudgetName(override.unit, override.window, override.project, override.key, override.user)
    return name, _parse_amount(override.unit, override.limit, "/limit"), to_unix_ms(override.until)


def _parse_amount(unit: Unit, limit: Decimal, place: str) -> int:
    """Return a store amount. Raises ValidationFailed at ``place`` if the limit has none."""
    try:
        return compute_amount(unit, limit)
    except (ValueError, ArithmeticError) as error:
        raise ValidationFailed((Violation(place, "invalid_value", str(error)),)) from None


def parse_dimensions(by: list[Dimension] | None) -> tuple[Dimension, ...]:
    """Return the dimensions of a report without repetitions.

    Raises:
        ValidationFailed: Label, user or parameters are combined with a dimension that their rows lack.
    """
    dimensions: tuple[Dimension, ...] = ("tenant",)
    if by:
        dimensions = tuple(dict.fromkeys(by))
    kinds = {KINDS[dimension] for dimension in dimensions if dimension in KINDS}
    plain: tuple[Dimension, ...] = ("tenant", "day", "month")
    if kinds == {"parameters"}:
        plain = (*plain, "model", "parameter", "parameters")
    others = {dimension for dimension in dimensions if KINDS.get(dimension) not in kinds}
    if kinds and (len(kinds) > 1 or others - set(plain)):
        sentence = (
            "label, user and parameters can each be combined with tenant, day and month only, parameters "
            "with model as well"
        )
        raise ValidationFailed((Violation("/by", "not_together", sentence, plain),))
    return dimensions


def parse_purge(members: dict[str, Any]) -> PurgeRequest:
    """Parse what to purge: one tenant's results, one of its results, or everything."""
    purge = parse_body(PurgeRequest, members)
    if purge.all == (purge.tenant is not None):
        raise ValidationFailed((Violation("", "one_of", "exactly one of tenant and all is required"),))
    if purge.all and purge.fingerprint is not None:
        sentence = "a fingerprint belongs to one tenant; send it with tenant"
        raise ValidationFailed((Violation("/fingerprint", "needs_tenant", sentence),))
    return purge
