"""The request path: validate, estimate, admit, generate, settle. Read this after ``main.py``.

Tokens are spent in tasks that belong to the gateway, not to the caller: who leaves still pays, fills
the cache and finds the result on the next try.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from app.domain.delivery import mismatches
from app.domain.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    Draining,
    GatewayError,
    NotCached,
    NotFound,
    Overloaded,
    StoreUnavailable,
    UpstreamError,
)
from app.domain.failure import failure_of, raised_again
from app.domain.generation import Generation, ModelAnswer, Notice, Picture, PictureRecord, Usage
from app.domain.outcome import outcome_of
from app.domain.request import seeds
from app.job import budget_windows, job_of, judge
from app.order import GenerationResult, Quote
from app.ports import Absent, AdmissionRequest, Failed, Follow, Hit, Lead, Refused, Settlement
from app.tasks import OwnTasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.cards import Catalogue
    from app.domain.budget import WindowState
    from app.domain.outcome import Outcome
    from app.domain.tenancy import Caller
    from app.domain.validation import Policy
    from app.job import Job
    from app.order import Order
    from app.ports import Admission, ImageModel, Ledger, Results, Settled

log = logging.getLogger(__name__)

FOLLOW_STEP_S = 15.0
SETTLE_PATIENCE_S = 20.0
TAKEOVERS_MAX = 1


class Gateway:
    """The one way in which a picture is made."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        ledger: Ledger,
        results: Results,
        model: ImageModel,
        policy: Policy,
        upstream_timeout_s: float,
        lease_s: float,
    ) -> None:
        self.catalogue = catalogue
        self._ledger = ledger
        self._results = results
        self._model = model
        self._policy = policy
        self._upstream_timeout_s = upstream_timeout_s
        self._lease_s = lease_s
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
        if self.draining:
            raise Draining("The gateway is going down; another replica will take it.", retry_after_s=1)
        job = job_of(order, self.catalogue, self._policy)
        while True:
            turn = await self._tasks.run(self._turn(job))
            match turn:
                case GenerationResult():
                    return turn
                case Follow():
                    await self._follow(job, turn)
                case Hit():
                    found = await self._found(job, turn)
                    if found is not None:
                        return found
                    job.cache = replace(job.cache, mode="refresh")
                    job.following = None
                case Failed():
                    self._take_over(job, turn)

    async def estimate(self, order: Order) -> Quote:
        """Judge and price a request, and see whether it would be admitted now; nothing is spent."""
        judged = judge(order, self.catalogue, self._policy)
        if judged.card is None or judged.violations:
            windows = await self.budgets(order.caller)
            return Quote(judged.card, judged.request, judged.violations, None, windows, None, ())
        job = job_of(order, self.catalogue, self._policy)
        seen = await self._ledger.peek(_admission_request(job, "quote"))
        age_s = seen.age_s if isinstance(seen, Hit) else None
        return Quote(job.card, job.request, (), job.estimate, seen.windows, age_s, job.notices)

    async def picture(self, caller: Caller, image_id: str) -> Picture:
        """The bytes of an image of this tenant. Raises NotFound, also for another tenant's."""
        picture = await self._results.get_picture(caller.tenant.id, image_id)
        if picture is None:
            raise NotFound("No such image, or it has expired.")
        return picture

    async def budgets(self, caller: Caller) -> tuple[WindowState, ...]:
        """The caller's budget windows as they stand."""
        return await self._ledger.windows(caller.tenant.id, budget_windows(caller))

    async def aclose(self, drain_s: float) -> None:
        """Take no new work, let running work finish for this long, then end it with its books kept."""
        await self._tasks.aclose(drain_s)

    # admit

    async def _turn(self, job: Job) -> GenerationResult | Hit | Follow | Failed:
        """One admission and, where this caller leads, the whole generation: never cancelled by a caller."""
        with job.timed("admit"):
            admission = await self._admit(job)
        match admission:
            case Lead():
                return await self._lead(job, admission)
            case Refused():
                raise _budget_exceeded(admission.windows)
            case Absent():
                absent = NotCached("Nothing is cached for this request, and only-if-cached was asked.")
                absent.windows = admission.windows
                raise absent
            case _:
                return admission

    async def _admit(self, job: Job) -> Admission:
        return await self._ledger.admit(_admission_request(job, secrets.token_hex(12)))

    async def _follow(self, job: Job, follow: Follow) -> None:
        """Wait for the leader's outcome, within this caller's own patience (reliability.md R39)."""
        job.following = follow.leader
        waited_ms = job.timings_ms.get("wait", 0.0)
        if waited_ms >= self._upstream_timeout_s * 1000:
            late = DeadlineExceeded("The same request is still being generated for somebody else.")
            late.windows = follow.windows
            raise late
        with job.timed("wait"):
            await self._ledger.wait(job.tenant_id, job.fingerprint, follow.leader, FOLLOW_STEP_S)

    def _take_over(self, job: Job, failed: Failed) -> None:
        """A refusal is everybody's; any other failure a follower repeats at most once (R38)."""
        if failed.failure.final or job.takeovers >= TAKEOVERS_MAX:
            error = raised_again(failed.failure)
            error.windows = failed.windows
            raise error
        job.takeovers += 1
        job.following = None

    async def _found(self, job: Job, hit: Hit) -> GenerationResult | None:
        """The kept result with its bytes, or None where an image is gone or damaged."""
        pictures = await self._loaded(job, hit.generation.pictures)
        interim = await self._loaded(job, hit.generation.interim)
        if pictures is None or interim is None:
            return None
        coalesced = job.following is not None and hit.generation.id == f"gen_{job.following}"
        return GenerationResult(
            generation=hit.generation,
            request=job.request,
            card=job.card,
            pictures=pictures,
            cache_status="coalesced" if coalesced else "hit",
            age_s=hit.age_s,
            fingerprint=job.fingerprint,
            cost=Usage(),
            windows=hit.windows,
            notices=job.notices + hit.generation.notices,
            timings_ms=job.timings_ms,
            interim=interim,
        )

    async def _loaded(self, job: Job, records: tuple[PictureRecord, ...]) -> tuple[Picture, ...] | None:
        """The pictures of a kept result, or None where one of them is gone or damaged."""
        loaded = [await self._results.get_picture(job.tenant_id, record.id) for record in records]
        found = tuple(picture for picture in loaded if picture is not None)
        return found if len(found) == len(records) else None

    # generate, settle

    async def _lead(self, job: Job, lead: Lead) -> GenerationResult:
        """Make the pictures and close the books, whatever happens on the way.

        A hold that could not be marked as sent is never sent: it expires and costs nothing.
        """
        if not await self._ledger.dispatch(job.tenant_id, lead.hold_id, job.fingerprint):
            raise Overloaded("The reservation ran out before the call could be made.", retry_after_s=1)
        try:
            async with self._heartbeat(job, lead):
                with job.timed("upstream"):
                    ended = await self._call(job)
        except asyncio.CancelledError:
            await self._settle(job, _settlement(job, lead, "charge"))
            gone = "The gateway went down during the call; the estimate is booked."
            raise Draining(gone, retry_after_s=5) from None
        outcome = outcome_of(ended, job.card, job.estimate_per_call.amounts)
        return await self._conclude(job, lead, outcome)

    async def _call(self, job: Job) -> list[ModelAnswer | GatewayError]:
        """N calls side by side, because the model makes one candidate a call."""
        calls = [
            self._model.generate(job.request, seed, self._upstream_timeout_s) for seed in seeds(job.request)
        ]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        return [_as_error(item) if isinstance(item, BaseException) else item for item in ended]

    async def _conclude(self, job: Job, lead: Lead, outcome: Outcome) -> GenerationResult:
        """Keep the bytes, settle, and answer; or settle and raise what went wrong."""
        pictures = tuple(picture for answer in outcome.answers for picture in answer.pictures)
        interim = tuple(picture for answer in outcome.answers for picture in answer.interim)
        generation = _generation(job, lead, outcome, pictures, interim)
        with job.timed("settle"):
            kept = bool(pictures) and await self._results.put_pictures(
                job.tenant_id, pictures + interim, job.caller.tenant.cache.ttl_s
            )
            publish = generation if kept and outcome.keep and job.cache.mode != "bypass" else None
            settled = await self._settle(job, _settlement(job, lead, outcome.booking, outcome, publish))
        windows = settled.windows if settled else lead.windows
        if outcome.error is not None:
            outcome.error.windows = windows
            raise outcome.error
        lost = Notice("image_not_kept", "The store did not take the image; its uri will not be found.")
        return GenerationResult(
            generation=replace(generation, created_ms=settled.now_ms) if settled else generation,
            request=job.request,
            card=job.card,
            pictures=pictures,
            cache_status="bypass" if job.cache.mode == "bypass" else "miss",
            age_s=0,
            fingerprint=job.fingerprint,
            cost=outcome.usage,
            windows=windows,
            notices=job.notices + generation.notices + outcome.notices + (() if kept else (lost,)),
            timings_ms=job.timings_ms,
            interim=interim,
        )

    async def _settle(self, job: Job, settlement: Settlement) -> Settled | None:
        """Settle, again and again while the store does not answer; repeating is harmless (R4).

        None after the patience is over: then the hold expires and is charged at the estimate (R6).
        """
        give_up = time.monotonic() + SETTLE_PATIENCE_S
        pause_s = 0.05
        while True:
            try:
                return await self._ledger.settle(settlement, budget_windows(job.caller))
            except StoreUnavailable:
                if time.monotonic() > give_up:
                    log.exception("settlement lost", extra={"hold_id": settlement.hold_id})
                    return None
                await asyncio.sleep(pause_s)
                pause_s = min(1.0, pause_s * 2)

    @asynccontextmanager
    async def _heartbeat(self, job: Job, lead: Lead) -> AsyncIterator[None]:
        """Renew the hold and the lead while the call runs, so that only a dead process loses them (R10)."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(self._lease_s / 3)
                with suppress(StoreUnavailable):
                    await self._ledger.dispatch(job.tenant_id, lead.hold_id, job.fingerprint)

        beating = asyncio.create_task(beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait({beating})


def _admission_request(job: Job, hold_id: str) -> AdmissionRequest:
    return AdmissionRequest(
        tenant_id=job.tenant_id,
        hold_id=hold_id,
        fingerprint=job.fingerprint,
        windows=budget_windows(job.caller),
        amounts=job.estimate.amounts,
        cache=job.cache,
        following=job.following,
    )


def _as_error(raised: BaseException) -> GatewayError:
    """Anything that a call raised, as an error of the domain; cancellation is the gateway's own end."""
    if isinstance(raised, GatewayError):
        return raised
    if isinstance(raised, asyncio.CancelledError):
        return DeadlineExceeded("The call was cancelled.", billed="maybe")
    log.error("the upstream adapter failed", exc_info=raised)
    return UpstreamError("The gateway could not read the upstream's answer.", billed="maybe")


def _settlement(
    job: Job,
    lead: Lead,
    booking: Literal["settle", "void", "charge"],
    outcome: Outcome | None = None,
    publish: Generation | None = None,
) -> Settlement:
    error = outcome.error if outcome else None
    return Settlement(
        tenant_id=job.tenant_id,
        hold_id=lead.hold_id,
        fingerprint=job.fingerprint,
        outcome=booking,
        amounts=outcome.amounts if outcome else job.estimate.amounts,
        publish=publish,
        ttl_s=job.caller.tenant.cache.ttl_s,
        failure=failure_of(error) if error else None,
    )


def _generation(
    job: Job, lead: Lead, outcome: Outcome, pictures: tuple[Picture, ...], interim: tuple[Picture, ...]
) -> Generation:
    answers = outcome.answers
    return Generation(
        id=f"gen_{lead.hold_id}",
        model=job.card.id,
        model_version=answers[0].model_version if answers else "",
        created_ms=0,  # the store's clock stamps it on settlement
        pictures=tuple(_record(picture) for picture in pictures),
        text="\n".join(answer.text for answer in answers if answer.text),
        finish_reason=answers[0].finish_reason if answers else "",
        usage=outcome.usage,
        seeds=seeds(job.request),
        notices=mismatches(job.request, job.card, pictures),
        interim=tuple(_record(picture) for picture in interim),
        verbatim=answers[0].verbatim if len(answers) == 1 else "",
    )


def _record(picture: Picture) -> PictureRecord:
    return PictureRecord(picture.id, picture.mime_type, picture.width, picture.height, picture.length)


def _budget_exceeded(windows: tuple[WindowState, ...]) -> BudgetExceeded:
    refusing = tuple(window for window in windows if window.refuses)
    tightest = max(refusing, key=lambda window: window.resets_in_s)
    detail = "; ".join(
        f"{window.budget.name}: {window.asked} asked, {window.remaining} of {window.budget.limit} left"
        for window in refusing
    )
    error = BudgetExceeded(f"{detail}.", refusing, max(1, tightest.resets_in_s))
    error.windows = windows
    return error
