"""Who shares a picture: a repetition on the native API, and in the drop-in dialects only who asks for it."""

from __future__ import annotations

import base64
import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.fixtures import image_bytes
from tests.processes import HTTP, Running
from tests.server.conftest import Tenants, calls_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2

Surface = Literal["native", "native form", "gemini", "gemini stream", "vertex", "openai", "openai edit"]

MODEL = "gemini-3.1-flash-image"
PATHS: dict[Surface, str] = {
    "native": "/v1/images:generate",
    "native form": "/v1/images:edit",
    "gemini": f"/gemini/v1beta/models/{MODEL}:generateContent",
    "gemini stream": f"/gemini/v1beta/models/{MODEL}:streamGenerateContent?alt=sse",
    "vertex": f"/gemini/v1beta1/publishers/google/models/{MODEL}:generateContent",
    "openai": "/openai/v1/images/generations",
    "openai edit": "/openai/v1/images/edits",
}
DIALECTS: tuple[Surface, ...] = ("gemini", "gemini stream", "vertex", "openai", "openai edit")
FORMS: tuple[Surface, ...] = ("native form", "openai edit")
AT_ONCE = 3


@dataclass(frozen=True)
class Asking:
    """Equal requests that are made several times.

    Attributes:
        fields: Native and OpenAI's fields beside the prompt; Google's dialect knows a seed alone.
        headers: Of each request.
        keyed: Whether each carries an idempotency key of its own.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    keyed: bool = False


def case(*, keyed: bool = False, cache_control: str = "", **fields: Any) -> Asking:
    headers = {"Cache-Control": cache_control} if cache_control else {}
    return Asking(fields, headers, keyed)


OWN = {
    "plain": case(),
    "no-cache": case(cache_control="no-cache"),
    "no-store": case(cache_control="no-store"),
    "max-age=0": case(cache_control="max-age=0"),
    "no-cache with a seed": case(cache_control="no-cache", seed=7),
    "new keys": case(keyed=True),
    "new keys with a seed": case(keyed=True, seed=7),
}
SHARED = {
    "a seed": case(seed=7),
    "a seed of zero": case(seed=0),
    "max-age": case(cache_control="max-age=600"),
    "max-age among others": case(cache_control="No-Transform, Max-Age=600"),
    "new keys with max-age": case(keyed=True, cache_control="max-age=600"),
}


def post(gateway: Running, key: str, surface: Surface, prompt: str, asking: Asking) -> httpx2.Response:
    """One request, in the words of its surface."""
    headers = {"X-API-Key": key, **asking.headers}
    if asking.keyed:
        headers["Idempotency-Key"] = secrets.token_hex(8)
    url, fields = gateway.url + PATHS[surface], {"image_size": "512", **asking.fields}
    if surface in FORMS:
        files = {"image": ("harbour.png", image_bytes("harbour.png"), "image/png")}
        return HTTP.post(url, data={"prompt": prompt, **fields}, files=files, headers=headers)
    if surface in {"native", "openai"}:
        return HTTP.post(url, json={"prompt": prompt, **fields}, headers=headers)
    config: dict[str, Any] = {"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "512"}}
    config |= asking.fields
    body = {"contents": [{"parts": [{"text": prompt}]}], "generationConfig": config}
    return HTTP.post(url, json=body, headers=headers)


def picture(answer: httpx2.Response) -> bytes:
    """The bytes of an answer's one picture."""
    assert answer.status_code == 200, answer.text
    document = json.loads(answer.text.removeprefix("data: "))
    if "candidates" in document:
        parts = document["candidates"][0]["content"]["parts"]
        text = next(part["inlineData"]["data"] for part in parts if "inlineData" in part)
    elif "images" in document:
        text = document["images"][0]["data"]
    else:
        text = document["data"][0]["b64_json"]
    return base64.b64decode(text)


def held(emulator: Running, gate: str) -> int:
    """How many calls of the upstream wait at a gate."""
    return int(HTTP.get(f"{emulator.url}/emulator/held/{gate}").json()["held"])


def waiting(gateway: Running) -> int:
    """How many requests wait for the result of another."""
    name = 'flashgate_in_flight{stage="waiting"} '
    lines = HTTP.get(gateway.metrics_url).text.splitlines()
    return round(sum(float(line.removeprefix(name)) for line in lines if line.startswith(name)))


def asked_together_and_again(
    gateway: Running, emulator: Running, key: str, surface: Surface, asking: Asking, calls: int
) -> list[httpx2.Response]:
    """Several equal requests at once and one more when they are answered; ``calls`` as they begin."""
    gate = secrets.token_hex(6)
    prompt = f"Asked together [[emulate:hold:{gate}]]"
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(post, gateway, key, surface, prompt, asking) for _ in range(AT_ONCE)]
        try:
            wait_for(
                lambda: held(emulator, gate) == calls and waiting(gateway) == AT_ONCE - calls,
                f"{calls} of {AT_ONCE} are drawn",
            )
        finally:
            HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
        answers = [each.result() for each in asked]
    return [*answers, post(gateway, key, surface, prompt, asking)]


def statuses(answers: list[httpx2.Response]) -> set[str]:
    """How the cache took part in each answer, without the key."""
    return {answer.headers["cache-status"].partition("; key=")[0] for answer in answers}


@pytest.mark.parametrize("surface", DIALECTS)
def test_equal_requests_in_a_dialect_draw_a_picture_each(
    gateway: Running, emulator: Running, tenants: Tenants, surface: Surface
) -> None:
    before = calls_of(emulator)
    answers = asked_together_and_again(gateway, emulator, tenants.keys["own"], surface, Asking(), AT_ONCE)
    assert calls_of(emulator) - before == AT_ONCE + 1
    assert len({picture(answer) for answer in answers}) == AT_ONCE + 1
    assert statuses(answers) == {"flashgate; fwd=bypass"}


@pytest.mark.parametrize("tenant", ["own", "share"])
@pytest.mark.parametrize("name", sorted(OWN.keys() - {"plain"}))
@pytest.mark.parametrize("surface", ["gemini", "openai"])
def test_what_asks_for_work_of_its_own_gets_it_whatever_the_tenant_shares(
    gateway: Running, emulator: Running, tenants: Tenants, surface: Surface, name: str, tenant: str
) -> None:
    asking, before = OWN[name], calls_of(emulator)
    answers = asked_together_and_again(gateway, emulator, tenants.keys[tenant], surface, asking, AT_ONCE)
    assert calls_of(emulator) - before == AT_ONCE + 1
    drawn_alike = "seed" in asking.fields
    assert len({picture(answer) for answer in answers}) == (1 if drawn_alike else AT_ONCE + 1)


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("surface", DIALECTS)
def test_work_in_a_dialect_is_shared_where_the_request_asks_for_it(
    gateway: Running, emulator: Running, tenants: Tenants, surface: Surface, name: str
) -> None:
    before = calls_of(emulator)
    answers = asked_together_and_again(gateway, emulator, tenants.keys["own"], surface, SHARED[name], 1)
    assert calls_of(emulator) - before == 1
    assert len({picture(answer) for answer in answers}) == 1


@pytest.mark.parametrize("surface", DIALECTS)
def test_work_in_a_dialect_is_shared_where_the_tenant_says_so(
    gateway: Running, emulator: Running, tenants: Tenants, surface: Surface
) -> None:
    before = calls_of(emulator)
    answers = asked_together_and_again(gateway, emulator, tenants.keys["share"], surface, Asking(), 1)
    assert calls_of(emulator) - before == 1
    assert len({picture(answer) for answer in answers}) == 1


@pytest.mark.parametrize("cache", ["use", "refresh", "bypass"])
@pytest.mark.parametrize("tenant", ["own", "share"])
def test_openais_dialect_takes_the_native_field_as_a_directive(
    gateway: Running, emulator: Running, tenants: Tenants, cache: str, tenant: str
) -> None:
    asking, calls = case(cache=cache), 1 if cache == "use" else AT_ONCE
    answers = asked_together_and_again(gateway, emulator, tenants.keys[tenant], "openai", asking, calls)
    assert len({picture(answer) for answer in answers}) == (1 if cache == "use" else AT_ONCE + 1)


@pytest.mark.parametrize("surface", DIALECTS)
def test_only_if_cached_asks_for_a_copy_and_nothing_else(
    gateway: Running, emulator: Running, tenants: Tenants, surface: Surface
) -> None:
    key, prompt = tenants.keys["own"], f"Copied {secrets.token_hex(4)}"
    copy = case(cache_control="only-if-cached")
    post(gateway, key, surface, prompt, Asking())
    before = calls_of(emulator)
    assert post(gateway, key, surface, prompt, copy).status_code == 504
    assert calls_of(emulator) == before
    kept = post(gateway, key, surface, prompt, case(cache_control="max-age=600"))
    assert picture(post(gateway, key, surface, prompt, copy)) == picture(kept)


@pytest.mark.parametrize(
    ("asking", "calls"),
    [
        (case(), 1),
        (case(cache_control="max-age=600"), 1),
        (case(cache_control="no-cache"), AT_ONCE),
        (case(cache_control="no-store"), AT_ONCE),
        (case(keyed=True), AT_ONCE),
        (case(keyed=True, cache="use"), 1),
        (case(keyed=True, cache_control="max-age=600"), 1),
        (case(keyed=True, cache="refresh"), AT_ONCE),
    ],
    ids=str,
)
@pytest.mark.parametrize("surface", ["native", "native form"])
def test_the_native_api_shares_unless_the_request_says_or_means_otherwise(
    gateway: Running, emulator: Running, tenants: Tenants, surface: Surface, asking: Asking, calls: int
) -> None:
    before = calls_of(emulator)
    answers = asked_together_and_again(gateway, emulator, tenants.keys["own"], surface, asking, calls)
    pictures = 1 if calls == 1 else AT_ONCE + 1
    assert calls_of(emulator) - before == len({picture(answer) for answer in answers}) == pictures


@pytest.mark.parametrize("surface", ["native", "openai"])
def test_several_pictures_without_a_seed_are_drawn_anew_together(
    gateway: Running, tenants: Tenants, surface: Surface
) -> None:
    asking = case(n=2, cache="refresh") if surface == "native" else case(n=2)
    prompt, seen = f"Several {secrets.token_hex(4)}", set()
    for _ in range(2):
        answer = post(gateway, tenants.keys["own"], surface, prompt, asking).json()
        items = answer["images"] if surface == "native" else answer["data"]
        seen |= {item["data" if surface == "native" else "b64_json"] for item in items}
    assert len(seen) == 4


def test_an_estimate_tells_of_no_copy_to_whoever_wants_none(gateway: Running, tenants: Tenants) -> None:
    headers = {"X-API-Key": tenants.keys["own"]}
    body = {"prompt": f"Estimated {secrets.token_hex(4)}", "image_size": "512"}
    HTTP.post(f"{gateway.url}/v1/images:generate", json=body, headers=headers).raise_for_status()
    told = {
        cache: HTTP.post(f"{gateway.url}/v1/images:estimate", json={**body, "cache": cache}, headers=headers)
        for cache in ("use", "refresh", "bypass")
    }
    found = {cache: answer.json()["cached"] for cache, answer in told.items()}
    assert found == {"use": True, "refresh": False, "bypass": False}
