"""Administration over two replicas with one store: what is changed at one is so at both."""

from __future__ import annotations

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.keys import ENTROPY_BYTES, hash_secret, mint
from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER, Client, Tenants, calls_of, tokens_a_day, wait_for, write_tenants
from tests.server.operators import ADMIN_KEY, Admin, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVERYWHERE_S = 3.0
"""Within this time a change is in force on every replica."""


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    return write_tenants(tmp_path_factory.mktemp("declared") / "t.yaml", {"of-file": tokens_a_day(1120)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the replicas' state and logs."""
    return tmp_path_factory.mktemp("admin")


@pytest.fixture(scope="module")
def replicas(folder: Path, settings: dict[str, str], declared: Tenants) -> Iterator[tuple[Running, Running]]:
    """Two processes that share a state directory, and so one embedded store."""
    own = {**settings, "admin_key": ADMIN_KEY, "tenants_file": str(declared.path)}
    with ExitStack() as stack:
        one, two = (stack.enter_context(running_gateway(folder, **own)) for _ in range(2))
        yield one, two


@pytest.fixture(scope="module")
def admin(replicas: tuple[Running, Running]) -> Admin:
    return Admin(replicas[0].url)


@pytest.fixture(scope="module")
def other(replicas: tuple[Running, Running]) -> Admin:
    """The operator at the second replica."""
    return Admin(replicas[1].url)


def soon(url: str, key: str, status: int) -> None:
    """The gateway answers so to the key within the promised time."""
    wait_for(lambda: status_of(url, key) == status, f"{status} at the other replica", EVERYWHERE_S)


def test_a_tenant_and_key_made_at_one_replica_draw_at_both(admin: Admin, other: Admin) -> None:
    admin.tenant("everywhere")
    key = admin.key_of("everywhere")["key"]
    soon(other.url, key, 200)
    for url in (admin.url, other.url):
        answer = Client(url, key).post({"prompt": "Made by an operator", "delivery": "uri"})
        assert answer.status_code == 200
    assert answer.json()["cache"]["status"] == "hit", "one tenant, one cache"


def test_a_revoked_key_opens_nothing_anywhere_within_three_seconds(admin: Admin, other: Admin) -> None:
    admin.tenant("revoking")
    issued = admin.key_of("revoking")
    soon(other.url, issued["key"], 200)
    assert admin.post(f"/tenants/revoking/keys/{issued['id']}:revoke").status_code == 204
    assert status_of(admin.url, issued["key"]) == 401, "at once where it was revoked"
    soon(other.url, issued["key"], 401)
    assert admin.get("/tenants/revoking/keys").json() == {"keys": []}
    assert admin.post(f"/tenants/revoking/keys/{issued['id']}:revoke").status_code == 404


def test_after_a_rotation_both_secrets_open_until_the_grace_is_over(admin: Admin, other: Admin) -> None:
    admin.tenant("rotating")
    first = admin.key_of("rotating")
    soon(other.url, first["key"], 200)
    rotated = admin.post(f"/tenants/rotating/keys/{first['id']}:rotate", {"grace_s": 3600}).json()
    assert rotated["id"] == first["id"]
    assert rotated["key"] != first["key"]
    assert rotated["retiring_until"] is not None
    soon(other.url, rotated["key"], 200)
    assert [status_of(url, first["key"]) for url in (admin.url, other.url)] == [200, 200]
    again = admin.post(f"/tenants/rotating/keys/{first['id']}:rotate", {"grace_s": 1}).json()
    assert status_of(admin.url, first["key"]) == 401, "only the last two secrets open"
    assert status_of(admin.url, again["key"]) == 200
    wait_for(lambda: status_of(admin.url, rotated["key"]) == 401, "the grace is over", EVERYWHERE_S)
    assert status_of(admin.url, again["key"]) == 200
    last = admin.post(f"/tenants/rotating/keys/{first['id']}:rotate", {"grace_s": 0}).json()
    assert [status_of(admin.url, key["key"]) for key in (again, last)] == [401, 200]


def test_a_change_needs_the_etag_of_what_it_changes(admin: Admin, other: Admin) -> None:
    made = admin.post("/tenants", {"id": "etags", "budgets": tokens_a_day(1)})
    path, etag = made.headers["location"].removeprefix("/v1/admin"), made.headers["etag"]
    assert admin.call("PATCH", path, {"max_image_size": "1K"}).status_code == 428
    assert admin.call("DELETE", path).status_code == 428
    changed = other.call("PATCH", path, {"budgets": tokens_a_day(7)}, If_Match=etag)
    assert changed.status_code == 200, changed.text
    assert changed.headers["etag"] != etag
    assert changed.json()["budgets"][0]["limit"] == 7
    for weak in (etag, f"W/{changed.headers['etag']}", '"nonsense"'):
        refused = admin.call("PATCH", path, {"budgets": []}, If_Match=weak)
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert admin.get(path).headers["etag"] == changed.headers["etag"]
    same = admin.call("PATCH", path, {"budgets": tokens_a_day(7)}, If_Match=changed.headers["etag"])
    assert same.headers["etag"] == changed.headers["etag"], "nothing changed, so no new version"
    assert other.call("DELETE", path, If_Match=changed.headers["etag"]).status_code == 204
    assert admin.get(path).status_code == 404
    assert admin.post("/tenants", {"id": "etags"}).headers["etag"] != etag, "a version is never used again"


def test_of_many_changes_of_one_version_exactly_one_is_made(admin: Admin, other: Admin) -> None:
    etag = admin.post("/tenants", {"id": "race"}).headers["etag"]
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(
                (admin, other)[n % 2].call, "PATCH", "/tenants/race", {"budgets": tokens_a_day(n + 1)},
                If_Match=etag,
            )
            for n in range(8)
        ]  # fmt: skip
        statuses = sorted(future.result().status_code for future in asked)
    assert statuses == [200] + [412] * 7


def test_keys_made_at_the_same_time_are_all_kept(admin: Admin, other: Admin) -> None:
    admin.tenant("many-keys")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: (admin, other)[n % 2].key_of("many-keys")["id"], range(4)))
    assert sorted(key["id"] for key in admin.get("/tenants/many-keys/keys").json()["keys"]) == sorted(made)


def test_tenants_of_the_file_are_seen_and_cannot_be_changed(admin: Admin, declared: Tenants) -> None:
    answer = admin.get("/tenants/of-file")
    assert answer.json()["source"] == "file"
    key_id = answer.json()["keys"][0]["id"]
    etag = answer.headers["etag"]
    refusals = [
        admin.post("/tenants", {"id": "of-file"}),
        admin.call("PATCH", "/tenants/of-file", {"max_image_size": "1K"}, If_Match=etag),
        admin.call("DELETE", "/tenants/of-file", If_Match=etag),
        admin.post("/tenants/of-file/keys", {}),
        admin.post(f"/tenants/of-file/keys/{key_id}:rotate"),
        admin.post(f"/tenants/of-file/keys/{key_id}:revoke"),
    ]
    for refused in refusals:
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert "tenants' file" in refused.json()["detail"]
    assert status_of(admin.url, declared.keys["of-file"]) == 200


def test_only_the_scope_admin_opens_administration(admin: Admin, declared: Tenants) -> None:
    admin.tenant("ops")
    operator = Admin(admin.url, admin.key_of("ops", scopes=["admin"])["key"])
    document = HTTP.get(f"{admin.url}/openapi.json").json()
    paths = [path for path in document["paths"] if path.startswith("/v1/admin")]
    assert len(paths) >= 8
    for path in paths:
        for method in document["paths"][path]:
            url = path.removeprefix("/v1/admin").format(tenant_id="of-file", key_id="k")
            for key, status in ((declared.keys["of-file"], 403), (ADMIN_KEY[:-1], 401), ("", 401)):
                assert Admin(admin.url, key).call(method.upper(), url).status_code == status, (method, url)
    assert operator.get("/tenants").status_code == 200
    assert operator.post("/tenants", {"id": "made-by-ops"}).status_code == 201
    latest = operator.get("/audit?limit=1").json()["events"][0]
    assert latest["operator"].startswith("ops/")
    assert Client(admin.url, operator.key).post({"prompt": "not an images key"}).status_code == 403


def test_unknown_tenants_and_keys_of_others_are_answered_alike(admin: Admin) -> None:
    admin.tenant("mine")
    theirs = admin.key_of("mine")["id"]
    admin.tenant("stranger")
    answers = [
        admin.post(f"/tenants/stranger/keys/{theirs}:rotate").json(),
        admin.post("/tenants/stranger/keys/unknown:rotate").json(),
    ]
    for answer in answers:
        del answer["request_id"], answer["instance"]
    assert answers[0] == answers[1]
    assert answers[0]["status"] == 404
    for path in ("/tenants/nobody", "/tenants/nobody/keys", "/usage?tenant=nobody"):
        assert admin.get(path).status_code == 404
    assert admin.get("/tenants/A%7Bb").status_code == 404


def test_every_fault_of_a_tenant_is_named_at_once(admin: Admin) -> None:
    body = {
        "id": "Not An Id",
        "time_zone": "Mars/Olympus",
        "budgets": [{"unit": "bananas", "window": "day", "limit": 1}, {"unit": "usd", "window": "day"}],
        "keys": [{"id": "k1", "hash": "fg_live_leaked", "scopes": ["everything"]}],
        "surprise": 1,
    }
    answer = admin.post("/tenants", body)
    assert answer.status_code == 422
    assert {item["pointer"] for item in answer.json()["violations"]} == {
        "/id",
        "/time_zone",
        "/budgets/0/unit",
        "/budgets/1/limit",
        "/keys/0/hash",
        "/keys/0/scopes",
        "/surprise",
    }
    assert "leaked" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "body", "pointers"),
    [
        ("PATCH", "/tenants/faults", {"id": "x", "keys": [], "models": 1}, ["/id", "/keys", "/models"]),
        ("PATCH", "/tenants/faults", {"budgets": {"unit": "usd"}}, ["/budgets"]),
        ("POST", "/tenants/faults/keys", {"hash": "x", "scopes": []}, ["/hash", "/scopes"]),
        ("POST", "/tenants/faults/keys", {"scopes": ["root"], "env": "UP"}, ["/env", "/scopes"]),
        ("POST", "/tenants/faults/keys/k:rotate", {"grace_s": -1}, ["/grace_s"]),
        ("POST", "/tenants/faults/keys/k:rotate", {"grace_s": 10**9}, ["/grace_s"]),
        ("POST", "/cache:purge", {}, [""]),
        ("POST", "/cache:purge", {"all": True, "tenant": "faults"}, [""]),
        ("POST", "/cache:purge", {"all": True, "fingerprint": "f"}, ["/fingerprint"]),
        ("POST", "/cache:purge", {"tenant": "faults", "fingerprint": "{x}"}, ["/fingerprint"]),
    ],
)  # fmt: skip
def test_faults_have_places(admin: Admin, method: str, path: str, body: Any, pointers: list[str]) -> None:
    if admin.get("/tenants/faults").status_code == 404:
        admin.tenant("faults")
    answer = admin.call(method, path, body, If_Match="*")
    assert answer.status_code == 422, answer.text
    assert sorted(item["pointer"] for item in answer.json()["violations"]) == pointers


def test_an_id_that_is_taken_is_a_conflict(admin: Admin) -> None:
    minted = mint("test", b"\x07" * ENTROPY_BYTES, "chosen")
    key = {"id": "chosen", "hash": f"hmac-sha256:{hash_secret(PEPPER.encode(), minted.secret)}"}
    keys = [{**key, "scopes": ["images"]}]
    assert admin.post("/tenants", {"id": "first", "keys": keys}).status_code == 201
    assert status_of(admin.url, minted.text) == 200, "a key whose secret was made elsewhere opens"
    assert admin.post("/tenants", {"id": "first"}).status_code == 409
    assert (
        admin.post("/tenants", {"id": "second", "keys": keys}).json()["detail"]
        == "A key with this id or identity already exists."
    )
    assert admin.get("/tenants/second").status_code == 404


def test_a_patched_budget_is_in_force_and_dollars_stay_exact(admin: Admin) -> None:
    fine = [{"unit": "usd", "window": "month", "limit": 0.1, "mode": "shadow"}, *tokens_a_day(1119)]
    etag = admin.post("/tenants", {"id": "patched", "budgets": fine}).headers["etag"]
    key = admin.key_of("patched")["key"]
    etag = admin.get("/tenants/patched").headers["etag"]
    client = Client(admin.url, key)
    assert client.post({"prompt": "One too dear", "delivery": "uri"}).status_code == 429
    fine[1]["limit"] = 1120
    patched = admin.call("PATCH", "/tenants/patched", {"budgets": fine}, If_Match=etag)
    assert patched.json()["budgets"][0]["limit"] == 0.1
    assert [entry["id"] for entry in patched.json()["keys"]], "its keys stay"
    assert client.post({"prompt": "One that fits", "delivery": "uri"}).status_code == 200
    lines = admin.get("/usage?tenant=patched").json()["windows"]
    assert [(line["name"], line["settled"]) for line in lines][1] == ("tenant-day-image_tokens", 1120)
    rows = list(csv.DictReader(io.StringIO(admin.get("/usage?tenant=patched&format=csv").text)))
    assert [float(row["settled"]) for row in rows] == [line["settled"] for line in lines]
    everybody = {line["tenant"] for line in admin.get("/usage").json()["windows"]}
    assert {"patched", "of-file"} <= everybody


def test_credit_and_overrides_change_what_is_admitted(admin: Admin) -> None:
    prepaid = {"unit": "usd", "window": "lifetime", "limit": 0}
    admin.tenant("prepaid", budgets=[prepaid, *tokens_a_day(1119)])
    client = Client(admin.url, admin.key_of("prepaid")["key"])
    body = {"prompt": "Paid in advance", "delivery": "uri"}
    path = "/tenants/prepaid/budgets"
    assert client.post(body).json()["violated_policies"] == [
        "tenant-lifetime-usd",
        "tenant-day-image_tokens",
    ]
    credit = {"unit": "usd", "amount": 2.5, "credit_id": "invoice-7"}
    for _ in range(2):
        answer = admin.post(f"{path}:credit", credit).json()
        assert (answer["credit"], answer["limit"], answer["resets_at"]) == (2.5, 2.5, None)
    assert client.post(body).json()["violated_policies"] == ["tenant-day-image_tokens"]
    raised = {"unit": "image_tokens", "window": "day", "limit": 1120, "until": "2120-01-01T00:00:00Z"}
    assert admin.post(f"{path}:override", raised).json()["limit"] == 1120
    assert client.post(body).status_code == 200
    ended = admin.post(f"{path}:override", {**raised, "until": "2020-01-01T00:00:00Z"}).json()
    assert (ended["limit"], ended["settled"], ended["remaining"]) == (1119, 1120, 0)
    taken = admin.post(f"{path}:credit", {**credit, "amount": -1, "credit_id": "refund-7"}).json()
    assert taken["credit"] == 1.5
    too_much = admin.post(f"{path}:credit", {**credit, "amount": -2, "credit_id": "refund-8"})
    other = admin.post(f"{path}:credit", {**credit, "amount": 3})
    assert [answer.status_code for answer in (too_much, other)] == [409, 409]
    assert admin.post(f"{path}:credit", {**credit, "unit": "images", "amount": 2}).status_code == 404
    assert admin.post(f"{path}:override", {**raised, "key": "unknown"}).status_code == 404
    fine = admin.post(f"{path}:credit", {**credit, "amount": 0.00000000001}).json()
    assert [item["pointer"] for item in fine["violations"]] == ["/amount"]
    events = [event for event in admin.get("/audit").json()["events"] if event["tenant"] == "prepaid"]
    assert events[0]["detail"] == "tenant-lifetime-usd -1000000000 by refund-7"


def test_the_unit_of_before_is_refused_and_names_those_of_today(admin: Admin) -> None:
    admin.tenant("renamed", budgets=tokens_a_day(1))
    named = {"unit": "output_tokens", "window": "day", "limit": 1}
    paths: dict[str, tuple[str, dict[str, Any]]] = {
        "/budgets/0/unit": ("/tenants", {"id": "earlier", "budgets": [named]}),
        "/projects/0/budgets/0/unit": (
            "/tenants",
            {"id": "earlier", "projects": [{"id": "p", "budgets": [named]}]},
        ),
        "/unit": (
            "/tenants/renamed/budgets:override",
            {**named, "until": "2120-01-01T00:00:00Z"},
        ),
    }
    credit = {"unit": "output_tokens", "amount": 1, "credit_id": "invoice-1"}
    answers = [(pointer, admin.post(*asked)) for pointer, asked in paths.items()]
    answers.append(("/unit", admin.post("/tenants/renamed/budgets:credit", credit)))
    for pointer, answer in answers:
        assert answer.status_code == 422, answer.text
        (fault,) = answer.json()["violations"]
        assert fault["pointer"] == pointer
        assert "output_tokens is no unit; image_tokens counts" in fault["detail"]
        assert "all_output_tokens counts" in fault["detail"]


def test_projects_rates_and_overrides_come_back_as_they_were_sent(admin: Admin) -> None:
    override = {"limit": 5, "until": "2120-01-01T00:00:00.500000Z"}
    cache = {"mode": "refresh", "ttl_s": 60, "quota_mb": 5, "dialects": "share"}
    fields = {
        "projects": [{"id": "website", "budgets": tokens_a_day(10)}],
        "rate": {"requests_per_minute": 600, "burst": 10, "concurrent": 50},
        "strict": True,
        "priority": "batch",
        "budgets": [{**tokens_a_day(3)[0], "override": override}],
        "cache": cache,
        "time_zone": "Europe/Berlin",
        "preview": ["4K"],
        "models": ["gemini-3.1-flash-image"],
        "max_image_size": "2K",
    }
    made = admin.tenant("whole", **fields)
    key = admin.key_of("whole", project="website", rate={"concurrent": 2}, priority="critical")
    assert (key["project"], key["rate"]["concurrent"], key["priority"]) == ("website", 2, "critical")
    assert made["rate"] == fields["rate"]
    assert made["projects"][0]["budgets"][0]["limit"] == 10
    assert made["budgets"][0]["override"] == {"limit": 5, "until": "2120-01-01T00:00:00.500000Z"}
    plain = ("strict", "priority", "cache", "time_zone", "preview", "models", "max_image_size")
    assert {name: made[name] for name in plain} == {name: fields[name] for name in plain}
    assert {line["project"] for line in admin.get("/usage?tenant=whole").json()["windows"]} == {
        None,
        "website",
    }
    refused = admin.call("PATCH", "/tenants/whole", {"projects": []}, If_Match="*")
    assert refused.status_code == 422, "a key belongs to the project"
    assert "website" in refused.text
    unknown = admin.post("/tenants/whole/keys", {"project": "nowhere"})
    assert unknown.status_code == 422
    none = admin.call("PATCH", "/tenants/whole", {"rate": None, "cache": {"ttl_s": 61}}, If_Match="*").json()
    assert (none["rate"], none["cache"]) == (None, {**cache, "ttl_s": 61})
    wrong = admin.call("PATCH", "/tenants/whole", {"cache": {"dialects": "shared"}}, If_Match="*")
    assert wrong.status_code == 422
    assert [fault["pointer"] for fault in wrong.json()["violations"]] == ["/cache/dialects"]


def test_a_tenants_quota_of_the_cache_is_in_force_at_once(admin: Admin) -> None:
    assert admin.tenant("roomless", cache={"quota_mb": 0})["cache"]["quota_mb"] == 0
    client = Client(admin.url, admin.key_of("roomless")["key"])
    body = {"prompt": "Nowhere to be kept", "image_size": "512", "delivery": "uri"}
    answers = [client.post(body).json() for _ in range(2)]
    assert [answer["cache"]["status"] for answer in answers] == ["miss", "miss"]
    assert "image_not_kept" in {warning["code"] for warning in answers[0]["warnings"]}
    admin.call("PATCH", "/tenants/roomless", {"cache": {"quota_mb": 1}}, If_Match="*")
    assert [client.post(body).json()["cache"]["status"] for _ in range(2)] == ["miss", "hit"]


def test_a_key_opens_nothing_before_its_time_and_after_it(admin: Admin) -> None:
    admin.tenant("expiring")
    gone = admin.key_of("expiring", expires_at="2020-01-01T00:00:00Z")["key"]
    alive = admin.key_of("expiring", expires_at="2120-01-01T00:00:00+02:00")
    assert alive["expires_at"].startswith("2119-12-31T22:00:00")
    later = admin.key_of("expiring", not_before="2119-01-01T00:00:00Z", expires_at="2120-01-01T00:00:00Z")
    assert later["not_before"].startswith("2119-01-01")
    assert [status_of(admin.url, key) for key in (gone, alive["key"], later["key"])] == [401, 200, 401]
    never = {"not_before": "2120-01-01T00:00:00Z", "expires_at": "2120-01-01T00:00:00Z"}
    refused = admin.post("/tenants/expiring/keys", never)
    assert [each["pointer"] for each in refused.json()["violations"]] == ["/expires_at"]


def test_the_audit_log_tells_who_did_what_and_holds_no_secret(admin: Admin, folder: Path) -> None:
    admin.tenant("audited")
    issued = admin.key_of("audited")
    rotated = admin.post(f"/tenants/audited/keys/{issued['id']}:rotate").json()
    admin.post(f"/tenants/audited/keys/{issued['id']}:revoke")
    admin.call("PATCH", "/tenants/audited", {"max_image_size": "1K"}, If_Match="*")
    admin.post("/cache:purge", {"tenant": "audited"})
    admin.call("DELETE", "/tenants/audited", If_Match="*")
    answer = admin.get("/audit")
    events = [event for event in answer.json()["events"] if event["tenant"] == "audited"]
    assert [event["action"] for event in reversed(events)] == [
        "tenant.create",
        "key.create",
        "key.rotate",
        "key.revoke",
        "tenant.change",
        "cache.purge",
        "tenant.delete",
    ]
    assert {event["operator"] for event in events} == {"environment"}
    assert events[2]["changed"] == ["max_image_size"]
    assert all(event["request_id"] for event in events)
    page = admin.get(f"/audit?limit=2&before={events[0]['id']}").json()
    assert page["events"][0]["id"] == events[1]["id"]
    assert page["next_before"] == page["events"][-1]["id"]
    secrets = [
        ADMIN_KEY,
        *(text for key in (issued, rotated) for text in (key["key"], key["key"].split("_")[3])),
    ]
    logs = [path.read_text() for path in folder.glob("gateway-*.log")]
    for text in (answer.text, admin.get("/tenants").text, *logs):
        assert not [secret for secret in secrets if secret in text]
    assert any("an operator made a change" in log and "tenant.delete" in log for log in logs)


def test_a_key_may_be_narrower_than_its_tenant_and_never_wider(admin: Admin) -> None:
    admin.tenant("narrow", max_image_size="2K", models=["gemini-3.1-flash-image"])
    rights = {"models": ["nano-banana-2"], "max_image_size": "512", "preview": []}
    issued = admin.key_of("narrow", **rights)
    assert issued["models"] == ["gemini-3.1-flash-image"]
    assert (issued["max_image_size"], issued["preview"]) == ("512", [])
    narrow, whole = Client(admin.url, issued["key"]), Client(admin.url, admin.key_of("narrow")["key"])
    asked = {"prompt": "As large as may be", "delivery": "uri", "image_size": "1K"}
    refused = narrow.post(asked).json()
    assert [item["code"] for item in refused["violations"]] == ["image_size_not_allowed"]
    assert refused["violations"][0]["allowed"] == ["512"]
    assert whole.post(asked).status_code == 200
    assert narrow.post({**asked, "image_size": "512"}).status_code == 200
    wider = admin.post("/tenants/narrow/keys", {"models": ["gemini-3-pro-image"]})
    assert (wider.status_code, wider.json()["code"]) == (422, "validation_failed")
    models = ["gemini-3-pro-image"]
    changed = admin.call("PATCH", "/tenants/narrow", {"models": models}, If_Match="*")
    assert changed.status_code == 422, "a key would be left with a model that is not its tenant's"


def test_names_that_no_key_or_event_can_have_are_answered_as_unknown(admin: Admin) -> None:
    admin.tenant("odd-names")
    odd = admin.post("/tenants/odd-names/keys/%C2%8A%C2%A1:rotate", {})
    assert (odd.status_code, odd.json()["code"]) == (404, "not_found")
    for before in ("0-0", "000-0"):
        assert admin.get(f"/audit?before={before}").json() == {"events": [], "next_before": None}
    greatest = "9" * 20
    assert admin.get(f"/audit?limit=1&before={greatest}-{greatest}").json()["events"]


def test_a_boolean_is_no_number_of_seconds(admin: Admin) -> None:
    admin.tenant("no-seconds")
    key_id = admin.key_of("no-seconds")["id"]
    answer = admin.post(f"/tenants/no-seconds/keys/{key_id}:rotate", {"grace_s": False})
    assert [item["pointer"] for item in answer.json()["violations"]] == ["/grace_s"]


def test_a_wrong_method_is_told_every_right_one(admin: Admin) -> None:
    answer = admin.call("PUT", "/tenants", {})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    answer = admin.call("POST", "/tenants/anybody", {})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, PATCH, DELETE")


def test_a_purge_is_seen_by_the_next_request(admin: Admin, emulator: Running) -> None:
    admin.tenant("purged")
    client = Client(admin.url, admin.key_of("purged")["key"])
    body = {"prompt": "To be forgotten", "delivery": "uri"}
    key = client.post(body).json()["cache"]["key"]
    other = {"prompt": "To be kept", "delivery": "uri"}
    client.post(other)
    assert client.post(body).json()["cache"]["status"] == "hit"
    calls = calls_of(emulator)
    answer = admin.post("/cache:purge", {"tenant": "purged", "fingerprint": key})
    assert list(answer.json()["purged_until"]) == ["purged"]
    assert client.post(body).json()["cache"]["status"] == "miss"
    assert client.post(body).json()["cache"]["status"] == "hit"
    assert client.post(other).json()["cache"]["status"] == "hit", "one piece of work alone"
    admin.post("/cache:purge", {"all": True})
    assert [client.post(each).json()["cache"]["status"] for each in (body, other)] == ["miss", "miss"]
    assert calls_of(emulator) - calls == 3


def test_a_purge_is_not_undone_by_the_work_in_flight(admin: Admin, other: Admin, emulator: Running) -> None:
    admin.tenant("in-flight")
    key = admin.key_of("in-flight")["key"]
    soon(other.url, key, 200)
    body = {"prompt": "Begun before the purge [[emulate:hold:purge]]", "delivery": "uri"}
    client = Client(admin.url, key)
    calls = calls_of(emulator)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, body)
        wait_for(lambda: calls_of(emulator) - calls == 1, "the first call is in flight")
        assert admin.post("/cache:purge", {"tenant": "in-flight"}).status_code == 200
        second = pool.submit(Client(other.url, key).post, body)
        wait_for(lambda: calls_of(emulator) - calls == 2, "what comes after the purge is made anew")
        HTTP.post(f"{emulator.url}/emulator/release/purge").raise_for_status()
        answers = [first.result(), second.result()]
    assert [answer.status_code for answer in answers] == [200, 200], "who paid is served"
    kept = client.post(body).json()
    assert kept["cache"]["status"] == "hit"
    assert kept["id"] == answers[1].json()["id"], "and what is kept is the later one"
    assert client.budget()["held"] == 0
