"""Tenants as JSON documents: judged with every fault at once, and as the registry keeps them."""

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
    """The document is not what this version writes, or names a card that it does not have."""


def parse_tenant(document: object, catalogue: Catalogue) -> Tenant:
    """The tenant of a document. Raises ValidationFailed with every fault, each with its place."""
    try:
        tenant = TenantDocument.model_validate(document, context={"catalogue": catalogue}).build_tenant()
    except ValidationError as error:
        raise ValidationFailed(build_violations(error)) from None
    named = [(name, index) for index, key in enumerate(tenant.keys) for name in key.names]
    first = dict(reversed(named))
    repeated = [
        Violation(build_pointer("keys", index, field), "repeated", f"the {said} {value!r} stands here twice")
        for name, index in named
        for field, _, value in [name.partition(":") if ":" in name else ("id", "", name)]
        for said in [{"id": "key id", "email": "e-mail address"}.get(field, field)]
        if index != first[name]
    ]
    if repeated:
        raise ValidationFailed(tuple(repeated))
    return tenant


def encode_tenant(tenant: Tenant, catalogue: Catalogue) -> str:
    """What the registry keeps. Raises ValidationFailed where the tenant as a whole breaks a rule."""
    try:
        text = TenantDocument.from_tenant(tenant).model_dump_json(exclude_none=True)
    except ValidationError as error:
        raise ValidationFailed(build_violations(error)) from None
    parse_tenant(json.loads(text), catalogue)
    return text


def decode_tenant(text: str, catalogue: Catalogue) -> Tenant:
    """The tenant of a document that the registry kept, of an earlier version too. Raises UnreadableTenant."""
    text, renamed = _EARLIER_UNIT.subn(lambda found: f'{found[1]}"{EARLIER_UNITS[found[2]]}"', text)
    try:
        tenant = TenantDocument.model_validate_json(text, context={"catalogue": catalogue}).build_tenant()
    except ValidationError as error:
        raise UnreadableTenant("The store holds a tenant that this version cannot read.") from error
    if renamed:
        log.info(
            "a stored tenant has budgets in output_tokens, which are read as image_tokens",
            extra={"tenant": tenant.id},
        )
    return tenant


def describe_error(fault: ErrorDetails) -> str:
    """A fault that pydantic found, in a phrase that quotes no secret."""
    return describe_requirement(fault["type"], fault.get("ctx"))


def build_violations(
    error: ValidationError, refused: Mapping[str, Violation] | None = None
) -> tuple[Violation, ...]:
    """Every fault that pydantic found, by its place in the document; nothing of a secret is repeated.

    ``refused`` says more of members that the model does not have: why they cannot be given here.
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
