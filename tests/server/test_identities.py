"""Google accounts instead of keys, through the whole gateway; a local server stands in for Google's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.identity.google import ACCOUNT, AUDIENCE, IAP_AUDIENCE, REMOVED, Google, Iap, google, iap
from tests.identity.vectors import REFUSED
from tests.processes import HTTP, running_gateway
from tests.server.conftest import PEPPER, wait_for, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from tests.processes import Running
    from tests.server.conftest import Tenants

ADMIN_KEY = "an operator's key of the tests, long enough"
OTHER = "other@a-project.iam.gserviceaccount.com"


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Google]:
    with google() as running:
        yield running


@pytest.fixture(scope="module")
def proxy() -> Iterator[Iap]:
    with iap() as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    """The tenant ``search`` with a key, and an account of its own budget of one picture."""
    folder = tmp_path_factory.mktemp("identities")
    found = write_tenants(folder / "tenants.yaml", {"search": []})
    document = yaml.safe_load(found.path.read_text())
    one_picture = [{"unit": "image_tokens", "window": "day", "limit": 747}]
    document["tenants"][0]["keys"] += [
        {"id": "crawler", "email": ACCOUNT.upper(), "scopes": ["images"], "budgets": one_picture},
        {"id": "over", "subject": "42", "scopes": ["images"], "expires_at": "2026-01-01T00:00:00Z"},
    ]
    found.path.write_text(yaml.safe_dump(document))
    return found


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, files: Tenants, emulator: Running, stand_in: Google, proxy: Iap
) -> Iterator[Running]:
    with running_gateway(
        tmp_path_factory.mktemp("gateway"),
        tenants_file=str(files.path),
        key_pepper=PEPPER,
        admin_key=ADMIN_KEY,
        upstream="emulator",
        emulator_base_url=emulator.url,
        identity_audiences=json.dumps([AUDIENCE]),
        **{"identity.certs_url": json.dumps(stand_in.url)},
        iap_audiences=json.dumps([IAP_AUDIENCE]),
        **{"iap.certs_url": json.dumps(proxy.url)},
    ) as process:
        yield process


def usage(gateway: Running, *headers: tuple[str, str]) -> httpx2.Response:
    return HTTP.get(f"{gateway.url}/v1/usage", headers=list(headers))


def bearer(token: str, header: str = "Authorization") -> tuple[str, str]:
    return header, f"Bearer {token}"


def admin(gateway: Running, method: str, path: str, body: dict[str, Any] | None = None) -> httpx2.Response:
    url = f"{gateway.url}/v1/admin{path}"
    return HTTP.request(method, url, json=body, headers={"X-API-Key": ADMIN_KEY})


@pytest.mark.parametrize("header", ["Authorization", "X-Serverless-Authorization"])
def test_an_account_is_let_in_by_its_token_alone(gateway: Running, stand_in: Google, header: str) -> None:
    answer = usage(gateway, bearer(stand_in.token(), header))
    assert answer.status_code == 200
    assert [budget["name"] for budget in answer.json()["budgets"]] == ["key-day-image_tokens"]


def test_an_account_has_the_budget_of_its_key(gateway: Running, stand_in: Google) -> None:
    def ask(seed: int) -> httpx2.Response:
        body = {"prompt": "A lighthouse", "image_size": "512", "seed": seed, "delivery": "uri"}
        headers = dict([bearer(stand_in.token())])
        return HTTP.post(f"{gateway.url}/v1/images:generate", json=body, headers=headers)

    assert ask(1).status_code == 200
    refused = ask(2)
    assert refused.status_code == 429
    assert refused.json()["violated_policies"] == ["key-day-image_tokens"]


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_token_that_is_wrong_in_one_way_opens_nothing(
    gateway: Running, stand_in: Google, wrong: str
) -> None:
    token = REFUSED[wrong](stand_in)
    for header in ("Authorization", "X-Serverless-Authorization"):
        answer = usage(gateway, bearer(token, header))
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert token not in answer.text


@pytest.mark.parametrize("shown", [{"sub": "1", "email": OTHER}, {"sub": "42", "email": None}])
def test_an_account_that_is_unknown_or_whose_key_is_over_is_refused(
    gateway: Running, stand_in: Google, shown: dict[str, Any]
) -> None:
    assert usage(gateway, bearer(stand_in.token(**shown))).status_code == 401


def test_a_flood_of_made_up_key_ids_does_not_reach_google(gateway: Running, stand_in: Google) -> None:
    assert usage(gateway, bearer(stand_in.token())).status_code == 200
    known = stand_in.readings
    for count in range(100):
        stand_in.key_id = f"made-up-{count}"
        assert usage(gateway, bearer(stand_in.token())).status_code == 401
    stand_in.key_id = "first"
    assert stand_in.readings - known <= 1
    assert usage(gateway, bearer(stand_in.token())).status_code == 200


def test_a_key_goes_before_the_token_that_the_platform_wants(
    gateway: Running, stand_in: Google, files: Tenants
) -> None:
    key = ("X-API-Key", files.keys["search"])
    for header in ("Authorization", "X-Serverless-Authorization"):
        for token in (stand_in.token(), f"{stand_in.token().rpartition('.')[0]}.{REMOVED}"):
            answer = usage(gateway, key, bearer(token, header))
            assert answer.status_code == 200
            assert answer.json()["budgets"] == []
    both = usage(gateway, bearer(files.keys["search"]), bearer("x.y.z", "X-Serverless-Authorization"))
    assert both.status_code == 200


def test_whom_the_proxy_has_let_in_goes_before_what_was_shown_to_it(
    gateway: Running, stand_in: Google, proxy: Iap, files: Tenants
) -> None:
    asserted = ("X-Goog-Iap-Jwt-Assertion", proxy.assertion())
    forged = ("X-Goog-Iap-Jwt-Assertion", proxy.token())
    unknown = bearer(stand_in.token(sub="1", email=OTHER))
    assert usage(gateway, asserted).status_code == 200
    assert usage(gateway, asserted, unknown).status_code == 200
    assert usage(gateway, forged).status_code == 401
    assert usage(gateway, forged, bearer(stand_in.token())).status_code == 401
    for header in ("X-Goog-Authenticated-User-Email", "X-Goog-Authenticated-User-Id"):
        assert usage(gateway, (header, f"accounts.google.com:{ACCOUNT}")).status_code == 401
    by_key = usage(gateway, asserted, ("X-API-Key", files.keys["search"]))
    assert by_key.json()["budgets"] == []


def test_every_dialect_takes_tokens(gateway: Running, stand_in: Google) -> None:
    headers = dict([bearer(stand_in.token())])
    for path in ("/v1/models", "/gemini/v1beta/models", "/openai/v1/models"):
        assert HTTP.get(gateway.url + path, headers=headers).status_code == 200, path
        assert HTTP.get(gateway.url + path, headers={"Authorization": "Bearer x.y.z"}).status_code in {
            400,
            401,
        }


def test_operators_let_an_account_in_and_out_while_it_runs(gateway: Running, stand_in: Google) -> None:
    token = stand_in.token(sub="77", email=OTHER)
    assert admin(gateway, "POST", "/tenants", {"id": "maps"}).status_code == 201
    made = admin(gateway, "POST", "/tenants/maps/identities", {"email": OTHER.title()})
    assert made.status_code == 201
    assert made.json()["email"] == OTHER
    assert "hash" not in made.json()
    assert usage(gateway, bearer(token)).status_code == 200
    assert admin(gateway, "POST", "/tenants", {"id": "atlas"}).status_code == 201
    taken = admin(gateway, "POST", "/tenants/atlas/identities", {"email": OTHER})
    assert taken.status_code == 409
    twice = admin(gateway, "POST", "/tenants/maps/identities", {"email": OTHER})
    assert twice.status_code == 422
    assert twice.json()["violations"][0]["pointer"] == "/keys/1/email"
    of_the_file = admin(gateway, "POST", "/tenants/atlas/identities", {"email": ACCOUNT})
    assert of_the_file.status_code == 409
    rotated = admin(gateway, "POST", f"/tenants/maps/keys/{made.json()['id']}:rotate")
    assert rotated.status_code == 409
    revoked = admin(gateway, "POST", f"/tenants/maps/keys/{made.json()['id']}:revoke")
    assert revoked.status_code == 204
    wait_for(lambda: usage(gateway, bearer(token)).status_code == 401, "the account is let out")
    again = admin(gateway, "POST", "/tenants/atlas/identities", {"email": OTHER})
    assert again.status_code == 201


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"email": OTHER, "subject": "1"}, ""),
        ({"email": "not an address"}, "/email"),
        ({"subject": "a b"}, "/subject"),
        ({"email": OTHER, "hash": "hmac-sha256:" + "0" * 64}, "/hash"),
        ({"email": OTHER, "scopes": ["all"]}, "/scopes"),
        ({"email": OTHER, "env": "live"}, "/env"),
    ],
)
def test_a_faulty_account_is_refused_with_the_place_of_its_fault(
    gateway: Running, body: dict[str, Any], pointer: str
) -> None:
    answer = admin(gateway, "POST", "/tenants/search/identities", body)
    assert answer.status_code == 422
    assert pointer in [fault["pointer"] for fault in answer.json()["violations"]]


def test_where_no_audience_is_set_no_token_opens_anything(
    tmp_path: Any, files: Tenants, emulator: Running, stand_in: Google
) -> None:
    read = stand_in.readings
    with running_gateway(
        tmp_path,
        tenants_file=str(files.path),
        key_pepper=PEPPER,
        upstream="emulator",
        emulator_base_url=emulator.url,
        **{"identity.certs_url": json.dumps(stand_in.url)},
    ) as process:
        for header in ("Authorization", "X-Serverless-Authorization", "X-Goog-Iap-Jwt-Assertion"):
            assert usage(process, bearer(stand_in.token(), header)).status_code == 401
        for header in ("X-Goog-Authenticated-User-Email", "X-Goog-Authenticated-User-Id"):
            assert usage(process, (header, f"accounts.google.com:{ACCOUNT}")).status_code == 401
    assert stand_in.readings == read


def test_behind_cloud_runs_door_only_the_header_that_it_has_read_counts(
    tmp_path: Any, files: Tenants, emulator: Running, stand_in: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K_SERVICE", "flashgate")
    mine = f"{stand_in.token(sub='1', email=OTHER).rpartition('.')[0]}.{REMOVED}"
    forged = f"{stand_in.token().rpartition('.')[0]}.{REMOVED}"
    with running_gateway(
        tmp_path,
        tenants_file=str(files.path),
        key_pepper=PEPPER,
        allow_embedded_store="true",
        upstream="emulator",
        emulator_base_url=emulator.url,
        identity_audiences=json.dumps([AUDIENCE]),
        **{"identity.certs_url": json.dumps("http://127.0.0.1:9/nothing-listens-here")},
        identity_signature="platform",
    ) as process:
        platform = "X-Serverless-Authorization"
        assert usage(process, bearer(forged)).status_code == 200
        assert usage(process, bearer(forged, platform)).status_code == 200
        # The caller is let in as somebody, and says in the other header to be somebody else.
        assert usage(process, bearer(mine, platform), bearer(forged)).status_code == 401
        assert usage(process, bearer(mine), bearer(forged)).status_code == 401
        assert usage(process, bearer(forged), bearer(mine)).status_code == 401
        assert usage(process, bearer(forged, platform), bearer(mine, platform)).status_code == 401
        # A token with a signature is checked as ever, which needs Google's keys.
        unavailable = usage(process, bearer(stand_in.token()))
        assert (unavailable.status_code, unavailable.json()["code"]) == (503, "identity_unavailable")
        assert int(unavailable.headers["retry-after"]) >= 1
