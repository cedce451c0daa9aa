"""A model that another one serves: for a deployment or a tenant, whole or in part, amid running work."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.migration import ModelAlias
from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER, Client, calls_of
from tests.server.operators import ADMIN_KEY, Admin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx2

OLD, NEW = "gemini-3.1-flash-image", "gemini-nano-banana-2.1"
GOOGLE = f"/gemini/v1beta/models/{OLD}:generateContent"


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory, emulator: Running) -> Iterator[Admin]:
    settings = {"admin_key": ADMIN_KEY, "key_pepper": PEPPER, "emulator_base_url": emulator.url}
    with running_gateway(tmp_path_factory.mktemp("migration"), upstream="emulator", **settings) as process:
        yield Admin(process.url)


def tenant_of(admin: Admin, **fields: Any) -> tuple[str, Client]:
    tenant = f"t{secrets.token_hex(4)}"
    admin.tenant(tenant, **fields)
    return tenant, Client(admin.url, admin.key_of(tenant)["key"])


def cut_over(admin: Admin, tenant: str, to: Any = NEW) -> None:
    """What an operator writes, one line."""
    etag = admin.get(f"/tenants/{tenant}").headers["etag"]
    changed = admin.call("PATCH", f"/tenants/{tenant}", {"aliases": {OLD: to}}, If_Match=etag)
    assert changed.status_code == 200, changed.text


def fresh(**more: Any) -> dict[str, Any]:
    return {"prompt": f"Moved {secrets.token_hex(4)}", "delivery": "uri", **more}


def served_by(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["effective"]["model"])


def test_one_line_moves_a_tenant_and_says_so(admin: Admin) -> None:
    tenant, client = tenant_of(admin, models=[OLD])
    assert served_by(client.post(fresh(model=OLD))) == OLD
    cut_over(admin, tenant)
    moved = client.post(fresh(model=OLD))
    assert served_by(moved) == NEW
    assert "model_migrated" in {warning["code"] for warning in moved.json()["warnings"]}
    assert served_by(client.post(fresh())) == NEW, "the default model is one of those that are moved"
    refused = client.post(fresh(model=NEW))
    assert refused.json()["violations"][0]["code"] == "model_not_allowed", "only what it asked for is moved"
    small = client.post(fresh(image_size="512")).json()
    assert [(fault["pointer"], fault["code"]) for fault in small["violations"]] == [
        ("/image_size", "unsupported_image_size")
    ]


def test_it_is_moved_in_every_dialect(admin: Admin) -> None:
    tenant, client = tenant_of(admin)
    cut_over(admin, tenant)
    headers = {"X-API-Key": client.key}
    google = HTTP.post(
        f"{admin.url}{GOOGLE}", json={"contents": [{"parts": [{"text": "A boat"}]}]}, headers=headers
    )
    assert google.json()["modelVersion"] == NEW
    openai = HTTP.post(
        f"{admin.url}/openai/v1/images/generations", json={"prompt": "A boat", "model": OLD}, headers=headers
    )
    assert openai.status_code == 200
    report = admin.get(f"/usage:report?tenant={tenant}&by=model").json()
    assert {line["model"]: line["images"] for line in report["lines"]} == {NEW: 2}


def test_a_share_is_moved_and_equal_requests_stay_together(admin: Admin) -> None:
    tenant, client = tenant_of(admin)
    cut_over(admin, tenant, {"to": NEW, "share": "40 %"})
    bodies = [fresh() for _ in range(24)]
    models = [served_by(client.post(body)) for body in bodies]
    assert set(models) == {OLD, NEW}
    assert [served_by(client.post(body)) for body in bodies] == models


def test_a_repetition_across_the_cut_over_is_no_other_request(admin: Admin, emulator: Running) -> None:
    tenant, client = tenant_of(admin)
    body, calls = fresh(model=OLD), calls_of(emulator)
    first = client.post(body, Idempotency_Key='"order"')
    assert served_by(first) == OLD
    operation = client.post(body | {"prompt": "Later"}, Idempotency_Key='"op"', Prefer="respond-async")
    cut_over(admin, tenant)
    again = client.post(body, Idempotency_Key='"order"')
    assert (served_by(again), again.json()["images"]) == (OLD, first.json()["images"])
    assert again.json()["id"] == first.json()["id"]
    repeated = client.post(body | {"prompt": "Later"}, Idempotency_Key='"op"', Prefer="respond-async")
    assert repeated.headers["location"] == operation.headers["location"]
    assert calls_of(emulator) - calls == 2
    other = client.post(fresh(model=OLD), Idempotency_Key='"order"')
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    moved = client.post(body | {"prompt": "A new order"}, Idempotency_Key='"new"')
    assert served_by(moved) == NEW
    cut_over(admin, tenant, OLD)
    back = client.post(body | {"prompt": "A new order"}, Idempotency_Key='"new"')
    assert (served_by(back), back.json()["id"]) == (NEW, moved.json()["id"])


def test_a_conversation_stays_with_the_model_that_began_it(admin: Admin) -> None:
    tenant, client = tenant_of(admin)
    before = client.post(fresh(model=OLD)).json()
    cut_over(admin, tenant)
    assert served_by(client.post(fresh(model=OLD, continue_from=before["id"]))) == OLD
    after = client.post(fresh(model=OLD)).json()
    assert served_by(client.post(fresh(model=OLD, continue_from=after["id"]))) == NEW


def test_a_conversation_in_googles_dialect_is_moved_as_a_whole(admin: Admin) -> None:
    tenant, client = tenant_of(admin)
    cut_over(admin, tenant, {"to": NEW, "share": 0.5})
    seen = set()
    for subject in ("boat", "tree", "house", "bridge", "dune", "harbour", "orchard", "lighthouse"):
        turns: list[dict[str, Any]] = [{"role": "user", "parts": [{"text": f"A {subject}"}]}]
        models = []
        for word in ("in red", "in blue"):
            answer = HTTP.post(
                f"{admin.url}{GOOGLE}",
                json={"contents": turns},
                headers={"X-API-Key": client.key},
                timeout=60,
            )
            assert answer.status_code == 200, answer.text
            models.append(answer.json()["modelVersion"])
            turns += [
                answer.json()["candidates"][0]["content"],
                {"role": "user", "parts": [{"text": word}]},
            ]
        assert len(set(models)) == 1
        seen.add(models[0])
    assert seen == {OLD, NEW}


def test_a_conversation_in_googles_dialect_stays_where_it_began(admin: Admin, emulator: Running) -> None:
    tenant, client = tenant_of(admin)

    def take_turn(turns: list[dict[str, Any]]) -> httpx2.Response:
        headers = {"X-API-Key": client.key}
        return HTTP.post(f"{admin.url}{GOOGLE}", json={"contents": turns}, headers=headers, timeout=60)

    def go_on(turns: list[dict[str, Any]], answer: httpx2.Response) -> list[dict[str, Any]]:
        content = answer.json()["candidates"][0]["content"]
        return [*turns, content, {"role": "user", "parts": [{"text": "And in blue"}]}]

    opening = [{"role": "user", "parts": [{"text": f"A boat {secrets.token_hex(4)}"}]}]
    before = take_turn(opening)
    cut_over(admin, tenant)
    calls = calls_of(emulator)
    moved = [{"role": "user", "parts": [{"text": f"A tree {secrets.token_hex(4)}"}]}]
    after = take_turn(moved)
    assert take_turn(go_on(opening, before)).json()["modelVersion"] == OLD
    assert take_turn(go_on(moved, after)).json()["modelVersion"] == NEW
    assert calls_of(emulator) - calls == 3, "a refused call is none"
    cut_over(admin, tenant, {"to": NEW, "share": 0})
    assert take_turn(go_on(moved, after)).json()["modelVersion"] == NEW, "the alias still knows both"
    report = admin.get(f"/usage:report?tenant={tenant}&by=model").json()
    assert {line["model"]: line["images"] for line in report["lines"]} == {OLD: 2, NEW: 3}
    cut_over(admin, tenant, OLD)
    refused = take_turn(go_on(moved, after))
    assert (refused.status_code, "thought signature" in refused.text) == (400, True)


def test_models_tell_where_requests_are_served(admin: Admin) -> None:
    tenant, client = tenant_of(admin)
    headers = {"X-API-Key": client.key}

    def migrations() -> dict[str, Any]:
        models = HTTP.get(f"{admin.url}/v1/models", headers=headers).json()["models"]
        return {model["id"]: model["migration"] for model in models if model["migration"]}

    assert migrations() == {}
    cut_over(admin, tenant, {"to": NEW, "share": 0.05})
    assert migrations() == {OLD: {"model": NEW, "share": 0.05}}
    one = HTTP.get(f"{admin.url}/v1/models/nano-banana-2", headers=headers).json()
    assert one["migration"] == {"model": NEW, "share": 0.05}
    cut_over(admin, tenant, OLD)
    assert migrations() == {}


@pytest.mark.parametrize(
    ("aliases", "pointer"),
    [
        ({"no-such-model": NEW}, "/aliases"),
        ({OLD: "no-such-model"}, "/aliases"),
        ({OLD: {"to": NEW, "share": 1.5}}, f"/aliases/{OLD}/share"),
        ({OLD: {"to": NEW, "share": "much"}}, f"/aliases/{OLD}/share"),
    ],
)
def test_an_alias_that_means_nothing_is_refused(admin: Admin, aliases: Any, pointer: str) -> None:
    answer = admin.post("/tenants", {"id": "nobody", "aliases": aliases})
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["violations"]] == [pointer]


def test_a_line_of_the_deployment_moves_every_tenant(tmp_path: Path, emulator: Running) -> None:
    settings = {
        "admin_key": ADMIN_KEY, "key_pepper": PEPPER, "emulator_base_url": emulator.url,
        "model_aliases": f"nano-banana-2={NEW}",
    }  # fmt: skip
    with running_gateway(tmp_path, upstream="emulator", **settings) as process:
        admin = Admin(process.url)
        _, client = tenant_of(admin)
        assert served_by(client.post(fresh())) == NEW
        _, staying = tenant_of(admin, aliases={OLD: OLD})
        assert served_by(staying.post(fresh())) == OLD
        estimate = HTTP.post(
            f"{process.url}/v1/images:estimate", json=fresh(), headers={"X-API-Key": client.key}
        ).json()
        assert estimate["effective"]["model"] == NEW


@pytest.mark.parametrize("share", ["0.05", "5 %", "5%", 0.05])
def test_a_share_is_a_number_or_in_percent(share: Any) -> None:
    assert ModelAlias.model_validate({"to": NEW, "share": share}).share == pytest.approx(0.05)
    assert ModelAlias.model_validate(f"{NEW}:{share}").share == pytest.approx(0.05)
