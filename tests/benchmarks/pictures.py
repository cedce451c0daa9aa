"""What a 4K picture costs by the store of its bytes: CPU and memory of the gateway, and memory of Redis."""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from app.store.embedded import EmbeddedStore
from tests.benchmarks.requests import cpu_ms
from tests.benchmarks.table import Table
from tests.pictures import servers
from tests.processes import HTTP, Running, running_emulator, running_gateway
from tests.server.conftest import PEPPER, tokens_a_day, write_tenants

READERS = 64
BUCKET = "pictures"


def resident_mb(process: Running) -> float:
    """The most memory that the process has ever had, in MB."""
    status = Path(f"/proc/{process.process.pid}/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


class Caller:
    """A caller of one gateway, and its Redis server."""

    def __init__(self, gateway: Running, folder: Path, key: str) -> None:
        self.gateway = gateway
        self._store = redis.Redis(unix_socket_path=str(EmbeddedStore(folder / "state").socket))
        self._headers = {"X-API-Key": key}

    def draw(self, prompt: str, delivery: str = "uri") -> dict[str, Any]:
        body = {"prompt": prompt, "image_size": "4K", "delivery": delivery}
        answer = HTTP.post(f"{self.gateway.url}/v1/images:generate", json=body, headers=self._headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def load(self, image_id: str) -> int:
        answer = HTTP.get(f"{self.gateway.url}/v1/images/{image_id}", headers=self._headers)
        assert answer.status_code == 200, answer.text
        return len(answer.content)

    def redis_kb(self) -> float:
        info: Any = self._store.info("memory")
        return float(info["used_memory_dataset"]) / 1000


def pictures(folder: Path, rounds: int, batch: int) -> list[Table]:
    """Tables by store: ms of CPU of a miss, a hit and a read, MB of memory, KB of Redis."""
    folder.mkdir()
    with ExitStack() as stack:
        emulator = stack.enter_context(running_emulator(folder / "e"))
        known = write_tenants(folder / "t.yaml", {"rich": tokens_a_day(10**12)})
        urls = {"redis": "redis:", "file": "file:"}
        if servers.find_seaweed() is not None:
            (folder / "s3").mkdir()
            os.environ.update(stack.enter_context(servers.running_s3(folder / "s3", BUCKET)))
            urls["bucket"] = f"s3://{BUCKET}/bench"
        callers = {}
        for name, url in urls.items():
            settings = {"tenants_file": str(known.path), "key_pepper": PEPPER, "upstream": "emulator"}
            settings |= {"emulator_base_url": emulator.url, "pictures_url": url}
            gateway = stack.enter_context(running_gateway(folder / name, **settings))
            callers[name] = Caller(gateway, folder / name, known.keys["rich"])
        costs: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for caller in callers.values():
            caller.draw("warm")
        for number in range(rounds):
            for name, caller in callers.items():
                before, stored = cpu_ms(caller.gateway), caller.redis_kb()
                for each in range(batch):
                    made = caller.draw(f"{number} {each}")
                costs["miss"][name].append((cpu_ms(caller.gateway) - before) / batch)
                costs["redis"][name].append((caller.redis_kb() - stored) / batch)
                before = cpu_ms(caller.gateway)
                for _ in range(batch):
                    caller.draw(f"{number} {batch - 1}", "inline")
                costs["hit"][name].append((cpu_ms(caller.gateway) - before) / batch)
                before = cpu_ms(caller.gateway)
                for _ in range(batch):
                    length = caller.load(made["images"][0]["id"])
                costs["read"][name].append((cpu_ms(caller.gateway) - before) / batch)
        with ThreadPoolExecutor(READERS) as threads:
            for name, caller in callers.items():
                before = resident_mb(caller.gateway)
                list(threads.map(caller.load, [made_image(caller)] * READERS))
                costs["memory"][name].append(resident_mb(caller.gateway) - before)
    titles = {
        "miss": ("A 4K miss", "ms of CPU"),
        "hit": ("A 4K hit, inline", "ms of CPU"),
        "read": (f"Reading it, {length / 1e6:.1f} MB", "ms of CPU"),
        "memory": (f"{READERS} readers of it at once", "MB more"),
        "redis": ("Redis for one picture", "kB"),
    }
    return [
        Table(*title, {name: tuple(values) for name, values in costs[kind].items()})
        for kind, title in titles.items()
    ]


def made_image(caller: Caller) -> str:
    """The id of a picture that is stored."""
    return str(caller.draw("warm")["images"][0]["id"])
