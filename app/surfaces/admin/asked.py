"""What operators send, to the domain's words: judged by the models of the file, all faults at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from app.domain.errors import ValidationFailed, Violation
from app.surfaces.admin.wire import CreditRequest, KeyCreation, OverrideRequest, PurgeRequest, TenantPatch
from app.surfaces.errors import pointer
from app.tenants.administration import BudgetName
from app.tenants.budget_entries import BudgetEntry, milliseconds
from app.tenants.documents import checked_tenant, tenant_document, violations_of
from app.tenants.file import KeyEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.cards import Catalogue
    from app.domain.budget import Budget
    from app.domain.report import Dimension
    from app.domain.tenancy import Key, Tenant
    from app.tenants.administration import Expected

M = TypeVar("M", bound=BaseModel)
_ETAG = re.compile(r'"(\d{1,15})"', re.ASCII)
_NEVER: Final = -1
_PLACEHOLDER: Final = {"id": "new", "hash": "hmac-sha256:" + "0" * 64}
_MADE_BY_GATEWAY: Final = ("id", "hash", "retiring")
_OF_IDENTITIES: Final = ("email", "subject")


def tag_of(version: int) -> str:
    """The ETag of a tenant's version."""
    return f'"{version}"'


def expected_of(if_match: str | None) -> Expected | None:
    """The version that a change is meant for; what is no ETag of ours matches none, as weak ones do."""
    if if_match is None:
        return None
    if if_match.strip() == "*":
        return "any"
    found = _ETAG.fullmatch(if_match.strip())
    return int(found[1]) if found else _NEVER


def read(model: type[M], members: dict[str, Any]) -> M:
    """A small body. Raises ValidationFailed with every fault."""
    try:
        return model.model_validate(members)
    except ValidationError as error:
        raise ValidationFailed(violations_of(error)) from None


def tenant_of(members: dict[str, Any], catalogue: Catalogue) -> Tenant:
    """A new tenant in the shape of the file, keys whose secrets were made elsewhere included."""
    return checked_tenant(members, catalogue)


def patch_of(members: dict[str, Any], catalogue: Catalogue) -> Callable[[Tenant], Tenant]:
    """A JSON merge patch (RFC 7396) as a change of a tenant; its keys have routes of their own."""
    reserved = {"id": "the id of a tenant never changes", "keys": "keys are changed below /keys"}
    faults = [
        Violation(pointer((name,)), "read_only" if name in reserved else "unknown_field", sentence)
        for name in members
        if name not in TenantPatch.model_fields
        for sentence in [reserved.get(name, "is not a known field")]
    ]

    def patched(tenant: Tenant) -> Tenant:
        document = {**merged(tenant_document(tenant), members), "id": tenant.id}
        try:
            made = checked_tenant({name: document[name] for name in document if name != "keys"}, catalogue)
        except ValidationFailed as failed:
            named = {fault.pointer for fault in faults}
            others = [fault for fault in failed.violations if fault.pointer not in named]
            raise ValidationFailed((*faults, *others)) from None
        if faults:
            raise ValidationFailed(tuple(faults))
        return made

    return patched


def merged(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396: null takes a member away, objects are merged, everything else is replaced."""
    found = dict(target)
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, dict):
            before = found.get(name)
            found[name] = merged(before if isinstance(before, dict) else {}, value)
        else:
            found[name] = value
    return found


def key_of(members: dict[str, Any], catalogue: Catalogue) -> tuple[Key, str]:
    """What a new key may do, as a key that has no id and secret yet, and the word that stands in its text."""
    faults = [
        Violation(pointer((name,)), "read_only", "the gateway makes this itself")
        for name in _MADE_BY_GATEWAY
        if name in members
    ]
    faults += [
        Violation(pointer((name,)), "unknown_field", "an identity is made below /identities")
        for name in _OF_IDENTITIES
        if name in members
    ]
    taken = (*_MADE_BY_GATEWAY, *_OF_IDENTITIES)
    asked = {name: value for name, value in members.items() if name not in taken}
    env = asked.pop("env", "live")
    try:
        KeyCreation.model_validate({"env": env})
    except ValidationError as error:
        faults += violations_of(error)
    try:
        key = _key({**asked, **_PLACEHOLDER}, catalogue)
    except ValidationError as error:
        raise ValidationFailed((*faults, *violations_of(error))) from None
    if faults:
        raise ValidationFailed(tuple(faults))
    return key, env


def _key(members: dict[str, Any], catalogue: Catalogue) -> Key:
    """The key of an entry that is judged by the cards; raises pydantic's ValidationError."""
    entry = KeyEntry.model_validate({"scopes": ["images"], **members}, context={"catalogue": catalogue})
    return entry.key()


def identity_of(members: dict[str, Any], catalogue: Catalogue) -> Key:
    """What a Google account may do, as a key that has no id yet."""
    faults = [
        Violation(pointer((name,)), "read_only", "an identity has no secret, and the gateway makes its id")
        for name in _MADE_BY_GATEWAY
        if name in members
    ]
    asked = {name: value for name, value in members.items() if name not in _MADE_BY_GATEWAY}
    if sum(asked.get(name) is not None for name in _OF_IDENTITIES) != 1:
        faults.append(Violation("", "one_of", "exactly one of email and subject is needed"))
        raise ValidationFailed(tuple(faults))
    try:
        key = _key({**asked, "id": "new"}, catalogue)
    except ValidationError as error:
        raise ValidationFailed((*faults, *violations_of(error))) from None
    if faults:
        raise ValidationFailed(tuple(faults))
    return key


def credit_of(members: dict[str, Any]) -> tuple[BudgetName, int, str]:
    """Which budget, the credit in the unit's store amount, and its id."""
    asked = read(CreditRequest, members)
    name = BudgetName(asked.unit, "lifetime", asked.project, asked.key)
    entry = {"unit": asked.unit, "window": "lifetime", "limit": abs(asked.amount)}
    amount = _budget(entry, "/amount").limit
    return name, -amount if asked.amount < 0 else amount, asked.credit_id


def override_of(members: dict[str, Any]) -> tuple[BudgetName, int, int]:
    """Which budget, the limit in the unit's store amount, and until when in Unix milliseconds."""
    asked = read(OverrideRequest, members)
    name = BudgetName(asked.unit, asked.window, asked.project, asked.key)
    entry = {"unit": asked.unit, "window": asked.window, "limit": asked.limit}
    return name, _budget(entry, "/limit").limit, milliseconds(asked.until)


def _budget(entry: dict[str, Any], place: str) -> Budget:
    """A budget by the file's rules; what is wrong with its limit is wrong at this place of the request."""
    try:
        return BudgetEntry.model_validate(entry).budget("tenant")
    except ValidationError as error:
        faults = [Violation(place, fault.code, fault.detail) for fault in violations_of(error)]
        raise ValidationFailed(tuple(faults)) from None


def dimensions_of(by: list[Dimension] | None) -> tuple[Dimension, ...]:
    """By what a report is added up, each once.

    Raises:
        ValidationFailed: Labels are asked for beside what rows by label do not know.
    """
    chosen: tuple[Dimension, ...] = tuple(dict.fromkeys(by)) if by else ("tenant",)
    unknown = sorted({"key", "model", "size"} & set(chosen))
    if "label" in chosen and unknown:
        sentence = "usage by label is not known by key, model or size as well; ask for tenant, day or month"
        raise ValidationFailed((Violation("/by", "not_together", sentence, ("tenant", "day", "month")),))
    return chosen


def purge_of(members: dict[str, Any]) -> PurgeRequest:
    """What is to be purged: one tenant's results, one piece of its work, or everybody's."""
    asked = read(PurgeRequest, members)
    if asked.all == (asked.tenant is not None):
        raise ValidationFailed((Violation("", "one_of", "exactly one of tenant and all is needed"),))
    if asked.all and asked.fingerprint is not None:
        sentence = "a fingerprint is one tenant's; send it with tenant"
        raise ValidationFailed((Violation("/fingerprint", "needs_tenant", sentence),))
    return asked
