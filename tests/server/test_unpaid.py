"""What is refused before it costs anything leaves nothing in the store, however often it is sent."""

from __future__ import annotations

import secrets
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.processes import HTTP, running_gateway
from tests.server.conftest import PEPPER, Client, calls_of, tokens_a_day, wait_for, write_tenants
from tests.storeserver import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from tests.processes import Running

MODEL = "gemini-3.1-flash-image"
TIMES = 1000
WRITES = frozenset({
    "append", "del", "expire", "hdel", "hincrby", "hset", "incr", "incrby", "pexpire", "rpush", "set",
    "setex", "unlink", "xadd", "zadd", "zrem",
})  # fmt: skip


class Door:
    """A gateway on a store of its own."""

    def __init__(self, client: redis.Redis, url: str, keys: dict[str, str]) -> None:
        self.client = client
        self.url = url
        self.keys = keys

    def kept(self, tenant: str) -> dict[Any, Any]:
        """The contents of each of the tenant's keys."""
        names = self.client.scan_iter(f"fg:{{{tenant}}}:*", 1000)
        return {name: self.client.dump(name) for name in names}

    def writes(self) -> Counter[str]:
        """How often each command that changes something was called, by scripts too."""
        stats: Any = self.client.info("commandstats")
        names = {name: name.removeprefix("cmdstat_") for name in stats}
        return Counter({name: stats[key]["calls"] for key, name in names.items() if name in WRITES})

    def send(self, surface: str, tenant: str, body: dict[str, Any], **headers: str) -> httpx2.Response:
        """A request for a new picture, with more members and headers."""
        key, prompt = self.keys[tenant], secrets.token_hex(8)
        routes: dict[str, tuple[str, dict[str, Any]]] = {
            "native": ("/v1/images:generate", {"prompt": prompt}),
            "openai": ("/openai/v1/images/generations", {"prompt": prompt}),
            "gemini": (
                f"/gemini/v1beta/models/{MODEL}:generateContent",
                {"contents": [{"parts": [{"text": prompt}]}]},
            ),
        }
        path, own = routes[surface]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named |= {"Authorization": f"Bearer {key}", "x-goog-api-key": key}
        return HTTP.post(f"{self.url}{path}", json={**own, **body}, headers=named, timeout=60)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, emulator: Running) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("u")
    budgets = {"rich": tokens_a_day(1_000_000), "poor": tokens_a_day(1), "slow": tokens_a_day(1_000_000)}
    budgets["once"] = tokens_a_day(747)
    more = {"slow": {"rate": {"requests_per_minute": 1, "burst": 1}}}
    tenants = write_tenants(folder / "tenants.yaml", budgets, more)
    settings = {
        "tenants_file": str(tenants.path),
        "key_pepper": PEPPER,
        "upstream": "emulator",
        "emulator_base_url": emulator.url,
    }
    with (
        running_server(folder / "s", "--appendonly", "no") as server,
        running_gateway(folder / "g", **settings, redis_url=server.url) as gateway,
        redis.Redis(unix_socket_path=str(server.socket)) as client,
    ):
        yield Door(client, gateway.url, tenants.keys)


REFUSALS: list[tuple[str, dict[str, Any], dict[str, str], set[int]]] = [
    ("rich", {}, {"X_Request_Timeout": "5"}, {504}),
    ("rich", {}, {"X_Request_Timeout": "5", "Idempotency_Key": "a"}, {504}),
    (
        "rich",
        {"model": "unknown", "image_size": "9K", "generationConfig": {"topK": "x"}},
        {},
        {400, 404, 422},
    ),
    ("rich", {}, {"Cache_Control": "only-if-cached"}, {504}),
    ("poor", {}, {}, {402, 403, 429}),
    ("poor", {}, {"Idempotency_Key": "b"}, {402, 403, 429}),
]


@pytest.mark.parametrize("surface", ["native", "openai", "gemini"])
def test_refusals_leave_nothing_in_the_store(door: Door, emulator: Running, surface: str) -> None:
    def send(number: int) -> bool:
        tenant, body, headers, statuses = REFUSALS[number % len(REFUSALS)]
        return door.send(surface, tenant, body, **headers).status_code in statuses

    assert all(send(number) for number in range(len(REFUSALS))), (
        "scripts and identities are known from now on"
    )
    calls, before, kept = calls_of(emulator), door.writes(), [door.kept("rich"), door.kept("poor")]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(send, range(TIMES)))
    assert door.writes() - before == Counter()
    assert [door.kept("rich"), door.kept("poor")] == kept
    assert calls_of(emulator) == calls


@pytest.mark.parametrize(
    ("tenant", "headers", "status"),
    [
        ("poor", {}, 429),
        ("poor", {"Idempotency_Key": "c"}, 429),
        ("slow", {}, 429),
        ("rich", {"X_Request_Timeout": "5"}, 504),
        ("rich", {"Cache_Control": "only-if-cached"}, 504),
    ],
    ids=["budget", "idempotency key", "rate", "timeout", "cache"],
)
def test_an_operation_that_would_be_refused_is_refused_at_once_and_leaves_nothing(
    door: Door, tenant: str, headers: dict[str, str], status: int
) -> None:
    if tenant == "slow":
        assert door.send("native", tenant, {"image_size": "512"}).status_code == 200
        wait_for(lambda: Client(door.url, door.keys[tenant]).budget()["held"] == 0, "it is settled")
    kept = door.kept(tenant)
    for _ in range(20):
        answer = door.send("native", tenant, {}, Prefer="respond-async", **headers)
        assert answer.status_code == status, answer.text
        assert "location" not in answer.headers
        assert "ratelimit" in answer.headers
    assert door.kept(tenant) == kept


def test_an_operation_is_found_under_its_key_when_the_budget_is_spent(door: Door) -> None:
    client = Client(door.url, door.keys["once"])
    headers = {"Prefer": "respond-async", "Idempotency_Key": "again"}
    body = {"prompt": "A fox", "image_size": "512"}
    first = client.post(body, **headers)
    assert first.status_code == 202
    wait_for(lambda: client.get(first.headers["location"]).json()["state"] == "done", "it is made")
    other = client.post({**body, "prompt": "A hare"}, Prefer="respond-async")
    assert other.status_code == 429, "the budget is spent"
    again = client.post(body, **headers)
    assert (again.status_code, again.headers["location"]) == (202, first.headers["location"])
