"""Any sequence of calls, repeated and conflicting ones included, against a model of a page.

The model, ``tests/property/ledger_model.py``, knows nothing of Redis. After every step the store's counters,
records and open holds must be the model's.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import FullJitterBackoff

from app.domain.bound import Bound
from app.domain.budget import AMOUNT_MAX, UNITS, Amounts, BudgetWindow, Span, build_window
from app.domain.errors import Conflict, InternalError, StoreUnavailable
from app.domain.failure import Failure
from app.domain.report import Spent
from app.domain.request import CacheDirective
from app.generation.ports import (
    Absent,
    Admission,
    AdmissionRequest,
    Answered,
    Claim,
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
from app.ledger.adjustments import RedisBudgetAdjustments
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.store import keys
from app.store.client import open_clients
from tests.property.ledger_model import (
    BUDGETS,
    CAP,
    NOTHING,
    OWNERS,
    USERS,
    Model,
    counted,
    places_of,
    worst_of,
)
from tests.store.books import ZONE, generation
from tests.storeserver import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from app.domain.request import CacheMode
    from app.store.client import StoreClients
    from tests.property.ledger_model import Outcome

HOLDS = [f"h{n}" for n in range(8)]
WORKS = ["work-a", "work-b"]
CLAIMS = ["c0", "c1", "c2"]
DIGEST = "d" * 64
# One window for ever, so that no midnight comes between the store and the model.
ALWAYS = (Span(0, 1), Span(1, 2**52), Span(2**52, 2**52 + 1))

T = TypeVar("T")
PHASES = (Phase.generate, Phase.shrink)

amounts = st.builds(
    Amounts,
    image_tokens=st.integers(0, 8),
    total_tokens=st.integers(0, 24),
    images=st.integers(0, 3),
    usd=st.sampled_from([0, 1, 5, AMOUNT_MAX]),
    all_output_tokens=st.integers(0, 12),
)


@dataclass
class Store:
    """What all sequences use, one after the other, each with a tenant of its own."""

    server: ServerProcess
    runner: asyncio.Runner
    ledger: RedisLedger
    client: Any


async def until_answered(call: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
    """The answer, and whether it took more than one call: a busy machine can hold a server up for long."""
    for attempt in range(20):
        with suppress(StoreUnavailable):
            return await call(), attempt > 0
    raise AssertionError("The store stayed away.")


class LedgerMachine(RuleBasedStateMachine):
    """Calls the real ledger and the model side by side."""

    tenants = itertools.count(1)

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.runner, self.ledger, self.client = self.store.runner, self.store.ledger, self.store.client
        self.tenant = f"machine-{next(self.tenants)}"
        self.model = Model()
        self.restarts = 0
        self.highest = [budget.limit for budget in BUDGETS]
        self.tails = [0] * len(BUDGETS)
        self.last_ms = 0
        self.made: dict[str, tuple[int, ...]] = {}

    @property
    def windows(self) -> tuple[BudgetWindow, ...]:
        return tuple(
            replace(build_window(replace(budget, limit=limit), owner, ZONE, 0), spans=ALWAYS)
            for budget, owner, limit in zip(BUDGETS, OWNERS, self.model.limits, strict=True)
        )

    @property
    def books(self) -> list[str]:
        return keys.ledger_keys(self.tenant)

    def key(self, name: str) -> str:
        return self.books[keys.LEDGER_NAMES.index(name)]

    async def tick(self) -> None:
        """Lets the store's clock go on by a millisecond: the fence compares in milliseconds."""
        while (now := await self._now_ms()) <= self.last_ms:
            pass
        self.last_ms = now

    async def _now_ms(self) -> int:
        seconds, microseconds = await self.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    @rule(
        hold=st.sampled_from(HOLDS),
        work=st.sampled_from(WORKS),
        est=amounts,
        mode=st.sampled_from(["use", "use", "refresh", "bypass", "only_if_cached"]),
        following=st.none() | st.sampled_from(HOLDS),
        claim=st.none() | st.sampled_from(CLAIMS),
        user=st.sampled_from([*USERS, None]),
    )
    def admit(
        self,
        hold: str,
        work: str,
        est: Amounts,
        mode: CacheMode,
        following: str | None,
        claim: str | None = None,
        user: str | None = None,
    ) -> None:
        expected = self.model.admit(hold, work, est, mode, following, claim, user)
        request = AdmissionRequest(
            self.tenant,
            hold,
            work,
            tuple(self.windows[place] for place in places_of(user)),
            est,
            CacheDirective(mode),
            following,
            (CAP,),
            bounds=(Bound(1720, worst_of(est)),),
            users_max=self.model.users_max,
        )
        for index, most in enumerate(counted(worst_of(est), user)):
            self.tails[index] = max(self.tails[index], most - counted(est, user)[index])
        if claim:
            request = replace(request, claim=Claim(DIGEST, claim, 60))
        assert self.runner.run(self._admit(request)) == expected

    @rule(order=st.permutations(USERS), image=st.integers(0, 2))
    def users_come(self, order: list[str], image: int) -> None:
        """Each user once, with work that nobody shares."""
        free = [hold for hold in HOLDS if hold not in self.model.holds]
        for hold, user in zip(free, order, strict=False):
            self.admit(hold, WORKS[0], Amounts(images=image), "bypass", None, user=user)

    @rule(hold=st.sampled_from(HOLDS))
    def admit_again(self, hold: str) -> None:
        """The very same admission once more, as after a lost reply."""
        known = self.model.holds.get(hold)
        if known:
            self.admit(hold, known.work, known.est, "use", None, user=known.user)

    @rule(
        hold=st.sampled_from(HOLDS),
        work=st.sampled_from(WORKS),
        est=amounts,
        mode=st.sampled_from(["use", "refresh"]),
    )
    def ask_after_waiting(self, hold: str, work: str, est: Amounts, mode: CacheMode) -> None:
        """Admission of one who waited for whoever ended last."""
        kept = self.model.kept.get(work)
        self.admit(hold, work, est, mode, self.model.failed.get(work) or (kept[0] if kept else None))

    @rule(hold=st.sampled_from(HOLDS), work=st.sampled_from(WORKS), act=amounts)
    def leader_pauses_and_is_replaced(self, hold: str, work: str, act: Amounts) -> None:
        leader = self.model.lead.get(work)
        if leader and leader != hold:
            self.lease_runs_out(leader)
            self.admit(hold, work, act, "refresh", leader)

    async def _admit(self, request: AdmissionRequest) -> str:
        await self.tick()
        try:
            answer, _again = await until_answered(lambda: self.ledger.admit(request))
            return self.named(request, answer)
        except InternalError:
            return "error"

    def named(self, request: AdmissionRequest, answer: Admission) -> str:
        """The answer as the model names it."""
        match answer:
            case Lead(hold_id, windows) if hold_id == request.hold_id:
                held = [self.model.held()[place] for place in places_of(self.model.holds[hold_id].user)]
                assert [w.held for w in windows] == held or not self.clean()
                name = "lead"
            case Refused(windows):
                assert any(window.refuses for window in windows)
                name = "refused"
            case Hit(found):
                name = f"hit {found.id.removeprefix('gen_')}"
            case Follow(leader):
                name = f"follow {leader}"
            case Failed(failure):
                name = f"failed {failure.code}"
            case Absent():
                name = "absent"
            case Limited(_, (state,)):
                assert state.refused
                name = "limited"
            case _:
                name = self.named_by_key(answer)
        return name

    def named_by_key(self, answer: Admission) -> str:
        """The answers that the idempotency key gives."""
        match answer:
            case Replayed(outcome):
                known = outcome.code if isinstance(outcome, Failure) else answer.generation_id
                return f"replayed {known.removeprefix('gen_')}"
            case InFlight():
                return "in flight"
            case Mismatched():
                return "mismatch"
            case Crowded(most, kind="users"):
                assert most == self.model.users_max
                return "crowded"
            case _:
                return "a lead by another name"

    def clean(self) -> bool:
        return not any(hold.due for hold in self.model.holds.values())

    @rule(hold=st.sampled_from(HOLDS), work=st.sampled_from(WORKS))
    def dispatch(self, hold: str, work: str) -> None:
        self.check_dispatch(hold, work)

    @rule(hold=st.sampled_from(HOLDS))
    def heartbeat(self, hold: str) -> None:
        self.check_dispatch(hold, self.work_of(hold))

    def check_dispatch(self, hold: str, work: str) -> None:
        expected = self.model.dispatch(hold, work)
        assert self.runner.run(self._dispatch(hold, work)) == expected

    def work_of(self, hold: str) -> str:
        known = self.model.holds.get(hold)
        return known.work if known else WORKS[0]

    async def _dispatch(self, hold: str, work: str) -> str:
        try:
            sent, _again = await until_answered(lambda: self.ledger.dispatch(self.tenant, hold, work))
        except InternalError:
            return "error"
        return "yes" if sent else "no"

    @rule(
        hold=st.sampled_from(HOLDS),
        outcome=st.sampled_from(["settle", "settle", "void", "charge"]),
        act=amounts,
        publish=st.booleans(),
        failure=st.booleans(),
        twice=st.booleans(),
        foreign=st.sampled_from([False] * 9 + [True]),
        answer=st.sampled_from(["done", "failed", "unknown", "free"]),
    )
    def settle(
        self,
        hold: str,
        outcome: Outcome,
        act: Amounts,
        publish: bool,
        failure: bool,
        twice: bool,
        foreign: bool,
        *,
        answer: Literal["done", "failed", "unknown", "free"],
    ) -> None:
        work = self.work_of(hold)
        if foreign:
            work = WORKS[1 - WORKS.index(work)]
        settlement = Settlement(
            self.tenant,
            hold,
            work,
            outcome,
            act,
            generation(hold) if publish else None,
            60,
            Failure(hold, "It failed.") if failure else None,
        )
        known = self.model.holds.get(hold)
        if known and known.claim:
            told = generation(hold) if answer == "done" else Failure(hold, "It failed.")
            answered = Answered(Claim(DIGEST, known.claim, 60), answer, told)
            settlement = replace(settlement, answered=answered)
        for _ in range(1 + twice):
            expected = self.model.settle(hold, work, outcome, act, publish=publish, failure=failure)
            if known and known.claim and isinstance(expected, tuple) and not expected[1]:
                self.model.answer_key(hold, answer)
            found, again = self.runner.run(self._settle(settlement))
            if again and isinstance(found, tuple) and isinstance(expected, tuple):
                # Nobody knows whether the unanswered call had been the first.
                found = (found[0], expected[1], *found[2:])
            assert found == expected
        if known and not known.open:
            self.made[hold] = known.booked if outcome != "charge" else self.made.get(hold, NOTHING)

    @rule(hold=st.sampled_from(HOLDS))
    def upstream_makes_all_that_the_bound_allows(self, hold: str) -> None:
        """Whether anybody ever hears of it is the matter of other steps."""
        known = self.model.holds.get(hold)
        if known and known.state == "d":
            self.made[hold] = counted(worst_of(known.est), known.user)

    @rule(hold=st.sampled_from(HOLDS), times=st.integers(1, 3))
    def answer_is_greedy_or_above_its_bound(self, hold: str, times: int) -> None:
        known = self.model.holds.get(hold)
        if known and known.state == "d":
            used = Amounts(*(min(AMOUNT_MAX, times * amount) for amount in worst_of(known.est)))
            self.settle(
                hold, "settle", used, publish=False, failure=False, twice=False, foreign=False, answer="done"
            )

    async def _settle(self, settlement: Settlement) -> tuple[tuple[str, bool, bool, bool] | str, bool]:
        await self.tick()
        try:
            found, again = await until_answered(lambda: self.ledger.settle(settlement, self.windows))
        except InternalError:
            return "error", False
        letter = {"settled": "s", "voided": "v", "charged": "c"}.get(found.state, found.state)
        return (letter, found.repeated, found.late, found.published), again

    @rule(hold=st.sampled_from(HOLDS))
    def lease_runs_out(self, hold: str) -> None:
        known = self.model.holds.get(hold)
        if known and known.open:
            known.due = True
            self.runner.run(self.client.zadd(self.key("exp"), {hold: 1}, xx=True))
            if self.model.lead.get(known.work) == hold:
                del self.model.lead[known.work]
                self.runner.run(self.client.hdel(self.key("lead"), known.work))

    @rule()
    def sweep(self) -> None:
        for hold in self.model.holds.values():
            self.model.expire(hold)
        found, _again = self.runner.run(
            until_answered(lambda: self.ledger.get_windows(self.tenant, self.windows))
        )
        assert [(w.settled, w.held, w.unresolved) for w in found] == list(
            zip(self.model.settled(), self.model.held(), self.model.unresolved(), strict=True)
        )
        assert all(window.remaining >= 0 for window in found)

    @rule(work=st.sampled_from(WORKS))
    def store_evicts(self, work: str) -> None:
        """Memory is short: everything of this work that has a TTL goes."""
        self.model.kept.pop(work, None)
        self.runner.run(self.client.delete(*set(keys.work_keys(self.tenant, work)) - set(self.books)))

    @rule(which=st.integers(0, len(BUDGETS) - 1), limit=st.integers(0, 40))
    def limit_changes(self, which: int, limit: int) -> None:
        self.model.limits[which] = limit
        self.highest[which] = max(self.highest[which], self.model.limit(which))

    @rule(most=st.integers(1, len(USERS)))
    def most_users_change(self, most: int) -> None:
        self.model.users_max = most

    @rule(amount=st.integers(-4, 8), credit=st.sampled_from(["one", "two", "three"]))
    def credit_changes(self, amount: int, credit: str) -> None:
        """The same credit again changes nothing; another one under its id, or one too much, is refused."""
        held = self.model.credits
        known = held.get(credit)
        short = known is None and sum(held.values()) + amount < 0
        changed = known is not None and (known, known >= 0) != (amount, amount >= 0)
        if known is None and not short:
            held[credit] = amount
            self.highest[1] = max(self.highest[1], self.model.limit(1))
        assert self.runner.run(self._credit(amount, credit)) == (not short and not changed)

    async def _credit(self, amount: int, credit: str) -> bool:
        adjustments = RedisBudgetAdjustments(self.client, 10)
        try:
            added, _again = await until_answered(
                lambda: adjustments.add_credit(self.tenant, self.windows[1], amount, credit)
            )
        except Conflict:
            return False
        assert added.budget.limit == self.model.limit(1)
        return True

    @rule(
        bad=st.sampled_from([-1, 1.5, float("nan"), "x", AMOUNT_MAX + 1]),
        place=st.integers(0, len(UNITS) - 1),
    )
    def nonsense_is_refused(self, bad: Any, place: int) -> None:
        values = Amounts(*[bad if unit == place else 1 for unit in range(len(UNITS))])
        request = AdmissionRequest(self.tenant, "new", "work-a", self.windows, values, CacheDirective())
        assert self.runner.run(self._admit(request)) == "error"
        for hold in HOLDS[:2]:
            settlement = Settlement(self.tenant, hold, self.work_of(hold), "settle", values, spent=Spent())
            assert self.runner.run(self._settle(settlement)) == ("error", False)

    @rule()
    def scripts_are_forgotten(self) -> None:
        self.runner.run(self.client.script_flush())

    @precondition(lambda self: self.restarts == 0 and len(self.model.holds) > 3)
    @rule()
    def server_is_killed(self) -> None:
        self.restarts += 1
        # A server whose disk is busy answers before it writes; what that loses is another test's matter.
        self.runner.run(self.client.execute_command("WAITAOF", 1, 0, 10_000))
        self.store.server.kill()
        self.store.server.start()

    @invariant()
    def the_store_is_the_model(self) -> None:
        counters, records, open_holds = self.runner.run(self._read())
        for index, budget in enumerate(BUDGETS):
            name = f"{build_window(budget, OWNERS[index], ZONE, 0).field}|1"
            found = [int(counters.get(f"{name}:{kind}", 0)) for kind in "shuo"]
            settled, held = self.model.settled()[index], self.model.held()[index]
            unresolved = self.model.unresolved()[index]
            assert found == [settled, held, unresolved, self.model.overage[index]]
            if budget.mode == "enforce":
                most = self.highest[index] + self.model.overage[index] + self.tails[index]
                assert settled + held + unresolved <= most
            assert settled + held + unresolved >= sum(made[index] for made in self.made.values())
        assert records == {name: hold.state for name, hold in self.model.holds.items()}
        places = int(counters.get(f"{CAP.field}|0:h", 0))
        assert places == sum(hold.open for hold in self.model.holds.values()) <= CAP.limit
        assert open_holds == {name for name, hold in self.model.holds.items() if hold.open}

    async def _read(self) -> tuple[dict[str, str], dict[str, str], set[str]]:
        counters = await self.client.hgetall(self.key("win"))
        records = await self.client.hgetall(self.key("res"))
        open_holds = await self.client.zrange(self.key("exp"), 0, -1)
        return counters, _states(records), set(open_holds)


def _states(records: dict[str, str]) -> dict[str, str]:
    """The state of each hold; credits lie beside them."""
    return {name: record.split(";")[1] for name, record in records.items() if not name.startswith("credit.")}


@pytest.mark.timeout(300)
def test_the_ledger_agrees_with_a_model_of_it_whatever_is_called() -> None:
    profile = settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=60,
        stateful_step_count=40,
        suppress_health_check=list(HealthCheck),
        phases=PHASES,
    )
    with (
        tempfile.TemporaryDirectory(prefix="fg") as folder,
        running_server(Path(folder)) as server,
        asyncio.Runner() as runner,
        opened(runner, server.url) as clients,
    ):
        # The machine's own looks into the store are patient, whatever else the computer does.
        patience = Retry(FullJitterBackoff(cap=0.5, base=0.01), 10)
        client = Redis.from_url(server.url, decode_responses=True, retry=patience)
        store = Store(server, runner, RedisLedger(clients.ledger, LedgerConfig()), client)
        machine = type("BoundLedgerMachine", (LedgerMachine,), {"store": store})
        run_state_machine_as_test(machine, settings=profile)
        runner.run(client.aclose())


@contextmanager
def opened(runner: asyncio.Runner, url: str) -> Iterator[StoreClients]:
    """Connections for a test that is no coroutine itself."""
    context = open_clients(url)
    clients = runner.run(context.__aenter__())
    try:
        yield clients
    finally:
        runner.run(context.__aexit__(None, None, None))
