"""Budgets, rates and rights as operators write them, in a tenants' file or through the Admin API.

Each model validates a document, is its schema in OpenAPI, and is the form in which the registry stores it.
Limits in dollars are decimals and become billionths exactly; no float ever touches money.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
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
    EARLIER_UNITS,
    NANO_PER_USD,
    WINDOWS,
    Budget,
    Mode,
    Override,
    Scope,
    Unit,
    WindowName,
)
from app.domain.end_user import USERS_MAX, Unnamed, UserLimits
from app.domain.rate import REQUESTS_PER_MINUTE_MAX, Rate
from app.domain.tenancy import TENANT_ID, UNIX_EPOCH, Project

if TYPE_CHECKING:
    import re

    from app.cards import Catalogue


def matching(pattern: re.Pattern[str], sentence: str) -> tuple[AfterValidator, Any]:
    """Metadata for an annotated string that must match a pattern, which the schema shows."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(sentence)
        return value

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$"})


def refuse_boolean(value: object) -> object:
    """Refuse true and false where a number is required: to Python they are numbers."""
    if isinstance(value, bool):
        raise ValueError("a number is required, not true or false")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


def to_unix_ms(moment: datetime) -> int:
    """Return a time as Unix milliseconds."""
    return (moment - UNIX_EPOCH) // timedelta(milliseconds=1)


def datetime_from_ms(unix_ms: int) -> datetime:
    """Return a time in UTC from Unix milliseconds."""
    return UNIX_EPOCH + timedelta(milliseconds=unix_ms)


def _convert_to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time must lie in the years 1 to 9999, UTC") from None


def _check_window(value: object) -> object:
    if value not in WINDOWS:
        raise ValueError(f"must be one of {', '.join(WINDOWS)}")
    return value


def _check_unit(value: object) -> object:
    if isinstance(value, str) and value in EARLIER_UNITS:
        raise ValueError(
            f"{value} is no unit; image_tokens counts the tokens of pictures by the model card, "
            "all_output_tokens counts those of pictures, text and thinking"
        )
    return value


def to_json_number(amount: Decimal) -> int | float | str:
    """Return a number if a float represents it exactly, else decimal text."""
    if amount == amount.to_integral_value():
        return int(amount)
    if Decimal(repr(float(amount))) == amount:
        return float(amount)
    return format(amount.normalize(), "f")


Moment = Annotated[
    AwareDatetime,
    AfterValidator(_convert_to_utc),
]
"""A time with a zone, converted to UTC, where the calendar's first and last hours can be out of range."""
Limit = Annotated[
    Decimal,
    BeforeValidator(refuse_boolean),
    Field(ge=0, allow_inf_nan=False),
    PlainSerializer(to_json_number, when_used="json"),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?$"}]}
    ),
]
BudgetUnit = Annotated[Unit, BeforeValidator(_check_unit)]
Count = Annotated[int, BeforeValidator(refuse_boolean), Field(ge=1, le=REQUESTS_PER_MINUTE_MAX)]
Names = Annotated[frozenset[str], PlainSerializer(sorted, return_type=list[str], when_used="json")]


def compute_amount(unit: Unit, limit: Decimal) -> int:
    """Return a limit as a store amount, with dollars in billionths. Raises ValueError if it has none."""
    amount = limit
    if unit == "usd":
        amount = limit * NANO_PER_USD
    if amount != amount.to_integral_value():
        step = "one"
        if unit == "usd":
            step = "a billionth of a dollar"
        raise ValueError(f"the limit must be a multiple of {step}")
    if amount > AMOUNT_MAX:
        raise ValueError(f"the limit must not exceed {AMOUNT_MAX}")
    return int(amount)


def compute_limit(unit: Unit, amount: int) -> Decimal:
    """Return a store amount in tokens, images or dollars."""
    if unit == "usd":
        return Decimal(amount) / NANO_PER_USD
    return Decimal(amount)


class Document(BaseModel):
    """Frozen, without unknown fields. Errors never quote the input, which may be a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class BudgetOverrideDocument(Document):
    """A temporary limit of a budget."""

    limit: Limit = Field(description="Limit that replaces the budget's own, in its unit.", examples=[60000])
    until: Moment = Field(description="End of the override.", examples=["2026-12-01T00:00:00Z"])


class BudgetLimitDocument(Document):
    """A limit on one unit in one window."""

    unit: BudgetUnit = Field(
        description="Unit that is counted: image_tokens (pictures, by the model card), all_output_tokens "
        "(pictures, text and thinking), total_tokens (input as well), images, or usd (US dollars).",
        examples=["image_tokens"],
    )
    window: Annotated[WindowName, BeforeValidator(_check_window)] = Field(
        description="Calendar window in the tenant's time zone; lifetime for a prepaid budget.",
        examples=["day"],
    )
    limit: Limit = Field(description="Limit in the unit; decimal text is exact.", examples=[41440])
    mode: Mode = Field(
        "enforce", description="enforce refuses requests over the limit; shadow only counts them."
    )
    scope: str | None = Field(
        None,
        description="Scope of the budget, which must match its place: tenant, project or key. In a tenant's "
        "budgets, user gives each end user a budget of its own.",
    )
    override: BudgetOverrideDocument | None = Field(None, description="Temporary limit.")

    @model_validator(mode="after")
    def _check_amounts(self) -> Self:
        self.build_budget("tenant")
        return self

    def build_budget(self, scope: Scope) -> Budget:
        """Return the budget of the domain."""
        override = None
        if self.override is not None:
            limit = compute_amount(self.unit, self.override.limit)
            override = Override(limit, to_unix_ms(self.override.until))
        return Budget(
            self.unit, self.window, compute_amount(self.unit, self.limit), scope, self.mode, override
        )

    @classmethod
    def from_budget(cls, budget: Budget) -> Self:
        """Return the document of a budget."""
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
            scope="user" if budget.scope == "user" else None,
            override=override,
        )


def _check_budgets(
    entries: tuple[BudgetLimitDocument, ...], *scopes: Scope
) -> tuple[BudgetLimitDocument, ...]:
    """Refuse a budget whose scope does not match its place, and two of the same scope, unit and window."""
    seen = set()
    for entry in entries:
        scope = entry.scope or scopes[0]
        if scope not in scopes:
            raise ValueError(
                f"the scope of a budget that stands here is {' or '.join(scopes)}, not {scope}: "
                "the scopes are tenant, project and key, where the budget stands, and user among the "
                "tenant's budgets"
            )
        if (scope, entry.unit, entry.window) in seen:
            raise ValueError(f"there are two budgets of {entry.unit} for the {entry.window}")
        seen.add((scope, entry.unit, entry.window))
    return entries


def _check_tenant_budgets(entries: tuple[BudgetLimitDocument, ...]) -> tuple[BudgetLimitDocument, ...]:
    return _check_budgets(entries, "tenant", "user")


def _check_project_budgets(entries: tuple[BudgetLimitDocument, ...]) -> tuple[BudgetLimitDocument, ...]:
    return _check_budgets(entries, "project")


def _check_key_budgets(entries: tuple[BudgetLimitDocument, ...]) -> tuple[BudgetLimitDocument, ...]:
    return _check_budgets(entries, "key")


TenantBudgets = Annotated[tuple[BudgetLimitDocument, ...], AfterValidator(_check_tenant_budgets)]
ProjectBudgets = Annotated[tuple[BudgetLimitDocument, ...], AfterValidator(_check_project_budgets)]
KeyBudgets = Annotated[tuple[BudgetLimitDocument, ...], AfterValidator(_check_key_budgets)]


class RateLimitDocument(Document):
    """A request rate and a concurrency cap; requests_per_minute is required unless concurrent is alone."""

    requests_per_minute: Count | None = Field(
        None, description="Requests per minute; null for no limit.", examples=[600]
    )
    burst: Count | None = Field(
        None, description="Requests at once after a pause; null for one minute's worth.", examples=[60]
    )
    concurrent: Count | None = Field(
        None, description="Concurrent generations; null for no limit.", examples=[50]
    )

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if self.requests_per_minute is None and (self.burst is not None or self.concurrent is None):
            raise ValueError("requests_per_minute is required, unless concurrent is given alone")
        return self

    def build_rate(self) -> Rate:
        """Return the rate of the domain."""
        return Rate(self.requests_per_minute, self.burst, self.concurrent)

    @classmethod
    def from_rate(cls, rate: Rate | None) -> Self | None:
        """Return the document of a rate."""
        if rate is None:
            return None
        return cls(requests_per_minute=rate.requests_per_minute, burst=rate.burst, concurrent=rate.concurrent)


class UserLimitsDocument(Document):
    """Rules for a tenant's end users, beside its budgets of the scope user."""

    rate: RateLimitDocument | None = Field(
        None, description="Request rate and concurrency cap of each end user."
    )
    unnamed: Unnamed = Field(
        "refuse",
        description="Requests that name no end user where a limit of end users is enforced: refuse them, or "
        "let them share the limits of one user.",
    )
    active_max: Annotated[int, BeforeValidator(refuse_boolean)] = Field(
        USERS_MAX,
        ge=1,
        le=1_000_000,
        description="End users that may have a current window or rate at once; further ones are refused "
        "with 429 `too_many_users`.",
    )

    def build_limits(self) -> UserLimits:
        """Return the rules of the domain."""
        rate = None
        if self.rate is not None:
            rate = self.rate.build_rate()
        return UserLimits(rate, self.unnamed, self.active_max)

    @classmethod
    def from_limits(cls, limits: UserLimits) -> Self | None:
        """Return the document of the rules; None for the defaults."""
        if limits == UserLimits():
            return None
        return cls(
            rate=RateLimitDocument.from_rate(limits.rate),
            unnamed=limits.unnamed,
            active_max=limits.active_max,
        )


class ProjectDocument(Document):
    """A group of a tenant's keys that share budgets."""

    id: Annotated[
        str,
        *matching(TENANT_ID, "a project id has 1 to 63 of a-z, 0-9 and -, and does not start with a hyphen"),
    ] = Field(description="Project id, unique in the tenant.", examples=["website"])
    budgets: ProjectBudgets = Field((), description="Budgets shared by the project's keys.")

    def build_project(self) -> Project:
        """Return the project of the domain."""
        return Project(self.id, tuple(entry.build_budget("project") for entry in self.budgets))

    @classmethod
    def from_project(cls, project: Project) -> Self:
        """Return the document of a project."""
        return cls(id=project.id, budgets=tuple(map(BudgetLimitDocument.from_budget, project.budgets)))


def get_catalogue(info: ValidationInfo) -> Catalogue | None:
    """Return the catalogue to validate against; None for a stored document, which was validated before."""
    return cast("Catalogue | None", (info.context or {}).get("catalogue"))


class Rights(Document):
    """Allowed models, image sizes and Preview features; an omitted field restricts nothing."""

    models: Names = Field(frozenset(), description="Allowed models, by id or alias; empty for all.")
    max_image_size: str | None = Field(
        None, description="Largest allowed image size; null for any.", examples=["2K"]
    )
    preview: Names | None = Field(
        None, description="Allowed Preview features; null for all.", examples=[["4K", "video"]]
    )

    @field_validator("models")
    @classmethod
    def _check_models(cls, value: frozenset[str], info: ValidationInfo) -> frozenset[str]:
        if (catalogue := get_catalogue(info)) is None:
            return value
        if unknown := sorted(name for name in value if catalogue.resolve(name) is None):
            raise ValueError(f"unknown models: {', '.join(unknown)}; known are {', '.join(catalogue.names)}")
        return frozenset(card.id for name in value if (card := catalogue.resolve(name)))

    @field_validator("max_image_size")
    @classmethod
    def _check_size(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or (catalogue := get_catalogue(info)) is None:
            return value
        for card in catalogue:
            if (literal := card.normalise_image_size(value)) is not None:
                return literal
        offered = dict.fromkeys(size for card in catalogue for size in card.image_sizes)
        raise ValueError(f"no model supports the size {value!r}; known are {', '.join(offered)}")

    @field_validator("preview")
    @classmethod
    def _check_preview(cls, value: frozenset[str] | None, info: ValidationInfo) -> frozenset[str] | None:
        if value is None or (catalogue := get_catalogue(info)) is None:
            return value
        offered = {"video"} | {
            size for card in catalogue for size, facts in card.image_sizes.items() if facts.preview
        }
        if unknown := sorted(value - offered):
            raise ValueError(f"{', '.join(unknown)}: the preview features are {', '.join(sorted(offered))}")
        return value
