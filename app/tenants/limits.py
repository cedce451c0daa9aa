"""Budgets, rates and rights as operators write them, in a tenants' file or through the Admin API.

Each model judges a document, is its schema in OpenAPI, and is the form in which the registry keeps it. Limits
in dollars are decimals and become billionths exactly; no float ever touches money.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
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

    from app.cards import Catalogue


def matching(pattern: re.Pattern[str], sentence: str) -> tuple[AfterValidator, Any]:
    """For the annotation of a text: refuses other texts than the pattern's, which the schema shows."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(sentence)
        return value

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$"})


def refuse_boolean(value: object) -> object:
    """Refuses true and false where a number is needed, because they are numbers to Python."""
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


def to_unix_ms(moment: datetime) -> int:
    """Unix time."""
    return (moment - UNIX_EPOCH) // timedelta(milliseconds=1)


def datetime_from_ms(unix_ms: int) -> datetime:
    """A Unix time in UTC."""
    return UNIX_EPOCH + timedelta(milliseconds=unix_ms)


def _convert_to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a moment lies in the years 1 to 9999 of UTC") from None


def _check_window(value: object) -> object:
    if value not in WINDOWS:
        raise ValueError(f"the windows are {', '.join(WINDOWS)}; others are not supported")
    return value


def to_json_number(amount: Decimal) -> int | float | str:
    """A number where a float tells it exactly, else decimal text."""
    if amount == amount.to_integral_value():
        return int(amount)
    return float(amount) if Decimal(repr(float(amount))) == amount else format(amount.normalize(), "f")


Moment = Annotated[
    AwareDatetime,
    AfterValidator(_convert_to_utc),
]
"""A time with its zone, in UTC. In another zone the calendar's first and last hours have no such time."""
Limit = Annotated[
    Decimal,
    BeforeValidator(refuse_boolean),
    Field(ge=0, allow_inf_nan=False),
    PlainSerializer(to_json_number, when_used="json"),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?$"}]}
    ),
]
Count = Annotated[int, BeforeValidator(refuse_boolean), Field(ge=1, le=REQUESTS_PER_MINUTE_MAX)]
Names = Annotated[frozenset[str], PlainSerializer(sorted, return_type=list[str], when_used="json")]


def compute_amount(unit: Unit, limit: Decimal) -> int:
    """A limit in the unit's store amount, dollars in billionths. Raises ValueError where it has none."""
    amount = limit * NANO_PER_USD if unit == "usd" else limit
    if amount != amount.to_integral_value():
        finest = "a billionth of a dollar" if unit == "usd" else "one"
        raise ValueError(f"the limit is finer than {finest}")
    if amount > AMOUNT_MAX:
        raise ValueError(f"the limit is above the largest countable amount, {AMOUNT_MAX}")
    return int(amount)


def compute_limit(unit: Unit, amount: int) -> Decimal:
    """A store amount in the unit's everyday measure: tokens, images, or dollars."""
    return Decimal(amount) / NANO_PER_USD if unit == "usd" else Decimal(amount)


class Document(BaseModel):
    """Frozen, without unknown fields; what is wrong is never quoted, because it may be a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class BudgetOverrideDocument(Document):
    """Another limit for a time."""

    limit: Limit = Field(description="In place of the budget's own limit.", examples=[60000])
    until: Moment = Field(description="When it ends.", examples=["2026-12-01T00:00:00Z"])


class BudgetLimitDocument(Document):
    """A limit on one unit in one window."""

    unit: Unit = Field(description="What is counted; usd is US dollars.", examples=["output_tokens"])
    window: Annotated[WindowName, BeforeValidator(_check_window)] = Field(
        description="Calendar window in the tenant's time zone; lifetime is prepaid.", examples=["day"]
    )
    limit: Limit = Field(
        description="The most of the unit in a window; exact where given as text.", examples=[41440]
    )
    mode: Mode = Field("enforce", description="enforce refuses what does not fit; shadow only counts.")
    scope: str | None = Field(None, description="May repeat where the budget stands: tenant, project or key.")
    override: BudgetOverrideDocument | None = Field(None, description="Another limit for a time.")

    @model_validator(mode="after")
    def _check_amounts(self) -> Self:
        self.build_budget("tenant")
        return self

    def build_budget(self, scope: Scope) -> Budget:
        """The domain's budget."""
        override = None
        if self.override is not None:
            limit = compute_amount(self.unit, self.override.limit)
            override = Override(limit, to_unix_ms(self.override.until))
        return Budget(
            self.unit, self.window, compute_amount(self.unit, self.limit), scope, self.mode, override
        )

    @classmethod
    def from_budget(cls, budget: Budget) -> Self:
        """The document of a budget."""
        override = None
        if budget.override is not None:
            override = BudgetOverrideDocument(
                limit=compute_limit(budget.unit, budget.override.limit),
                until=datetime_from_ms(budget.override.until_ms),
            )
        return cls(
            unit=budget.unit,
            window=budget.window,
            limit=compute_limit(budget.unit, budget.limit),
            mode=budget.mode,
            override=override,
        )


def _check_budgets(entries: tuple[BudgetLimitDocument, ...], scope: Scope) -> tuple[BudgetLimitDocument, ...]:
    """Refuses a budget that says it stands elsewhere, and two of the same unit and window."""
    seen = set()
    for entry in entries:
        if entry.scope is not None and entry.scope != scope:
            raise ValueError(
                f"the scope of a budget that stands here is {scope}, not {entry.scope}: "
                "the scopes are tenant, project and key, where the budget stands"
            )
        if (entry.unit, entry.window) in seen:
            raise ValueError(f"there are two budgets of {entry.unit} for the {entry.window}")
        seen.add((entry.unit, entry.window))
    return entries


TenantBudgets = Annotated[
    tuple[BudgetLimitDocument, ...], AfterValidator(partial(_check_budgets, scope="tenant"))
]
ProjectBudgets = Annotated[
    tuple[BudgetLimitDocument, ...], AfterValidator(partial(_check_budgets, scope="project"))
]
KeyBudgets = Annotated[tuple[BudgetLimitDocument, ...], AfterValidator(partial(_check_budgets, scope="key"))]


class RateLimitDocument(Document):
    """Requests a minute and generations at once; requests_per_minute is needed, or concurrent alone."""

    requests_per_minute: Count | None = Field(
        None, description="Requests a minute; null for no limit.", examples=[600]
    )
    burst: Count | None = Field(
        None, description="Requests at once after a pause; null for a whole minute's.", examples=[60]
    )
    concurrent: Count | None = Field(
        None, description="Generations at once; null for no limit.", examples=[50]
    )

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if self.requests_per_minute is None and (self.burst is not None or self.concurrent is None):
            raise ValueError("requests_per_minute is needed, or concurrent alone")
        return self

    def build_rate(self) -> Rate:
        """The domain's rate."""
        return Rate(self.requests_per_minute, self.burst, self.concurrent)

    @classmethod
    def from_rate(cls, rate: Rate | None) -> Self | None:
        """The document of a rate."""
        if rate is None:
            return None
        return cls(requests_per_minute=rate.requests_per_minute, burst=rate.burst, concurrent=rate.concurrent)


class ProjectDocument(Document):
    """A part of a tenant with budgets that its keys share."""

    id: Annotated[
        str, *matching(TENANT_ID, "a project id is 1 to 63 of a-z, 0-9 and - and begins with no hyphen")
    ] = Field(description="Project id, unique in the tenant.", examples=["website"])
    budgets: ProjectBudgets = Field((), description="Limits that its keys share.")

    def build_project(self) -> Project:
        """The domain's project."""
        return Project(self.id, tuple(entry.build_budget("project") for entry in self.budgets))

    @classmethod
    def from_project(cls, project: Project) -> Self:
        """The document of a project."""
        return cls(id=project.id, budgets=tuple(map(BudgetLimitDocument.from_budget, project.budgets)))


def _get_catalogue(info: ValidationInfo) -> Catalogue | None:
    """The cards to judge by; None for a document of our own, which was judged when it came in."""
    return cast("Catalogue | None", (info.context or {}).get("catalogue"))


class Rights(Document):
    """Models, the largest size and Preview features; what is left out narrows nothing."""

    models: Names = Field(frozenset(), description="Cards that may be used, by id or alias; empty for all.")
    max_image_size: str | None = Field(
        None, description="The largest size that may be asked for; null for any.", examples=["2K"]
    )
    preview: Names | None = Field(
        None, description="Preview features that may be used; null for all.", examples=[["4K", "video"]]
    )

    @field_validator("models")
    @classmethod
    def _check_models(cls, value: frozenset[str], info: ValidationInfo) -> frozenset[str]:
        if (catalogue := _get_catalogue(info)) is None:
            return value
        if unknown := sorted(name for name in value if catalogue.resolve(name) is None):
            raise ValueError(
                f"no card is called {', '.join(unknown)}; there are {', '.join(catalogue.names)}"
            )
        return frozenset(card.id for name in value if (card := catalogue.resolve(name)))

    @field_validator("max_image_size")
    @classmethod
    def _check_size(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or (catalogue := _get_catalogue(info)) is None:
            return value
        for card in catalogue:
            if (literal := card.normalise_image_size(value)) is not None:
                return literal
        offered = dict.fromkeys(size for card in catalogue for size in card.image_sizes)
        raise ValueError(f"no card offers the size {value!r}; there are {', '.join(offered)}")

    @field_validator("preview")
    @classmethod
    def _check_preview(cls, value: frozenset[str] | None, info: ValidationInfo) -> frozenset[str] | None:
        if value is None or (catalogue := _get_catalogue(info)) is None:
            return value
        offered = {"video"} | {
            size for card in catalogue for size, facts in card.image_sizes.items() if facts.preview
        }
        if unknown := sorted(value - offered):
            raise ValueError(f"{', '.join(unknown)}: the preview features are {', '.join(sorted(offered))}")
        return value
