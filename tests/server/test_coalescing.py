"""Several gateways over one store: what is asked at the same moment is made once, and budgets hold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import Client, Tenants, calls_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

REPLICAS = 4


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> Iterator[list[Running]]:
    """Four processes that share a state directory, and so one embedded store."""
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        yield [stack.enter_context(running_gateway(folder, **settings)) for _ in range(REPLICAS)]


def followers(replicas: list[Running]) -> int:
    """Admissions that were told to follow, over all replicas."""
    total = 0.0
    for replica in replicas:
        for line in HTTP.get(replica.metrics_url).text.splitlines():
            if line.startswith("flashgate_admissions_total") and 'decision="follow"' in line:
                total += float(line.rsplit(" ", 1)[1])
    return int(total)


def test_50_identical_requests_in_4_processes_are_one_call_and_one_charge(
    replicas: list[Running], tenants: Tenants, emulator: Running
) -> None:
    clients = [Client(replica.url, tenants.keys["identical"]) for replica in replicas]
    body = {"prompt": "Identical [[emulate:hold:identical]]", "delivery": "uri"}
    calls, settled = calls_of(emulator), clients[0].budget()["settled"]
    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(clients[index % REPLICAS].post, body) for index in range(50)]
        wait_for(lambda: followers(replicas) >= 49, "49 requests follow the first")
        assert calls_of(emulator) - calls == 1
        HTTP.post(f"{emulator.url}/emulator/release/identical").raise_for_status()
        answers = [future.result() for future in asked]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["images"][0]["id"] for answer in answers}) == 1
    statuses = sorted(answer.json()["cache"]["status"] for answer in answers)
    assert statuses == ["coalesced"] * 49 + ["miss"]
    assert calls_of(emulator) - calls == 1
    assert clients[0].budget()["settled"] - settled == 1120
    assert sum(answer.json()["usage"]["image_tokens"] for answer in answers) == 1120


def test_of_200_different_requests_a_budget_for_37_admits_exactly_37(
    replicas: list[Running], tenants: Tenants, emulator: Running
) -> None:
    clients = [Client(replica.url, tenants.keys["thirtyseven"]) for replica in replicas]
    calls = calls_of(emulator)

    def ask(index: int) -> httpx2.Response:
        body = {"prompt": f"Picture {index}", "delivery": "uri", "aspect_ratio": "1:1"}
        while True:
            answer = clients[index % REPLICAS].post(body)
            if answer.status_code == 503:
                continue  # 40 callers who never wait may be more than a small machine bears
            if answer.status_code == 200 or "under way" not in answer.json()["detail"]:
                return answer

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(ask, range(200)))
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(200) == 37
    assert statuses.count(429) == 163
    refusal = next(answer for answer in answers if answer.status_code == 429)
    problem = refusal.json()
    assert refusal.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "budget_exceeded"
    assert problem["violated_policies"] == ["tenant-day-image_tokens"]
    assert int(refusal.headers["retry-after"]) == problem["retry_after_s"] > 0
    assert "tenant-day-image_tokens" in refusal.headers["ratelimit"]
    assert calls_of(emulator) - calls == 37
    budget = clients[0].budget()
    assert (budget["settled"], budget["held"], budget["remaining"]) == (37 * 1120, 0, 0)


def test_a_refused_leader_refuses_its_followers_for_the_same_price(
    replicas: list[Running], tenants: Tenants, emulator: Running
) -> None:
    clients = [Client(replica.url, tenants.keys["refused"]) for replica in replicas]
    body = {"prompt": "Refused [[emulate:hold:refused]] [[emulate:image-prohibited]]"}
    calls, following = calls_of(emulator), followers(replicas)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(clients[index % REPLICAS].post, body) for index in range(8)]
        wait_for(lambda: followers(replicas) - following >= 7, "seven requests follow the first")
        HTTP.post(f"{emulator.url}/emulator/release/refused").raise_for_status()
        answers = [future.result() for future in asked]
    assert {answer.status_code for answer in answers} == {422}
    assert {answer.json()["code"] for answer in answers} == {"content_blocked"}
    assert {answer.json()["upstream"]["support_code"] for answer in answers} == {"11030041"}
    assert calls_of(emulator) - calls == 1
    assert sum("usage" in answer.json() for answer in answers) == 1


def test_a_caller_who_leaves_still_pays_and_fills_the_cache(
    replicas: list[Running], tenants: Tenants, emulator: Running
) -> None:
    client = Client(replicas[0].url, tenants.keys["leaver"])
    body = {"prompt": "Left alone [[emulate:hold:leaver]]", "delivery": "uri"}
    calls = calls_of(emulator)
    with pytest.raises(httpx2.ReadTimeout):
        HTTP.post(
            f"{client.url}/v1/images:generate", json=body, headers={"X-API-Key": client.key}, timeout=1.0
        )
    wait_for(lambda: calls_of(emulator) - calls == 1, "the call has reached the upstream")
    assert client.budget()["held"] > 1120
    HTTP.post(f"{emulator.url}/emulator/release/leaver").raise_for_status()
    wait_for(lambda: client.budget()["settled"] == 1120, "the picture is paid")
    answer = client.post(body).json()
    assert answer["cache"]["status"] == "hit"
    assert answer["usage"]["output_tokens"] == 0
    assert calls_of(emulator) - calls == 1
