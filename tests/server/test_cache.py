"""The cache, its directives, and how many store commands a request costs."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import redis

from app.ledger.checkpoints import MARK_KEEP_MS
from app.ledger.notifications import KNOWN
from app.store.embedded import EmbeddedStore
from tests.processes import HTTP
from tests.server.conftest import Client, Tenants, calls_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Running

LOOKED_AT = ("!epoch", "fg:{_admin}:", "fg:epoch", "fg:{_trial}", str(MARK_KEEP_MS), KNOWN)
"""What is in commands that no request sends: looks for losses, trials, checkpoints, news of ledgers."""
HOUSEKEEPING = {"ping", "info", "client", "hello", "echo", "select", "auth"}


@pytest.fixture
def client(gateway: Running, tenants: Tenants) -> Client:
    return Client(gateway.url, tenants.keys["cache"])


def fresh(**more: Any) -> dict[str, Any]:
    """A request that nobody made before."""
    return {"prompt": f"Cached {secrets.token_hex(4)}", "delivery": "uri", "image_size": "512", **more}


def test_a_repeated_request_costs_nothing_and_says_so(client: Client, emulator: Running) -> None:
    body = fresh()
    first, calls = client.post(body), calls_of(emulator)
    again = client.post(body)
    assert again.json()["images"] == first.json()["images"]
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["usage"]["output_tokens"] == 0
    assert again.json()["budgets"] == first.json()["budgets"]
    assert first.headers["cache-status"].startswith("flashgate; fwd=miss; stored")
    assert again.headers["cache-status"].startswith("flashgate; hit")
    assert int(again.headers["age"]) >= 0
    assert "x-flashgate-image-tokens" not in again.headers
    assert calls_of(emulator) == calls


def test_spelling_and_order_do_not_matter_but_every_parameter_does(client: Client, emulator: Running) -> None:
    body = fresh()
    client.post(body)
    calls = calls_of(emulator)
    same: list[dict[str, Any]] = [
        dict(reversed(body.items())),
        {**body, "image_size": "0.5K"},
        {**body, "temperature": 1.0, "n": 1, "thinking_level": "minimal"},
        {**body, "labels": {"team": "a"}},
        {**body, "model": "nano-banana-2"},
    ]
    assert {client.post(each).json()["cache"]["status"] for each in same} == {"hit"}
    assert calls_of(emulator) == calls
    others: list[dict[str, Any]] = [
        {"aspect_ratio": "1:4"},
        {"temperature": 0.5},
        {"seed": 1},
        {"variant": 1},
        {"image_size": "1K"},
    ]
    assert {client.post({**body, **each}).json()["cache"]["status"] for each in others} == {"miss"}
    assert calls_of(emulator) == calls + len(others)


@pytest.mark.parametrize(
    ("directive", "status", "calls"),
    [
        ("no-cache", "miss", 1),
        ("no-store", "bypass", 1),
        ("max-age=0", "miss", 1),
        ("max-age=3600", "hit", 0),
        ("only-if-cached", "hit", 0),
    ],
)
def test_request_directives(
    client: Client, emulator: Running, directive: str, status: str, calls: int
) -> None:
    body = fresh()
    client.post(body)
    if directive == "max-age=0":
        deadline_passed_by_the_stores_clock(client, body)
    before = calls_of(emulator)
    assert client.post(body, cache_control=directive).json()["cache"]["status"] == status
    assert calls_of(emulator) - before == calls


def deadline_passed_by_the_stores_clock(client: Client, body: dict[str, Any]) -> None:
    """Return when the result is at least a second old, so that it is older than max-age=0 allows."""
    while client.post(body).headers["age"] == "0":
        pass


def test_only_if_cached_never_generates(client: Client, emulator: Running) -> None:
    before = calls_of(emulator)
    answer = client.post(fresh(), cache_control="only-if-cached")
    assert answer.status_code == 504
    assert answer.json()["code"] == "not_cached"
    assert calls_of(emulator) == before


def test_only_if_cached_never_generates_what_is_grounded_either(client: Client, emulator: Running) -> None:
    before = calls_of(emulator)
    answer = client.post(fresh(grounding={"web_search": True}), cache_control="only-if-cached")
    assert (answer.status_code, answer.json()["code"]) == (504, "not_cached")
    assert calls_of(emulator) == before


def test_a_result_whose_picture_is_gone_is_made_again_but_not_for_only_if_cached(
    client: Client, emulator: Running, store: redis.Redis
) -> None:
    body = fresh()
    image = client.post(body).json()["images"][0]["id"]
    assert store.zrem("fg:{cache}:index", image) == 1
    calls = calls_of(emulator)
    copy = client.post(body, cache_control="only-if-cached")
    assert (copy.status_code, copy.json()["code"]) == (504, "not_cached")
    assert calls_of(emulator) == calls
    assert client.post(body).json()["cache"]["status"] == "miss"
    assert client.post(body, cache_control="only-if-cached").json()["cache"]["status"] == "hit"
    assert calls_of(emulator) == calls + 1


def test_a_variant_is_another_picture_of_the_same_request(client: Client) -> None:
    body = fresh()
    ids = {client.post({**body, "variant": variant}).json()["images"][0]["id"] for variant in range(3)}
    assert len(ids) == 3


def test_an_image_is_served_with_a_strong_etag_and_in_ranges(client: Client) -> None:
    image = client.post(fresh()).json()["images"][0]
    whole = client.get(f"/v1/images/{image['id']}")
    etag = whole.headers["etag"]
    assert etag == f'"{image["id"]}"'
    assert "immutable" in whole.headers["cache-control"]
    assert client.get(f"/v1/images/{image['id']}", if_none_match=etag).status_code == 304
    part = client.get(f"/v1/images/{image['id']}", range="bytes=10-19")
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
    tail = client.get(f"/v1/images/{image['id']}", range="bytes=-5")
    assert tail.content == whole.content[-5:]
    beyond = client.get(f"/v1/images/{image['id']}", range=f"bytes={len(whole.content)}-")
    assert beyond.status_code == 416
    stale = client.get(f"/v1/images/{image['id']}", range="bytes=0-1", if_range='"other"')
    assert stale.content == whole.content


def test_another_tenant_neither_hits_nor_sees(gateway: Running, tenants: Tenants, client: Client) -> None:
    body = fresh()
    image = client.post(body).json()["images"][0]
    other = Client(gateway.url, tenants.keys["other"])
    assert other.get(f"/v1/images/{image['id']}").status_code == 404
    assert other.post(body).json()["cache"]["status"] == "miss"


def test_a_refusal_is_never_cached(client: Client, emulator: Running) -> None:
    body = fresh() | {"prompt": f"{secrets.token_hex(4)} [[emulate:image-safety]]"}
    before = calls_of(emulator)
    answers = [client.post(body) for _ in range(2)]
    assert [answer.json()["code"] for answer in answers] == ["content_blocked"] * 2
    assert calls_of(emulator) - before == 2


@pytest.fixture
def store(gateway: Running) -> Iterator[redis.Redis]:
    """The gateway's own store."""
    state = Path(psutil.Process(gateway.process.pid).environ()["FLASHGATE_STATE_DIR"])
    with redis.Redis(unix_socket_path=str(EmbeddedStore(state).socket)) as found:
        yield found


@pytest.fixture
def commands(store: Any) -> Iterator[Any]:
    """A function that tells which store commands requests have sent since it was last called."""
    with store.monitor() as monitor:

        def count() -> list[str]:
            """Commands since the last count; what scripts run inside themselves is not sent by anybody."""
            marker = secrets.token_hex(8)
            store.echo(marker)
            seen: list[str] = []
            while True:
                heard = monitor.next_command()
                if marker in heard["command"]:
                    return seen
                name = str(heard["command"]).partition(" ")[0].lower()
                looked = any(word in heard["command"] for word in LOOKED_AT)
                if heard["client_type"] != "lua" and name not in HOUSEKEEPING and not looked:
                    seen.append(name)

        count()
        yield count


def test_store_commands_of_a_hit_a_refusal_and_a_miss(
    client: Client, gateway: Running, tenants: Tenants, commands: Any
) -> None:
    body = fresh()
    assert client.post(body).json()["cache"]["status"] == "miss"
    assert commands() == ["evalsha", "evalsha", "eval", "eval", "evalsha"]
    assert client.post(body).json()["cache"]["status"] == "hit"
    assert commands() == ["evalsha", "eval"]
    poor = Client(gateway.url, tenants.keys["poor"])
    refused = poor.post({"prompt": "Too dear", "image_size": "4K"})
    assert refused.json()["code"] == "budget_exceeded"
    assert commands() == ["evalsha"]
    invalid = client.post({"prompt": "x", "aspect_ratio": "7:3"})
    assert invalid.status_code == 422
    assert commands() == ["evalsha"]
    unknown = HTTP.post(f"{gateway.url}/v1/images:generate", json=body, headers={"X-API-Key": "nobody"})
    assert unknown.status_code == 401
    assert commands() == []


def test_a_client_that_numbers_its_attempts_costs_one_store_command_more(
    client: Client, commands: Any
) -> None:
    body = {"prompt": f"Counted {secrets.token_hex(4)}", "image_size": "512", "response_format": "url"}

    def ask(**headers: str) -> None:
        named = {"X-API-Key": client.key, **headers}
        url = f"{client.url}/openai/v1/images/generations"
        HTTP.post(url, json=body, headers=named).raise_for_status()

    ask()
    usual = ["evalsha", "evalsha", "eval", "eval", "evalsha"]
    assert commands() == usual
    ask(**{"x-stainless-retry-count": "0"})
    seen = commands()
    wait_for(lambda: seen.extend(commands()) or len(seen) > len(usual), "the delivery is noted")
    assert seen == [*usual, "evalsha"]


def test_every_answer_to_a_caller_tells_what_is_left(client: Client) -> None:
    image = client.post(fresh()).json()["images"][0]["id"]
    paths = ["/v1/models", "/v1/models/nano-banana-2", "/v1/usage", f"/v1/images/{image}", "/v1/models/none"]
    for path in paths:
        answer = client.get(path)
        assert "tenant-day-image_tokens" in answer.headers["ratelimit-policy"], path
        assert "tenant-day-image_tokens" in answer.headers["ratelimit"], path
