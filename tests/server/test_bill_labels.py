"""Labels in Google's bill, as they arrive at the emulator, which checks them as strictly as Vertex AI."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, Running, running_emulator, running_gateway
from tests.server.conftest import PEPPER, Client, tokens_a_day, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

LONG = "a-tenant-whose-name-is-as-long-as-any-name-of-a-tenant-may-be-1"
PATH = "/gemini/v1beta/models/gemini-3.1-flash-image:generateContent"


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_emulator(tmp_path_factory.mktemp("google"), ["--pace", "0"]) as process:
        yield process


@pytest.fixture(scope="module", params=["emulator", "gemini"])
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, google: Running
) -> Iterator[Client]:
    """A caller of Vertex AI's form, then one of the Gemini Developer API."""
    folder = tmp_path_factory.mktemp("gateway")
    known = write_tenants(
        folder / "t.yaml", {LONG: tokens_a_day(10**6)}, {LONG: {"projects": [{"id": "shop"}]}}
    )
    text = known.path.read_text()
    known.path.write_text(text.replace("    scopes:", "    project: shop\n    scopes:"))
    settings = {
        "tenants_file": str(known.path),
        "key_pepper": PEPPER,
        "upstream": request.param,
        "emulator_base_url": google.url,
        "gemini_base_url": google.url,
        "gemini_api_key": "a-key",
        "vertex_labels": "tenant,project,request",
    }
    with running_gateway(folder / "g", **settings) as gateway:
        yield Client(gateway.url, known.keys[LONG])


def arrived(google: Running) -> list[dict[str, str]]:
    """The labels of the calls since the last look."""
    calls = HTTP.get(f"{google.url}/emulator/calls").json()
    HTTP.delete(f"{google.url}/emulator/calls").raise_for_status()
    return [json.loads(labels) for labels in calls["by_labels"]]


def knows_labels(request: pytest.FixtureRequest) -> bool:
    return bool(request.node.callspec.params["client"] == "emulator")


def post_google(client: Client, **members: Any) -> httpx2.Response:
    config = {"imageConfig": {"imageSize": "512"}, "responseModalities": ["IMAGE"]}
    contents = [{"role": "user", "parts": [{"text": "Labelled"}]}]
    body = {"contents": contents, "generationConfig": config, **members}
    return HTTP.post(f"{client.url}{PATH}", json=body, headers={"x-goog-api-key": client.key})


OURS = {"flashgate_tenant": LONG, "flashgate_project": "shop"}


def test_tenant_project_and_the_requests_labels_arrive_as_google_takes_them(
    client: Client, google: Running, request: pytest.FixtureRequest
) -> None:
    arrived(google)
    body = {"prompt": "Labelled", "image_size": "512", "delivery": "uri"}
    answer = client.post({**body, "labels": {"Cost Centre": "Größe 7", "cost centre": "8", "1": ""}})
    assert answer.status_code == 200, answer.text
    expected = [{**OURS, "cost_centre": "gr__e_7", "x1": ""}]
    assert arrived(google) == (expected if knows_labels(request) else [])
    left_out = [each["detail"] for each in answer.json()["warnings"] if each["code"] == "bill_label_left_out"]
    assert [detail.partition(": ")[2] for detail in left_out] == ["cost centre."] * knows_labels(request)


def test_a_body_in_googles_format_keeps_its_labels_and_has_the_gateways_beside_them(
    client: Client, google: Running, request: pytest.FixtureRequest
) -> None:
    arrived(google)
    own = {"team": "a", "flashgate_tenant": "another"}
    assert post_google(client, labels=own, safetySettings=[]).status_code == 200
    assert arrived(google) == ([{**own, **OURS}] if knows_labels(request) else [own])
    assert post_google(client, generationConfig={"stopSequences": ["x"]}).status_code == 200
    assert arrived(google) == ([OURS] if knows_labels(request) else [])


def test_a_label_that_google_refuses_is_refused_and_not_paid(
    client: Client, request: pytest.FixtureRequest
) -> None:
    before = client.budget()["settled"]
    status = post_google(client, labels={"Team": "A"}).status_code
    assert status == (400 if knows_labels(request) else 200)
    assert client.budget()["settled"] - before == (0 if knows_labels(request) else 747)
