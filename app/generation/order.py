"""The orders that surfaces hand to the gateway, and its results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.domain.budget import Amounts, WindowState
    from app.domain.card import Card
    from app.domain.errors import BudgetExceeded, MaxCostExceeded, RateLimited, Violation
    from app.domain.estimate import Estimate
    from app.domain.generation import CacheStatus, Generation, Notice, Picture, Usage
    from app.domain.rate import RateState
    from app.domain.request import CacheDirective, GenerationRequest
    from app.domain.tenancy import Caller


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's own name for one request, so that a repetition is never made and paid again.

    Attributes:
        key: As the caller sent it, unquoted.
        route: The operation that it counts for, such as ``images:generate``.
    """

    key: str
    route: str


@dataclass(frozen=True, slots=True)
class ClientTimeout:
    """How long the caller waits.

    Attributes:
        seconds: From its request's arrival on.
        arrived: That moment, by ``time.monotonic``.
        header: Where the caller said so.
    """

    seconds: float
    arrived: float
    header: str


@dataclass(frozen=True, slots=True)
class Order:
    """A request with its caller and options, as a surface hands it over.

    Attributes:
        request: As the caller sent it, spellings included.
        cache: The caller's directive, or None where it gave none.
        violations: Faults that the surface found in its own dialect; they are reported with the card's.
        idempotency: The caller's key and the route that it counts for, or None.
        patience: How long the caller waits, or None where it has not said.
        drop_in: Whether it came in a dialect whose original generates a new picture for every request.
        retries: How often its client has repeated the call by itself; None for one that does not say so.
        max_cost_usd: What it may cost at most, in billionths of a dollar, or None.
        notices: What the surface read differently from what was written, or what has no effect here.
        moved: Whether an alias of its model moves it; None where the alias's share decides.
    """

    caller: Caller
    request: GenerationRequest
    cache: CacheDirective | None = None
    violations: tuple[Violation, ...] = ()
    idempotency: IdempotencyKey | None = None
    patience: ClientTimeout | None = None
    drop_in: bool = False
    retries: int | None = None
    max_cost_usd: int | None = None
    notices: tuple[Notice, ...] = ()
    moved: bool | None = None


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """A finished request, ready for any dialect.

    Attributes:
        request: As it was used: normalised, defaults filled in.
        pictures: With their bytes, in order.
        cache_status: ``hit``, ``miss``, ``coalesced`` or ``bypass``.
        cost: What this very request spent; zero for what somebody else paid for.
        timings_ms: Milliseconds by stage: validate, admit, wait, upstream, settle.
        interim: Pictures of thoughts, with their bytes; none unless the caller asked to see them.
        rates: The caller's rates as they were seen at admission.
        replayed: Whether this is the result of an earlier request under the same idempotency key.
    """

    generation: Generation
    request: GenerationRequest
    card: Card
    pictures: tuple[Picture, ...]
    cache_status: CacheStatus
    age_s: int
    fingerprint: str
    cost: Usage
    windows: tuple[WindowState, ...]
    notices: tuple[Notice, ...]
    timings_ms: dict[str, float] = field(default_factory=dict)
    interim: tuple[Picture, ...] = ()
    rates: tuple[RateState, ...] = ()
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Quote:
    """What a request would cost and whether it would be served, at this moment.

    Attributes:
        card: None where the model is not known.
        request: As it would be used; as it was asked where it has faults.
        estimate: None for a request with faults.
        windows: The caller's windows; ``refuses`` tells which would not admit it.
        cached_age_s: Age of a cached result in seconds, or None where there is none.
        rates: The caller's rates and caps; one with nothing left would refuse.
        refusal: What the request would be refused with, or None.
        worst: What it can cost at most, under its tightest bound; None for a request with faults.
    """

    card: Card | None
    request: GenerationRequest
    violations: tuple[Violation, ...]
    estimate: Estimate | None
    windows: tuple[WindowState, ...]
    cached_age_s: int | None
    notices: tuple[Notice, ...]
    rates: tuple[RateState, ...] = ()
    refusal: BudgetExceeded | RateLimited | MaxCostExceeded | None = None
    worst: Amounts | None = None
