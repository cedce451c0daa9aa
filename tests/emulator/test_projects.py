"""Projects of the emulator: who may call, how often, and what Google says to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.conftest import EXPRESS, GENERATE, MODEL, VERTEX, asking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

SMALL = asking("A fox", imageConfig={"imageSize": "512"}, responseModalities=["IMAGE"])


@pytest.fixture(autouse=True)
async def _own_projects(client: httpx2.AsyncClient) -> AsyncIterator[None]:
    projects = [
        {"id": "p", "keys": ["a-key", "another"], "requests_per_minute": 2},
        {"id": "gone", "keys": ["k2"], "state": "suspended"},
        {"id": "spent", "keys": ["k3"], "state": "capped"},
        {"id": "rich", "keys": ["k4"]},
    ]
    answer = await client.put("/emulator/projects", json={"projects": projects})
    assert answer.status_code == 204, answer.text
    yield
    await client.delete("/emulator/projects")


async def ask(
    client: httpx2.AsyncClient, path: str, key: str, body: dict[str, Any] = SMALL
) -> httpx2.Response:
    return await client.post(path, json=body, headers={"x-goog-api-key": key})


@pytest.mark.parametrize(
    ("path", "key", "status", "reason"),
    [
        (GENERATE, "unknown", 400, "API_KEY_INVALID"),
        (EXPRESS, "unknown", 400, "API_KEY_INVALID"),
        (VERTEX.replace("/p/", "/foreign/"), "a-key", 403, "IAM_PERMISSION_DENIED"),
        (GENERATE, "k2", 403, "CONSUMER_SUSPENDED"),
        (VERTEX.replace("/p/", "/gone/"), "any-token", 403, "CONSUMER_SUSPENDED"),
    ],
)
async def test_who_is_unknown_or_suspended_is_refused(
    path: str, key: str, status: int, reason: str, client: httpx2.AsyncClient
) -> None:
    answer = await ask(client, path, key)
    assert answer.status_code == status
    assert answer.json()["error"]["details"][0]["reason"] == reason


async def test_a_quota_belongs_to_a_project_and_not_to_a_key(client: httpx2.AsyncClient) -> None:
    assert [(await ask(client, GENERATE, key)).status_code for key in ("a-key", "another")] == [200, 200]
    refused = (await ask(client, GENERATE, "a-key")).json()["error"]
    assert (refused["code"], refused["status"]) == (429, "RESOURCE_EXHAUSTED")
    violation, _, retry = refused["details"]
    assert violation["violations"][0]["quotaId"] == "GenerateRequestsPerMinutePerProjectPerModel"
    assert violation["violations"][0]["quotaValue"] == "2"
    assert 50 < float(retry["retryDelay"].removesuffix("s")) <= 60
    vertex = (await ask(client, VERTEX, "any-token")).json()["error"]
    assert vertex["message"].startswith("Quota exceeded for aiplatform.googleapis.com/")
    assert f"with base model: {MODEL}." in vertex["message"]
    assert (await ask(client, GENERATE, "k4")).status_code == 200
    counts = (await client.get("/emulator/projects")).json()["projects"]
    assert counts == {"p": {"served": 2, "refused": 2}, "rich": {"served": 1}}


async def test_a_project_at_its_spending_cap_says_so(client: httpx2.AsyncClient) -> None:
    answer = await ask(client, GENERATE, "k3")
    assert answer.status_code == 429
    assert "exceeded its monthly spending cap" in answer.json()["error"]["message"]


async def test_a_signature_of_another_project_is_refused(client: httpx2.AsyncClient) -> None:
    drawn = (await ask(client, GENERATE, "k4")).json()["candidates"][0]["content"]
    turn = {"role": "user", "parts": [{"text": "Make it blue"}]}
    body = {**SMALL, "contents": [*SMALL["contents"], drawn, turn]}
    assert (await ask(client, GENERATE, "k4", body)).status_code == 200
    answer = await ask(client, GENERATE, "a-key", body)
    assert answer.status_code == 400
    assert "thought signature" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("labels", "status"),
    [
        ({"team": "a", "über": "größe_1-2", "a": ""}, 200),
        ({f"l{at}": "" for at in range(64)}, 200),
        ({f"l{at}": "" for at in range(65)}, 400),
        ({"Team": "a"}, 400),
        ({"team": "A"}, 400),
        ({"1st": "a"}, 400),
        ({"_a": "a"}, 400),
        ({"": "a"}, 400),
        ({"a b": "a"}, 400),
        ({"a" * 64: "a"}, 400),
        ({"a": "b" * 64}, 400),
        ({"a": "b.c"}, 400),
        ({"a": 1}, 400),
        (["a"], 400),
    ],
)
async def test_vertex_checks_labels(labels: Any, status: int, client: httpx2.AsyncClient) -> None:
    body = {**SMALL, "labels": labels}
    answer = await ask(client, VERTEX.replace("/p/", "/rich/"), "k4", body)
    assert answer.status_code == status, answer.text
    assert (await ask(client, GENERATE, "k4", body)).status_code == 200


async def test_projects_that_are_none_are_refused_with_their_place(client: httpx2.AsyncClient) -> None:
    answer = await client.put("/emulator/projects", json={"projects": [{"id": "a", "quota": 1}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["fieldViolations"] == [
        {"field": "projects.0.quota", "description": "is not a known field"}
    ]
