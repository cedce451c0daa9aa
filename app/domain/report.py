"""Reports of usage by day, project, key, model, size and service tier, by label, end user, or parameters.

Days are of UTC, because a report adds up tenants of any zone; budgets have the tenant's own days. A row is
kept for each key, model, size and tier of a day, and once more for each label, end user, and model with its
parameters: what is kept is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce
from itertools import product
from operator import add, sub
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from app.domain.budget import Amounts
    from app.domain.generation import Usage

Dimension = Literal[
    "tenant",
    "day",
    "month",
    "project",
    "key",
    "key_name",
    "model",
    "size",
    "tier",
    "label",
    "user",
    "parameter",
    "parameters",
]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
STANDARD = "standard"
ESTIMATED = "estimated"
"""The tier of what Google did not report, and the gateway booked by its own figures."""

RowKind = Literal["all", "label", "user", "parameters"]

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Attribution:
    """Under what a request's usage is reported.

    ``labels`` are the caller's own, by name and value; ``user_id`` is the end user's, or None; ``parameters``
    are those that the request used (``app/domain/parameters.py``), none to count none.
    """

    key_id: str
    model: str
    size: str
    labels: tuple[tuple[str, str], ...] = ()
    user_id: str | None = None
    parameters: tuple[str, ...] = ()


class Spent(NamedTuple):
    """Sums of one row; the order is the store's.

    ``usd`` in billionths of a dollar; ``text_output`` is all output that is no picture and no thought;
    ``cached_input`` is a part of the input.
    ``saved_…`` is what had been paid for the results of the ``hits``, which the cache served or a running
    call shared.
    """

    requests: int = 0
    image_tokens: int = 0
    total_tokens: int = 0
    images: int = 0
    usd: int = 0
    text_input: int = 0
    image_input: int = 0
    text_output: int = 0
    thinking: int = 0
    hits: int = 0
    saved_image_tokens: int = 0
    saved_total_tokens: int = 0
    saved_images: int = 0
    saved_usd: int = 0
    cached_input: int = 0
    search_queries: int = 0

    @property
    def output_tokens(self) -> int:
        """Everything that came out: pictures, words and thoughts."""
        return self.image_tokens + self.text_output + self.thinking

    def add(self, other: Spent) -> Spent:
        """Both together."""
        return Spent(*map(add, self, other))

    def subtract(self, other: Spent) -> Spent:
        """The rest without the other, which is a part of it."""
        return Spent(*map(sub, self, other))


class UsagePart(NamedTuple):
    """The part of a request's usage that was billed by one service tier; ``spent`` counts no request."""

    tier: str
    spent: Spent


def build_spent(amounts: Amounts, usage: Usage, requests: int = 1) -> Spent:
    """The sums of a row for booked amounts, and the tokens that Google reported of them."""
    text_output = max(0, amounts.all_output_tokens - amounts.image_tokens - usage.thinking)
    return Spent(
        requests,
        amounts.image_tokens,
        amounts.total_tokens,
        amounts.images,
        amounts.usd,
        usage.text_input + usage.tool_use,
        usage.image_input,
        text_output,
        usage.thinking,
        cached_input=usage.cached_input,
        search_queries=usage.search_queries,
    )


class Row(NamedTuple):
    """What one tenant used on one day under one heading.

    Attributes:
        day: Of UTC.
        key_id: None with model and size for what nobody can attribute: charged at the estimate because the
            outcome is unknown, or put back after the store had lost it.
        label: Name and value for a row by label, which counts again what rows by key count; ("", "") for the
            labels of the day beyond those that are counted one by one.
        tier: The service tier that Google reported, ``standard`` where it reported none, or ``estimated``.
        project_id: The project that the key belongs to now; None without one.
        key_name: The name that the key has now; None without one.
        user_id: The end user's for a row by user, which counts again what rows by key count; "" for the users
            of the day beyond those that are counted one by one.
        parameters: Those of the requests of a row by parameters, which counts again what rows by key count,
            for its model; empty, without a model, for what is beyond those that are counted one by one.
    """

    tenant_id: str
    day: date
    spent: Spent
    key_id: str | None = None
    model: str | None = None
    size: str | None = None
    label: tuple[str, str] | None = None
    tier: str | None = None
    project_id: str | None = None
    user_id: str | None = None
    parameters: tuple[str, ...] | None = None
    key_name: str | None = None

    @property
    def kind(self) -> RowKind:
        """What the row counts: all usage, or that of a label, of an end user or of parameters once more."""
        if self.label is not None:
            return "label"
        if self.user_id is not None:
            return "user"
        return "all" if self.parameters is None else "parameters"


class Line(NamedTuple):
    """One line of a report: the values of what it was asked by, in that order, and the sums."""

    heading: tuple[str | None, ...]
    spent: Spent


KINDS: dict[Dimension, RowKind] = {
    "label": "label",
    "user": "user",
    "parameter": "parameters",
    "parameters": "parameters",
}
"""The rows that a dimension needs; the other dimensions are those of all usage."""

_VALUES: dict[Dimension, Callable[[Row], str | None]] = {
    "tenant": lambda row: row.tenant_id,
    "day": lambda row: row.day.isoformat(),
    "month": lambda row: row.day.isoformat()[:7],
    "project": lambda row: row.project_id,
    "key": lambda row: row.key_id,
    "key_name": lambda row: row.key_name,
    "model": lambda row: row.model,
    "size": lambda row: row.size,
    "tier": lambda row: row.tier,
    "label": lambda row: "=".join(row.label) if row.label and any(row.label) else None,
    "user": lambda row: row.user_id or None,
    "parameters": lambda row: ";".join(row.parameters or ()) or None,
}


def report(rows: Iterable[Row], by: tuple[Dimension, ...]) -> tuple[Line, ...]:
    """Rows added up by dimensions, in order.

    By label, user or parameters only their rows count, else only the others.
    """
    kind = next((KINDS[dimension] for dimension in by if dimension in KINDS), "all")
    sums: dict[tuple[str | None, ...], Spent] = {}
    for row in rows:
        if row.kind == kind:
            for heading in product(*(_list_values(row, dimension) for dimension in by)):
                sums[heading] = sums.get(heading, Spent()).add(row.spent)
    ordered = sorted(sums, key=lambda heading: tuple(value or "" for value in heading))
    return tuple(Line(heading, sums[heading]) for heading in ordered)


def _list_values(row: Row, dimension: Dimension) -> tuple[str | None, ...]:
    """The values of a row: several for ``parameter``, each of which it counts for."""
    if dimension == "parameter":
        return row.parameters or (None,)
    return (_VALUES[dimension](row),)


def select_dearest(lines: tuple[Line, ...], most: int) -> tuple[Line, ...]:
    """The lines that cost most, the dearest first; of equal ones the first in order."""
    return tuple(sorted(lines, key=lambda line: -line.spent.usd)[:most])


def sum_rows(rows: Iterable[Row]) -> Spent:
    """All rows together."""
    return reduce(Spent.add, (row.spent for row in rows), Spent())


def encode_day(day: date) -> int:
    """Days since 1970, as the store counts them."""
    return (day - _EPOCH).days


def decode_day(number: int) -> date:
    """The day of such a number."""
    return _EPOCH + timedelta(days=number)
