"""Whatever is asked of the gateway, it leaves no promise in the store that the store may evict."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from app.store import keys
from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER, wait_for
from tests.server.operators import ADMIN_KEY, Admin
from tests.storeserver import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

MODEL = "gemini-3.1-flash-image"
GOOGLES = f"/gemini/v1beta/models/{MODEL}"
DOCUMENT = Path("openapi/openapi.json")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    folder = tmp_path_factory.mktemp("k")
    with running_server(folder) as server, redis.Redis(unix_socket_path=str(server.socket)) as client:
        yield client


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, store: redis.Redis, emulator: Running
) -> Iterator[Running]:
    settings = {
        "redis_url": f"unix://{store.connection_pool.connection_kwargs['path']}",
        "admin_key": ADMIN_KEY,
        "key_pepper": PEPPER,
        "upstream": "emulator",
        "emulator_base_url": emulator.url,
        "provider_requests_per_minute": "10000",
    }
    with running_gateway(tmp_path_factory.mktemp("g"), **settings) as process:
        yield process


class Everything:
    """A caller and an operator who use every route, and know which they have used."""

    def __init__(self, gateway: Running) -> None:
        self.gateway, self.admin = gateway, Admin(gateway.url)
        self.used = set[tuple[str, str]]()
        self.key, self.picture = "", b""

    def operate(self, method: str, template: str, body: Any = None, **names: str) -> httpx2.Response:
        self.used.add((method, f"/v1/admin{template}"))
        answer = self.admin.call(method, template.format(**names), body, If_Match="*")
        assert answer.status_code < 300, (template, answer.text)
        return answer

    def call(self, method: str, template: str, expect: int = 200, **options: Any) -> httpx2.Response:
        names = options.pop("names", {})
        headers = {"X-API-Key": self.key, **options.pop("headers", {})}
        self.used.add((method, template))
        url = f"{self.gateway.url}{template.format(**names)}"
        answer = HTTP.request(method, url, headers=headers, timeout=60, **options)
        assert answer.status_code == expect, (template, answer.text)
        return answer


def fresh(words: str = "", **fields: Any) -> dict[str, Any]:
    return {"prompt": f"A fox {secrets.token_hex(4)} {words}", "image_size": "512", **fields}


def with_key() -> dict[str, str]:
    return {"Idempotency-Key": secrets.token_hex(8)}


def operators(everything: Everything) -> None:
    """Tenants with every kind of budget, rate and quota, and all that is done to them."""
    budgets = [
        {"unit": "image_tokens", "window": "day", "limit": 10_000_000},
        {"unit": "usd", "window": "lifetime", "limit": 1000},
    ]
    rate = {"requests_per_minute": 10_000, "concurrent": 100}
    tenant = {"id": "acme", "budgets": budgets, "rate": rate, "cache": {"quota_mb": 100}}
    tenant["users"] = {"rate": {"requests_per_minute": 1000}, "unnamed": "share"}
    everything.operate("POST", "/tenants", tenant)
    everything.operate("GET", "/tenants")
    everything.operate("GET", "/tenants/{tenant_id}", tenant_id="acme")
    everything.operate("PATCH", "/tenants/{tenant_id}", {"max_image_size": "2K"}, tenant_id="acme")
    issued = everything.operate("POST", "/tenants/{tenant_id}/keys", {}, tenant_id="acme").json()
    everything.key = issued["key"]
    everything.operate("GET", "/tenants/{tenant_id}/keys", tenant_id="acme")
    account = {"email": "crawler@my-project.iam.gserviceaccount.com"}
    everything.operate("POST", "/tenants/{tenant_id}/identities", account, tenant_id="acme")
    other = everything.operate("POST", "/tenants/{tenant_id}/keys", {}, tenant_id="acme").json()
    for action, body in (("rotate", {"grace_s": 60}), ("revoke", None)):
        template = f"/tenants/{{tenant_id}}/keys/{{key_id}}:{action}"
        everything.operate("POST", template, body, tenant_id="acme", key_id=other["id"])
    credit = {"unit": "usd", "amount": 5, "credit_id": "invoice-1"}
    everything.operate("POST", "/tenants/{tenant_id}/budgets:credit", credit, tenant_id="acme")
    raised = {"unit": "image_tokens", "window": "day", "limit": 20_000_000, "until": "2999-01-01T00:00:00Z"}
    everything.operate("POST", "/tenants/{tenant_id}/budgets:override", raised, tenant_id="acme")
    everything.admin.tenant("leaving")
    everything.operate("DELETE", "/tenants/{tenant_id}", tenant_id="leaving")
    for template in ("/usage", "/usage:report", "/audit", "/requests", "/credentials"):
        everything.operate("GET", template)


def native(everything: Everything) -> None:
    """Results, failures, hits, followers, keys, operations of every ending, conversations."""
    call, generate = everything.call, "/v1/images:generate"
    body = fresh(delivery="uri")
    made = call("POST", generate, json=body).json()
    call("POST", generate, json=body)
    call("POST", generate, json={**body, "cache": "use"}, headers=with_key())
    call("POST", generate, json=fresh(continue_from=made["id"]), headers=with_key())
    call("POST", generate, json=fresh(n=2, cache="bypass"))
    for words, status in (("image-safety", 422), ("reset:1", 502), ("permission-denied:1", 502)):
        call("POST", generate, status, json=fresh(f"[[emulate:{words}]]"), headers=with_key())
        call("POST", generate, status, json=fresh(f"[[emulate:{words}]]"))
    call("POST", "/v1/images:estimate", json=fresh())
    everything.picture = call(
        "GET", "/v1/images/{image_id}", names={"image_id": made["images"][0]["id"]}
    ).content
    form = {"prompt": (None, "The same at night"), "image": ("a.jpg", everything.picture)}
    call("POST", "/v1/images:edit", files=form, headers=with_key())
    call("GET", "/v1/generations/{generation_id}", names={"generation_id": made["id"]})
    for template in ("/v1/models", "/v1/usage"):
        call("GET", template)
    leaving = call("POST", generate, json=fresh()).json()
    call("DELETE", "/v1/images/{image_id}", 204, names={"image_id": leaving["images"][0]["id"]})
    call("DELETE", "/v1/generations/{generation_id}", 204, names={"generation_id": leaving["id"]})
    call("GET", "/v1/models/{model}", names={"model": MODEL})
    later = {"Prefer": "respond-async"}
    for words in ("", "image-safety", "permission-denied:1", "hold:never"):
        body = fresh(words and f"[[emulate:{words}]]")
        begun = call("POST", generate, 202, json=body, headers={**later, **with_key()}).json()
        named = {"operation_id": begun["id"]}
        if "hold" not in words:
            wait_for(lambda n=named: ended(everything, n), "it ends")  # type: ignore[misc]
        call("POST", "/v1/operations/{operation_id}:cancel", names=named)


def ended(everything: Everything, named: dict[str, str]) -> bool:
    found = everything.call("GET", "/v1/operations/{operation_id}", names=named).json()
    return found["state"] not in {"waiting", "running"}


def dialects(everything: Everything) -> None:
    """The drop-in surfaces, streams as well."""
    call = everything.call
    words = {"contents": [{"parts": [{"text": f"A hare {secrets.token_hex(4)}"}]}]}
    for verb in ("generateContent", "streamGenerateContent", "countTokens"):
        call("POST", f"{GOOGLES}:{verb}", json=words, headers=with_key())
    for path in ("/gemini/v1beta/models", GOOGLES):
        call("GET", path)
    bearer = {"Authorization": f"Bearer {everything.key}"}
    asked = {"model": MODEL, "prompt": f"A stoat {secrets.token_hex(4)}", "size": "512x512"}
    for more in ({}, {"stream": True}):
        call(
            "POST", "/openai/v1/images/generations", json={**asked, **more}, headers={**bearer, **with_key()}
        )
    form = {"prompt": (None, "At night"), "model": (None, MODEL), "image": ("a.jpg", everything.picture)}
    call("POST", "/openai/v1/images/edits", files=form, headers=bearer)
    call("GET", "/openai/v1/models", headers=bearer)
    call("GET", "/openai/v1/models/{model}", names={"model": MODEL}, headers=bearer)


MARKS = {keys.BUDGET_METRICS, keys.SWEEP, keys.SWEEPING}
"""What replicas tell one another for a moment."""


def test_after_every_route_whatever_has_a_ttl_is_cache_and_all_else_is_none(
    gateway: Running, store: redis.Redis
) -> None:
    everything = Everything(gateway)
    operators(everything)
    native(everything)
    dialects(everything)
    documented = {
        (method.upper(), path)
        for path, methods in json.loads(DOCUMENT.read_text())["paths"].items()
        for method in methods
    }
    purge = "/cache:purge"
    assert documented - everything.used == {("POST", f"/v1/admin{purge}")}
    names: set[str] = set()
    for body in (None, {"tenant": "acme", "fingerprint": "0" * 64}, {"tenant": "acme"}, {"all": True}):
        if body is not None:
            everything.operate("POST", purge, body)
        for name in store.scan_iter("*", 1000):
            kind = name.decode().split(":")[2]
            if name.decode() in MARKS:
                assert store.pttl(name) > 0, name
                continue
            cached = kind in keys.CACHE_NAMES
            assert (store.pttl(name) > 0) == cached, name
            names.add(kind)
    administration = {"tenants", "owners", "version", "log"}
    passing = {
        "exp",
        "calls",
        "callends",
    }  # open holds, and calls until their answers have reached their callers
    assert names | passing == set(keys.LEDGER_NAMES) | set(keys.CACHE_NAMES) | administration
