"""A store that is killed under traffic: its absence is always 503, and what was drawn reaches its caller."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.processes import HTTP, running_gateway
from tests.server.conftest import Client, calls_of, wait_for
from tests.storeserver import running_server

if TYPE_CHECKING:
    import httpx2

    from tests.processes import Running
    from tests.server.conftest import Tenants

KILLS = 6
CALLERS = 12


def traffic(client: Client, made: list[httpx2.Response]) -> list[tuple[str, httpx2.Response]]:
    """One round of everything that asks the store, on every surface."""
    body: dict[str, Any] = {"prompt": f"A new one {uuid.uuid4()}", "image_size": "512", "delivery": "inline"}
    picture = client.post(body, Idempotency_Key=uuid.uuid4().hex)
    made.append(picture)
    unknown_picture, unknown = f"img_{'0' * 64}", "0" * 24
    paths = (
        "/v1/usage",
        "/v1/models",
        f"/v1/images/{unknown_picture}",
        f"/v1/generations/gen_{unknown}",
        f"/v1/operations/op_{unknown}",
    )
    return [("generate", picture), *((path, client.get(path)) for path in paths)]


def test_a_store_that_is_killed_under_traffic_is_503_and_costs_nobody_a_picture(
    settings: dict[str, str], tenants: Tenants, emulator: Running
) -> None:
    with tempfile.TemporaryDirectory(prefix="fg") as name:
        folder = Path(name)
        with (
            running_server(folder / "s") as server,
            running_gateway(folder / "g", **settings, redis_url=server.url) as gateway,
        ):
            client = Client(gateway.url, tenants.keys["pictures"])
            before = calls_of(emulator)
            stop = threading.Event()
            made: list[httpx2.Response] = []

            def ask() -> Counter[tuple[str, int, str]]:
                seen: Counter[tuple[str, int, str]] = Counter()
                while not stop.is_set():
                    for path, answer in traffic(client, made):
                        code = "" if answer.status_code < 400 else answer.json()["code"]
                        seen[(path, answer.status_code, code)] += 1
                return seen

            with ThreadPoolExecutor(CALLERS) as pool:
                asking = [pool.submit(ask) for _ in range(CALLERS)]
                for _ in range(KILLS):
                    more = len(made) + CALLERS
                    wait_for(lambda more=more: len(made) > more, "pictures are made")  # type: ignore[misc]
                    server.kill()
                    time.sleep(0.3)
                    server.start()
                    wait_for(lambda: HTTP.get(f"{client.url}/readyz").status_code == 200, "it is ready")
                stop.set()
            seen = sum((each.result() for each in asking), Counter())
            faults = {found for found in seen if found[1] >= 500 and found[2] != "store_unavailable"}
            assert not faults
            drawn = [each for each in made if each.status_code == 200]
            assert calls_of(emulator) - before == len(drawn)
