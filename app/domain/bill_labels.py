"""Labels by which Google's bill can be split, made from tenant, project and the request's own labels.

Vertex AI takes at most 64 labels for a call. Names have 1 to 63 characters and values at most 63, of
lower-case letters, digits, underscores and hyphens; a name begins with a letter (docs/model.md#labels).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.tenancy import Caller

BillLabel = Literal["tenant", "project", "request"]

LENGTH_MAX: Final = 63
OWN_PREFIX: Final = "flashgate_"
_OTHER: Final = re.compile(r"[^a-z0-9_-]")


def build_bill_labels(
    kinds: frozenset[BillLabel], caller: Caller, own: tuple[tuple[str, str], ...]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The labels of a call, and the names of the request's labels that are left out.

    A label is left out if an earlier one (in the order of their names) has the same name at Google, or if
    its name is one of the gateway's.

    Args:
        kinds: What labels are made from.
        caller: Its tenant becomes ``flashgate_tenant``, the project of its key ``flashgate_project``.
        own: The request's own labels.
    """
    labels: dict[str, str] = {}
    if "tenant" in kinds:
        labels[f"{OWN_PREFIX}tenant"] = format_value(caller.tenant.id)
    if "project" in kinds and caller.key.project is not None:
        labels[f"{OWN_PREFIX}project"] = format_value(caller.key.project)
    left_out = []
    for name, value in sorted(own) if "request" in kinds else ():
        formatted = format_name(name)
        if formatted in labels or formatted.startswith(OWN_PREFIX):
            left_out.append(name)
        else:
            labels[formatted] = format_value(value)
    return labels, tuple(left_out)


def format_name(name: str) -> str:
    """The name that Google takes: ``Team Größe`` becomes ``team_gr__e``, and ``1st`` becomes ``x1st``."""
    formatted = format_value(name)
    if formatted[:1].isalpha():
        return formatted
    return f"x{formatted}"[:LENGTH_MAX]


def format_value(value: str) -> str:
    """The value that Google takes: lower case, with an underscore for each other character."""
    return _OTHER.sub("_", value.lower())[:LENGTH_MAX]


def merge_labels(labels: Mapping[str, str], written: Mapping[str, str]) -> dict[str, str]:
    """The gateway's labels beside those that a body has already, which stay as they are written.

    A body cannot replace the gateway's: a caller could make another tenant pay.
    """
    return {**written, **labels}
