"""A hold that could not be marked as sent costs nothing, whatever became of the mark."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.processes import HTTP, running_gateway
from tests.server.conftest import PEPPER, WIDEST, Client, calls_of, tokens_a_day, wait_for, write_tenants
from tests.storefaults import Fault, StoreProxy
from tests.storeserver import running_server

if TYPE_CHECKING:
    from tests.processes import Running

PICTURE = 747
LEASE_S = 3


def test_a_mark_whose_answer_is_lost_is_taken_back_and_nothing_is_charged(emulator: Running) -> None:
    """One slot: a second request is admitted and waits, and the store falls silent before its turn."""
    answers: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="fg") as name:
        folder = Path(name)
        tenants = write_tenants(folder / "tenants.yaml", {"unsent": tokens_a_day(10_000_000)})
        with (
            running_server(folder / "s") as server,
            StoreProxy(folder / "p.sock", server.socket) as proxy,
            running_gateway(
                folder / "g",
                tenants_file=str(tenants.path),
                key_pepper=PEPPER,
                upstream="emulator",
                emulator_base_url=emulator.url,
                redis_url=proxy.url,
                upstream_slots_max="1",
                lease_s=str(LEASE_S),
            ) as gateway,
        ):
            client = Client(gateway.url, tenants.keys["unsent"])

            def ask(prompt: str) -> threading.Thread:
                body = {"prompt": prompt, "image_size": "512", "delivery": "uri"}
                asking = threading.Thread(target=lambda: answers.append(client.post(body).json()))
                asking.start()
                return asking

            calls = calls_of(emulator)
            first = ask("In the slot [[emulate:hold:unsent]]")
            wait_for(lambda: calls_of(emulator) == calls + 1, "the first has the slot")
            second = ask("In the queue")
            wait_for(lambda: client.budget()["held"] == 2 * WIDEST, "the second is admitted and waits")
            proxy.fault = Fault("drop", commands=("EVALSHA",))
            HTTP.post(f"{emulator.url}/emulator/release/unsent").raise_for_status()
            second.join(30)
            proxy.fault = None
            first.join(30)
            codes = sorted(answer.get("code", "served") for answer in answers)
            assert codes == ["served", "store_unavailable"]
            wait_for(lambda: client.budget()["held"] == 0, "both holds are over")
            assert client.budget()["settled"] == PICTURE
            assert calls_of(emulator) == calls + 1
