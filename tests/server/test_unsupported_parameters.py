"""A model without seeds, temperature or top_p: each is refused by name, and pictures differ without them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures import image_bytes
from tests.processes import HTTP, Running
from tests.server.conftest import Tenants, calls_of

if TYPE_CHECKING:
    import httpx2

MODEL = "gemini-nano-banana-2.1"
GENERATE = f"/models/{MODEL}:generateContent"
VALUES = {"seed": 7, "temperature": 0.5, "top_p": 0.9}
IN_GOOGLES_WORDS = {"seed": "seed", "temperature": "temperature", "top_p": "topP"}


def google_body(prompt: str, **config: Any) -> dict[str, Any]:
    return {
        "contents": [{"parts": [{"text": prompt}]}],
        "generationConfig": {"responseModalities": ["IMAGE"], **config},
    }


def ask(gateway: Running, key: str, surface: str, name: str) -> httpx2.Response:
    """One request with a parameter that the model does not offer."""
    headers, value = {"X-API-Key": key}, VALUES[name]
    plain = {"prompt": "A fox", "model": MODEL, name: value}
    if surface == "native":
        return HTTP.post(f"{gateway.url}/v1/images:generate", json=plain, headers=headers)
    if surface == "openai":
        return HTTP.post(f"{gateway.url}/openai/v1/images/generations", json=plain, headers=headers)
    if surface == "native form":
        files = {"image": ("harbour.png", image_bytes("harbour.png"), "image/png")}
        return HTTP.post(f"{gateway.url}/v1/images:edit", data=plain, files=files, headers=headers)
    prefix = {"gemini": "/gemini/v1beta", "vertex": "/gemini/v1beta1/publishers/google"}[surface]
    body = google_body("A fox", **{IN_GOOGLES_WORDS[name]: value})
    return HTTP.post(gateway.url + prefix + GENERATE, json=body, headers=headers)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("surface", ["native", "native form", "openai", "gemini", "vertex"])
def test_what_the_model_does_not_offer_is_refused_by_name_before_a_call(
    gateway: Running, emulator: Running, tenants: Tenants, surface: str, name: str
) -> None:
    before = calls_of(emulator)
    refused = ask(gateway, tenants.keys["own"], surface, name)
    assert refused.status_code == (422 if surface.startswith("native") else 400)
    assert f"does not offer {name}; leave it out" in refused.text
    document = refused.json()
    if surface.startswith("native"):
        assert [(each["pointer"], each["code"]) for each in document["violations"]] == [
            (f"/{name}", f"unsupported_{name}")
        ]
    elif surface == "openai":
        assert document["error"]["param"] == name
    else:
        [violation] = document["error"]["details"][0]["fieldViolations"]
        assert violation["field"] == f"generation_config.{name}"
    assert calls_of(emulator) == before


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("form", ["/v1beta", "/v1beta1/publishers/google"])
def test_the_emulator_refuses_it_too(emulator: Running, name: str, form: str) -> None:
    body = google_body("A fox", **{IN_GOOGLES_WORDS[name]: VALUES[name]})
    headers = {"x-goog-api-key": "any"}
    refused = HTTP.post(emulator.url + form + GENERATE, json=body, headers=headers).json()["error"]
    assert (refused["status"], refused["code"]) == ("INVALID_ARGUMENT", 400)
    assert refused["message"] == f"{IN_GOOGLES_WORDS[name]} is not enabled for models/{MODEL}"
    [violation] = refused["details"][0]["fieldViolations"]
    assert violation["field"] == f"generation_config.{name}"


def generate(gateway: Running, key: str, **fields: Any) -> dict[str, Any]:
    body = {"prompt": "A fox without a seed", "model": MODEL, **fields}
    answer = HTTP.post(f"{gateway.url}/v1/images:generate", json=body, headers={"X-API-Key": key})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = json.loads(answer.text)
    return document


def test_several_pictures_and_variants_are_drawn_without_seeds(
    gateway: Running, emulator: Running, tenants: Tenants
) -> None:
    key, before = tenants.keys["own"], calls_of(emulator)
    several = generate(gateway, key, n=3)
    variant = generate(gateway, key, n=3, variant=1)
    assert calls_of(emulator) - before == 6
    ids = {image["id"] for answer in (several, variant) for image in answer["images"]}
    assert len(ids) == 6
    effective = several["effective"]
    assert (effective["seeds"], effective["temperature"], effective["top_p"]) == ([None] * 3, None, None)
    again = generate(gateway, key, n=3, variant=1)
    assert again["cache"]["status"] == "hit"
    assert [image["id"] for image in again["images"]] == [image["id"] for image in variant["images"]]


def test_the_models_page_says_what_is_refused(gateway: Running, tenants: Tenants) -> None:
    headers = {"X-API-Key": tenants.keys["own"]}
    models = HTTP.get(f"{gateway.url}/v1/models", headers=headers).json()["models"]
    shown = {model["id"]: (model["unsupported_parameters"], model["service_tiers"]) for model in models}
    assert shown[MODEL] == (["seed", "temperature", "top_k", "top_p"], ["standard", "priority"])
    assert shown["gemini-3.1-flash-lite-image"] == (["top_k"], ["standard", "flex", "priority"])
