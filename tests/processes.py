"""Real processes for tests: a gateway and an emulator on ports of their own, ended by their id."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx2

from tests.changed_constants import environment_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

HTTP = httpx2.Client(
    verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    timeout=60,
    trust_env=False,
    limits=httpx2.Limits(max_connections=None, max_keepalive_connections=50),
)
"""One client for all tests, without the certificates that every new one would read anew."""

START_S = 40.0
STOP_S = 15.0


@dataclass(frozen=True)
class Running:
    """A process that listens: its base URL, and the process for those who must end it rudely.

    A gateway's metrics are at an address of their own.
    """

    url: str
    process: subprocess.Popen[bytes]
    metrics_url: str = ""

    def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_S)


def free_port() -> int:
    """A port on the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the address answers 200; fail with the log where the process ends first."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the process ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        try:
            if HTTP.get(url, timeout=2).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"{url} does not answer:\n{log.read_text()[-4000:]}")


@contextmanager
def running(
    arguments: list[str], environment: Mapping[str, str], url: str, probe: str, log: Path, module: str = "app"
) -> Iterator[Running]:
    """Run ``python -m app …`` with nothing but these settings until the block ends."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLASHGATE_")}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**inherited, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_answers(url + probe, process, log)
        yield Running(url, process)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_S)


@contextmanager
def running_gateway(folder: Path, **settings: str) -> Iterator[Running]:
    """A gateway with its state in a folder; settings and constants are named as for ``environment_of``.

    Two of them are none of the gateway's: the block begins when ``probe`` answers 200, which is ``/readyz``
    unless it is given; ``port`` is a free one. So is ``metrics_port``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe, port = settings.pop("probe", "/readyz"), int(settings.pop("port", "0")) or free_port()
    settings = {"state_dir": str(folder / "state"), "metrics_port": str(free_port()), **settings}
    environment = environment_of(settings)
    url = f"http://127.0.0.1:{port}"
    log = folder / f"gateway-{port}.log"
    module = "tests.changed_constants" if any("." in name for name in settings) else "app"
    with running(["serve"], {**environment, "PORT": str(port)}, url, probe, log, module) as process:
        yield replace(process, metrics_url=f"http://127.0.0.1:{settings['metrics_port']}/metrics")


@contextmanager
def running_emulator(folder: Path, options: Sequence[str] = ()) -> Iterator[Running]:
    """The emulator alone."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ["emulator", "--port", str(port), *options]
    with running(arguments, {}, url, "/emulator/calls", folder / f"emulator-{port}.log") as process:
        yield process
