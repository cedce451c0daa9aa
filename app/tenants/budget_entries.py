"""Budgets, rates and projects as the tenants' file and the Admin API have them."""

from __future__ import annotations

from datetime import UTC, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from app.domain.budget import (
    AMOUNT_MAX,
    NANO_PER_USD,
    WINDOWS,
    Budget,
    Mode,
    Override,
    Scope,
    Unit,
    WindowName,
)
from app.domain.rate import REQUESTS_PER_MINUTE_MAX, Rate
from app.domain.tenancy import TENANT_ID, UNIX_EPOCH, Project

if TYPE_CHECKING:
    import re
    from datetime import datetime


def known(pattern: re.Pattern[str], sentence: str) -> AfterValidator:
    """Refuses a text that is not of the pattern."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(sentence)
        return value

    return AfterValidator(check)


def no_boolean(value: object) -> object:
    """Refuses true and false where a number is needed, because they are numbers to Python."""
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


def milliseconds(moment: datetime) -> int:
    """Unix time."""
    return (moment - UNIX_EPOCH) // timedelta(milliseconds=1)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a moment lies in the years 1 to 9999 of UTC") from None


def _window(value: object) -> object:
    if value not in WINDOWS:
        raise ValueError(f"the windows are {', '.join(WINDOWS)}; others are not supported")
    return value


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A time with its zone, in UTC. In another zone the calendar's first and last hours have no such time."""
Limit = Annotated[Decimal, BeforeValidator(no_boolean), Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(no_boolean), Field(ge=1, le=REQUESTS_PER_MINUTE_MAX)]


def _amount(unit: Unit, limit: Decimal) -> int:
    """The limit in the unit's store amount; dollars in billionths. Raises ValueError where it has none."""
    amount = limit * NANO_PER_USD if unit == "usd" else limit
    if amount != amount.to_integral_value():
        finest = "a billionth of a dollar" if unit == "usd" else "one"
        raise ValueError(f"the limit is finer than {finest}")
    if amount > AMOUNT_MAX:
        raise ValueError(f"the limit is above the largest countable amount, {AMOUNT_MAX}")
    return int(amount)


class Entry(BaseModel):
    """Frozen, without unknown fields; what is wrong is never quoted, because it may be a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class OverrideEntry(Entry):
    """Another limit, until a moment."""

    limit: Limit
    until: Moment


class BudgetEntry(Entry):
    """One limit. ``limit`` is in the unit's everyday measure: tokens, images, or dollars."""

    unit: Unit
    window: Annotated[WindowName, BeforeValidator(_window)]
    limit: Limit
    mode: Mode = "enforce"
    scope: str | None = Field(default=None, description="Only to say again where the entry stands.")
    override: OverrideEntry | None = None

    @model_validator(mode="after")
    def _whole(self) -> BudgetEntry:
        self.budget("tenant")
        return self

    def budget(self, scope: Scope) -> Budget:
        """The domain's budget; dollars in billionths."""
        override = None
        if self.override is not None:
            until_ms = milliseconds(self.override.until)
            override = Override(_amount(self.unit, self.override.limit), until_ms)
        return Budget(self.unit, self.window, _amount(self.unit, self.limit), scope, self.mode, override)


def check_budgets(entries: tuple[BudgetEntry, ...], scope: Scope) -> tuple[BudgetEntry, ...]:
    """Refuses a budget that says it stands elsewhere, and two of the same unit and window."""
    found = set()
    for entry in entries:
        if entry.scope is not None and entry.scope != scope:
            raise ValueError(
                f"the scope of a budget that stands here is {scope}, not {entry.scope}: "
                "the scopes are tenant, project and key, where the budget stands"
            )
        if (entry.unit, entry.window) in found:
            raise ValueError(f"there are two budgets of {entry.unit} for the {entry.window}")
        found.add((entry.unit, entry.window))
    return entries


class RateEntry(Entry):
    """Requests a minute, how many of them at once after a pause, and holds that may be open at once."""

    requests_per_minute: Count | None = None
    burst: Count | None = None
    concurrent: Count | None = None

    @model_validator(mode="after")
    def _something(self) -> RateEntry:
        if self.requests_per_minute is None and (self.burst is not None or self.concurrent is None):
            raise ValueError("requests_per_minute is needed, or concurrent alone")
        return self

    def rate(self) -> Rate:
        """The domain's rate."""
        return Rate(self.requests_per_minute, self.burst, self.concurrent)


class ProjectEntry(Entry):
    """A part of a tenant whose keys share budgets."""

    id: Annotated[
        str, known(TENANT_ID, "a project id is 1 to 63 of a-z, 0-9 and - and begins with no hyphen")
    ]
    budgets: Annotated[tuple[BudgetEntry, ...], AfterValidator(partial(check_budgets, scope="project"))] = ()

    def project(self) -> Project:
        """The domain's project."""
        return Project(self.id, tuple(entry.budget("project") for entry in self.budgets))
