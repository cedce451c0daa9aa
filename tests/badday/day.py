"""The bad day itself: back ends that follow the script, callers who never wait, and what came of them."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2

from tests.badday.door import Door
from tests.badday.phases import DAY, HOUR_MIN, Phase, scaled
from tests.changed_constants import environment_of
from tests.processes import HTTP, Running, running_emulator, running_gateway
from tests.server.conftest import PEPPER, Tenants, write_tenants

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOKENS = {"512": 747, "1K": 1120, "2K": 1680, "4K": 2520}
SIZES = ("512",) * 62 + ("1K",) * 28 + ("2K",) * 5 + ("4K",) * 5
TENANTS = {"shop": 0.6, "studio": 0.3, "night-batch": 0.1}
UNITS = ("image_tokens", "images")
PATIENCE_S = 60.0
LEASE_S = 5
_SAMPLE = re.compile(r"^(flashgate_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Asked:
    """One request: minutes of the hour, and what it ended with.

    Attributes:
        came: When it was sent, in minutes.
        took_s: Seconds of the run until the answer.
        outcome: ``served``, or the problem's code.
        tokens: Image tokens that the ending is booked with.
        images: Pictures, likewise.
        sent: Whether the answer speaks of an attempt that reached a back end.
    """

    tenant: str
    image_size: str
    came: float
    took_s: float
    outcome: str
    tokens: int
    images: int
    sent: bool


@dataclass
class Seen:
    """A day as it went.

    Attributes:
        series: Counters of the gateway by the minute at which they were read.
        books: Settled by unit, all tenants together; ``held`` must be 0.
        billed: Pictures that the back ends drew and were seen to bill.
        verified: What ``flashgate ledger verify`` says.
    """

    seed: int
    seconds: float
    retry_reserve: int
    asked: list[Asked] = field(default_factory=list)
    series: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    books: dict[str, int] = field(default_factory=dict)
    billed: int = 0
    verified: str = ""


class Day:
    """One run.

    Args:
        seconds: Of the run; a sixtieth of them is a minute of the day.
        seed: Of arrivals, sizes and faults.
        rate: Requests a second of the run.
        folder: For logs and state; short enough for a socket's path.
        sizes: What is asked for, each as often as it stands there.
        retry_reserve: Retries that the gateway may save up.
    """

    def __init__(
        self,
        seconds: float,
        seed: int,
        rate: float,
        folder: Path,
        *,
        sizes: Sequence[str] = SIZES,
        retry_reserve: int = 10,
    ) -> None:
        self._chance = random.Random(seed)
        self._rate = rate
        self._sizes = sizes
        self._folder = folder
        self._minute_s = seconds / HOUR_MIN
        self._began = 0.0
        self.seen = Seen(seed, seconds, retry_reserve)

    @property
    def _minute(self) -> float:
        return (time.monotonic() - self._began) / self._minute_s

    def run(self) -> Seen:
        """Live through it and look at the books."""
        with ExitStack() as closing:
            options = ("--pace", f"{self._minute_s / 60:.6f}", "--seed", str(self.seen.seed))
            self._emulators = [
                closing.enter_context(running_emulator(self._folder, options=options)) for _ in range(2)
            ]
            door = Door(self._emulators[0].url)
            tenants = _tenants(self._folder)
            settings = self._settings(tenants, door.url)
            gateway = closing.enter_context(running_gateway(self._folder, probe="/livez", **settings))
            asyncio.run(self._live(gateway, tenants, door))
            self._look_at_the_books(gateway, tenants, settings)
        return self.seen

    def _settings(self, tenants: Tenants, first_url: str) -> dict[str, str]:
        return {
            "tenants_file": str(tenants.path),
            "key_pepper": PEPPER,
            "upstream": "emulator,gemini",
            "emulator_base_url": first_url,
            "gemini_base_url": self._emulators[1].url,
            "gemini_api_key": "any",
            "lease_s": str(LEASE_S),
            "upstream_retry.reserve": str(self.seen.retry_reserve),
            # The day is compressed, so what the gateway learns of it must be as well.
            "upstream_breaker.window_s": f"{max(1.0, self._minute_s * 3):.2f}",
            "upstream_breaker.pause_s": f"{self._minute_s:.2f}",
        }

    async def _live(self, gateway: Running, tenants: Tenants, door: Door) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        async with (
            httpx2.AsyncClient(verify=False, trust_env=False, timeout=PATIENCE_S, limits=limits) as client,
            door,
            asyncio.TaskGroup() as tasks,
        ):
            # Everything is imported and connected before the day begins.
            await self._ask(client, gateway, tenants, counted=False)
            self._began = time.monotonic()
            tasks.create_task(self._follow_the_script(door))
            watching = tasks.create_task(self._watch(client, gateway))
            callers = [
                tasks.create_task(self._ask(client, gateway, tenants))
                async for _ in _arrivals(self._chance, self._rate, self.seen.seconds)
            ]
            await asyncio.wait(callers)
            watching.cancel()

    async def _ask(
        self, client: httpx2.AsyncClient, gateway: Running, tenants: Tenants, *, counted: bool = True
    ) -> None:
        tenant = self._chance.choices(list(TENANTS), list(TENANTS.values()))[0]
        size = self._chance.choice(self._sizes)
        body = {"prompt": f"A harbour, view {self._chance.random()}", "image_size": size, "delivery": "uri"}
        came, began = self._minute if counted else 0.0, time.monotonic()
        answer = await client.post(
            f"{gateway.url}/v1/images:generate", json=body, headers={"X-API-Key": tenants.keys[tenant]}
        )
        took_s = time.monotonic() - began
        document = answer.json()
        upstream = document.get("upstream", {})
        paid = answer.status_code == 200 or upstream.get("billed") == "maybe"
        self.seen.asked.append(
            Asked(
                tenant=tenant,
                image_size=size,
                came=came if counted else -1.0,
                took_s=took_s,
                outcome=document.get("code", "served"),
                tokens=TOKENS[size] if paid else 0,
                images=1 if paid else 0,
                sent="status" in upstream or paid,
            )
        )

    async def _follow_the_script(self, door: Door) -> None:
        for phase in DAY:
            await asyncio.sleep(max(0.0, (phase.begin - self._minute) * self._minute_s))
            if phase.dead:
                await door.shut()
            elif phase.begin and DAY[DAY.index(phase) - 1].dead:
                await door.open()
            await asyncio.to_thread(self._rule, phase)

    def _rule(self, phase: Phase) -> None:
        for number, emulator in enumerate(self._emulators):
            rules = scaled(phase.second if number else phase.first, self._minute_s)
            document = {"seed": self.seen.seed + number, "rules": rules}
            HTTP.put(f"{emulator.url}/emulator/faults", json=document).raise_for_status()

    def _count_bills(self, emulator: Running) -> None:
        self.seen.billed += HTTP.get(f"{emulator.url}/emulator/calls").json()["billed"]["pictures"]

    async def _watch(self, client: httpx2.AsyncClient, gateway: Running) -> None:
        """Read the gateway's counters twice a minute of the day."""
        with suppress(asyncio.CancelledError):
            while True:
                text = (await client.get(gateway.metrics_url)).text
                self.seen.series.append((self._minute, counters(text)))
                await asyncio.sleep(self._minute_s / 2)

    def _look_at_the_books(self, gateway: Running, tenants: Tenants, settings: dict[str, str]) -> None:
        self.seen.series.append((self._minute, counters(HTTP.get(gateway.metrics_url).text)))
        deadline = time.monotonic() + 3 * LEASE_S
        while not self.seen.books or (self.seen.books["held"] and time.monotonic() < deadline):
            # A hold that was never sent, because the store did not answer, ends with its lease.
            totals: dict[str, int] = defaultdict(int)
            for key in tenants.keys.values():
                usage = HTTP.get(f"{gateway.url}/v1/usage", headers={"X-API-Key": key}).json()
                for budget in usage["budgets"]:
                    totals[budget["unit"]] += budget["settled"]
                    totals["held"] += budget["held"]
            self.seen.books = dict(totals)
            time.sleep(0.05)
        for emulator in self._emulators:
            self._count_bills(emulator)
        environment = environment_of({**settings, "state_dir": str(self._folder / "state")})
        verified = subprocess.run(
            [sys.executable, "-m", "app", "ledger", "verify"],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        self.seen.verified = (verified.stdout or verified.stderr).strip().partition("\n")[0]


async def _arrivals(chance: random.Random, rate: float, seconds: float) -> Any:
    """Yields whenever a caller comes, as many a second on average, whatever became of those before."""
    due = began = time.monotonic()
    while due - began < seconds:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield
        due += chance.expovariate(rate)


def _tenants(folder: Path) -> Tenants:
    budgets = [{"unit": unit, "window": "month", "limit": 100_000_000} for unit in UNITS]
    more = {"night-batch": {"priority": "batch"}}
    return write_tenants(folder / "tenants.yaml", dict.fromkeys(TENANTS, budgets), more)


def counters(text: str) -> dict[str, float]:
    """What the run looks at of the gateway's metrics, each summed over the labels that do not matter."""
    found: dict[str, float] = defaultdict(float)
    for name, labels, value in _SAMPLE.findall(text):
        told = dict(_LABEL.findall(labels))
        match name:
            case "flashgate_upstream_calls_total":
                found[f"calls {told['back_end']}"] += float(value)
                found["calls"] += float(value)
            case "flashgate_upstream_retries_total":
                found["retries"] += float(value)
            case "flashgate_upstream_failovers_total":
                found["failovers"] += float(value)
            case "flashgate_upstream_shed_total":
                found["shed"] += float(value)
            case "flashgate_admissions_total" if told["decision"] == "lead":
                found["led"] += float(value)
            case "flashgate_upstream_slots" if told["slots"] == "limit":
                found[f"slots {told['back_end']}"] += float(value)
    return dict(found)
