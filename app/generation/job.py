"""Jobs: orders that are validated against the card and priced."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.domain.attempt import Attempt
from app.domain.bill_labels import build_bill_labels
from app.domain.bound import NO_BOUND, build_bounds
from app.domain.errors import ValidationFailed, Violation
from app.domain.estimate import estimate
from app.domain.fingerprint import compute_digest, compute_fingerprint
from app.domain.generation import Notice
from app.domain.parameters import list_parameters
from app.domain.policy import CALL_S_MIN
from app.domain.report import Attribution
from app.domain.request import CacheDirective
from app.domain.tenancy import list_budget_windows
from app.domain.validation import find_notices, normalize_request, validate
from app.generation.bounding import bound_request, build_lowered_notice
from app.generation.ports import Claim

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.cards import Catalogue
    from app.domain.allowance import Allowances, TenantAllowances
    from app.domain.bound import Bound, Tail
    from app.domain.budget import BudgetWindow
    from app.domain.card import Card
    from app.domain.estimate import Estimate
    from app.domain.policy import Policy, TimeConfig
    from app.domain.request import GenerationRequest
    from app.domain.tenancy import Caller
    from app.generation.order import ClientTimeout, Order

IDEMPOTENCY_KEEP_S = 24 * 3600
"""Seconds that an idempotency key is answered."""

UNDELIVERED_KEEP_S = 3600
"""Seconds; clients repeat a call within seconds of their own time-outs, which last minutes."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An order validated against its card.

    Attributes:
        card: The model's card, or None for an unknown model.
        request: Normalized; as the caller sent it where it has violations.
        violations: Every violation, the surface's own first.
        original: Fingerprint of what was requested, if an alias has moved it to this card; else empty.
        alias: Whether there is an alias for the requested model, even if it does not move this request.
    """

    card: Card | None
    request: GenerationRequest
    violations: tuple[Violation, ...]
    original: str = ""
    alias: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A valid, priced order. It never changes; ``Progress`` holds what does.

    Attributes:
        allowances: What the tenant's answers have taught of words and thoughts.
        bounds: What its calls may be sent with, the tightest first.
        max_cost_usd: What its caller allows it to cost, in billionths of a dollar, or None.
        claim: On the caller's idempotency key.
        original: Fingerprint of what was requested; that of the work unless an alias has moved it.
        other: The order for the other model of an alias, if its client keeps the turns of a conversation,
            which may have begun there; else None.
        attempt: Which attempt at a call it is, where its client repeats calls by itself and may not share.
        patience: How long the caller waits, or None.
        arrived: When it came, by ``time.monotonic``.
        work_s: Seconds from then on in which its picture must be made, whoever waits for it.
        judged_ms: Milliseconds that judging and pricing it took.
        bound: What was chosen of ``bounds``, once it is admitted.
        bill_labels: Labels in Google's bill, where the back end knows labels.
    """

    caller: Caller
    card: Card
    request: GenerationRequest
    cache: CacheDirective
    fingerprint: str
    original: str
    other: Order | None
    estimate: Estimate
    estimate_per_call: Estimate
    allowances: TenantAllowances
    bounds: tuple[Bound, ...]
    max_cost_usd: int | None
    notices: tuple[Notice, ...]
    claim: Claim | None
    attempt: Attempt | None
    patience: ClientTimeout | None
    work_s: float
    judged_ms: float
    arrived: float = field(default_factory=time.monotonic)
    bound: Bound = NO_BOUND
    bill_labels: Mapping[str, str] = field(default_factory=dict)

    def apply_bound(self, bound: Bound, *, sent: bool) -> Job:
        """Return the job as it was admitted; its calls carry the bound if it is ``sent``."""
        if not sent or not bound.tokens:
            return replace(self, bound=bound)
        own, request = self.request.max_output_tokens, bound_request(self.request, self.card, bound.tokens)
        lowered = (build_lowered_notice(own, bound.tokens),) if own is not None and request.bounded else ()
        return replace(self, bound=bound, request=request, notices=self.notices + lowered)

    @property
    def tail(self) -> Tail:
        """What the last of a budget is for."""
        return self.caller.tenant.tail_rule

    @property
    def client_timeout_left_s(self) -> float | None:
        """Seconds until the caller stops waiting, not below zero; None where it has not said."""
        if self.patience is None:
            return None
        return max(0.0, self.patience.arrived + self.patience.seconds - time.monotonic())

    @property
    def age_s(self) -> float:
        """Seconds since it arrived."""
        return time.monotonic() - self.arrived

    @property
    def left_s(self) -> float:
        """Seconds until its time is over or its caller stops waiting."""
        work_s = self.work_s - self.age_s
        patience_s = self.client_timeout_left_s
        return work_s if patience_s is None else min(work_s, patience_s)

    @property
    def call_s(self) -> float:
        """Seconds that the upstream is given.

        What was sent is paid for, so a caller's patience does not end it where the result serves somebody
        else: the cache, a follower, a repetition.
        """
        shared = self.cache.mode != "bypass" or self.claim is not None or self.attempt is not None
        left_s = self.work_s - self.age_s if shared else self.left_s
        return max(CALL_S_MIN, left_s)

    @property
    def tenant_id(self) -> str:
        """The tenant whose work it is."""
        return self.caller.tenant.id

    @property
    def attribution(self) -> Attribution:
        """The key, model, size, labels, end user and parameters that its usage is reported under."""
        size = self.request.image_size or self.card.image_size_default
        user = self.caller.counted_user
        return Attribution(
            self.caller.key.id,
            self.card.id,
            size,
            self.request.labels,
            None if user is None else user.id,
            list_parameters(self.request, self.card),
        )


def judge(order: Order, catalogue: Catalogue, policy: Policy) -> Judged:
    """Validate an order against its card and the caller's rights; never raises."""
    request = order.request
    card = catalogue.resolve(request.model)
    if card is None:
        names = tuple(sorted(catalogue.names))
        unknown = Violation("/model", "unknown_model", "There is no such model here.", names)
        return Judged(None, request, (*order.violations, unknown))
    policy = policy.restrict_to(order.caller)
    original = ""
    alias = policy.get_alias(order.caller, card.id)
    if alias is not None:
        fingerprint = _compute_original(order, card, policy)
        served = catalogue.resolve(alias.to)
        moved = order.moved
        if moved is None:
            moved = alias.serves(request, card.id, fingerprint)
        if served is not None and served is not card and moved:
            policy, request = policy.allow_alias(card.id, served.id), replace(request, model=served.id)
            original, card = fingerprint, served
    pointers = {violation.pointer for violation in order.violations}
    violations = validate(request, card, policy) + _require_user(order.caller)
    violations = order.violations + tuple(item for item in violations if item.pointer not in pointers)
    if not violations:
        request = normalize_request(request, card)
    return Judged(card, request, violations, original, alias is not None)


def _compute_original(order: Order, card: Card, policy: Policy) -> str:
    """The fingerprint that the request had before there was an alias; of an invalid one, any of its own."""
    request = order.request
    if not validate(request, card, policy):
        request = normalize_request(request, card)
    return compute_fingerprint(request, card, order.caller.tenant.id)


def _require_user(caller: Caller) -> tuple[Violation, ...]:
    """Find the violation of a request that names no end user where it has to."""
    if not caller.lacks_user:
        return ()
    detail = (
        "The tenant has limits for each end user: name the one that the request is for, in the header "
        "X-Flashgate-User or, where the dialect has it, in the field user."
    )
    return (Violation("/user", "user_required", detail),)


def build_job(
    order: Order, catalogue: Catalogue, policy: Policy, allowances: Allowances, times: TimeConfig
) -> Job:
    """Validate and price an order. Raises ValidationFailed with every violation."""
    began = time.perf_counter()
    judged = judge(order, catalogue, policy)
    card, request = judged.card, judged.request
    if card is None or judged.violations:
        raise ValidationFailed(judged.violations)
    strict = order.caller.tenant.strict
    learned = allowances.for_tenant(order.caller.tenant.id)
    fingerprint = compute_fingerprint(request, card, order.caller.tenant.id)
    cache, claim = _choose_directive(order, request), _build_claim(order, judged.original)
    estimated = estimate(request, card, learned, strict=strict)
    per_call = estimated
    if request.n > 1:
        per_call = estimate(replace(request, n=1), card, learned, strict=strict)
    bounds = build_bounds(request, card, learned, estimated.amounts)
    bill_labels, left_out = _build_bill_labels(order.caller, request, policy)
    return Job(
        caller=order.caller,
        card=card,
        request=request,
        cache=cache,
        fingerprint=fingerprint,
        original=judged.original or fingerprint,
        other=_build_other_order(order, judged),
        estimate=estimated,
        estimate_per_call=per_call,
        allowances=learned,
        bounds=_select_affordable(bounds, order.max_cost_usd),
        max_cost_usd=order.max_cost_usd,
        notices=_find_notices(order, judged, card, policy) + left_out,
        claim=claim,
        attempt=None
        if claim or cache.mode in {"use", "only_if_cached"}
        else _build_attempt(order, judged.original or fingerprint),
        patience=order.patience,
        work_s=times.get_work_s(card, request.image_size or card.image_size_default),
        judged_ms=(time.perf_counter() - began) * 1000,
        bill_labels=bill_labels,
    )


def _build_bill_labels(
    caller: Caller, request: GenerationRequest, policy: Policy
) -> tuple[Mapping[str, str], tuple[Notice, ...]]:
    """The labels in Google's bill, and a notice if some of the request's are left out.

    The labels of a body in Google's format are in it already, as they are written.
    """
    own = request.labels if request.verbatim is None else ()
    labels, left_out = build_bill_labels(policy.bill_labels, caller, own)
    if not left_out:
        return labels, ()
    names = ", ".join(left_out)
    return labels, (Notice("bill_label_left_out", f"Google's bill does not have these labels: {names}."),)


def _build_other_order(order: Order, judged: Judged) -> Order | None:
    """The order as the other model of an alias would serve it, once."""
    if not judged.alias or not order.request.opening or order.moved is not None:
        return None
    return replace(order, moved=not judged.original)


def _select_affordable(bounds: tuple[Bound, ...], max_cost_usd: int | None) -> tuple[Bound, ...]:
    """The tightest bound, and those wider ones under which nothing can cost more than the caller allows."""
    if max_cost_usd is None:
        return bounds
    tightest, *wider = bounds
    return (tightest, *(bound for bound in wider if bound.worst.usd <= max_cost_usd))


def _find_notices(order: Order, judged: Judged, card: Card, policy: Policy) -> tuple[Notice, ...]:
    today = datetime.now(UTC).date()
    near = card.list_near_retirements(policy.back_ends, today)
    notices = order.notices
    notices += tuple(Notice("model_retires", card.describe_retirement(*each, today)) for each in near)
    notices += find_notices(order.request, judged.request, card)
    if not judged.original:
        return notices
    moved = f"{order.request.model} was requested; {card.id} serves it here."
    return (Notice("model_migrated", moved), *notices)


def _build_claim(order: Order, original: str) -> Claim | None:
    """A claim on the caller's idempotency key, valid for one gateway key and one route."""
    key = order.idempotency
    if key is None:
        return None
    scope = json.dumps([order.caller.key.id, key.route, key.key])
    return Claim(compute_digest(scope.encode()), secrets.token_hex(12), IDEMPOTENCY_KEEP_S, original)


def _build_attempt(order: Order, original: str) -> Attempt | None:
    """The attempt at a call of this gateway key whose result is not shared; None without client retries."""
    if order.retries is None:
        return None
    origin = compute_digest(json.dumps([order.caller.key.id, original]).encode())
    return Attempt(origin, secrets.token_hex(12), order.retries > 0, UNDELIVERED_KEEP_S)


def build_budget_windows(caller: Caller) -> tuple[BudgetWindow, ...]:
    """The caller's windows around this machine's time; the store chooses by its own clock."""
    return list_budget_windows(caller, time.time_ns() // 1_000_000)


def _choose_directive(order: Order, request: GenerationRequest) -> CacheDirective:
    """The caller's directive, else what the request implies, else the tenant's policy.

    Grounded answers change with the web. A new idempotency key is a new order, and in a drop-in
    dialect so is every request without a seed, unless the tenant shares those.
    """
    directive, policy = order.cache, order.caller.tenant.cache
    if directive is not None and directive.mode == "only_if_cached":
        return directive
    if request.grounding.web_search or request.grounding.image_search:
        return CacheDirective("bypass")
    if directive is not None:
        return directive
    unseeded = order.drop_in and request.seed is None and policy.dialects == "own"
    return CacheDirective("bypass" if unseeded or order.idempotency else policy.mode)
