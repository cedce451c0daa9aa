"""Reports of usage as tenants and operators see them."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER, Client
from tests.server.operators import ADMIN_KEY, Admin

if TYPE_CHECKING:
    from collections.abc import Iterator

PICTURE_USD = 0.060 * 747 / 1000


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory, emulator: Running) -> Iterator[Admin]:
    settings = {"admin_key": ADMIN_KEY, "key_pepper": PEPPER, "emulator_base_url": emulator.url}
    with running_gateway(tmp_path_factory.mktemp("reports"), upstream="emulator", **settings) as process:
        yield Admin(process.url)


@pytest.fixture(scope="module")
def spenders(admin: Admin) -> dict[str, Client]:
    """Two keys of one tenant and one of another: three pictures are paid, two are found."""
    keys = {}
    for name, tenant in (("web", "acme"), ("app", "acme"), ("solo", "other")):
        if name != "app":
            admin.tenant(tenant)
        keys[name] = admin.key_of(tenant)
    found = {name: Client(admin.url, key["key"]) for name, key in keys.items()}

    def draw(name: str, prompt: str, size: str, **labels: str) -> None:
        body = {"prompt": prompt, "image_size": size, "delivery": "uri", "labels": labels}
        assert found[name].post(body).status_code == 200

    draw("web", "one", "512", team="red")
    draw("web", "two", "1K", team="red", stage="test")
    draw("app", "one", "512", team="=cmd()")
    draw("app", "one", "512")
    draw("solo", "one", "512")
    return found


def lines(admin: Admin, query: str) -> list[dict[str, Any]]:
    answer = admin.get(f"/usage:report?{query}")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["lines"])


def test_a_caller_sees_what_its_own_key_used_and_was_saved(spenders: dict[str, Client]) -> None:
    web = spenders["web"].get("/v1/usage").json()
    today = datetime.now(UTC).date()
    assert (web["since"], web["until"]) == (today.replace(day=1).isoformat(), today.isoformat())
    spent = web["spent"]
    assert (spent["requests"], spent["images"], spent["image_tokens"]) == (2, 2, 747 + 1120)
    output = sum(spent[part] for part in ("image_tokens", "text_output", "thinking"))
    assert output == spent["output_tokens"] > spent["image_tokens"]
    assert output + spent["text_input"] + spent["image_input"] == spent["total_tokens"]
    assert spent["hits"] == spent["saved_images"] == spent["saved_usd"] == 0
    saved = spenders["app"].get("/v1/usage").json()["spent"]
    assert (saved["requests"], saved["cost_usd"]) == (0, 0)
    assert (saved["hits"], saved["saved_images"], saved["saved_image_tokens"]) == (2, 2, 2 * 747)
    assert saved["saved_usd"] > 2 * PICTURE_USD


def test_operators_see_all_by_whatever_they_ask(admin: Admin, spenders: dict[str, Client]) -> None:
    assert spenders
    tenants = {line["tenant"]: line for line in lines(admin, "by=tenant")}
    assert {name: line["images"] for name, line in tenants.items()} == {"acme": 2, "other": 1}
    assert {name: line["saved_images"] for name, line in tenants.items()} == {"acme": 2, "other": 0}
    sizes = lines(admin, "tenant=acme&by=model&by=size")
    assert [(line["model"], line["size"], line["requests"]) for line in sizes] == [
        ("gemini-3.1-flash-image", "1K", 1),
        ("gemini-3.1-flash-image", "512", 1),
    ]
    assert len(lines(admin, "tenant=acme&by=key&by=day")) == 2
    labels = {line["label"]: (line["images"], line["hits"]) for line in lines(admin, "tenant=acme&by=label")}
    assert labels == {"team=red": (2, 0), "stage=test": (1, 0), "team==cmd()": (0, 1)}


def test_a_report_is_csv_that_no_spreadsheet_runs(admin: Admin, spenders: dict[str, Client]) -> None:
    assert spenders
    answer = admin.get("/usage:report?tenant=acme&by=label&by=month&format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["label"] for row in rows] == ["stage=test", "team==cmd()", "team=red"]
    assert all(row["month"] == datetime.now(UTC).strftime("%Y-%m") for row in rows)
    assert next(iter(rows[0])) == "label"


@pytest.mark.parametrize(
    ("query", "place", "code"),
    [
        ("by=label&by=key", "/by", "not_together"),
        ("since=2026-02-02&until=2026-02-01", "/since", "out_of_order"),
        ("since=2020-01-01&until=2026-02-01", "/since", "too_many_days"),
    ],
)
def test_a_report_that_cannot_be_made_is_refused_by_name(
    admin: Admin, query: str, place: str, code: str
) -> None:
    answer = admin.get(f"/usage:report?{query}")
    assert answer.status_code == 422
    assert [(each["pointer"], each["code"]) for each in answer.json()["violations"]] == [(place, code)]


def test_an_unknown_dimension_is_refused(admin: Admin) -> None:
    answer = admin.get("/usage:report?by=prompt")
    assert answer.status_code == 422
    assert "label" in answer.text


def test_nobody_else_opens_reports(admin: Admin, spenders: dict[str, Client]) -> None:
    for headers, status in (({}, 401), ({"X-API-Key": spenders["web"].key}, 403)):
        assert HTTP.get(f"{admin.url}/v1/admin/usage:report", headers=headers).status_code == status


def test_the_keys_of_a_tenant_tell_when_they_were_last_served(
    admin: Admin, spenders: dict[str, Client]
) -> None:
    assert spenders
    admin.key_of("acme")
    used = [key["last_used_at"] for key in admin.get("/tenants/acme/keys").json()["keys"]]
    assert [bool(at) for at in used] == [True, True, False]


def test_end_users_are_reported_by_id_and_asked_for_by_name(admin: Admin) -> None:
    budget = {"unit": "images", "window": "lifetime", "limit": 2, "scope": "user"}
    admin.tenant("served", budgets=[budget])
    client = Client(admin.url, admin.key_of("served")["key"])

    def draw(user: str, prompt: str) -> int:
        body = {"prompt": prompt, "image_size": "512", "delivery": "uri", "user": user}
        return client.post(body).status_code

    assert [draw("ann", "a"), draw("ann", "b"), draw("bob", "c"), draw("ann", "d")] == [200, 200, 200, 429]
    ann, bob = (
        client.get("/v1/usage", X_Flashgate_User=name).json()["user"]["id"] for name in ("ann", "bob")
    )
    found = lines(admin, "tenant=served&by=user&top=5")
    assert [(line["user"], line["images"]) for line in found] == [(ann, 2), (bob, 1)]
    assert [line["user"] for line in lines(admin, "tenant=served&by=user&by=day&top=1")] == [ann]
    assert admin.get("/usage:report?by=user&by=model").status_code == 422
    assert admin.get("/usage:report?by=user&by=label").status_code == 422
    for user in ("ann", ann):
        (window,) = admin.get(f"/usage?tenant=served&user={user}").json()["windows"]
        assert (window["user"], window["name"], window["settled"]) == (ann, "user-lifetime-images", 2)
    assert admin.get("/usage?tenant=served").json()["windows"] == [], "nobody is listed without being named"

    credit = {"unit": "images", "user": "ann", "amount": 1, "credit_id": "gift-1"}
    assert admin.post("/tenants/served/budgets:credit", credit).json()["remaining"] == 1
    assert [draw("ann", "e"), draw("ann", "f")] == [200, 429]
    assert [draw("bob", "g"), draw("bob", "h")] == [200, 429], "the credit is ann's"
    override = {
        "unit": "images",
        "window": "lifetime",
        "user": bob,
        "limit": 3,
        "until": "2999-01-01T00:00:00Z",
    }
    assert admin.post("/tenants/served/budgets:override", override).status_code == 200
    assert draw("bob", "i") == 200
    events = admin.get("/audit").json()["events"]
    assert [event["detail"].split()[:2] for event in events[:2]] == [
        ["user-lifetime-images", bob],
        ["user-lifetime-images", ann],
    ]
    missing = {**credit, "unit": "usd", "credit_id": "gift-2"}
    assert admin.post("/tenants/served/budgets:credit", missing).status_code == 404
