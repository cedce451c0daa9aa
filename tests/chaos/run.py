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

from app.domain.budget import UNITS, Budget, build_window
from app.domain.report import sum_rows
from app.ledger.journal import Journal
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.ledger.reports import RedisReports
from app.ledger.verifying import read_snapshot
from app.store.client import open_clients
from tests.chaos.world import LEASE_S, TENANTS, Observer, World
from tests.processes import HTTP
from tests.store.books import ZONE, Books

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.ledger.hold_records import HoldRecord
    from app.ledger.verifying import Difference

PROMPTS = (
    ["A lighthouse"] * 4
    + ["Another [[emulate:slow:0.4]]"] * 3
    + ["Greedy [[emulate:greedy]]"] * 3
    + [
        "Greedy and lost [[emulate:greedy]] [[emulate:reset]]",
        "Refused [[emulate:image-safety]]",
        "Nothing [[emulate:no-image]]",
        "Down [[emulate:unavailable]]",
        "Broken [[emulate:reset]]",
        "Quota [[emulate:exhausted]]",
        "Unreported [[emulate:no-usage]]",
        "Half [[emulate:broken-json]]",
    ]
)
SIZES = ("512", "1K", "2K")
LEVELS = ("minimal", "high")
_ERROR = re.compile(r'"severity": ?"ERROR".*?"message": ?"([^"]+)"')


@dataclass
class Report:
    """What happened, and what the audit found."""

    seed: int
    seconds: float
    replicas: int
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
    windows: dict[str, tuple[int, int]] = field(default_factory=dict)
    made: int = 0
    booked: int = 0
    aside: int = 0

    @property
    def faults(self) -> int:
        """Zero, or the run has failed."""
        return sum(map(len, self.found))

    @property
    def found(self) -> tuple[Sequence[object], ...]:
        """Everything that must not be."""
        return self.violations, self.differences, self.unpaid, self.unexplained, self.misreported

    def __str__(self) -> str:
        lines = [
            f"Chaos: {self.seconds:.0f} s, {self.replicas} replicas, seed {self.seed}",
            f"  harm        {_told(self.harm)}"
            + ("" if self.faketime else "  (no clock steps: libfaketime is not installed)"),
            f"  answers     {_told(self.answers)}",
            f"  holds       {_told(self.holds)}",
            f"  logged      {_told(self.said)}",
            f"  observed    {self.samples} samples of windows",
            *(f"  {name:<34} settled {s:>9}  limit {limit:>9}" for name, (s, limit) in self.windows.items()),
            f"  image tokens  made {self.made}, booked {self.booked}, set aside {self.aside}",
            f"  S + H + U > L + O + tail, ever        {len(self.violations)}",
            f"  counters that do not add up           {len(self.differences)}",
            f"  pictures that nobody paid             {len(self.unpaid)}",
            f"  bookings without a word in a journal  {len(self.unexplained)}",
            f"  reports that differ from the books    {len(self.misreported)}",
        ]
        for found in self.found:
            lines += [f"    {item}" for item in list(found)[:5]]
        lines.append("PASSED" if not self.faults else "FAILED")
        return "\n".join(lines)


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def _call(world: World, report: Report, chance: random.Random, until: float) -> None:
    """Callers who never give up: any tenant, any replica, some work twice."""
    while time.monotonic() < until:
        tenant = chance.choice(list(TENANTS))
        replica = chance.choice(world.replicas)
        prompt = f"{chance.choice(PROMPTS)} {chance.randrange(10 if chance.random() < 0.3 else 10**6)}"
        body = {"prompt": prompt, "image_size": chance.choice(SIZES), "delivery": "uri"}
        body["thinking_level"] = chance.choice(LEVELS)
        try:
            answer = HTTP.post(
                f"{replica.url}/v1/images:generate",
                json=body,
                headers={"X-API-Key": world.tenants.keys[tenant]},
                timeout=30,
            )
        except httpx2.TransportError:
            report.answers["connection lost"] += 1
            time.sleep(0.05)
            continue
        document = answer.json()
        report.answers[str(document.get("code", answer.status_code))] += 1
        if answer.status_code == 200 and document["cache"]["status"] in {"miss", "bypass"}:
            report.delivered.add((tenant, document["id"].removeprefix("gen_")))
        if answer.status_code in {429, 503}:
            time.sleep(0.05)


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
        journals = {tenant: journal.read_settled_of(tenant) for tenant in TENANTS}
    async with (
        open_clients(world.server.url, ledger_timeout_s=10) as clients,
        RedisLedger(clients.ledger, LedgerConfig(lease_s=LEASE_S, deadline_s=10)) as ledger,
    ):
        for tenant, limit in TENANTS.items():
            books = Books(ledger, clients.ledger, tenant)
            for _ in range(50):
                await books.totals()
                found = await read_snapshot(clients.ledger, tenant)
                if not found.leased:
                    break
                await clients.ledger.zadd(books.key("exp"), dict.fromkeys(found.leased, 1), xx=True)
            report.differences += found.find_differences()
            report.holds.update(hold.state for hold in found.holds)
            rows = await RedisReports(clients.ledger, ()).read_tenant(tenant, date.min, date.max)
            spent = sum_rows([row for row in rows if row.label is None])
            for unit in UNITS:
                reported = spent.output_tokens if unit == "all_output_tokens" else getattr(spent, unit)
                field_name = build_window(Budget(unit, "month", 0), "t", ZONE, 0).field
                booked = sum(
                    counters.get("s", 0)
                    for name, counters in found.counters.items()
                    if name.startswith(f"{field_name}|")
                )
                if reported != booked:
                    report.misreported.append(f"{tenant}: {reported} {unit} reported, {booked} booked")
            for name, counters in found.counters.items():
                if "|output_tokens|" not in name:
                    continue
                allowed = limit * (2 if "|month|" in name else 1)
                if "|month|" in name:
                    report.booked += counters.get("s", 0)
                    report.aside += counters.get("u", 0)
                report.windows[f"{tenant} {name.rpartition('|')[0]}"] = (counters.get("s", 0), allowed)
            _explain(tenant, {hold.hold_id: hold for hold in found.holds}, journals[tenant], report)


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
        report = Report(seed, seconds, replicas, world.clock_can_be_set)
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
        report.samples, report.violations = observer.samples, observer.violations
        report.made = world.image_tokens_made()
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
    parser.add_argument("--callers", type=int, default=12)
    given: Any = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fg") as folder:
        report = chaos(min(given.seconds, 600), given.seed, given.replicas, given.callers, Path(folder))
    sys.stdout.write(f"{report}\n")
    return min(1, report.faults)


if __name__ == "__main__":
    sys.exit(main())
