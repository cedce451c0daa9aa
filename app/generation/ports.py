"""The ports that serving a request needs; ``app/tenants/ports.py`` has those of operators.

Adapters live in ``ledger``, ``results``, ``tenants`` and ``upstream``; ``observability`` wraps them. Every
method is all-or-nothing and raises only errors of ``app/domain/errors.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from app.domain.attempt import Rejoined
from app.domain.bound import NO_BOUND, Bound
from app.domain.budget import NOTHING
from app.domain.end_user import USERS_MAX
from app.domain.generation import NO_USAGE
from app.domain.tenancy import DEFAULT_POOL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from app.domain import report
    from app.domain.attempt import Attempt, Delivery
    from app.domain.bound import Tail
    from app.domain.budget import Amounts, BudgetWindow, WindowState
    from app.domain.failure import Failure
    from app.domain.generation import Generation, ModelAnswer, Picture, PictureRecord, Spent, Usage
    from app.domain.operation import Operation, OperationResult
    from app.domain.rate import RateLimit, RateState
    from app.domain.report import Attribution
    from app.domain.request import CacheDirective, GenerationRequest
    from app.domain.stored_generation import StoredGeneration
    from app.domain.tenancy import Caller, Identity, Priority, Tenant


@dataclass(frozen=True, slots=True)
class Claim:
    """A request's claim on an idempotency key, the same over all of its admissions (docs/reliability.md R25).

    Attributes:
        digest: The digest of the caller's key, the gateway key and the route.
        id: The id of the request that claims it.
        keep_s: Seconds that repetitions are answered and not paid again.
        original: Fingerprint of what was requested if another model serves it, else empty.
    """

    digest: str
    id: str
    keep_s: int
    original: str = ""


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """Everything that an admission decides on.

    Attributes:
        hold_id: Names the hold if one is made. Repeating an admission with the same id changes nothing.
        fingerprint: Of the work; also tells a repeated admission from another one under the same id.
        windows: Budget windows to reserve in, all or nothing.
        amounts: What is expected, in every unit.
        following: The hold whose outcome this caller waited for, or None on the first admission.
        rates: Request rates and caps on open holds to keep within.
        requests: How many requests to count in the rates: 0 where this request was counted before.
        claim: On the caller's idempotency key, or None without one.
        attribution: Under what a hit is reported; None where it is not to be.
        attempt: Where the client repeats its calls by itself, which attempt this is; None without a claim.
        bounds: What each call may be sent with, the tightest first; the hold is for the worst of the one that
            is chosen. Without any the hold is for what is expected.
        tail: Whether the last of a budget serves a call that is expected to fit.
        may_lead: Whether something may be reserved; else the store is only read, and
            the answer is ``Absent`` where nothing can be shared.
        users_max: How many end users of the tenant may be active at once.
    """

    tenant_id: str
    hold_id: str
    fingerprint: str
    windows: tuple[BudgetWindow, ...]
    amounts: Amounts
    cache: CacheDirective
    following: str | None = None
    rates: tuple[RateLimit, ...] = ()
    requests: int = 1
    claim: Claim | None = None
    attribution: Attribution | None = None
    attempt: Attempt | None = None
    bounds: tuple[Bound, ...] = ()
    tail: Tail = "serve_one"
    may_lead: bool = True
    users_max: int = USERS_MAX

    @property
    def offered(self) -> tuple[Bound, ...]:
        """The bounds to choose from; there is always one."""
        return self.bounds or (Bound(0, self.amounts),)

    @property
    def needed(self) -> Amounts:
        """What must be left of every budget."""
        return self.amounts if self.tail == "serve_one" else self.offered[0].worst


@dataclass(frozen=True, slots=True)
class Hit:
    """A finished result. ``coalesced`` where the caller waited for it, ``age_s`` in whole seconds."""

    generation: Generation
    age_s: int
    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()


@dataclass(frozen=True, slots=True)
class Follow:
    """Another request generates it: wait for ``leader``'s outcome, then ask for admission again."""

    leader: str
    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The leader that this caller followed ended without a result; ``failure`` is what it published."""

    failure: Failure
    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """At least one window has too little left; nothing was reserved."""

    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing can be shared, and the request said ``only_if_cached`` or may not lead; see ``needed``."""

    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()


@dataclass(frozen=True, slots=True)
class Lead:
    """Reserved: this request generates. Its hold must be dispatched, then settled or voided.

    ``bound`` goes with its calls and says what is held.
    """

    hold_id: str
    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()
    bound: Bound = NO_BOUND


@dataclass(frozen=True, slots=True)
class Limited:
    """A request rate has no room, or a cap on open holds no place; nothing was counted or reserved."""

    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()


@dataclass(frozen=True, slots=True)
class Replayed:
    """The idempotency key's request has ended: its result, which was paid once.

    Attributes:
        outcome: The result or the failure; None where the result lies under ``generation_id``, if it is kept.
        created_ms: When the result was finished, by the store's clock.
        spent: What the request paid; None where nobody knows any more.
    """

    outcome: Generation | Failure | None
    age_s: int
    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()
    generation_id: str = ""
    created_ms: int = 0
    spent: Spent | None = None


@dataclass(frozen=True, slots=True)
class InFlight:
    """The idempotency key's request is not over, or nobody knows yet what came of it."""

    retry_after_s: int
    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()


@dataclass(frozen=True, slots=True)
class Mismatched:
    """The idempotency key was used for another request."""

    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()


@dataclass(frozen=True, slots=True)
class Crowded:
    """The idempotency key or end user is new, and the tenant has ``most`` already; nothing was reserved."""

    most: int
    retry_after_s: int
    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...] = ()
    kind: Literal["keys", "users"] = "keys"


Admission = (
    Hit | Follow | Failed | Refused | Absent | Lead | Limited | Replayed | InFlight | Mismatched | Crowded
    | Rejoined
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of an idempotency key's request.

    Attributes:
        state: ``done`` and ``failed`` are kept and told again with ``outcome``; ``unknown`` keeps the key
            from being used until the lease is over; ``free`` gives it back, because nothing was spent.
    """

    claim: Claim
    state: Literal["done", "failed", "unknown", "free"]
    outcome: Generation | Failure | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a hold.

    Attributes:
        outcome: ``settle`` books ``amounts``; ``void`` books nothing; ``charge`` books what was expected and
            sets the rest of the hold aside, because nobody knows the outcome (docs/reliability.md R6).
        amounts: Booked on ``settle``; may be above the hold, which is recorded as overage.
        unresolved: Set aside on ``settle`` for those calls whose outcome is unknown.
        spent: What is reported of a settled request; None for ``amounts`` and ``usage``.
        parts: Parts of it that another service tier than the standard one billed, or that were estimated.
        publish: The result to keep and hand to followers, or None.
        ttl_s: How long the result is kept.
        failure: What followers learn where nothing is published, or None.
        answered: What a repetition under the same idempotency key learns, or None without one.
        usage: Tokens by modality, as far as Google reported them, for reports.
        attribution: Under what they are reported; None where nobody knows any more.
        attempt: As its admission had it.
    """

    tenant_id: str
    hold_id: str
    fingerprint: str
    outcome: Literal["settle", "void", "charge"]
    amounts: Amounts
    publish: Generation | None = None
    ttl_s: int = 0
    failure: Failure | None = None
    answered: Answered | None = None
    usage: Usage = NO_USAGE
    attribution: Attribution | None = None
    attempt: Attempt | None = None
    unresolved: Amounts = NOTHING
    spent: report.Spent | None = None
    parts: tuple[report.UsagePart, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """The result of a settlement.

    Attributes:
        state: The hold's state now: ``settled``, ``voided`` or ``charged``; ``unknown`` where the store
            has no memory of the hold and so nothing was booked; ``deferred`` where the store does not
            answer, and the settlement is kept until it does.
        repeated: True where the hold had been settled so before and nothing changed.
        late: True where the hold had expired and its booking was corrected.
        published: Whether the result was kept; False where another leader had taken over.
        now_ms: The store's clock.
        record: The hold as the ledger keeps it, in its own form; "" where there is none.
    """

    state: str
    repeated: bool
    late: bool
    published: bool
    now_ms: int
    windows: tuple[WindowState, ...] = ()
    record: str = ""


class Ledger(Protocol):
    """Holds and budget windows; one command each. Unreachable store: StoreUnavailable, within a second."""

    async def admit(self, request: AdmissionRequest) -> Admission:
        """Decide in one step: cached, followed, refused, or reserved."""

    async def peek(self, request: AdmissionRequest) -> Hit | Absent:
        """What admission would see now: a finished result or none, and the windows; reserves nothing."""

    async def dispatch(self, tenant_id: str, hold_id: str, fingerprint: str) -> bool:
        """Say that the upstream is about to be called; again and again while it runs, as a heartbeat.

        Returns False where the hold has expired and the call must not be made.
        """

    async def settle(self, settlement: Settlement, windows: tuple[BudgetWindow, ...]) -> Settled:
        """End a hold, keep the result, wake the followers: one step, repeatable without harm."""

    async def wait(self, tenant_id: str, fingerprint: str, leader: str, timeout_s: float) -> None:
        """Return when the leader's outcome may be there, at the latest after the timeout.

        Never raises for a lost notification; the next admission tells what happened.
        """

    async def note_delivery(self, tenant_id: str, attempt: Attempt, delivery: Delivery) -> None:
        """Say how far the answer to an attempt has come; repeatable without harm."""

    async def get_windows(self, tenant_id: str, windows: tuple[BudgetWindow, ...]) -> tuple[WindowState, ...]:
        """The windows as they stand; reserves nothing."""

    async def get_rates(self, tenant_id: str, rates: tuple[RateLimit, ...]) -> tuple[RateState, ...]:
        """The rates and caps as they stand; ``refused`` tells which would refuse a request now."""


class Results(Protocol):
    """Images and finished generations; losing them costs money but leaves the ledger exact."""

    async def put_pictures(self, tenant_id: str, pictures: tuple[Picture, ...], ttl_s: int) -> bool:
        """Keep the bytes. False where they could not be kept: then nothing may be published."""

    async def get_picture(self, tenant_id: str, image_id: str) -> Picture | None:
        """The image, checked against its hash; None where it is unknown, expired, damaged or foreign."""

    async def put_generation(
        self,
        tenant_id: str,
        finished: StoredGeneration,
        ttl_s: int,
        files: Sequence[PictureRecord] = (),
    ) -> bool:
        """Keep a generation under its id, and every file of its conversation at least as long.

        ``files`` are those of this turn. False where it could not be kept.
        """

    async def delete_picture(self, tenant_id: str, image_id: str) -> bool:
        """Delete an image, at once and for good. False where there is none."""

    async def delete_generation(self, tenant_id: str, generation_id: str) -> bool:
        """Delete a generation, its cached result and the images that it drew. False where there is none."""

    async def get_generation(self, tenant_id: str, generation_id: str) -> StoredGeneration | None:
        """The generation; None where it is unknown, expired, of another version or foreign."""


class Operations(Protocol):
    """Work that goes on after its caller was answered, as all replicas see it; one command each."""

    async def begin(self, tenant_id: str, operation_id: str, claim: str, work: str) -> tuple[Operation, bool]:
        """Begin an operation under a claim; the one that is there already where it has the same work.

        Returns it, and whether this claim's began. One that failed, was cancelled or lost begins again.

        Raises:
            IdempotencyMismatch: The id stands for other work.
            TooManyOperations: The tenant has as many as it may.
        """

    async def step(
        self, tenant_id: str, operation_id: str, claim: str, state: Literal["waiting", "running"]
    ) -> bool:
        """Say that it goes on. False where it was cancelled, has ended, or is another process's by now."""

    async def finish(
        self,
        tenant_id: str,
        operation_id: str,
        claim: str,
        state: Literal["done", "failed"],
        text: str,
        result: OperationResult | None,
    ) -> bool:
        """End it with a result or a problem as JSON. False as for ``step``.

        Without a ``result`` it has cost nothing, and a store that is full may drop it.
        """

    async def cancel(self, tenant_id: str, operation_id: str) -> Operation | None:
        """Cancel it if it waits, else note that somebody asked. What it is now, or None without one."""

    async def read(self, tenant_id: str, operation_id: str) -> Operation | None:
        """An operation of this tenant; None where it is unknown, expired or foreign."""


async def _do_nothing() -> None:
    """The default where nothing happens before a call is sent."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call's tenant, time and priority, for the upstream.

    Attributes:
        tenant_id: Whose call it is; slots at the upstream are shared fairly between tenants.
        timeout_s: Seconds left for all of it: waiting for a slot, every attempt, the pauses between them.
        priority: Who gives way first where there is more work than slots.
        begin: Awaited before the first attempt is sent, and maybe again before others. Nothing may be sent
            where it raises. A call that still waits for its slot has not begun.
        pool: The pool of credentials, or the one credential, that the call may be made with.
        bill_labels: Labels in the bill, where the back end knows labels.
    """

    tenant_id: str
    timeout_s: float
    priority: Priority = "interactive"
    begin: Callable[[], Awaitable[None]] = _do_nothing
    pool: str = DEFAULT_POOL
    bill_labels: Mapping[str, str] = field(default_factory=dict)


class ImageModel(Protocol):
    """The upstream. Each call is made and paid for at most once."""

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        """One candidate.

        Raises:
            ContentBlocked: Google's filters refused; usage is set where it was reported.
            ModelRefused: Words instead of a picture.
            UpstreamError: Anything else, with ``billed`` saying whether it may have been charged.
        """

    async def find_fault(self) -> str | None:
        """Why no call can be made (no credentials, no emulator that listens), as a sentence, or None."""


class Directory(Protocol):
    """Tenants and keys. Never depends on the store being up."""

    def authenticate(self, presented: str) -> Caller | None:
        """The caller for a full gateway key, or None. The checksum is refused without a look-up."""

    def find_by_identity(self, identities: tuple[Identity, ...]) -> Caller | None:
        """The caller whose key belongs to one of these identities, or None."""

    def list_tenants(self) -> tuple[Tenant, ...]:
        """Every configured tenant."""
