"""Every fault of the store against every concern (docs/reliability.md R26): who must fail, and how soon."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, running_gateway
from tests.server.conftest import Client, calls_of, wait_for
from tests.storefaults import Fault, StoreProxy
from tests.storeserver import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from tests.processes import Running
    from tests.server.conftest import Tenants

WITHIN_S = 3.0
"""A second by the gateway's own bounds; the rest is for a busy machine."""

DEAD = {
    "refused": Fault("refuse"),
    "hung": Fault("hang"),
    "stopped": None,  # the server itself, by SIGSTOP
    "loading": Fault("error", "LOADING the dataset is being loaded in memory"),
    "out of memory": Fault("error", "OOM command not allowed when used memory > 'maxmemory'."),
    "read-only": Fault("error", "READONLY You can't write against a read only replica."),
    "reset": Fault("reset"),
    "replicas missing": Fault("error", "NOREPLICAS Not enough good replicas to write."),
    "no disk": Fault("error", "MISCONF Errors writing to the AOF file: No space left on device"),
    "no quorum": Fault("error", "CLUSTERDOWN The cluster is down"),
    "slots on the move": Fault("error", "TRYAGAIN Multiple keys request during rehashing of slot"),
    "no primary": Fault("error", "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is 'no'."),
    "busy with a script": Fault("error", "BUSY Valkey is busy running a script."),
    "no rights": Fault("error", "NOPERM User default has no permissions to run the 'evalsha' command"),
}
ALIVE = {
    "slow": Fault("slow"),
    "script forgotten": Fault("error", "NOSCRIPT No matching script.", ("EVALSHA",)),
}
PICTURE_LOST = {
    "hung": Fault("hang", commands=("SET",)),
    "out of memory": Fault("error", "OOM command not allowed when used memory > 'maxmemory'.", ("SET",)),
    "read-only": Fault("error", "READONLY You can't write against a read only replica.", ("SET",)),
    "reset": Fault("reset", commands=("SET",)),
}


@dataclass(frozen=True)
class Outage:
    """A gateway whose store can be taken away."""

    client: Client
    proxy: StoreProxy
    server: ServerProcess
    metrics_url: str

    def begin(self, fault: Fault | None) -> None:
        if fault is None:
            self.server.signal(signal.SIGSTOP)
        else:
            self.proxy.fault = fault

    def end(self) -> None:
        self.server.signal(signal.SIGCONT)
        self.proxy.fault = None
        wait_for(lambda: self.client.get("/readyz").status_code == 200, "the gateway is ready again")
        wait_for(lambda: self.picture().status_code == 200, "pictures are made again")

    def picture(self, **fields: Any) -> httpx2.Response:
        body = {"prompt": f"A new one {uuid.uuid4()}", "image_size": "512", "delivery": "uri", **fields}
        return self.client.post(body)

    def conditions(self) -> dict[str, Any]:
        return dict(self.client.get("/readyz").json()["conditions"])


@pytest.fixture(scope="module")
def outage(settings: dict[str, str], tenants: Tenants) -> Iterator[Outage]:
    with tempfile.TemporaryDirectory(prefix="fg") as name:
        folder = Path(name)
        with (
            running_server(folder / "s") as server,
            StoreProxy(folder / "p.sock", server.socket) as proxy,
            running_gateway(folder / "g", **settings, redis_url=proxy.url) as gateway,
        ):
            client = Client(gateway.url, tenants.keys["pictures"])
            yield Outage(client, proxy, server, gateway.metrics_url)


def timed(answer: httpx2.Response, began: float) -> httpx2.Response:
    assert time.monotonic() - began < WITHIN_S
    return answer


@pytest.mark.parametrize("name", DEAD)
def test_without_its_store_the_gateway_refuses_to_spend_and_does_everything_else(
    name: str, outage: Outage
) -> None:
    client = outage.client
    outage.begin(DEAD[name])
    try:
        for _ in range(3):
            refused = timed(outage.picture(), time.monotonic())
            assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
            assert int(refused.headers["retry-after"]) >= 1
        for path in (f"/v1/generations/gen_{'0' * 24}", f"/v1/operations/op_{'0' * 24}"):
            began = time.monotonic()
            unknown = timed(client.get(path), began)
            assert (unknown.status_code, unknown.json()["code"]) == (503, "store_unavailable"), path
        began = time.monotonic()
        deferred = timed(client.post({"prompt": "Later"}, Prefer="respond-async"), began)
        assert (deferred.status_code, deferred.json()["code"]) == (503, "store_unavailable")
        began = time.monotonic()
        continued = timed(outage.picture(continue_from=f"gen_{'0' * 24}"), began)
        assert (continued.status_code, continued.json()["code"]) == (503, "store_unavailable")
        began = time.monotonic()
        assert Client(client.url, "fg_test_wrong").get("/v1/models").status_code == 401
        assert timed(client.get("/v1/models"), began).status_code == 200, "a key needs no store"
        invalid = timed(outage.picture(aspect_ratio="7:3"), time.monotonic())
        assert invalid.status_code == 422
        assert timed(HTTP.get(f"{client.url}/livez"), time.monotonic()).status_code == 200
        metrics = timed(HTTP.get(outage.metrics_url), time.monotonic())
        assert 'flashgate_store_commands_total{command="admit",outcome="store_unavailable"}' in metrics.text
        ready = timed(HTTP.get(f"{client.url}/readyz"), time.monotonic())
        assert ready.status_code == 503
        assert ready.json()["checks"]["store"] != "ok"
    finally:
        outage.end()


@pytest.mark.parametrize("name", ALIVE)
def test_a_store_that_answers_somehow_is_good_enough(name: str, outage: Outage) -> None:
    outage.begin(ALIVE[name])
    try:
        assert outage.picture().status_code == 200
        assert HTTP.get(f"{outage.client.url}/readyz").status_code == 200
    finally:
        outage.end()


@pytest.mark.parametrize("name", PICTURE_LOST)
def test_a_picture_that_the_cache_does_not_take_is_delivered_and_paid(name: str, outage: Outage) -> None:
    before = outage.client.budget()["settled"]
    outage.begin(PICTURE_LOST[name])
    try:
        answer = timed(outage.picture(delivery="inline"), time.monotonic())
        assert answer.status_code == 200, answer.text
        assert answer.json()["images"][0]["data"]
        assert "image_not_kept" in [warning["code"] for warning in answer.json()["warnings"]]
        assert outage.client.budget()["settled"] - before == 747
    finally:
        outage.end()


@pytest.mark.parametrize("name", ["refused", "hung", "loading", "read-only", "reset"])
def test_a_caller_is_given_its_picture_although_nobody_can_book_it_yet(
    name: str, outage: Outage, emulator: Running
) -> None:
    """The store goes while the picture is drawn; the settlement is booked when it is back."""
    before = outage.client.budget()["settled"]
    gate, calls = uuid.uuid4().hex[:8], calls_of(emulator)
    answers: list[httpx2.Response] = []
    asking = threading.Thread(
        target=lambda: answers.append(outage.picture(prompt=f"Late [[emulate:hold:{gate}]]"))
    )
    asking.start()
    wait_for(lambda: calls_of(emulator) > calls, "the call has reached the upstream")
    outage.begin(DEAD[name])
    try:
        HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
        asking.join(20)
        assert answers[0].status_code == 200, answers[0].text
        assert outage.conditions()["settlements_waiting"] == 1
    finally:
        outage.end()
    wait_for(lambda: outage.conditions()["settlements_waiting"] == 0, "it is booked")
    made_meanwhile = 747  # by ``end``, to see that pictures are made again
    assert outage.client.budget()["settled"] - before == 747 + made_meanwhile


def test_a_store_that_is_away_for_long_is_asked_now_and_then(outage: Outage) -> None:
    for _ in range(6):
        outage.begin(Fault("error", "LOADING the dataset is being loaded in memory"))
        assert outage.picture().status_code == 503
    wait_for(lambda: outage.conditions()["store_breaker"] != "closed", "the breaker has opened")
    began, asked = time.monotonic(), outage.proxy.commands
    while time.monotonic() - began < 1.5:
        assert outage.picture().status_code == 503
    probes = outage.proxy.commands - asked
    outage.end()
    assert probes <= 40, "a probe each half second, the subscription, and the readiness checks"
    assert outage.conditions()["store_breaker"] == "closed"


def test_with_a_grace_pictures_are_drawn_without_the_store_and_booked_later(
    settings: dict[str, str], tenants: Tenants
) -> None:
    with tempfile.TemporaryDirectory(prefix="fg") as name:
        folder = Path(name)
        with (
            running_server(folder / "s") as server,
            running_gateway(
                folder / "g", **settings, redis_url=server.url, store_grace_tokens="2500"
            ) as gateway,
        ):
            client = Client(gateway.url, tenants.keys["pictures"])
            outage = Outage(client, None, server, gateway.metrics_url)  # type: ignore[arg-type]
            server.kill()
            answers = [outage.picture() for _ in range(2)]
            assert [answer.status_code for answer in answers] == [200, 503], "one of 747 and words, not two"
            assert "image_not_kept" in {each["code"] for each in answers[0].json()["warnings"]}
            server.start()
            wait_for(lambda: outage.conditions()["settlements_waiting"] == 0, "it is booked")
            assert outage.client.budget()["settled"] == 747
