"""The request path: validate, estimate, admit, generate, settle. Read this after ``app/main.py``.

Tokens are spent in tasks that belong to the gateway, not to the caller: who leaves still pays, fills
the cache and finds the result on the next try.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from app.domain.allowance import Allowances
from app.domain.attempt import Rejoined
from app.domain.errors import (
    Draining,
    GatewayError,
    InternalError,
    NotFound,
    StoreUnavailable,
)
from app.domain.failure import raised_again
from app.domain.generation import Generation, ModelAnswer, Picture
from app.domain.outcome import charged_outcome, outcome_of
from app.domain.policy import PATIENCE_S_MIN
from app.domain.request import seeds
from app.domain.tenancy import rates_of
from app.generation import booking
from app.generation.dispatch import Sending
from app.generation.job import budget_windows, job_of, judge
from app.generation.order import GenerationResult, Quote
from app.generation.ports import Call, Failed, Follow, Hit, Lead, Replayed, Settled
from app.generation.recall import Recall
from app.resilience.best_effort import best_effort
from app.resilience.deadlines import time_limit
from app.resilience.tasks import OwnTasks, cancelled, uncancelled

if TYPE_CHECKING:
    from app.cards import Catalogue
    from app.domain.attempt import Attempt, Delivery
    from app.domain.budget import WindowState
    from app.domain.finished import Finished
    from app.domain.outcome import Outcome
    from app.domain.policy import Times
    from app.domain.rate import RateState
    from app.domain.tenancy import Caller
    from app.domain.validation import Policy
    from app.generation.conversations import Conversations
    from app.generation.job import Job
    from app.generation.order import Order
    from app.generation.ports import ImageModel, Ledger, Results, Settlement

GenerationState = Literal["held", "dispatched"]

log = logging.getLogger(__name__)

FOLLOW_STEP_S = 15.0
NOTE_PAUSES_S = (0.2, 1.0, 5.0)
TAKEOVERS_MAX = 1


class Gateway:
    """The one way in which a picture is made."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        ledger: Ledger,
        results: Results,
        conversations: Conversations,
        model: ImageModel,
        policy: Policy,
        times: Times,
    ) -> None:
        self.catalogue = catalogue
        self.conversations = conversations
        self._ledger = ledger
        self._results = results
        self._recall = Recall(results)
        self._model = model
        self._policy = policy
        self._times = times
        self._allowances = Allowances()
        self._tasks = OwnTasks()

    @property
    def draining(self) -> bool:
        """Whether new work is refused because the process goes down."""
        return self._tasks.closed

    async def generate(self, order: Order) -> GenerationResult:
        """Serve one request; see the picture of the path in ARCHITECTURE.md.

        Raises:
            GatewayError: Every way in which it can end without a picture.
        """
        return await self.serve(self.prepare(order))

    def prepare(self, order: Order) -> Job:
        """An order judged and priced, with its time running. Raises Draining, ValidationFailed."""
        if self.draining:
            raise Draining("The gateway is going down; another replica will take it.", retry_after_s=1)
        job = job_of(order, self.catalogue, self._policy, self._allowances)
        job.work_s = self._times.work_s(job.card, job.request.image_size or job.card.image_size_default)
        return job

    async def serve(self, job: Job) -> GenerationResult:
        """What a job comes to, within its caller's patience.

        Raises:
            GatewayError: Every way in which it can end without a picture.
        """
        try:
            async with time_limit(job.patience_left_s):
                return await self._served(job)
        except TimeoutError:
            raise booking.late(job) from None

    async def _served(self, job: Job) -> GenerationResult:
        """Turn by turn: what this caller waits for, and may leave."""
        while True:
            turn = await self._tasks.run(self._turn(job))
            match turn:
                case GenerationResult():
                    return turn
                case Follow():
                    await self._follow(job, turn)
                    if self.draining:
                        return await self._last_look(job)
                case Hit():
                    found = await self._recall.found(job, turn)
                    if found is not None:
                        return found
                    # A call under way may still be joined, but nothing that is kept already will do.
                    job.cache = replace(job.cache, max_age_s=0)
                    job.following = None
                case Rejoined(attempt=attempt):
                    found = await self._recall.rejoined(job, turn)
                    if found is not None:
                        return found
                    # There is nothing left to deliver, so it is made again.
                    await self._tasks.run(self._noted(job, attempt, "delivered"))
                    job.following = None
                case Failed():
                    self._take_over(job, turn)

    def note_delivery(self, job: Job, delivery: Delivery) -> None:
        """Say how far the answer has come. What nobody was delivered, a repetition of the call may have."""
        job.abandoned = delivery == "abandoned"
        if job.attempt is not None and job.counted:
            with suppress(Draining):
                self._tasks.begin(self._noted(job, job.attempt, delivery))

    async def _noted(self, job: Job, attempt: Attempt, delivery: Delivery) -> None:
        """Tell the ledger, a few times where it does not answer; what it never hears its lease decides."""
        for pause_s in NOTE_PAUSES_S:
            with suppress(StoreUnavailable):
                await self._ledger.note_delivery(job.tenant_id, attempt, delivery)
                return
            await asyncio.sleep(pause_s)

    async def estimate(self, order: Order) -> Quote:
        """Judge and price a request, and see whether it would be admitted now; nothing is spent."""
        judged = judge(order, self.catalogue, self._policy)
        if judged.card is None or judged.violations:
            windows = await self.budgets(order.caller)
            return Quote(judged.card, judged.request, judged.violations, None, windows, None, ())
        job = job_of(order, self.catalogue, self._policy, self._allowances)
        seen = await self._ledger.peek(booking.admission_request(job))
        shared = job.cache.mode in {"use", "only_if_cached"}
        age_s = seen.age_s if shared and isinstance(seen, Hit) else None
        refusal = booking.would_refuse(
            job, seen.windows, seen.rates, self._allowances, cached=age_s is not None
        )
        return Quote(
            job.card, job.request, (), job.estimate, seen.windows, age_s, job.notices, seen.rates, refusal
        )

    async def picture(self, caller: Caller, image_id: str) -> Picture:
        """The bytes of an image of this tenant. Raises NotFound, also for another tenant's."""
        picture = await self._results.get_picture(caller.tenant.id, image_id)
        if picture is None:
            raise NotFound("No such image, or it has expired.")
        return picture

    async def finished(self, caller: Caller, generation_id: str) -> Finished | GenerationState:
        """A generation of this tenant: finished, or how far its hold has come where it is being made.

        Raises:
            NotFound: It is unknown, foreign or expired, or ended without a result.
        """
        try:
            return await self.conversations.finished(caller.tenant.id, generation_id)
        except NotFound:
            hold_id = generation_id.removeprefix("gen_")
            state = await self._ledger.running(caller.tenant.id, hold_id)
            if state is None:
                raise
            return state

    async def budgets(self, caller: Caller) -> tuple[WindowState, ...]:
        """The caller's budget windows as they stand."""
        return await self._ledger.windows(caller.tenant.id, budget_windows(caller))

    async def rates(self, caller: Caller) -> tuple[RateState, ...]:
        """The caller's request rates and caps as they stand."""
        rates = rates_of(caller)
        return await self._ledger.rates(caller.tenant.id, rates) if rates else ()

    async def aclose(self, drain_s: float) -> None:
        """Take no new work, let running work finish for this long, then end it with its books kept."""
        await self._tasks.aclose(drain_s)

    # admit

    async def _turn(self, job: Job) -> GenerationResult | Hit | Follow | Failed | Rejoined:
        """One admission and, where this caller leads, the whole generation: never cancelled by a caller."""
        with job.timed("admit"):
            admission = await self._ledger.admit(booking.admission_request(job))
        if (refusal := booking.refusal(job, admission, self._allowances)) is not None:
            raise refusal
        job.counted = True
        if job.abandoned:  # which nobody could be told before
            self.note_delivery(job, "abandoned")
        match admission:
            case Lead():
                return await self._lead(job, admission)
            case Replayed():
                return await self._recall.replayed(job, admission)
            case Hit() | Follow() | Failed() | Rejoined():
                return admission
            case _:
                raise InternalError("An admission was neither served nor refused.")

    async def _follow(self, job: Job, follow: Follow) -> None:
        """Wait for the leader's outcome, within this caller's own patience (docs/reliability.md R39)."""
        job.following = follow.leader
        if job.left_s <= 0:
            late = booking.late(job)
            late.windows, late.rates = follow.windows, follow.rates
            raise late
        step_s = min(FOLLOW_STEP_S, job.left_s)
        with job.timed("wait"):
            await self._ledger.wait(job.tenant_id, job.fingerprint, follow.leader, step_s)

    async def _last_look(self, job: Job) -> GenerationResult:
        """What the leader has left. A process that goes down begins nothing, but serves what is paid."""
        seen = await self._ledger.peek(booking.admission_request(job))
        found = await self._recall.found(job, seen) if isinstance(seen, Hit) else None
        if found is None:
            raise Draining("The gateway is going down; another replica will take it.", retry_after_s=1)
        return found

    def _take_over(self, job: Job, failed: Failed) -> None:
        """Raise a refusal again; repeat any other failure at most once (docs/decisions/0005)."""
        if failed.failure.final or job.takeovers >= TAKEOVERS_MAX:
            error = raised_again(failed.failure)
            error.usage = None  # the leader paid it
            error.windows, error.rates = failed.windows, failed.rates
            raise error
        job.takeovers += 1
        job.following = None

    # generate, settle

    async def _lead(self, job: Job, lead: Lead) -> GenerationResult:
        """Make the pictures and close the books, whatever happens on the way."""
        sending = Sending(self._ledger, job, lead, self._times.lease_s)
        try:
            return await self._made(job, lead, sending)
        except GatewayError:
            raise  # with the books closed
        except (asyncio.CancelledError, Exception) as stopped:
            charged = sending.begun and self._policy.charging.ambiguous == "charge"
            await self._settle(job, booking.settlement(job, lead, "charge" if charged else "void"))
            if not isinstance(stopped, asyncio.CancelledError):
                raise
            gone = "The gateway went down during the call, and nobody knows what came of it."
            raise Draining(gone, retry_after_s=5) from None

    async def _made(self, job: Job, lead: Lead, sending: Sending) -> GenerationResult:
        async with sending:
            with job.timed("upstream"):
                ended = await self._call(job, sending)
        if sending.fault is not None:
            # Nothing was sent, though the hold may say so where only the store's answer was lost.
            await self._settle(job, booking.settlement(job, lead, "void"))
            raise sending.fault
        return await self._conclude(job, lead, self._outcome(job, ended))

    async def _call(self, job: Job, sending: Sending) -> list[ModelAnswer | GatewayError]:
        """N calls side by side, because the model makes one candidate a call.

        The gateway's end cuts off what is under way. Pictures that are there by then are paid, and count.
        """
        if job.left_s < PATIENCE_S_MIN:
            return [booking.late(job)]
        call = Call(job.tenant_id, job.call_s, job.caller.priority, sending.begin)
        calls = [
            asyncio.create_task(self._model.generate(job.request, seed, call)) for seed in seeds(job.request)
        ]
        try:
            await asyncio.wait(calls)
        except asyncio.CancelledError:
            await cancelled(calls)
            if not any(isinstance(sending.ending_of(each), ModelAnswer) for each in calls):
                raise
        return [sending.ending_of(each) for each in calls]

    def _outcome(self, job: Job, ended: list[ModelAnswer | GatewayError]) -> Outcome:
        try:
            return outcome_of(ended, job.card, job.estimate_per_call, self._policy.charging)
        except Exception:
            log.exception("what was used cannot be added up, so the estimate is charged")
            return charged_outcome(ended, job.estimate.amounts)

    async def _conclude(self, job: Job, lead: Lead, outcome: Outcome) -> GenerationResult:
        """Keep the bytes, settle, and answer; or settle and raise what went wrong.

        What was paid reaches its caller, whatever the steps on the way raise.
        """
        pictures = tuple(picture for answer in outcome.answers for picture in answer.pictures)
        interim = tuple(picture for answer in outcome.answers for picture in answer.interim)
        generation = booking.generation(job, lead, outcome, pictures, interim)
        with best_effort("observe"):
            booking.observe(job, outcome.answers, self._allowances)
        with job.timed("settle"):
            kept, by_id = (
                await self._keep(job, generation, pictures + interim) if pictures else (False, False)
            )
            publish = generation if kept and outcome.keep and job.cache.mode != "bypass" else None
            settlement = booking.settlement(
                job, lead, outcome.booking, outcome, publish=publish, delivered=generation
            )
            settled = await self._settle(job, settlement)
        windows = settled.windows or lead.windows
        if outcome.error is not None:
            outcome.error.windows, outcome.error.rates = windows, lead.rates
            raise outcome.error
        return GenerationResult(
            generation=replace(generation, created_ms=settled.now_ms),
            request=job.request,
            card=job.card,
            pictures=pictures,
            cache_status="bypass" if job.cache.mode == "bypass" else "miss",
            age_s=0,
            fingerprint=job.fingerprint,
            cost=outcome.usage,
            windows=windows,
            notices=job.notices + generation.notices + outcome.notices + booking.not_kept(kept, by_id),
            timings_ms=job.timings_ms,
            interim=interim,
            rates=lead.rates,
        )

    async def _keep(
        self, job: Job, generation: Generation, pictures: tuple[Picture, ...]
    ) -> tuple[bool, bool]:
        """Whether the pictures are kept, and the generation. A gateway that goes down keeps nothing more."""
        kept = by_id = False
        with suppress(asyncio.CancelledError), best_effort("keep"):
            kept = await self._results.put_pictures(job.tenant_id, pictures, booking.kept_for_s(job))
            by_id = kept and await self.conversations.keep(job, generation)
        return kept, by_id

    async def _settle(self, job: Job, settlement: Settlement) -> Settled:
        """End the hold: with all that the settlement says, or else with its amounts alone.

        Where neither can be done, the lease ends the hold at its estimate.
        """
        for told in (settlement, booking.amounts_only(settlement)):
            try:
                return await uncancelled(self._ledger.settle(told, budget_windows(job.caller)))
            except Exception:
                log.exception("a settlement failed", extra={"hold_id": settlement.hold_id})
        moment = time.time_ns() // 1_000_000
        return Settled("unknown", repeated=False, late=False, published=False, now_ms=moment)
