"""CPU of the gateway's process for a whole request, against an application that does nothing.

Refused by validation and by a budget, served from the cache, drawn by the emulator (another process, so not
in it): each as a small picture. Rows take turns, one request at a time.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.table import Table
from tests.processes import HTTP, Running, free_port, running, running_emulator, running_gateway
from tests.server.conftest import PEPPER, tokens_a_day, write_tenants

if TYPE_CHECKING:
    from collections.abc import Callable


def cpu_ms(process: Running) -> float:
    """Time on the processor so far, by the scheduler's nanoseconds, of every thread that is there."""
    threads = Path(f"/proc/{process.process.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e6


def requests(folder: Path, rounds: int, batch: int) -> Table:
    """Milliseconds of CPU by what becomes of a request."""
    with ExitStack() as stack:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        arguments = ["--http", "h11", "--no-access-log", "--port", str(port), "tests.benchmarks.bare:app"]
        bare = stack.enter_context(running(arguments, {}, url, "/readyz", folder / "bare.log", "uvicorn"))
        emulator = stack.enter_context(running_emulator(folder / "e"))
        known = write_tenants(folder / "t.yaml", {"rich": tokens_a_day(10**12), "poor": tokens_a_day(1)})
        settings = {"tenants_file": str(known.path), "key_pepper": PEPPER, "emulator_base_url": emulator.url}
        gateway = stack.enter_context(running_gateway(folder / "g", upstream="emulator", **settings))

        def ask(where: Running, tenant: str, status: int, **body: object) -> None:
            answer = HTTP.post(
                f"{where.url}/v1/images:generate",
                json={"image_size": "512", "delivery": "uri", **body},
                headers={"X-API-Key": known.keys[tenant]},
            )
            assert answer.status_code == status, answer.text

        number = iter(range(sys.maxsize))
        rows: dict[str, tuple[Running, Callable[[], None]]] = {
            "bare FastAPI": (bare, lambda: ask(bare, "rich", 429, prompt="x")),
            "refused by validation": (
                gateway,
                lambda: ask(gateway, "rich", 422, prompt="x", n=99),
            ),
            "refused by a budget": (gateway, lambda: ask(gateway, "poor", 429, prompt="x")),
            "hit, picture by uri": (gateway, lambda: ask(gateway, "rich", 200, prompt="the same")),
            "miss": (gateway, lambda: ask(gateway, "rich", 200, prompt=f"another {next(number)}")),
        }
        found: defaultdict[str, list[float]] = defaultdict(list)
        for _process, act in rows.values():
            for _ in range(batch // 4):
                act()
        for _ in range(rounds):
            for name, (process, act) in rows.items():
                before = cpu_ms(process)
                for _ in range(batch):
                    act()
                found[name].append((cpu_ms(process) - before) / batch)
        return Table("A whole request", "ms of CPU", {name: tuple(found[name]) for name in rows})
