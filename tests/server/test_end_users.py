"""Budgets and rates of end users, at every door and with the SDKs that callers use."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import openai
import pytest
from google import genai
from google.genai import errors, types
from redis.asyncio import Redis

from app.generation.packing import unpack, unpack_text
from tests.fixtures import image_bytes
from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER, Client, Tenants, calls_of, tokens_a_day, write_tenants
from tests.storeserver import running_server
from tests.surfaces.test_ratelimit import parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from tests.storeserver import ServerProcess

TWO = {"scope": "user", "unit": "images", "window": "day", "limit": 2}
CONCERNING: dict[str, dict[str, Any]] = {
    "rated": {"users": {"rate": {"requests_per_minute": 2}}},
    "sharing": {"users": {"unnamed": "share"}},
    "crowded": {"users": {"active_max": 2}},
    "exact": {},
    "doors": {},
}
SMALL = {"image_size": "512", "delivery": "uri"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    ample = tokens_a_day(10_000_000)
    budgets = {tenant: [*ample, TWO] for tenant in CONCERNING} | {"rated": ample, "free": ample}
    budgets["shadow"] = [*ample, {**TWO, "mode": "shadow"}]
    return write_tenants(tmp_path_factory.mktemp("users") / "tenants.yaml", budgets, CONCERNING)


@pytest.fixture(scope="module")
def door(
    tmp_path_factory: pytest.TempPathFactory, limited: Tenants, emulator: Running, store: ServerProcess
) -> Iterator[Running]:
    settings = {"tenants_file": str(limited.path), "key_pepper": PEPPER, "emulator_base_url": emulator.url}
    folder = tmp_path_factory.getbasetemp() / "users-door"
    folder.mkdir()
    with running_gateway(folder, upstream="emulator", redis_url=store.url, **settings) as process:
        yield process


def fresh(**more: Any) -> dict[str, Any]:
    return {"prompt": f"For somebody {secrets.token_hex(4)}", **SMALL, **more}


def name() -> str:
    return f"user-{secrets.token_hex(8)}"


def codes_of(answer: httpx2.Response) -> list[tuple[str, str]]:
    return [(item["pointer"], item["code"]) for item in answer.json()["violations"]]


def test_the_native_door_counts_by_field_and_by_header(door: Running, limited: Tenants) -> None:
    client, user = Client(door.url, limited.keys["doors"]), name()
    made = client.post(fresh(user=user))
    assert made.status_code == 200
    assert dict(parsed(made.headers["ratelimit"]))["user-day-images"]["r"] == 1
    assert client.post(fresh(), X_Flashgate_User=user).status_code == 200
    refused = client.post(fresh(user=user))
    assert (refused.status_code, refused.json()["code"]) == (429, "budget_exceeded")
    assert refused.json()["violated_policies"] == ["user-day-images"]
    assert [item["name"] for item in refused.json()["refused_by"]] == ["user-day-images"]
    assert "this user's budget" in refused.json()["detail"]
    assert client.post(fresh(user=name())).status_code == 200, "another user has a budget of its own"


def test_a_form_counts_too(door: Running, limited: Tenants) -> None:
    client, user = Client(door.url, limited.keys["doors"]), name()
    statuses = [
        HTTP.post(
            f"{door.url}/v1/images:edit",
            headers={"X-API-Key": client.key},
            data={"prompt": f"Edited {secrets.token_hex(4)}", **SMALL, "user": user},
            files={"image": ("a.png", image_bytes("harbour.png"))},
            timeout=60,
        ).status_code
        for _ in range(3)
    ]
    assert statuses == [200, 200, 429]


def test_the_openai_sdk_names_its_user(door: Running, limited: Tenants) -> None:
    user = name()
    with openai.OpenAI(
        base_url=f"{door.url}/openai/v1", api_key=limited.keys["doors"], max_retries=0
    ) as client:
        for _ in range(2):
            client.images.generate(prompt="A drop-in", size="512x512", user=user)
        with pytest.raises(openai.RateLimitError) as caught:
            client.images.generate(prompt="A drop-in", size="512x512", extra_body={"safety_identifier": user})
        assert caught.value.code == "insufficient_quota"
        client.images.generate(prompt="A drop-in", size="512x512", user=name())
        with pytest.raises(openai.BadRequestError) as unnamed:
            client.images.generate(prompt="A drop-in", size="512x512")
        assert unnamed.value.param == "user"
        with pytest.raises(openai.BadRequestError) as differing:
            client.images.generate(
                prompt="A drop-in", size="512x512", user=name(), extra_headers={"X-Flashgate-User": name()}
            )
        assert "different users" in differing.value.message


def test_googles_sdk_names_its_user_in_a_header(door: Running, limited: Tenants) -> None:
    def client_of(user: str | None) -> genai.Client:
        headers = {} if user is None else {"X-Flashgate-User": user}
        options = types.HttpOptions(base_url=f"{door.url}/gemini", headers=headers)
        return genai.Client(api_key=limited.keys["doors"], http_options=options)

    def draw(client: genai.Client) -> None:
        config = types.GenerateContentConfig(image_config=types.ImageConfig(image_size="512"))
        client.models.generate_content(model="gemini-3.1-flash-image", contents="Mine", config=config)

    known = client_of(name())
    draw(known)
    draw(known)
    with pytest.raises(errors.ClientError) as caught:
        draw(known)
    assert caught.value.code == 429
    assert "user-day-images" in str(caught.value.details)
    with pytest.raises(errors.ClientError) as unnamed:
        draw(client_of(None))
    assert (unnamed.value.code, "X-Flashgate-User" in str(unnamed.value)) == (400, True)


def test_a_request_has_to_name_its_user_once_and_well(door: Running, limited: Tenants) -> None:
    client = Client(door.url, limited.keys["doors"])
    missing = client.post(fresh(image_size="3K"))
    assert missing.status_code == 422
    assert codes_of(missing) == [("/image_size", "unsupported_image_size"), ("/user", "user_required")]
    for bad in ("", " a", "a\n", "x" * 257):
        assert codes_of(client.post(fresh(user=bad))) == [("/user", "invalid_user")]
    assert codes_of(client.post(fresh(user="a"), X_Flashgate_User="b")) == [("/user", "user_mismatch")]
    header = "X-Flashgate-User"
    for headers in ([(header, "")], [(header, "a"), (header, "a")], [(header, "a\tb")]):
        answer = HTTP.post(
            f"{door.url}/v1/images:generate", json=fresh(), headers=[("X-API-Key", client.key), *headers]
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert "X-Flashgate-User" in answer.json()["detail"]
    utf8 = HTTP.post(
        f"{door.url}/v1/images:generate",
        json=fresh(user="Jörg"),
        headers=[(b"X-API-Key", client.key.encode()), (b"X-Flashgate-User", "Jörg".encode())],
        timeout=60,
    )
    assert utf8.status_code == 200, utf8.text


def test_requests_without_a_name_may_share_one_budget(door: Running, limited: Tenants) -> None:
    client = Client(door.url, limited.keys["sharing"])
    assert [client.post(fresh()).status_code for _ in range(3)] == [200, 200, 429]
    assert client.post(fresh(user=name())).status_code == 200
    shadow = Client(door.url, limited.keys["shadow"])
    assert shadow.post(fresh()).status_code == 200, "a budget that only counts asks for no name"
    user = name()
    assert [shadow.post(fresh(user=user)).status_code for _ in range(3)] == [200] * 3


def test_a_rate_is_each_users(door: Running, limited: Tenants) -> None:
    client, user = Client(door.url, limited.keys["rated"]), name()
    body = fresh(user=user)
    answers = [client.post(body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json()["violated_policies"] == ["user-requests"]
    assert client.post({**body, "user": name()}).status_code == 200


def test_users_beyond_the_bound_are_refused_with_a_code_of_their_own(door: Running, limited: Tenants) -> None:
    client = Client(door.url, limited.keys["crowded"])
    known = name()
    assert [client.post(fresh(user=each)).status_code for each in (known, name())] == [200, 200]
    refused = client.post(fresh(user=name()))
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_users")
    assert int(refused.headers["retry-after"]) > 0
    assert client.post(fresh(user=known)).status_code == 200
    free = Client(door.url, limited.keys["free"])
    assert all(free.post(fresh(user=name())).status_code == 200 for _ in range(4)), "no other tenant's matter"


def test_forty_callers_at_once_get_what_one_users_budget_holds(
    door: Running, limited: Tenants, emulator: Running
) -> None:
    client, user = Client(door.url, limited.keys["exact"]), name()
    calls = calls_of(emulator)
    with ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(lambda _: client.post(fresh(user=user)).status_code, range(40)))
    assert sorted(statuses) == [200] * 2 + [429] * 38
    assert calls_of(emulator) - calls == 2


def test_the_same_work_for_two_users_is_made_once(door: Running, limited: Tenants, emulator: Running) -> None:
    client, body, calls = Client(door.url, limited.keys["doors"]), fresh(), calls_of(emulator)
    first, second = name(), name()
    assert client.post({**body, "user": first}, Idempotency_Key="order-1").status_code == 200
    again = client.post({**body, "user": second}, Idempotency_Key="order-1")
    assert again.headers["idempotency-replayed"] == "true"
    made, hit = client.post({**body, "user": first, "cache": "use"}), client.post({**body, "user": second})
    assert (made.status_code, hit.status_code) == (200, 200)
    assert hit.headers["cache-status"].startswith("flashgate; hit")
    assert calls_of(emulator) - calls <= 2
    (window,) = [
        each
        for each in client.get("/v1/usage", X_Flashgate_User=second).json()["budgets"]
        if each["scope"] == "user"
    ]
    assert (window["settled"], window["remaining"]) == (0, 2), "a hit costs nothing of anybody's"


def test_an_estimate_and_the_usage_show_the_users_windows(door: Running, limited: Tenants) -> None:
    client, user = Client(door.url, limited.keys["doors"]), name()
    client.post(fresh(user=user))
    headers = {"X-API-Key": client.key}
    quote = HTTP.post(f"{door.url}/v1/images:estimate", json=fresh(user=user, n=2), headers=headers).json()
    (window,) = [each for each in quote["budgets"] if each["scope"] == "user"]
    assert (window["name"], window["remaining"]) == ("user-day-images", 1)
    assert quote["would_be_admitted"] is False
    usage = client.get("/v1/usage", X_Flashgate_User=user).json()
    assert usage["user"]["id"].startswith("usr_")
    assert usage["user"]["spent"]["images"] == 1
    assert [each["scope"] for each in usage["budgets"]] == ["tenant", "user"]
    bare = client.get("/v1/usage").json()
    assert (bare["user"], [each["scope"] for each in bare["budgets"]]) == (None, ["tenant"])


def test_the_name_is_in_no_store_no_metric_and_no_log(
    door: Running, limited: Tenants, store: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    user = name()
    for tenant in ("doors", "rated", "free", "shadow"):
        assert Client(door.url, limited.keys[tenant]).post(fresh(user=user)).status_code == 200

    async def read_store() -> str:
        client = Redis.from_url(store.url, decode_responses=True)
        packed: Any = Redis.from_url(store.url)
        texts = []
        async for key in client.scan_iter():
            texts.append(key)
            match await client.type(key):
                case "hash":
                    texts.append(str(await client.hgetall(key)))
                case "zset":
                    texts.append(str(await client.zrange(key, 0, -1)))
                case "string" if ":made:" in key:
                    texts.append(unpack(await packed.get(key)))
                case "string" if ":gen:" in key:
                    texts.append(unpack_text(str(await client.get(key)).split(";", 3)[-1]))
                case "string" if ":img:" not in key:
                    texts.append(str(await client.get(key)))
        await client.aclose()
        await packed.aclose()
        return "\n".join(texts)

    kept = asyncio.run(read_store())
    assert "u:" in kept
    assert user not in kept
    (log,) = (tmp_path_factory.getbasetemp() / "users-door").glob("gateway-*.log")
    assert user not in log.read_text()
    metrics = HTTP.get(door.metrics_url).text
    assert 'scope="user"' in metrics, "what was refused is counted"
    assert user not in metrics
    assert "usr_" not in metrics
