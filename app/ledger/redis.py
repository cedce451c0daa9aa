"""The ledger on Redis: every decision about money is one script, every script may be repeated.

This module turns the port's words into a script's arguments and its answer back; the arithmetic and the
rules are in ``scripts/*.lua``, where the data is.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from app.domain.budget import UNITS
from app.domain.errors import InternalError, StoreUnavailable
from app.domain.request import CacheDirective
from app.generation import packing, records
from app.generation.ports import Absent, Hit, Settled
from app.ledger import codec, reports
from app.ledger.codec import STATES
from app.ledger.notifications import Notifications
from app.ledger.policy import MS, LedgerConfig
from app.ledger.scripting import Scripts
from app.resilience.resources import Resource
from app.store import keys
from app.store.calls import StoreCalls
from app.store.scripting import read_script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from app.domain.attempt import Attempt, Delivery
    from app.domain.budget import BudgetWindow, WindowState
    from app.domain.rate import RateLimit, RateState
    from app.generation.ports import Admission, AdmissionRequest, Settlement
    from app.ledger.codec import ScriptReply
    from app.ledger.scripting import Arguments
    from app.store.breaker import StoreBreaker
    from app.store.capacity import StoreCapacity

TOMBSTONE_S = 10
_LEADING = read_script(__file__, "leading")


class RedisLedger(Resource):
    """``ports.Ledger`` on a Redis or Valkey server.

    Args:
        client: Decoding replies to str; see ``client.open_clients``.
        config: Lease, and how long what has ended is kept.
        capacity: Decides whether a result may be kept; None to keep all.
        breaker: Stops calls to a store that does not answer; None to call it in any case.

    Attributes:
        epochs: The epoch of each tenant's ledger that this process has seen (docs/reliability.md R22).
        scripts: For other adapters on the same client.

    Use as ``async with``, which loads the scripts and listens for wake-ups. A store that is down then is no
    error: the first command after it returns loads what is missing.
    """

    def __init__(
        self,
        client: Redis,
        config: LedgerConfig | None = None,
        capacity: StoreCapacity | None = None,
        breaker: StoreBreaker | None = None,
    ) -> None:
        self._client = client
        self._capacity = capacity
        self._config = self.config = config or LedgerConfig()
        self._calls = StoreCalls(self._config.deadline_s, breaker)
        self._scripts = Scripts(client)
        self.notifications = Notifications(client)
        self.scripts = self._scripts
        self.epochs: dict[str, str] = {}

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        # The gateway starts without its store and answers 503 until it is there.
        with suppress(StoreUnavailable):
            await self._calls.run(self._scripts.load())
        async with self.notifications:
            yield

    async def admit(self, request: AdmissionRequest) -> Admission:
        """Decide in one step: cached, followed, refused, or reserved. See ``scripts/admit.lua``.

        Windows in the answer count a new hold as held. ``needed`` is filled in for Lead and Refused.

        Raises:
            LedgerDataLost: The store has lost the tenant's ledger, or it is being rebuilt.
            StoreUnavailable: Nobody knows whether something was reserved; repeating is safe.
            InternalError: The hold id was used for other work, or its hold has ended.
        """
        answer = await self._run_admit(request, request.windows)
        if answer.code == "clock":
            # This machine's clock is off by more than a window; the store's clock decides.
            answer = await self._run_admit(
                request, tuple(window.at(answer.now_ms) for window in request.windows)
            )
        if answer.code == "hit":
            hit = codec.decode_hit(answer)
            if hit is None:
                return await self._admit_past_unreadable(request)
            return hit
        if answer.code in {"forgotten", "closed"}:
            raise codec.decode_data_loss(answer)
        if answer.code == "lead" and (epoch := codec.decode_epoch(answer)):
            self.epochs[request.tenant_id] = epoch
        return codec.decode_admission(request, answer)

    async def peek(self, request: AdmissionRequest) -> Hit | Absent:
        """Return what admission would see now, without reserving anything; ``needed`` is filled in.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        directive = CacheDirective("only_if_cached", request.cache.max_age_s)
        looking = replace(request, cache=directive, requests=0, claim=None, attribution=None, attempt=None)
        admission = await self.admit(looking)
        windows = tuple(
            replace(window, needed=request.needed[UNITS.index(window.budget.unit)])
            for window in admission.windows
        )
        return (
            replace(admission, windows=windows)
            if isinstance(admission, Hit)
            else Absent(windows, admission.rates)
        )

    async def dispatch(self, tenant_id: str, hold_id: str, fingerprint: str) -> bool:
        """Record that the upstream is about to be called; repeated as a heartbeat (``scripts/dispatch.lua``).

        Returns False if the hold is no longer open; the call must then not be made.
        """
        return await self.dispatch_record(tenant_id, hold_id, fingerprint) is not None

    async def dispatch_record(self, tenant_id: str, hold_id: str, fingerprint: str) -> str | None:
        """Dispatch, and return the hold as the store keeps it now, or None if it is no longer open."""
        arguments = [
            hold_id,
            fingerprint,
            self._lease_ms,
            *self._config.keeps_ms,
            self._config.unknown_outcome,
        ]
        names = keys.work_keys(tenant_id, fingerprint)
        reply = await self._calls.run(self._scripts.run("dispatch", names, arguments))
        if reply[0] == "conflict":
            raise InternalError("The hold belongs to other work.")
        return str(reply[1]) if reply[0] == "dispatched" else None

    async def settle(self, settlement: Settlement, windows: tuple[BudgetWindow, ...]) -> Settled:
        """End a hold, keep the result, wake the followers (``scripts/settle.lua``).

        Raises:
            StoreUnavailable: Nobody knows whether it was booked; repeating is safe.
            InternalError: The hold was ended before in another way.
        """
        result = ""
        if settlement.publish:
            result = packing.pack_text(records.encode_generation(settlement.publish))
        result = self._fit_to_capacity(result)
        failed = settlement.failure
        failure = records.encode_brief(failed) if failed else ""
        whole_failure = (
            self._fit_to_capacity(records.encode_failure(failed)) if failed and failed.verbatim else ""
        )
        # A result must not outlive its pictures: it gets the lower half of the jitter, they the upper.
        ttl_ms = int(settlement.ttl_s * MS * random.uniform(0.9, 1.0)) if result else 0
        answered = codec.encode_answered(settlement.answered, settlement.usage, self._lease_ms)
        arguments: Arguments = {
            "channel": keys.WAKE_CHANNEL,
            "hold": settlement.hold_id,
            "fingerprint": settlement.fingerprint,
            "outcome": settlement.outcome,
            "keep": self._config.keeps_ms,
            "unknown_outcome": self._config.unknown_outcome,
            "result": result if ttl_ms else "",
            "ttl": str(ttl_ms),
            "failure": failure,
            "whole failure": whole_failure,
            "tombstone": str(TOMBSTONE_S * MS),
            **answered,
            "attempt": codec.encode_attempt(settlement.attempt, self._lease_ms),
            "amount": codec.encode_amounts(settlement.amounts),
            "unresolved amount": codec.encode_amounts(settlement.unresolved),
            "row": reports.encode_row(settlement),
            "parts": reports.encode_parts(settlement),
            "usage": reports.encode_attribution(settlement.attribution, self._config),
        }
        claim = settlement.answered.claim.digest if settlement.answered else None
        names = keys.work_keys(settlement.tenant_id, settlement.fingerprint, claim)
        reply = await self._calls.run(self._scripts.run("settle", names, arguments))
        code, state, repeated, late, published, now, record = reply[:7]
        if code == "conflict":
            raise InternalError(f"The hold was {STATES[state]} before, in another way.")
        return Settled(
            state="unknown" if code == "unknown" else STATES[state],
            repeated=repeated == "1",
            late=late == "1",
            published=published == "1",
            now_ms=int(now),
            windows=codec.decode_booked(reply[7:], windows, int(now)),
            record=str(record),
        )

    async def wait(self, tenant_id: str, fingerprint: str, leader: str, timeout_s: float) -> None:
        """Return when the leader's outcome may be available, or after the timeout. Never raises."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        while (left_s := deadline - clock()) > 0:
            nap_s = min(left_s, self._config.poll_s * random.uniform(0.8, 1.2))
            if await self.notifications.wait(leader, nap_s) or not await self._is_leading(
                tenant_id, fingerprint, leader
            ):
                return

    async def note_delivery(self, tenant_id: str, attempt: Attempt, delivery: Delivery) -> None:
        """Record how far the answer to an attempt has been delivered (``scripts/deliver.lua``)."""
        arguments = [keys.WAKE_CHANNEL, *codec.encode_attempt(attempt, self._lease_ms), delivery]
        await self._calls.run(self._scripts.run("deliver", keys.ledger_keys(tenant_id), arguments))

    async def get_windows(self, tenant_id: str, windows: tuple[BudgetWindow, ...]) -> tuple[WindowState, ...]:
        """Return the current windows; reserves nothing, and ends holds that have expired."""
        answer = await self._run_windows(tenant_id, windows)
        if answer.code == "clock":
            answer = await self._run_windows(tenant_id, tuple(window.at(answer.now_ms) for window in windows))
        if answer.code == "clock":
            raise InternalError("The store's clock fits no window.")
        return answer.windows

    async def get_rates(self, tenant_id: str, rates: tuple[RateLimit, ...]) -> tuple[RateState, ...]:
        """Return the current rates and caps; ``refused`` marks those that would refuse a request now."""
        return (await self._run_windows(tenant_id, (), rates)).rates

    def _fit_to_capacity(self, text: str) -> str:
        """Return a text for the cache, or an empty one if the store has no room for it."""
        return text if not text or self._capacity is None or self._capacity.reserve_text(text) else ""

    @property
    def _lease_ms(self) -> str:
        return str(int(self._config.lease_s * MS))

    async def _run_admit(self, request: AdmissionRequest, windows: tuple[BudgetWindow, ...]) -> ScriptReply:
        max_age_s = request.cache.max_age_s
        usage = reports.encode_attribution(request.attribution, self._config) if request.attribution else ()
        arguments: Arguments = {
            "hold": request.hold_id,
            "fingerprint": request.fingerprint,
            "mode": request.cache.mode,
            "max age": "" if max_age_s is None else str(max_age_s * MS),
            "following": request.following or "",
            "lease": self._lease_ms,
            "keep": self._config.keeps_ms,
            "unknown_outcome": self._config.unknown_outcome,
            "claim": codec.encode_claim(request.claim),
            "number of claims": str(self._config.idempotency_keys_max),
            "attempt": codec.encode_attempt(request.attempt, self._lease_ms),
            "repeats": "repeats" if request.attempt and request.attempt.repeats else "first",
            "age": str(request.attempt.age_ms if request.attempt else 0),
            "epoch": self.epochs.get(request.tenant_id, ""),
            "requests": str(request.requests),
            "may lead": "yes" if request.may_lead else "no",
            "amount": codec.encode_amounts(request.amounts),
            "tail": request.tail,
            "bounds": codec.encode_bounds(request.offered),
            "windows": codec.encode_windows(windows),
            "rates": codec.encode_rates(request.rates),
            "number of users": str(request.users_max),
            "usage": usage,
        }
        digest = request.claim.digest if request.claim else None
        names = keys.work_keys(request.tenant_id, request.fingerprint, digest)
        reply = await self._calls.run(self._scripts.run("admit", names, arguments))
        return codec.decode_reply(reply, windows, request.rates)

    async def _run_windows(
        self, tenant_id: str, windows: tuple[BudgetWindow, ...], rates: tuple[RateLimit, ...] = ()
    ) -> ScriptReply:
        limits = [*codec.encode_windows(windows), *codec.encode_rates(rates)]
        arguments = [*self._config.keeps_ms, self._config.unknown_outcome, *limits]
        reply = await self._calls.run(self._scripts.run("windows", keys.ledger_keys(tenant_id), arguments))
        return codec.decode_reply(reply, windows, rates)

    async def _is_leading(self, tenant_id: str, fingerprint: str, leader: str) -> bool:
        arguments = keys.leads_key(tenant_id), fingerprint, leader
        try:
            return bool(await self._calls.run(self._client.eval(_LEADING, 1, *arguments)))
        except StoreUnavailable:
            # The store may be back before this caller's patience ends.
            return True

    async def _admit_past_unreadable(self, request: AdmissionRequest) -> Admission:
        """Admit again without the cached result, which another version of the gateway wrote."""
        nothing_kept = replace(request.cache, max_age_s=0)
        return await self.admit(replace(request, cache=nothing_kept, following=None))
