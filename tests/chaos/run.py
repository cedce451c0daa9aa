"""``python -m tests.chaos.run --seconds 60 --seed 1``: load, harm, and at the end the audit, on one page."""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from app.domain.budget import UNITS, Amounts, Budget, build_window
from app.domain.report import sum_rows
from app.ledger.journal import Journal
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.ledger.reports import RedisReports
from app.ledger.verifying import read_snapshot
from app.store.client import open_clients
from tests.chaos.tenants import EXCESSIVE, GREEDY, LEVELS, NAMES, SIZES, count_made
from tests.chaos.world import LEASE_S, Observer, World
from tests.processes import HTTP
from tests.store.books import ZONE, Books

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.domain.report import Spent
    from app.ledger.hold_records import HoldRecord
    from app.ledger.verifying import Difference, Snapshot
    from tests.chaos.tenants import ChaosTenant

USUAL_PROMPTS = (
    *["A lighthouse"] * 4,
    *["Another [[emulate:slow:0.4]]"] * 3,
    "Refused [[emulate:image-safety]]",
    "Nothing [[emulate:no-image]]",
    "Down [[emulate:unavailable]]",
    "Broken [[emulate:reset]]",
    "Quota [[emulate:exhausted]]",
    "Unreported [[emulate:no-usage]]",
    "Half [[emulate:broken-json]]",
)
GREEDY_PROMPTS = (
    *["Greedy [[emulate:greedy]]"] * 4,
    "Greedy and slow [[emulate:greedy]] [[emulate:slow:0.4]]",
    "Greedy and lost [[emulate:greedy]] [[emulate:reset]]",
    "Greedy, half [[emulate:greedy]] [[emulate:broken-json]]",
    "Greedy, unreported [[emulate:greedy]] [[emulate:no-usage]]",
)
EXCESSIVE_PROMPTS = (
    "More than its bound [[emulate:over]]",
    "More, slowly [[emulate:over]] [[emulate:slow:0.4]]",
    "More, and lost [[emulate:over]] [[emulate:reset]]",
)
PROMPTS = dict.fromkeys(NAMES, USUAL_PROMPTS + GREEDY_PROMPTS) | {
    GREEDY: GREEDY_PROMPTS,
    EXCESSIVE: EXCESSIVE_PROMPTS + USUAL_PROMPTS,
}
TOKENS_MAX = 2520
"""Of one picture."""
_ERROR = re.compile(r'"severity": ?"ERROR".*?"message": ?"([^"]+)"')


@dataclass
class Report:
    """What happened, and what the audit found."""

    seed: int
    seconds: float
    replicas: int
    callers: int
    faketime: bool
    harm: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    delivered: set[tuple[str, str]] = field(default_factory=set)
    samples: int = 0
    violations: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    unpaid: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    misreported: list[str] = field(default_factory=list)
    holds: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    uncovered: list[str] = field(default_factory=list)
    windows: Counter[str] = field(default_factory=Counter)
    sums: dict[str, tuple[Amounts, Amounts, Amounts]] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        """Zero, or the run has failed."""
        return sum(map(len, self.found.values()))

    @property
    def found(self) -> dict[str, Sequence[object]]:
        """Everything that must not be."""
        return {
            "windows above limit + overage + tail, ever": self.violations,
            "made, but neither booked nor set aside": self.uncovered,
            "counters that do not add up": self.differences,
            "pictures that nobody paid": self.unpaid,
            "bookings without a word in a journal": self.unexplained,
            "reports that differ from the books": self.misreported,
        }

    def __str__(self) -> str:
        lines = [
            f"{self.seconds:.0f} s, {self.replicas} replicas, {self.callers} callers, seed {self.seed}",
            f"  harm        {_told(self.harm)}"
            + ("" if self.faketime else "  (no clock steps: libfaketime is not installed)"),
            f"  answers     {_told(self.answers)}",
            f"  holds       {_told(self.holds)}",
            f"  logged      {_told(self.said)}",
            f"  observed    {self.samples} samples of {len(self.windows)} windows",
            f"  above their limits by no more than the tail: {_told(self.windows, above=0)}",
            f"  {'tenant':<10}{'unit':<18}{'made':>14}{'booked':>14}{'set aside':>14}",
        ]
        for tenant, (made, booked, aside) in self.sums.items():
            for unit, *amounts in zip(UNITS, made, booked, aside, strict=True):
                lines.append(f"  {tenant:<10}{unit:<18}" + "".join(f"{amount:>14}" for amount in amounts))
        for what, found in self.found.items():
            lines += [f"  {what:<44}{len(found)}", *(f"    {item}" for item in list(found)[:5])]
        lines.append("PASSED" if not self.faults else "FAILED")
        return "\n".join(lines)


def _told(counts: Counter[str], above: int = -1) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common() if count > above) or "none"


def _call(world: World, report: Report, chance: random.Random, until: float) -> None:
    """Callers who never give up: any tenant, any replica, some work twice."""
    while time.monotonic() < until:
        tenant = chance.choice(list(world.tenants.values()))
        replica = chance.choice(world.replicas)
        number = chance.randrange(10 if chance.random() < 0.3 else 10**6)
        body = {
            "prompt": f"{chance.choice(PROMPTS[tenant.id])} {number}",
            "image_size": chance.choice(SIZES),
            "thinking_level": chance.choice(LEVELS),
            "delivery": "uri",
        }
        try:
            answer = HTTP.post(
                f"{replica.url}/v1/images:generate",
                json=body,
                headers={"X-API-Key": tenant.key},
                timeout=30,
            )
        except httpx2.TransportError:
            report.answers["connection lost"] += 1
            time.sleep(0.05)
            continue
        document = answer.json()
        report.answers[str(document.get("code", answer.status_code))] += 1
        if answer.status_code == 200 and document["cache"]["status"] in {"miss", "bypass"}:
            report.delivered.add((tenant.id, document["id"].removeprefix("gen_")))
        if answer.status_code in {429, 503}:
            time.sleep(chance.uniform(0.05, 0.5))


def _harm(world: World, report: Report, chance: random.Random, until: float) -> None:
    """One harm after the other; the store forgets everything once, in the middle."""
    middle = time.monotonic() + (until - time.monotonic()) / 2
    flushed = False

    harms: dict[str, Callable[[], None]] = {
        "store frozen": lambda: world.freeze_store(chance.uniform(0.2, 0.8)),
        "store killed": world.restart_store,
        "replies dropped": lambda: world.drop_replies(chance.randrange(1, 6)),
    }
    if world.clock_can_be_set:
        harms["clock set"] = lambda: world.set_clock(chance.choice([-3600, -5, 0, 0, 5, 600]))
    while time.monotonic() < until:
        time.sleep(chance.uniform(0.3, 1.2))
        if not flushed and time.monotonic() > middle:
            name, act, flushed = "store flushed", world.flush, True
        elif chance.random() < 0.3 and all(replica.answers() for replica in world.replicas):
            # One at a time, so that there are always some who can be harmed in other ways.
            name, act = "replica killed", chance.choice(world.replicas).crash
        else:
            name, act = chance.choice(list(harms.items()))
        act()
        report.harm[name] += 1


async def _audit(world: World, report: Report) -> None:
    """End every hold that nobody will end any more, then add everything up."""
    with Journal(world.folder / "journal") as journal:
        journals = {tenant: journal.read_settled_of(tenant) for tenant in world.tenants}
    async with (
        open_clients(world.server.url, ledger_timeout_s=10) as clients,
        RedisLedger(clients.ledger, LedgerConfig(lease_s=LEASE_S, deadline_s=10)) as ledger,
    ):
        for tenant in world.tenants.values():
            books = Books(ledger, clients.ledger, tenant.id)
            for _ in range(50):
                await books.totals()
                found = await read_snapshot(clients.ledger, tenant.id)
                if not found.leased:
                    break
                await clients.ledger.zadd(books.key("exp"), dict.fromkeys(found.leased, 1), xx=True)
            report.differences += found.find_differences()
            report.holds.update(hold.state for hold in found.holds)
            rows = await RedisReports(clients.ledger, ()).read_tenant(tenant.id, date.min, date.max)
            _compare(world, tenant, found, sum_rows([row for row in rows if row.kind == "all"]), report)
            _explain(tenant.id, {hold.hold_id: hold for hold in found.holds}, journals[tenant.id], report)


def _compare(world: World, tenant: ChaosTenant, found: Snapshot, spent: Spent, report: Report) -> None:
    """What stands in the ledger against the upstream's own bill, the limits, and the reports."""
    bill = world.read_bill(tenant.id)
    made, booked, aside, overage = count_made(bill), [], [], []
    for unit in UNITS:
        everything = build_window(Budget(unit, "lifetime", 0), "t", ZONE, 0)
        counter = found.counters.get(f"{everything.field}|0", {})
        booked.append(counter.get("s", 0))
        aside.append(counter.get("u", 0))
        overage.append(counter.get("o", 0))
        reported = spent.output_tokens if unit == "all_output_tokens" else getattr(spent, unit)
        if reported != booked[-1]:
            report.misreported.append(f"{tenant.id}: {reported} {unit} reported, {booked[-1]} booked")
    # What came above a bound in answers that nobody received is known to the upstream alone.
    above = [hold for hold in found.holds if hold.booked[-1] > hold.est[-1]]
    unseen = max(0, bill["calls_above_bound"] - len(above))
    tokens = max(0, bill["above_bound"] - overage[UNITS.index("all_output_tokens")])
    unknowable = Amounts(unseen * TOKENS_MAX, tokens, unseen, tokens * 60_000, tokens)
    for unit, most, stands, rest, missed in zip(UNITS, made, booked, aside, unknowable, strict=True):
        if stands + rest + missed < most:
            report.uncovered.append(f"{tenant.id}: {most} {unit} made, {stands} + {rest} + {missed} known")
    report.sums[tenant.id] = (made, Amounts(*booked), Amounts(*aside))
    for name, counters in found.counters.items():
        limit = tenant.limits.get(name.rpartition("|")[0])
        if limit is not None:
            report.windows[f"{tenant.id} {name.rpartition('|')[0]}"] = counters.get("s", 0) - limit


def _explain(
    tenant: str, store: dict[str, HoldRecord], journal: dict[str, HoldRecord], report: Report
) -> None:
    """Every picture was paid, and whatever was booked is in a replica's journal or was left by a dead one."""
    for owner, hold_id in report.delivered:
        if owner == tenant and (hold_id not in store or store[hold_id].state != "settled"):
            state = store[hold_id].state if hold_id in store else "forgotten"
            report.unpaid.append(f"{tenant} {hold_id}: {state}")
    for hold_id, hold in store.items():
        told = journal.get(hold_id)
        if hold.state == "settled" and (told is None or told.booked != hold.booked):
            # A replica that was killed between the store's answer and its own note has told nobody.
            dispatched = told is not None and told.state == "dispatched"
            if not dispatched:
                report.unexplained.append(f"{tenant} {hold_id}: {hold.state}")
    for hold_id, told in journal.items():
        if told.state == "settled" and (hold_id not in store or store[hold_id].booked != told.booked):
            report.unpaid.append(f"{tenant} {hold_id}: settled in a journal, not in the store")


def chaos(seconds: float, seed: int, replicas: int, callers: int, folder: Path) -> Report:
    """One run. The same seed harms in the same order; how far the calls are by then is the machine's."""
    with World(folder, replicas) as world:
        report = Report(seed, seconds, replicas, callers, world.clock_can_be_set)
        observer = Observer(world)
        observer.start()
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=_call, args=(world, report, random.Random(f"{seed}-{n}"), until))
            for n in range(callers)
        ]
        for thread in threads:
            thread.start()
        try:
            _harm(world, report, random.Random(seed), until)
        finally:
            world.proxy.fault = None
            for thread in threads:
                thread.join(60)
        _calm(world)
        observer.stop()
        report.samples = observer.samples
        report.violations = [f"{name}: {what}" for name, what in observer.violations.items()]
        asyncio.run(_audit(world, report))
        for replica in world.replicas:
            report.said.update(_ERROR.findall(replica.log))
        return report


def _calm(world: World) -> None:
    """Let every replica come back and settle what waits, then go down in order."""
    deadline = time.monotonic() + 60
    for replica in world.replicas:
        while True:
            assert time.monotonic() < deadline, f"a replica does not calm down:\n{replica.log[-3000:]}"
            with suppress(httpx2.TransportError, KeyError):
                if replica.conditions()["settlements_waiting"] == 0:
                    break
            time.sleep(0.1)
    for replica in world.replicas:
        assert replica.stop() == 0, replica.log[-3000:]


def main(arguments: list[str] | None = None) -> int:
    """0 where the books balance."""
    parser = argparse.ArgumentParser("chaos")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--callers", type=int, default=50)
    given: Any = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fg") as folder:
        report = chaos(min(given.seconds, 600), given.seed, given.replicas, given.callers, Path(folder))
    sys.stdout.write(f"{report}\n")
    return min(1, report.faults)


if __name__ == "__main__":
    sys.exit(main())
