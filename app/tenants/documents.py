"""Tenants as JSON documents: validation with all violations at once, and the registry's stored form."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from app.domain.budget import EARLIER_UNITS
from app.domain.errors import ValidationFailed, Violation
from app.domain.pointers import build_pointer
from app.domain.requirements import classify_kind, describe_requirement, list_choices
from app.tenants.schema import TenantDocument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

    from app.cards import Catalogue
    from app.domain.tenancy import Tenant


log = logging.getLogger(__name__)

_EARLIER_UNIT = re.compile(rf'("unit":\s*)"({"|".join(EARLIER_UNITS)})"')


class UnreadableTenant(ValueError):
    """The document has an unknown form or names an unknown model."""


def parse_tenant(document: object, catalogue: Catalogue, pools: frozenset[str] | None = None) -> Tenant:
    """Parse a tenant, whose pool must be one of ``pools`` unless that is None.

    Raises:
        ValidationFailed: With all violations.
    """
    context = {"catalogue": catalogue, "pools": pools}
    try:
        tenant = TenantDocument.model_validate(document, context=context).build_tenant()
    except ValidationError as error:
        raise ValidationFailed(build_violations(error)) from None
    names = [(name, index) for index, key in enumerate(tenant.keys) for name in key.names]
    first = dict(reversed(names))
    repeated = [_build_repeated_violation(name, index) for name, index in names if index != first[name]]
    if repeated:
        raise ValidationFailed(tuple(repeated))
    return tenant


def _build_repeated_violation(name: str, index: int) -> Violation:
    """Build the violation of a key's id, or of its identity as ``email:…`` or ``subject:…``."""
    field, value = "id", name
    if ":" in name:
        field, _, value = name.partition(":")
    label = {"id": "key id", "email": "e-mail address"}.get(field, field)
    return Violation(build_pointer("keys", index, field), "repeated", f"duplicate {label} {value!r}")


def encode_tenant(tenant: Tenant, catalogue: Catalogue, pools: frozenset[str] | None = None) -> str:
    """Encode a tenant for the registry. Raises ValidationFailed if it breaks a rule as a whole."""
    try:
        text = TenantDocument.from_tenant(tenant).model_dump_json(exclude_none=True)
    except ValidationError as error:
        raise ValidationFailed(build_violations(error)) from None
    parse_tenant(json.loads(text), catalogue, pools)
    return text


def decode_tenant(text: str, catalogue: Catalogue) -> Tenant:
    """The tenant of a document that the registry kept, of an earlier version too. Raises UnreadableTenant."""
    text, renamed = _EARLIER_UNIT.subn(lambda match: f'{match[1]}"{EARLIER_UNITS[match[2]]}"', text)
    try:
        tenant = TenantDocument.model_validate_json(text, context={"catalogue": catalogue}).build_tenant()
    except ValidationError as error:
        raise UnreadableTenant("The store has a tenant that this version cannot read.") from error
    if renamed:
        log.info(
            "a stored tenant has budgets in output_tokens, which are read as image_tokens",
            extra={"tenant": tenant.id},
        )
    return tenant


def describe_error(fault: ErrorDetails) -> str:
    """Describe an error of pydantic without quoting the input, which may be a secret."""
    return describe_requirement(fault["type"], fault.get("ctx"))


def build_violations(
    error: ValidationError, refused: Mapping[str, Violation] | None = None
) -> tuple[Violation, ...]:
    """Convert pydantic's errors to violations, without quoting the input.

    ``refused`` has better violations, by pointer, for members that the model does not have.
    """
    return tuple(_iterate_violations(error, refused or {}))


def _iterate_violations(error: ValidationError, refused: Mapping[str, Violation]) -> Iterator[Violation]:
    for fault in error.errors(include_input=False, include_url=False):
        kind, place = fault["type"], build_pointer(*fault["loc"])
        if kind == "extra_forbidden" and place in refused:
            yield refused[place]
        else:
            yield Violation(
                place, classify_kind(kind), describe_error(fault), list_choices(kind, fault.get("ctx"))
            )
