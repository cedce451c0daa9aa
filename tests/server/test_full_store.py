"""A store without room: what was paid is not paid again, and no tenant keeps another from being served."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER, Client, Tenants, calls_of, tokens_a_day, wait_for, write_tenants
from tests.storeserver import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

VOLATILE = ("volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")
POLICIES = (*VOLATILE, "noeviction")
MEMORY = 24_000_000
PICTURE = 100_000


class Store:
    """A small store that nothing else uses, and a gateway on it."""

    def __init__(self, client: redis.Redis, gateway: Running, tenants: Tenants) -> None:
        self.client = client
        self.gateway = gateway
        self.tenants = tenants

    def caller(self, tenant: str) -> Client:
        return Client(self.gateway.url, self.tenants.keys[tenant])

    def under(self, policy: str) -> None:
        """Empty the cache, and let the store evict in another way from now on.

        Deleted, not unlinked: memory that is freed in the background still counts and causes evictions.
        """
        for name in self.client.scan_iter("fg:*", 1000):
            if self.client.pttl(name) > 0:
                self.client.delete(name)
        self.client.config_set("maxmemory-policy", policy)

    def forget(self, tenant: str) -> None:
        """All that may be evicted of a tenant is."""
        for name in self.client.scan_iter(f"fg:{{{tenant}}}:*", 1000):
            if self.client.pttl(name) > 0:
                self.client.delete(name)

    def fill(self, tenant: str = "bob") -> None:
        """Another tenant's pictures, more than the store holds; they would outlive whatever was paid."""
        for _ in range(2 * MEMORY // PICTURE):
            try:
                self.client.set(
                    f"fg:{{{tenant}}}:img:{secrets.token_hex(8)}", secrets.token_bytes(PICTURE), ex=200_000
                )
            except redis.ResponseError:  # it evicts nothing
                return

    def relax(self, tenant: str = "bob") -> None:
        """Some of them end, so that nothing more need be evicted for a while."""
        for name in list(self.client.scan_iter(f"fg:{{{tenant}}}:img:*", 1000))[:20]:
            self.client.delete(name)


def native(caller: Client, prompt: str, key: str) -> httpx2.Response:
    body = {"prompt": prompt, "delivery": "uri", "image_size": "512"}
    return caller.post(body, idempotency_key=key)


def openai(caller: Client, prompt: str, key: str) -> httpx2.Response:
    body = {"prompt": prompt, "model": "gemini-3.1-flash-image", "size": "512x512"}
    return posted(caller, "/openai/v1/images/generations", body, key)


def gemini(
    caller: Client, prompt: str, key: str, config: dict[str, Any] | None = None, **headers: str
) -> httpx2.Response:
    body = {"contents": [{"parts": [{"text": prompt}]}], "generationConfig": config or {}}
    return posted(
        caller, "/gemini/v1beta/models/gemini-3.1-flash-image:generateContent", body, key, **headers
    )


def posted(caller: Client, path: str, body: dict[str, Any], key: str, **more: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {caller.key}", "x-goog-api-key": caller.key, "Idempotency-Key": key}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    return HTTP.post(f"{caller.url}{path}", json=body, headers=headers, timeout=60)


DIALECTS = {"native": native, "openai": openai, "gemini": gemini}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, emulator: Running) -> Iterator[Store]:
    names = [*(f"alice-{policy}" for policy in POLICIES), "gone", "sharing", "patient", "greedy"]
    names += [f"waiter-{policy}" for policy in VOLATILE]
    names += [f"crowd-{dialect}" for dialect in DIALECTS]
    folder = tmp_path_factory.mktemp("f")
    tenants = write_tenants(folder / "tenants.yaml", dict.fromkeys(names, tokens_a_day(1_000_000)))
    options = ("--maxmemory", str(MEMORY), "--appendonly", "no")
    settings = {
        "tenants_file": str(tenants.path),
        "key_pepper": PEPPER,
        "upstream": "emulator",
        "emulator_base_url": emulator.url,
        "idempotency_keys_max": "12",
        "operations_kept_max": "12",
    }
    with (
        running_server(folder / "s", *options) as server,
        redis.Redis(unix_socket_path=str(server.socket)) as client,
        running_gateway(folder / "g", **settings, redis_url=server.url) as gateway,
    ):
        yield Store(client, gateway, tenants)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_was_paid_under_a_key_is_not_paid_again_whatever_is_evicted(
    store: Store, emulator: Running, policy: str
) -> None:
    store.under(policy)
    alice = store.caller(f"alice-{policy}")
    asked: list[tuple[dict[str, Any], str]] = [
        (
            {"prompt": f"Paid {secrets.token_hex(4)}", "delivery": "uri", "image_size": "512"},
            secrets.token_hex(8),
        )
        for _ in range(10)
    ]
    paid = [alice.post(body, idempotency_key=key) for body, key in asked]
    assert [answer.status_code for answer in paid] == [200] * 10
    store.fill()
    calls, settled = calls_of(emulator), alice.budget()["settled"]
    for first, (body, key) in zip(paid, asked, strict=True):
        again = alice.post(body, idempotency_key=key)
        assert again.headers["idempotency-replayed"] == "true"
        if again.status_code == 200:
            assert again.json()["images"] == first.json()["images"]
            continue
        problem, usage = again.json(), first.json()["usage"]
        assert (again.status_code, problem["code"]) == (410, "result_gone")
        assert first.json()["id"] in problem["detail"]
        assert "new key" in problem["detail"]
        assert problem["usage"] == {
            name: usage[name]
            for name in ("input_tokens", "output_tokens", "image_tokens", "estimated", "cost_usd")
        }
    assert calls_of(emulator) == calls
    assert alice.budget()["settled"] == settled == 10 * 747


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_result_that_is_gone_tells_what_it_had_cost(store: Store, emulator: Running, dialect: str) -> None:
    store.under("volatile-lfu")
    ask, caller = DIALECTS[dialect], store.caller("gone")
    prompt, key = f"Gone {secrets.token_hex(4)}", secrets.token_hex(8)
    assert ask(caller, prompt, key).status_code == 200
    store.forget("gone")
    calls = calls_of(emulator)
    gone = [ask(caller, prompt, key) for _ in range(2)]
    assert calls_of(emulator) == calls
    answer = gone[-1]
    assert answer.headers["idempotency-replayed"] == "true"
    if dialect == "gemini":
        error = answer.json()["error"]
        info = error["details"][-1]
        assert (answer.status_code, info["reason"]) == (404, "RESULT_GONE")
        assert int(info["metadata"]["outputTokens"]) > 1000
        assert float(info["metadata"]["costUsd"]) > 0.06
        detail = error["message"]
    else:
        body = answer.json() if dialect == "native" else answer.json()["error"]
        assert (answer.status_code, body["code"]) == (410, "result_gone")
        assert body["usage"]["output_tokens"] > 500
        assert body["usage"]["cost_usd"] > 0.04
        detail = body["detail" if dialect == "native" else "message"]
    assert "new key" in detail
    assert ask(caller, prompt, secrets.token_hex(8)).status_code == 200, "a new key pays again"
    assert calls_of(emulator) == calls + 1


@pytest.mark.parametrize("kept", ["gen", "made"])
@pytest.mark.parametrize(
    "config", [{}, {"thinkingConfig": {"includeThoughts": True}}], ids=["ours", "googles"]
)
def test_a_key_is_answered_in_googles_own_words_from_either_copy(
    store: Store, emulator: Running, kept: str, config: dict[str, Any]
) -> None:
    store.under("volatile-lfu")
    caller, prompt, key = store.caller("gone"), f"Twice {secrets.token_hex(4)}", secrets.token_hex(8)
    first = gemini(caller, prompt, key, config, Cache_Control="max-age=600")
    assert first.status_code == 200
    other = {"gen": "made", "made": "gen"}[kept]
    for name in store.client.scan_iter(f"fg:{{gone}}:{other}:*", 1000):
        store.client.delete(name)
    calls = calls_of(emulator)
    again = gemini(caller, prompt, key, config, Cache_Control="max-age=600")
    assert (again.status_code, again.content) == (200, first.content)
    assert calls_of(emulator) == calls


@pytest.mark.parametrize("dialect", DIALECTS)
def test_more_keys_than_a_tenant_may_use_are_refused_by_name(
    store: Store, emulator: Running, dialect: str
) -> None:
    store.under("volatile-lfu")
    ask, caller, prompt = DIALECTS[dialect], store.caller(f"crowd-{dialect}"), f"Crowd {dialect}"
    answers = [ask(caller, prompt, f"key-{number}") for number in range(13)]
    assert [answer.status_code for answer in answers[:-1]] == [200] * 12
    calls, refused = calls_of(emulator), answers[-1]
    assert refused.status_code == 429
    assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
    said = refused.json()
    told = {
        "native": lambda: (said["code"], said["detail"]),
        "openai": lambda: (said["error"]["code"], said["error"]["message"]),
        "gemini": lambda: (said["error"]["details"][-1]["reason"].lower(), said["error"]["message"]),
    }[dialect]()
    assert told[0] == "too_many_idempotency_keys"
    assert "12 idempotency keys" in told[1]
    assert ask(caller, prompt, "key-0").headers["idempotency-replayed"] == "true"
    assert caller.post({"prompt": prompt, "image_size": "512"}).status_code == 200, "without a key"
    assert calls_of(emulator) - calls <= 1


@pytest.mark.parametrize("policy", VOLATILE)
def test_equal_work_in_flight_is_shared_whatever_is_evicted(
    store: Store, emulator: Running, policy: str
) -> None:
    store.under(policy)
    caller, gate, calls = store.caller("sharing"), secrets.token_hex(4), calls_of(emulator)
    body = {"prompt": f"Shared [[emulate:hold:{gate}]]", "delivery": "uri", "image_size": "512"}
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(caller.post, body)
        wait_for(lambda: calls_of(emulator) == calls + 1, "the first is being drawn")
        store.fill()
        store.relax()
        second = pool.submit(caller.post, body)
        wait_for(lambda: calls_of(emulator) > calls + 1 or waiting(store) == 1, "the second waits")
        HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
        answers = [first.result(), second.result()]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert calls_of(emulator) == calls + 1
    assert answers[0].json()["id"] == answers[1].json()["id"]


def waiting(store: Store) -> int:
    """How many callers wait for somebody else's picture."""
    lines = HTTP.get(store.gateway.metrics_url).text.splitlines()
    found = [line for line in lines if line.startswith("flashgate_in_flight") and 'waiting"' in line]
    return int(float(found[0].rpartition(" ")[2])) if found else 0


def begun(caller: Client, prompt: str, **headers: str) -> httpx2.Response:
    body = {"prompt": prompt, "image_size": "512"}
    return caller.post(body, Prefer="respond-async", **headers)


def ended(caller: Client, address: str) -> dict[str, Any]:
    """The operation once it has ended."""
    seen: list[httpx2.Response] = []

    def is_over() -> bool:
        seen.append(caller.get(address))
        return seen[-1].json().get("state") not in {"waiting", "running"}

    wait_for(is_over, "the operation ends")
    assert seen[-1].status_code == 200, seen[-1].text
    return dict(seen[-1].json())


@pytest.mark.parametrize("policy", VOLATILE)
def test_a_paid_operation_is_found_whatever_is_evicted(store: Store, emulator: Running, policy: str) -> None:
    store.under(policy)
    caller = store.caller(f"waiter-{policy}")
    asked = [(f"Waited {secrets.token_hex(4)}", secrets.token_hex(8)) for _ in range(5)]
    places = [begun(caller, prompt, Idempotency_Key=key).headers["location"] for prompt, key in asked]
    done = [ended(caller, place) for place in places]
    assert {operation["state"] for operation in done} == {"done"}
    store.fill()
    calls = calls_of(emulator)
    for place, before, (prompt, key) in zip(places, done, asked, strict=True):
        for answer in (caller.get(place), begun(caller, prompt, Idempotency_Key=key)):
            if answer.status_code == 410:
                assert answer.json()["usage"]["cost_usd"] == before["result"]["usage"]["cost_usd"]
            else:
                assert answer.json()["result"]["images"] == before["result"]["images"]
    assert calls_of(emulator) == calls


def test_an_operation_without_its_text_is_told_from_its_generation_or_with_its_cost(store: Store) -> None:
    store.under("volatile-lfu")
    caller = store.caller("patient")
    place = begun(caller, f"Patience {secrets.token_hex(4)}").headers["location"]
    done = ended(caller, place)
    for name in store.client.scan_iter("fg:{patient}:op:*", 1000):
        store.client.delete(name)
    again = caller.get(place).json()
    for name in ("id", "images", "text", "effective", "usage"):
        assert again["result"][name] == done["result"][name]
    assert (again["state"], again["problem"], again["created_at"]) == ("done", None, done["created_at"])
    store.forget("patient")
    gone = caller.get(place)
    assert (gone.status_code, gone.json()["code"]) == (410, "result_gone")
    assert done["result"]["id"] in gone.json()["detail"]
    assert gone.json()["usage"]["cost_usd"] == done["result"]["usage"]["cost_usd"] > 0


def test_more_operations_than_a_tenant_may_have_are_refused_by_name(store: Store) -> None:
    store.under("volatile-lfu")
    caller, prompt = store.caller("patient"), f"Many {secrets.token_hex(4)}"
    refused: list[httpx2.Response] = []

    def is_full() -> bool:
        answer = begun(caller, prompt)
        refused.extend([answer] if answer.status_code == 429 else [])
        return bool(refused)

    wait_for(is_full, "the tenant has as many as it may")
    assert refused[0].json()["code"] == "too_many_operations"
    assert "12 operations" in refused[0].json()["detail"]
    assert 86_000 < int(refused[0].headers["retry-after"]) <= 86_400
    assert caller.post({"prompt": prompt, "image_size": "512"}).status_code == 200


def test_a_store_that_evicts_nothing_is_filled_with_notice_and_refuses_nobody(store: Store) -> None:
    store.under("noeviction")
    greedy, modest = store.caller("greedy"), store.caller("sharing")

    def warned(caller: Client) -> set[str]:
        body = {"prompt": f"More {secrets.token_hex(4)}", "image_size": "4K", "n": 4, "delivery": "uri"}
        answer = caller.post(body)
        assert answer.status_code == 200, answer.text
        return {warning["code"] for warning in answer.json()["warnings"]}

    wait_for(lambda: "image_not_kept" in warned(greedy), "the store is full", patience_s=120)
    assert "image_not_kept" in warned(modest)
    ready = HTTP.get(f"{store.gateway.url}/readyz").json()
    assert (ready["status"], ready["conditions"]["store_full"]) == ("ready", 1)

    def used() -> int:
        told: Any = store.client.info("memory")
        return int(told["used_memory"])

    wait_for(lambda: used() < 0.85 * MEMORY, "what was on its way is counted")
