"""Replicas, a store behind a proxy, and the means to hurt them. Every process is ended by its own id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx2
import redis

from app.domain.budget import EARLIER_UNITS
from tests.changed_constants import environment_of
from tests.chaos.tenants import write_tenants
from tests.processes import HTTP, START_S, STOP_S, free_port, running_emulator
from tests.server.conftest import PEPPER
from tests.storefaults import Fault, StoreProxy
from tests.storeserver import ServerProcess

if TYPE_CHECKING:
    from types import TracebackType

    from tests.chaos.tenants import ChaosTenant

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
LEASE_S = 3


class Replica:
    """One gateway that can be killed and started again on its port."""

    def __init__(self, folder: Path, number: int, settings: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"replica-{number}.log"
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("FLASHGATE_")
        }
        self._environment |= environment_of(settings)
        self._environment |= {"PORT": str(self.port), "FLASHGATE_STATE_DIR": str(folder / f"state-{number}")}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to start; whether it is ready is another question."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve"],
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def answers(self) -> bool:
        """Whether it is alive."""
        try:
            return HTTP.get(f"{self.url}/livez", timeout=2).status_code == 200
        except httpx2.TransportError:
            return False

    def conditions(self) -> dict[str, str | int]:
        """What its readiness tells beside being ready."""
        return dict(HTTP.get(f"{self.url}/readyz", timeout=5).json()["conditions"])

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_S)

    def crash(self) -> None:
        """Kill it and begin to start it again."""
        self.kill()
        self.start()

    def stop(self) -> int:
        """End it in an orderly way; its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(STOP_S)

    @property
    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text(errors="replace")


@dataclass
class World:
    """All of it. Use as ``with``; ``folder`` must be short enough for a socket's path."""

    folder: Path
    replicas_wanted: int
    replicas: list[Replica] = field(default_factory=list)
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opening:
            emulator = opening.enter_context(running_emulator(self.folder))
            self.upstream_url = emulator.url
            (self.folder / "s").mkdir()
            # A machine whose disk is busy would lose up to two seconds with each kill (deploy/RUNBOOK.md).
            self.server = ServerProcess(self.folder / "s", "--appendfsync", "always")
            self.set_clock(0)
            self.start_store()
            opening.callback(self.server.kill)
            self.proxy = opening.enter_context(StoreProxy(self.folder / "p.sock", self.server.socket))
            self.tenants: dict[str, ChaosTenant] = write_tenants(self.folder / "tenants.yaml")
            settings = {
                "tenants_file": str(self.folder / "tenants.yaml"),
                "key_pepper": PEPPER,
                "upstream": "emulator",
                "emulator_base_url": emulator.url,
                "redis_url": self.proxy.url,
                "lease_s": str(LEASE_S),
                "journal_dir": str(self.folder / "journal"),
                "drain_s": "3",
            }
            for number in range(self.replicas_wanted):
                replica = Replica(self.folder, number, settings)
                self.replicas.append(replica)
                opening.callback(replica.kill)
                replica.start()
            deadline = time.monotonic() + START_S
            while not all(replica.answers() for replica in self.replicas):
                assert time.monotonic() < deadline, "the replicas did not start"
                time.sleep(0.05)
            self.closing = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.close()

    def start_store(self) -> None:
        """Start the server, under a clock that can be set where the library for it is installed."""
        faked = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock_file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        before = {name: os.environ.get(name) for name in faked}
        if self.clock_can_be_set:
            os.environ.update(faked)
        try:
            self.server.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value

    @property
    def clock_can_be_set(self) -> bool:
        """Whether libfaketime is installed."""
        return FAKETIME.exists()

    @property
    def _clock_file(self) -> Path:
        return self.folder / "clock"

    def set_clock(self, offset_s: int) -> None:
        """Let the store's clock be off by so many seconds from now on."""
        draft = self._clock_file.with_suffix(".draft")
        draft.write_text(f"{offset_s:+d}\n")
        draft.replace(self._clock_file)

    def client(self) -> redis.Redis:
        """A patient client of the server itself, past the proxy."""
        return redis.Redis(unix_socket_path=str(self.server.socket), decode_responses=True, socket_timeout=10)

    def read_bill(self, tenant_id: str) -> dict[str, int]:
        """What the upstream has billed to a tenant."""
        billed = HTTP.get(f"{self.upstream_url}/emulator/calls").json()["billed_by_tenant"]
        return dict(billed[tenant_id])

    # what hurts

    def freeze_store(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        self.server.signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.server.signal(signal.SIGCONT)

    def restart_store(self) -> None:
        """Kill -9, and start again from its log."""
        self.server.kill()
        self.start_store()

    def drop_replies(self, count: int) -> None:
        """Lose the next replies, after the server has done what was asked."""
        self.proxy.fault = Fault("drop", commands=("EVALSHA", "EVAL"), times=count)

    def flush(self) -> None:
        """The store forgets everything."""
        with contextlib.closing(self.client()) as client:
            client.flushall()


class Observer(threading.Thread):
    """Samples every window of every tenant for as long as it runs.

    Attributes:
        samples: How many windows were looked at.
        violations: By window, more than its limit, its overage and the tail, which must never be.
    """

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self._world = world
        self._over = threading.Event()
        self._started_s = time.monotonic()
        self.samples = 0
        self.violations: dict[str, str] = {}

    def run(self) -> None:
        """Look until told to stop; a store that is away shows nothing."""
        with contextlib.closing(self._world.client()) as client:
            while not self._over.wait(0.01):
                for tenant in self._world.tenants.values():
                    with contextlib.suppress(redis.RedisError, OSError):
                        self._look(tenant, client.hgetall(f"fg:{{{tenant.id}}}:win"))  # type: ignore[arg-type]

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join(15)

    def _look(self, tenant: ChaosTenant, fields: dict[str, str]) -> None:
        for name in {each[:-2] for each in fields if each[-2:] in {":s", ":h", ":u"}}:
            window = name.rpartition("|")[0]
            if window not in tenant.limits:
                continue
            word = window.split("|")[1]
            tail = getattr(tenant.tail, EARLIER_UNITS.get(word, word))
            limit = tenant.limits[window]
            settled, held, unresolved, over = (int(fields.get(f"{name}:{kind}", 0)) for kind in "shuo")
            self.samples += 1
            if settled + held + unresolved > limit + over + tail:
                after_s = time.monotonic() - self._started_s
                what = f"{settled} + {held} + {unresolved} > {limit} + {over} + {tail} after {after_s:.1f} s"
                self.violations.setdefault(f"{tenant.id} {name}", what)
