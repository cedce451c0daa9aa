"""The decisions of the request path: what the ledger gets, and what its answers mean for the caller.

Nothing here waits or has side effects.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from app.domain.attempt import Rejoined
from app.domain.bound import is_above
from app.domain.errors import (
    AnswerCut,
    ContentBlocked,
    DeadlineExceeded,
    Draining,
    GatewayError,
    NotCached,
    OperationCancelled,
    TooManyUsers,
    UpstreamError,
)
from app.domain.estimate import resolve_size_and_level
from app.domain.failure import Failure, build_failure, rebuild_error
from app.domain.generation import Generation, ModelAnswer, Notice
from app.domain.mismatches import find_mismatches, find_other_models
from app.domain.policy import CALL_S_MIN, PATIENCE_S_MIN
from app.domain.repetition import IdempotencyInFlight, IdempotencyMismatch, ResultGone, TooManyIdempotencyKeys
from app.domain.request import derive_seeds
from app.domain.tenancy import list_rate_limits
from app.generation import refusals
from app.generation.job import build_budget_windows
from app.generation.order import GenerationResult
from app.generation.ports import (
    Absent,
    AdmissionRequest,
    Answered,
    Crowded,
    Failed,
    Follow,
    Hit,
    InFlight,
    Lead,
    Limited,
    Mismatched,
    Refused,
    Replayed,
    Settlement,
)
from app.generation.progress import Progress
from app.resilience.best_effort import best_effort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.domain.generation import Usage
    from app.domain.outcome import Outcome
    from app.domain.request import CacheDirective
    from app.generation.job import Job
    from app.generation.ports import Admission, Settled

log = logging.getLogger(__name__)

TAKEOVERS_MAX = 1


def build_admission_request(job: Job, cache: CacheDirective, progress: Progress) -> AdmissionRequest:
    """An admission under a new hold id. A job counts as one request, however often it is admitted."""
    return AdmissionRequest(
        tenant_id=job.tenant_id,
        hold_id=secrets.token_hex(12),
        fingerprint=job.fingerprint,
        windows=build_budget_windows(job.caller),
        amounts=job.estimate.amounts,
        cache=cache,
        following=progress.following,
        rates=list_rate_limits(job.caller),
        requests=0 if progress.counted else 1,
        claim=job.claim,
        attribution=job.attribution,
        attempt=job.attempt and replace(job.attempt, age_ms=int(job.age_s * 1000)),
        bounds=job.bounds,
        tail=job.tail,
        may_lead=has_time(job),
        users_max=job.caller.tenant.users.active_max,
    )


def build_look(job: Job) -> AdmissionRequest:
    """A look at what admission would say. Nothing is counted, and only the cache may serve the job."""
    request = build_admission_request(job, job.cache, Progress())
    return replace(request, requests=0, attribution=None, may_lead=False)


def has_time(job: Job) -> bool:
    """Whether the caller waits long enough for a call."""
    return job.left_s >= PATIENCE_S_MIN


def refusal(job: Job, admission: Admission, progress: Progress) -> GatewayError | None:
    """The error for an admission that refuses the job, or None."""
    error: GatewayError
    match admission:
        case Refused():
            error = refusals.build_budget_error(job, admission.windows)
        case Limited():
            error = refusals.build_rate_error(admission.rates)
        case Absent() if has_time(job) or job.cache.mode == "only_if_cached":
            error = NotCached("Nothing is cached for this request, and only-if-cached was asked.")
        case Absent():
            error = build_deadline_error(job, progress)
        case InFlight(retry_after_s):
            sentence = "The request with this Idempotency-Key is not over, or its outcome is not known yet."
            error = IdempotencyInFlight(sentence, retry_after_s=retry_after_s)
        case Mismatched():
            error = IdempotencyMismatch("This Idempotency-Key was used for another request; use a new one.")
        case Crowded():
            error = _build_crowded_error(admission)
        case Replayed(Failure() as failure):
            error = rebuild_error(failure).with_attributes(replayed=True)
        case Hit() | Replayed() | Rejoined() | Follow() | Failed() | Lead():
            return None
    return error.with_attributes(windows=admission.windows, rates=admission.rates)


def _build_crowded_error(crowded: Crowded) -> GatewayError:
    """The error where the tenant has as many idempotency keys, or active end users, as it may."""
    most, retry_after_s = crowded.most, crowded.retry_after_s
    if crowded.kind == "users":
        sentence = (
            f"The tenant has {most:,} active end users, as many as it may, and this one is new. It can be "
            "served when the windows of another have ended; the others go on."
        )
        return TooManyUsers(sentence, retry_after_s=retry_after_s)
    sentence = (
        f"The tenant has used {most} idempotency keys in the last day, as many as it may. This new "
        "one can be used when the oldest has ended; keys in use, and requests without one, go on."
    )
    return TooManyIdempotencyKeys(sentence, retry_after_s=retry_after_s)


def refuse_look(job: Job, admission: Admission) -> GatewayError | None:
    """The error for a job that a look says would be refused, or None.

    What can be shared, and what is known of an idempotency key, is told when the job is served.
    """
    match admission:
        case Absent(windows, rates) if has_time(job) and job.cache.mode != "only_if_cached":
            error = refusals.would_refuse(job, windows, rates, cached=False)
            return error and error.with_attributes(windows=windows, rates=rates)
        case Absent() | Limited() | Crowded():
            return refusal(job, admission, Progress())
        case _:
            return None


def select_failure(failed: Failed, takeovers: int) -> GatewayError | None:
    """The error for a failed leader's follower; None where the follower takes the work over, at most once.

    See docs/decisions/0005. The leader has paid for its failure.
    """
    if not failed.failure.final and takeovers < TAKEOVERS_MAX:
        return None
    error = rebuild_error(failed.failure)
    return error.with_attributes(usage=None, windows=failed.windows, rates=failed.rates)


def build_draining_error() -> Draining:
    """The error for work that a process refuses while it shuts down."""
    return Draining("The gateway is shutting down; another replica will serve it.", retry_after_s=1)


def build_result_gone_error(replayed: Replayed) -> ResultGone:
    """The error for an idempotency key whose result is no longer stored."""
    served = f"The request with this Idempotency-Key was served as {replayed.generation_id or 'a generation'}"
    anew = "The same request under a new key is generated and paid again."
    error = ResultGone(f"{served}, and the result is no longer kept.", anew, spent=replayed.spent)
    return error.with_attributes(windows=replayed.windows, rates=replayed.rates, replayed=True)


def build_deadline_error(job: Job, progress: Progress) -> DeadlineExceeded:
    """The error for a job whose time is over or too short for a call."""
    limit = f"The time in {job.patience.header}" if job.patience else "The time for a picture of this size"
    if progress.sent:
        return DeadlineExceeded(f"{limit} passed; {_describe_later_result(job)}.", billed="maybe")
    if progress.following is not None:
        sentence = f"{limit} passed while the same request is being made for somebody else."
    else:
        sentence = f"{limit} leaves less than the {CALL_S_MIN:g} s of a call, so none was made."
    return DeadlineExceeded(sentence)


def _describe_later_result(job: Job) -> str:
    """Where a caller who stopped waiting will find the result of a call that was sent."""
    if job.cache.mode != "bypass":
        return "the picture is still being made and paid, and the cache will have it"
    if job.claim is not None:
        return "the picture is still being made and paid, and the same Idempotency-Key will get it"
    if job.attempt is not None:
        return "the picture is still being made and paid, and the client's own repetition will get it"
    return "the call was sent and may be billed, and its picture is not shared"


@dataclass(frozen=True, slots=True)
class StoredParts:
    """The parts of a result that the store took. The others are delivered all the same."""

    images: bool = False
    generation: bool = False


def build_unknown_settlement(
    job: Job, hold_id: str, ending: Literal["settle", "void", "charge"]
) -> Settlement:
    """The settlement of a hold whose calls have an unknown outcome."""
    return Settlement(
        tenant_id=job.tenant_id,
        hold_id=hold_id,
        fingerprint=job.fingerprint,
        outcome=ending,
        amounts=job.estimate.amounts,
        ttl_s=job.caller.tenant.cache.ttl_s,
        answered=Answered(job.claim, "unknown") if job.claim else None,
        attribution=job.attribution,
        attempt=job.attempt,
    )


def build_settlement(
    job: Job, hold_id: str, outcome: Outcome, generation: Generation, stored: StoredParts
) -> Settlement:
    """The settlement of a hold by its outcome. A result that may be shared is published."""
    error = outcome.error
    shared = stored.images and outcome.keep and job.cache.mode != "bypass"
    return replace(
        build_unknown_settlement(job, hold_id, outcome.booking),
        amounts=outcome.amounts,
        publish=generation if shared else None,
        # A cancellation by the caller, or a cut by a bound, says nothing about the work.
        failure=build_failure(error)
        if error and not isinstance(error, OperationCancelled | AnswerCut)
        else None,
        answered=_decide_answered(job, outcome, generation),
        usage=outcome.usage,
        unresolved=outcome.unresolved,
        spent=outcome.spent,
        parts=outcome.parts,
    )


def strip_to_amounts(settlement: Settlement) -> Settlement:
    """The settlement without its result and its failure.

    A repetition under its key finds the result by its id; after a failure it has to wait.
    """
    answered = settlement.answered
    if answered is not None and answered.state == "failed":
        answered = replace(answered, state="unknown", outcome=None)
    return replace(settlement, publish=None, failure=None, answered=answered, attribution=None)


def _decide_answered(job: Job, outcome: Outcome, delivered: Generation) -> Answered | None:
    """The answer to a repetition under the job's idempotency key (docs/reliability.md R25).

    | the request ended with              | a repetition                                              |
    |-------------------------------------|-----------------------------------------------------------|
    | a result                            | gets the result                                           |
    | a refusal, or a failure that is paid | gets the same refusal or failure                         |
    | an unknown outcome                  | is asked to return until the lease is over, then runs     |
    | a failure that cost nothing         | runs                                                      |
    """
    claim = job.claim
    if claim is None:
        return None
    error = outcome.error
    if error is None:
        return Answered(claim, "done", delivered)
    if isinstance(error, ContentBlocked) or error.usage is not None:
        return Answered(claim, "failed", build_failure(error))
    if outcome.ambiguous or (isinstance(error, UpstreamError) and error.billed != "no"):
        return Answered(claim, "unknown")
    return Answered(claim, "free")


def build_generation(job: Job, hold_id: str, outcome: Outcome) -> Generation:
    """The result to store; the settlement sets its time by the store's clock."""
    answers = outcome.answers
    notices: tuple[Notice, ...] = ()
    with best_effort("mismatches"):
        notices = find_other_models(answers, job.card)
        notices += find_mismatches(job.request, job.card, outcome.pictures)
    return Generation(
        id=f"gen_{hold_id}",
        model=job.card.id,
        model_version=answers[0].model_version if answers else "",
        created_ms=0,
        pictures=tuple(each.record for each in outcome.pictures),
        text="\n".join(answer.text for answer in answers if answer.text),
        finish_reason=answers[0].finish_reason if answers else "",
        usage=outcome.usage,
        seeds=derive_seeds(job.request),
        notices=notices,
        interim=tuple(each.record for each in outcome.interim),
        verbatim=answers[0].verbatim if len(answers) == 1 else "",
        back_end=_name_back_end(answers),
        searches=tuple(answer.searches for answer in answers if answer.searches is not None),
    )


def _name_back_end(answers: Sequence[ModelAnswer]) -> str:
    """The back end and credential that answered; the back end alone for several credentials, or empty."""
    names = {answer.back_end for answer in answers}
    kinds = {name.partition("/")[0] for name in names}
    if len(names) == 1:
        return names.pop()
    return kinds.pop() if len(kinds) == 1 else ""


def build_result(
    job: Job,
    progress: Progress,
    lead: Lead,
    outcome: Outcome,
    generation: Generation,
    stored: StoredParts,
    settled: Settled,
) -> GenerationResult:
    """The result for a leader whose hold is settled. Raises the outcome's error where there is no picture."""
    windows = settled.windows or lead.windows
    if outcome.error is not None:
        raise outcome.error.with_attributes(windows=windows, rates=lead.rates)
    return GenerationResult(
        generation=replace(generation, created_ms=settled.now_ms),
        request=job.request,
        card=job.card,
        pictures=outcome.pictures,
        cache_status="bypass" if job.cache.mode == "bypass" else "miss",
        age_s=0,
        fingerprint=job.fingerprint,
        cost=outcome.usage,
        windows=windows,
        notices=job.notices + generation.notices + outcome.notices + _list_lost_parts(stored),
        timings_ms=progress.timings_ms,
        interim=outcome.interim,
        rates=lead.rates,
    )


def _list_lost_parts(stored: StoredParts) -> tuple[Notice, ...]:
    """The warnings for images or a generation that the store did not take."""
    if not stored.images:
        lost = "The store did not take the image; its uri will not be found."
        return (Notice("image_not_kept", lost),)
    if not stored.generation:
        lost = (
            "The store did not take the generation: its id will not be found, and a repetition under its "
            "Idempotency-Key may be answered with 410."
        )
        return (Notice("generation_not_kept", lost),)
    return ()


def observe(job: Job, endings: Sequence[ModelAnswer | GatewayError]) -> None:
    """Record the tokens of words and thoughts of the answers; log answers above their bound."""
    size, level = resolve_size_and_level(job.request, job.card)
    bound = job.request.max_output_tokens
    for each in endings:
        if isinstance(each, AnswerCut):
            job.allowances.observe(
                job.card, size, level, max(job.bound.tokens, _count_words(each.usage)), cut=True
            )
        elif isinstance(each, ModelAnswer):
            if not each.usage.estimated:
                job.allowances.observe(job.card, size, level, _count_words(each.usage))
            if is_above(bound, job.card, each):
                details = {"tenant": job.tenant_id, "model": job.card.id, "count": each.usage.output_tokens}
                log.warning("an answer is above the bound that it was asked with", extra=details)


def _count_words(usage: Usage | None) -> int:
    return usage.text_output + usage.thinking if usage is not None else 0


def compute_keep_s(job: Job) -> int:
    """Seconds to store pictures: as long as anything refers to them.

    A generation is stored up to a tenth shorter than this, and must outlive what refers to it.
    """
    referred_s = max(each.keep_s if each else 0 for each in (job.claim, job.attempt))
    return max(job.caller.tenant.cache.ttl_s, referred_s * 9 // 8)
