"""More work than slots, through the whole service: fair, by class, and free for who is turned away."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER, Client, Tenants, tokens_a_day, wait_for, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx2

SLOTS = {
    "upstream_slots_max": "2",
    "upstream_slots_queue_max": "4",
    "upstream_slots_queue_s": "60",
    "lease_s": "90",
}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    names = ("noisy", "quiet", "calm", "batch", "urgent")
    more = {"batch": {"priority": "batch"}, "urgent": {"priority": "critical"}}
    return write_tenants(
        tmp_path_factory.mktemp("crowd") / "tenants.yaml", dict.fromkeys(names, tokens_a_day(10**6)), more
    )


@pytest.fixture(scope="module")
def narrow(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str], crowd: Tenants
) -> Iterator[Running]:
    """A gateway with two slots and four places in its queue."""
    folder = tmp_path_factory.mktemp("narrow")
    with running_gateway(folder, **(settings | SLOTS | {"tenants_file": str(crowd.path)})) as process:
        yield process


@dataclass
class Caller:
    """A tenant whose pictures each wait at a gate of their own in the emulator."""

    name: str
    client: Client
    emulator: Running
    pool: ThreadPoolExecutor

    def asks(self, gate: str | None = None) -> Future[httpx2.Response]:
        words = f"{self.name} {gate} [[emulate:hold:{gate}]]" if gate else f"{self.name} at once"
        body = {"prompt": words, "image_size": "512", "delivery": "uri"}
        return self.pool.submit(self.client.post, body, Cache_Control="no-store")

    def opens(self, gate: str) -> None:
        HTTP.post(f"{self.emulator.url}/emulator/release/{gate}").raise_for_status()


@pytest.fixture
def callers(narrow: Running, crowd: Tenants, emulator: Running) -> Iterator[dict[str, Caller]]:
    with ThreadPoolExecutor(20) as pool:
        yield {
            name: Caller(name, Client(narrow.url, key), emulator, pool) for name, key in crowd.keys.items()
        }


def gauge(gateway: Running, name: str, **labels: str) -> float:
    """The sum of a metric's series with these labels."""
    total = 0.0
    for line in HTTP.get(gateway.metrics_url).text.splitlines():
        if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            total += float(line.rsplit(" ", 1)[1])
    return total


def waiting(gateway: Running, count: int) -> None:
    wait_for(lambda: gauge(gateway, "flashgate_upstream_queue") == count, f"{count} calls wait")


def refused(answer: httpx2.Response) -> dict[str, Any]:
    """What a call that was turned away is told."""
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1
    assert "usage" not in answer.json()
    return dict(answer.json())


def test_a_noisy_tenant_is_turned_away_before_it_keeps_the_quiet_ones_waiting(
    narrow: Running, callers: dict[str, Caller]
) -> None:
    noisy, quiet, calm = callers["noisy"], callers["quiet"], callers["calm"]
    under_way = [noisy.asks(f"noisy-{number}") for number in range(2)]
    wait_for(lambda: gauge(narrow, "flashgate_upstream_slots", slots="used") == 2, "both slots are taken")
    queued = []
    for number in range(2, 6):
        queued.append(noisy.asks(f"noisy-{number}"))
        waiting(narrow, len(queued))
    refused(noisy.asks("noisy-6").result())
    first = quiet.asks()
    refused(queued.pop().result())
    second = calm.asks()
    refused(queued.pop().result())
    assert not first.done()
    assert not second.done()
    noisy.opens("noisy-0")
    assert [first.result().status_code, second.result().status_code] == [200, 200]
    assert not any(call.done() for call in queued), "the noisy tenant's own calls come after theirs"
    for number in range(1, 6):
        noisy.opens(f"noisy-{number}")
    assert {call.result().status_code for call in (*under_way, *queued)} == {200}
    budget = noisy.client.budget()
    assert (budget["settled"], budget["held"]) == (4 * 747, 0)
    assert gauge(narrow, "flashgate_upstream_shed_total", priority="interactive", reason="full") == 3


def test_batch_is_shed_first_and_critical_goes_first(narrow: Running, callers: dict[str, Caller]) -> None:
    noisy, batch, urgent = callers["noisy"], callers["batch"], callers["urgent"]
    under_way = [noisy.asks(f"class-{number}") for number in range(2)]
    wait_for(lambda: gauge(narrow, "flashgate_upstream_slots", slots="used") == 2, "both slots are taken")
    later = [batch.asks(f"later-{number}") for number in range(4)]
    waiting(narrow, 4)
    now = [urgent.asks("now-0"), urgent.asks("now-1")]
    wait_for(lambda: sum(call.done() for call in later) == 2, "two batch calls are shed")
    for call in later:
        if call.done():
            refused(call.result())
    for number in range(2):
        noisy.opens(f"class-{number}")
    for number in range(2):
        urgent.opens(f"now-{number}")
    assert {call.result().status_code for call in (*under_way, *now)} == {200}
    for number in range(4):
        batch.opens(f"later-{number}")
    assert sorted(call.result().status_code for call in later) == [200, 200, 503, 503]
    budget = batch.client.budget()
    assert (budget["settled"], budget["held"]) == (2 * 747, 0)


def test_calls_that_wait_when_the_process_dies_cost_nothing(
    tmp_path: Path, settings: dict[str, str], emulator: Running
) -> None:
    tenants = write_tenants(tmp_path / "tenants.yaml", {"dying": tokens_a_day(10**6)})
    own = settings | SLOTS | {"tenants_file": str(tenants.path), "key_pepper": PEPPER, "lease_s": "3"}
    own["upstream_slots_queue_s"] = "2"
    with ThreadPoolExecutor(5) as pool, running_gateway(tmp_path, **own) as process:
        client = Client(process.url, tenants.keys["dying"])
        caller = Caller("dying", client, emulator, pool)
        sent = [caller.asks("dying") for _ in range(2)]
        wait_for(lambda: gauge(process, "flashgate_upstream_slots", slots="used") == 2, "two are sent")
        unsent = [caller.asks("dying") for _ in range(3)]
        waiting(process, 3)
        process.kill()
        for call in (*sent, *unsent):
            assert call.exception() is not None
        caller.opens("dying")
    with running_gateway(tmp_path, **own) as process:
        client = Client(process.url, tenants.keys["dying"])
        wait_for(lambda: client.budget()["held"] == 0, "every hold has run out")
        assert client.budget()["settled"] == 2 * 747
