"""The request path: validate, estimate, admit, send, judge, keep, settle. Read this after ``app/main.py``.

A request is served in a task of the gateway and not of the caller: a caller who leaves still pays, fills the
cache, and finds the result on the next try.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from app.domain.allowance import Allowances
from app.domain.attempt import Rejoined
from app.domain.bound import BoundSwitch
from app.domain.errors import (
    AnswerCut,
    Draining,
    ForeignSignature,
    GatewayError,
    NotFound,
    StoreUnavailable,
    ValidationFailed,
)
from app.domain.estimate import resolve_size_and_level
from app.domain.generation import ModelAnswer
from app.domain.outcome import build_charged_outcome, compute_outcome
from app.domain.policy import PATIENCE_S_MIN
from app.domain.request import derive_seeds
from app.domain.tenancy import list_rate_limits
from app.generation import booking, event, refusals
from app.generation.hold import HoldLease
from app.generation.job import build_budget_windows, build_job, judge
from app.generation.order import GenerationResult, Quote
from app.generation.ports import Call, Failed, Follow, Hit, Lead, Replayed
from app.generation.progress import CallerLeft, Progress
from app.generation.recall import Recall
from app.resilience.best_effort import best_effort
from app.resilience.deadlines import time_limit
from app.resilience.spans import open_span
from app.resilience.tasks import OwnTasks, cancel_tasks
from app.resilience.wide_event import get_noted, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.cards import Catalogue
    from app.domain.attempt import Attempt, Delivery
    from app.domain.budget import WindowState
    from app.domain.card import Card
    from app.domain.generation import Generation, Picture
    from app.domain.migration import ModelAlias
    from app.domain.outcome import Outcome
    from app.domain.policy import TimeConfig
    from app.domain.rate import RateState
    from app.domain.request import CacheDirective
    from app.domain.stored_generation import StoredGeneration
    from app.domain.tenancy import Caller
    from app.domain.validation import Policy
    from app.generation.conversations import Conversations
    from app.generation.job import Job
    from app.generation.order import Order
    from app.generation.ports import ImageModel, Ledger, Results

log = logging.getLogger(__name__)

FOLLOW_STEP_S = 15.0
LAST_WAIT_S = 1.0
NOTE_PAUSES_S = (0.2, 1.0, 5.0)


class Gateway:
    """Serves requests for pictures."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        ledger: Ledger,
        results: Results,
        conversations: Conversations,
        model: ImageModel,
        policy: Policy,
        times: TimeConfig,
    ) -> None:
        self.catalogue = catalogue
        self.conversations = conversations
        self._ledger = ledger
        self._results = results
        self._recall = Recall(results, catalogue)
        self._model = model
        self._policy = policy
        self._times = times
        self._allowances = Allowances()
        self._bound_switch = BoundSwitch(policy.hold.output_bound)
        self._tasks = OwnTasks()

    @property
    def draining(self) -> bool:
        """Whether new work is refused because the process is shutting down."""
        return self._tasks.closed

    async def generate(self, order: Order) -> GenerationResult:
        """Serve one request along the path that ARCHITECTURE.md draws.

        Raises:
            GatewayError: Every way to end without a picture.
        """
        return await self.serve(self.prepare(order))

    def prepare(self, order: Order) -> Job:
        """An order judged and priced, with its time running.

        Raises:
            Draining: The process is shutting down.
            ValidationFailed: The order has faults.
            MaxCostExceeded: It can cost more than its caller allows.
        """
        if self.draining:
            raise booking.build_draining_error()
        with open_span("validate"):
            job = build_job(order, self.catalogue, self._policy, self._allowances, self._times)
        event.note_job(job)
        if (refusal := refusals.build_max_cost_error(job)) is not None:
            raise refusal
        return job

    async def serve(self, job: Job, progress: Progress | None = None) -> GenerationResult:
        """Return a job's result within its caller's timeout; leaving cancels nothing that is paid for.

        Raises:
            GatewayError: Every way in which it can end without a picture.
        """
        progress = progress or Progress()
        try:
            async with time_limit(job.client_timeout_left_s):
                return await self._tasks.run(self._run_to_its_end(job, progress))
        except TimeoutError:
            raise booking.build_deadline_error(job, progress) from None
        finally:
            progress.caller_left.set()

    async def require_admission(self, job: Job) -> None:
        """Look whether a job would be admitted now, before anything is stored about it.

        Raises:
            GatewayError: A budget, a rate, the cache or its caller's patience would refuse it.
        """
        admission = await self._ledger.admit(booking.build_look(job))
        if (refusal := booking.refuse_look(job, admission)) is not None:
            raise refusal

    def note_delivery(self, job: Job, progress: Progress, delivery: Delivery) -> None:
        """Say how far the answer has come. What nobody was delivered, a repetition of the call may have."""
        progress.abandoned = delivery == "abandoned"
        if job.attempt is not None and progress.counted:
            with suppress(Draining):
                self._tasks.begin(self._note(job, job.attempt, delivery))

    async def estimate(self, order: Order) -> Quote:
        """Validate and price a request, and look whether it would be admitted now; nothing is spent."""
        judged = judge(order, self.catalogue, self._policy)
        if judged.card is None or judged.violations:
            windows = await self.get_budgets(order.caller)
            return Quote(judged.card, judged.request, judged.violations, None, windows, None, ())
        job = build_job(order, self.catalogue, self._policy, self._allowances, self._times)
        admission = await self._ledger.peek(booking.build_admission_request(job, job.cache, Progress()))
        shared = job.cache.mode in {"use", "only_if_cached"}
        age_s = admission.age_s if shared and isinstance(admission, Hit) else None
        refusal = refusals.build_max_cost_error(job) or refusals.would_refuse(
            job, admission.windows, admission.rates, cached=age_s is not None
        )
        return Quote(
            card=job.card,
            request=job.request,
            violations=(),
            estimate=job.estimate,
            windows=admission.windows,
            cached_age_s=age_s,
            notices=job.notices,
            rates=admission.rates,
            refusal=refusal,
            worst=job.bounds[0].worst,
        )

    def get_alias(self, caller: Caller, card: Card) -> ModelAlias | None:
        """The alias under which this caller's requests for a model are served, or None."""
        return self._policy.get_alias(caller, card.id)

    async def get_picture(self, caller: Caller, image_id: str) -> Picture:
        """The bytes of an image of this tenant. Raises NotFound, also for another tenant's."""
        picture = await self._results.get_picture(caller.tenant.id, image_id)
        if picture is None:
            raise NotFound("No such image, or it has expired.")
        return picture

    async def delete_picture(self, caller: Caller, image_id: str) -> None:
        """Delete an image of this tenant. Raises NotFound, also for another tenant's."""
        if not await self._results.delete_picture(caller.tenant.id, image_id):
            raise NotFound("No such image, or it has expired.")

    async def delete_generation(self, caller: Caller, generation_id: str) -> None:
        """Delete a generation of this tenant with its pictures. Raises NotFound, also for others'."""
        if not await self._results.delete_generation(caller.tenant.id, generation_id):
            raise NotFound("No finished generation of this id, or it has expired.")

    async def get_generation(self, caller: Caller, generation_id: str) -> StoredGeneration:
        """A finished generation of this tenant. Raises NotFound, also for another tenant's."""
        return await self.conversations.get_generation(caller.tenant.id, generation_id)

    async def get_budgets(self, caller: Caller) -> tuple[WindowState, ...]:
        """The caller's budget windows as they stand."""
        return await self._ledger.get_windows(caller.tenant.id, build_budget_windows(caller))

    async def get_rates(self, caller: Caller) -> tuple[RateState, ...]:
        """The caller's request rates and caps as they stand."""
        rates = list_rate_limits(caller)
        return await self._ledger.get_rates(caller.tenant.id, rates) if rates else ()

    async def aclose(self, drain_s: float) -> None:
        """Take no new work, let running work finish for this long, then end it and settle its holds."""
        await self._tasks.aclose(drain_s)

    # the request path

    async def _run_to_its_end(self, job: Job, progress: Progress) -> GenerationResult:
        """Run the request path; only the gateway's shutdown cancels it."""
        progress.timings_ms["validate"] = job.judged_ms
        try:
            result = await self._serve_either_model(job, progress)
            event.note_result(result)
        except asyncio.CancelledError:
            raise booking.build_draining_error() from None
        except CallerLeft:
            raise asyncio.CancelledError from None  # nobody is left to answer
        except GatewayError as error:
            event.note_failure(error, job.card)
            raise
        finally:
            event.note_progress(progress)
            if progress.caller_left.is_set() and progress.sent:
                log.info("a request ended after its caller had left", extra=get_noted())
        return result

    async def _serve_either_model(self, job: Job, progress: Progress) -> GenerationResult:
        """Serve a job; a conversation that the other model of an alias began is served by that one.

        Clients of Google's dialect keep the turns, so only a model that refuses their signatures can tell
        that it did not make them. Google bills no such refusal (docs/decisions/0061).
        """
        try:
            return await self._serve_job(job, progress)
        except ForeignSignature as refusal:
            if job.other is None:
                raise
            try:
                other = self.prepare(job.other)
            except ValidationFailed:
                raise refusal from None
        progress.sent = False
        return await self._serve_job(replace(other, arrived=job.arrived), progress)

    async def _serve_job(self, job: Job, progress: Progress) -> GenerationResult:
        """The request path from admission to settlement; ARCHITECTURE.md explains its steps."""
        cache, takeovers = job.cache, 0
        while True:
            with progress.measure("admit"):
                admission = await self._ledger.admit(booking.build_admission_request(job, cache, progress))
            if (refusal := booking.refusal(job, admission, progress)) is not None:
                raise refusal
            self._count(job, progress)

            match admission:
                case Hit() | Replayed() | Rejoined():
                    result = await self._recall.load(job, progress, admission)
                    if result is not None:
                        return result
                    cache = await self._give_up(job, cache, admission)
                case Follow():
                    await self._follow(job, progress, admission)
                    if self.draining:
                        return await self._take_last_look(job, cache, progress)
                    continue
                case Failed():
                    if (failure := booking.select_failure(admission, takeovers)) is not None:
                        raise failure
                    takeovers += 1
                case Lead():
                    break
            progress.following = None
            self._require_a_caller(progress)

        note(hold_id=admission.hold_id)
        job = job.apply_bound(admission.bound, sent=self._should_send_bound(job))
        async with self._lease(job, progress, admission) as hold:
            with progress.measure("upstream"):
                endings = await self._send(job, progress, hold)
            outcome = self._judge(job, endings)
            generation = booking.build_generation(job, admission.hold_id, outcome)
            with progress.measure("settle"):
                stored = await self._keep(job, generation, outcome)
                settlement = booking.build_settlement(job, admission.hold_id, outcome, generation, stored)
                settled = await hold.settle(settlement)
        return booking.build_result(job, progress, admission, outcome, generation, stored, settled)

    def _count(self, job: Job, progress: Progress) -> None:
        """Note that the ledger has counted the job; a caller who has left before that is reported now."""
        progress.counted = True
        if progress.abandoned:
            self.note_delivery(job, progress, "abandoned")

    def _require_a_caller(self, progress: Progress) -> None:
        """Allow another admission, which could spend. Raises CallerLeft or Draining."""
        if progress.caller_left.is_set():
            raise CallerLeft
        if self.draining:
            raise booking.build_draining_error()

    async def _give_up(
        self, job: Job, cache: CacheDirective, lost: Hit | Replayed | Rejoined
    ) -> CacheDirective:
        """The directive for the next admission after pictures were lost; a running call may be joined."""
        if isinstance(lost, Rejoined):
            # Its result is lost, so there is nothing to deliver.
            await self._note(job, lost.attempt, "delivered")
            return cache
        return replace(cache, max_age_s=0)

    async def _follow(self, job: Job, progress: Progress, follow: Follow) -> None:
        """Wait for the leader's outcome within this caller's own time (docs/reliability.md R39).

        Raises:
            CallerLeft: The caller has left.
        """
        progress.following = follow.leader
        if job.left_s <= 0:
            late = booking.build_deadline_error(job, progress)
            raise late.with_attributes(windows=follow.windows, rates=follow.rates)
        step_s = min(FOLLOW_STEP_S, job.left_s)
        wait = partial(self._ledger.wait, job.tenant_id, job.fingerprint, follow.leader)
        with progress.measure("wait"):
            try:
                await progress.wait_with_caller(wait(step_s))
            except asyncio.CancelledError:
                # A leader in this process is cancelled at the same moment and may still settle a picture.
                await progress.wait_with_caller(wait(LAST_WAIT_S))

    async def _take_last_look(self, job: Job, cache: CacheDirective, progress: Progress) -> GenerationResult:
        """The leader's result, if any: a process that shuts down still serves what is paid for."""
        admission = await self._ledger.peek(booking.build_admission_request(job, cache, progress))
        result = await self._recall.load_hit(job, progress, admission) if isinstance(admission, Hit) else None
        if result is None:
            raise booking.build_draining_error()
        return result

    async def _note(self, job: Job, attempt: Attempt, delivery: Delivery) -> None:
        """Report a delivery to the ledger, with a few retries; without a report the owner's lease decides."""
        for pause_s in NOTE_PAUSES_S:
            with suppress(StoreUnavailable):
                await self._ledger.note_delivery(job.tenant_id, attempt, delivery)
                return
            await asyncio.sleep(pause_s)

    def _lease(self, job: Job, progress: Progress, lead: Lead) -> HoldLease:
        return HoldLease(self._ledger, job, progress, lead.hold_id, self._policy.hold)

    async def _send(self, job: Job, progress: Progress, hold: HoldLease) -> list[ModelAnswer | GatewayError]:
        """Make N calls in parallel, because the model makes one candidate a call.

        A shutdown cancels running calls. Pictures that are there by then are paid for and count.

        Raises:
            GatewayError: Nothing was sent, as the hold could not be marked as sent.
        """
        if job.left_s < PATIENCE_S_MIN:
            return [booking.build_deadline_error(job, progress)]
        tenant, bill_labels = job.caller.tenant, job.bill_labels
        call = Call(tenant.id, job.call_s, job.caller.priority, hold.begin, tenant.pool, bill_labels)
        calls = [
            asyncio.create_task(self._model.generate(job.request, seed, call))
            for seed in derive_seeds(job.request)
        ]
        try:
            await asyncio.wait(calls)
        except asyncio.CancelledError:
            await cancel_tasks(calls)
            if not any(isinstance(hold.get_call_ending(each), ModelAnswer) for each in calls):
                raise
        await hold.stop_renewing()
        endings = [hold.get_call_ending(each) for each in calls]
        if hold.fault is not None:
            # The store may have marked the hold as sent and only its answer was lost.
            raise hold.fault
        return endings

    def _should_send_bound(self, job: Job) -> bool:
        """Whether to send the bound: always if a limit must hold whatever the model answers."""
        if job.max_cost_usd is not None or job.tail == "refuse":
            return True
        _, level = resolve_size_and_level(job.request, job.card)
        return self._bound_switch.is_on(job.card, level, time.monotonic())

    def _observe_bound(self, job: Job, endings: Sequence[ModelAnswer | GatewayError]) -> None:
        """Send no bound for a while where it cuts off too many answers."""
        if not job.request.bounded:
            return
        _, level = resolve_size_and_level(job.request, job.card)
        for each in endings:
            if isinstance(each, ModelAnswer | AnswerCut):
                cut = isinstance(each, AnswerCut)
                if self._bound_switch.observe(job.tenant_id, job.card, level, time.monotonic(), cut=cut):
                    log.error(
                        "too many answers are cut off; no bound is sent for a while",
                        extra={"model": job.card.id, "thinking_level": level},
                    )

    def _judge(self, job: Job, endings: list[ModelAnswer | GatewayError]) -> Outcome:
        """Combine the endings of the calls, and learn from them what words and thoughts cost."""
        try:
            charging, worst = self._policy.hold, job.bound.worst
            outcome = compute_outcome(endings, job.card, job.estimate_per_call, charging, worst)
        except Exception:
            log.exception("what was used cannot be added up, so the estimate is charged")
            outcome = build_charged_outcome(endings, job.estimate.amounts)
        with best_effort("observe"):
            booking.observe(job, endings)
            self._observe_bound(job, endings)
        return outcome

    async def _keep(self, job: Job, generation: Generation, outcome: Outcome) -> booking.StoredParts:
        """Store the pictures, then the generation. A shutdown stores nothing more."""
        stored = booking.StoredParts()
        pictures = outcome.pictures + outcome.interim
        if not outcome.pictures:
            return stored
        with suppress(asyncio.CancelledError), best_effort("keep"):
            images = await self._results.put_pictures(job.tenant_id, pictures, booking.compute_keep_s(job))
            stored = booking.StoredParts(images)
            stored = booking.StoredParts(images, images and await self.conversations.keep(job, generation))
        return stored
