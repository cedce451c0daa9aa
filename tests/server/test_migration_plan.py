"""A plan of a migration is what happens when it is carried out."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from app.__main__ import main
from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER, Client
from tests.server.operators import ADMIN_KEY, Admin
from tests.server.test_migration import NEW, OLD, cut_over, tenant_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of the successor, by tier, in dollars for a million tokens of words and thoughts, and of input.
PRICES = {"standard": (7.5, 1.5), "priority": (13.5, 2.7)}

BODIES: dict[str, list[dict[str, Any]]] = {
    "plain": [{}, {"image_size": "2K"}, {"image_size": "4K", "aspect_ratio": "16:9"}, {"n": 2}],
    "seeded": [{"seed": 7}, {"seed": 8, "temperature": 0.5}, {"image_size": "512"}, {}],
    "special": [
        {"grounding": {"web_search": True}},
        {"thinking_level": "high"},
        {"service_tier": "flex"},
        {"service_tier": "priority"},
        {"aspect_ratio": "9:21"},
    ],
}
REFUSED = {
    "plain": {},
    "seeded": {"seed": 2, "temperature": 1, "image_size=512": 1},
    "special": {"service_tier=flex": 1, "aspect_ratio=9:21": 1},
}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory, emulator: Running) -> Iterator[Admin]:
    settings = {"admin_key": ADMIN_KEY, "key_pepper": PEPPER, "emulator_base_url": emulator.url}
    with running_gateway(tmp_path_factory.mktemp("plan"), upstream="emulator", **settings) as process:
        yield Admin(process.url)


@pytest.fixture(autouse=True)
def as_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHGATE_ADMIN_KEY", ADMIN_KEY)


def send(client: Client, more: dict[str, Any]) -> dict[str, Any] | None:
    """The usage of a picture, or None if the request is refused."""
    answer = client.post({"prompt": f"A plan {secrets.token_hex(4)}", "delivery": "uri", **more})
    if answer.status_code == 422:
        return None
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["usage"])


def price_difference(before: dict[str, Any], after: dict[str, Any], tier: str) -> float:
    """Dollars for what the model wrote and read more the second time; no plan can know it."""
    words, read = PRICES[tier]
    written = [use["output_tokens"] - use["image_tokens"] for use in (before, after)]
    return float(
        ((written[1] - written[0]) * words + (after["input_tokens"] - before["input_tokens"]) * read) / 1e6
    )


def plan_of(admin: Admin, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    status = main(["migrate", "plan", OLD, NEW, "--json", "--url", admin.url, *options])
    return status, json.loads(capsys.readouterr().out)


def test_a_plan_is_what_happens_when_the_alias_is_set(
    admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    tenants = {name: tenant_of(admin) for name in BODIES}
    before = {name: [send(tenants[name][1], body) for body in bodies] for name, bodies in BODIES.items()}
    status, document = plan_of(admin, capsys)
    plans = {each["tenant_id"]: each for each in document["tenants"]}
    assert status == 1, "something is refused"
    assert document["unknown_requests"] == 0
    for name, bodies in BODIES.items():
        tenant, client = tenants[name]
        plan = plans[tenant]
        assert {each["parameter"]: each["requests"] for each in plan["refusals"]} == REFUSED[name]
        assert plan["usd"] == pytest.approx(sum(use["cost_usd"] for use in before[name] if use), abs=1e-9)
        assert plan["requests"] == len(bodies)
        cut_over(admin, tenant)
        after = [send(client, body) for body in bodies]
        assert after.count(None) == plan["refused"]
        served = [
            (old, new, body.get("service_tier", "standard"))
            for old, new, body in zip(before[name], after, bodies, strict=True)
            if old and new
        ]
        assert plan["planned_image_tokens"] == sum(new["image_tokens"] for _, new, _ in served)
        booked = sum(new["cost_usd"] for _, new, _ in served)
        beside = sum(price_difference(*each) for each in served)
        assert plan["planned_usd"] == pytest.approx(booked - beside, abs=1e-9)
        assert plan["moved_usd"] == pytest.approx(sum(old["cost_usd"] for old, _, _ in served), abs=1e-9)
        assert plan["write"] == f"aliases: {{{OLD}: {OLD if plan['refused'] else NEW}}}"


def test_a_plan_is_printed_for_people(admin: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    tenant, client = tenant_of(admin)
    assert send(client, {"image_size": "4K"})
    first = client.post({"prompt": "A conversation", "delivery": "uri"}).json()["id"]
    assert send(client, {"continue_from": first})
    command = ["migrate", "plan", OLD, "nano-banana-2.1", "--tenant", tenant, "--url", admin.url]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "picture of 4K: 2520 tokens, $0.1512 -> 3780 tokens, $0.1134" in text
    assert f"{tenant}: 3 requests, 3 pictures, $" in text
    assert "1 continue a conversation" in text
    assert f"FLASHGATE_MODEL_ALIASES={OLD}={NEW}" in text
    assert main([*command[:2], OLD, "imagen", *command[4:]]) == 1
    assert "imagen has no card" in capsys.readouterr().err


def test_the_drop_in_dialects_are_recorded_as_well(admin: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    tenant, client = tenant_of(admin)
    headers = {"X-API-Key": client.key}
    config = {"seed": 5, "imageConfig": {"aspectRatio": "21:9"}}
    body = {"contents": [{"parts": [{"text": "A boat"}]}], "generationConfig": config}
    path = f"{admin.url}/gemini/v1beta/models/{OLD}:generateContent"
    assert HTTP.post(path, json=body, headers=headers).status_code == 200
    small = {"prompt": "A boat", "size": "512x512", "model": OLD}
    images = f"{admin.url}/openai/v1/images/generations"
    assert HTTP.post(images, json=small, headers=headers).status_code == 200
    report = admin.get(f"/usage:report?tenant={tenant}&by=parameter").json()
    assert {line["parameter"]: line["requests"] for line in report["lines"]} == {
        "image_size=1K": 1, "aspect_ratio=21:9": 1, "seed": 1, "response_modalities=TEXT+IMAGE": 1,
        "image_size=512": 1, "aspect_ratio=1:1": 1,
    }  # fmt: skip
    _, document = plan_of(admin, capsys, "--tenant", tenant)
    assert [each["refused"] for each in document["tenants"]] == [2]
    cut_over(admin, tenant)
    assert HTTP.post(path, json=body, headers=headers).status_code == 400
    assert HTTP.post(images, json=small, headers=headers).status_code == 400
    refused = admin.get(f"/usage:report?tenant={tenant}&by=parameter&by=key")
    assert refused.json()["violations"][0]["code"] == "not_together"
