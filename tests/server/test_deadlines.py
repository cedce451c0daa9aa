"""How long callers wait, and what it means for the call, in every dialect (docs/reliability.md R39, R48)."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, running_gateway
from tests.server.conftest import WIDEST, Client, calls_of, tokens_a_day, wait_for, write_tenants
from tests.server.recorder import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from tests.processes import Running
    from tests.server.conftest import Tenants
    from tests.server.recorder import Recorder

MODEL = "gemini-3.1-flash-image"


@pytest.fixture(scope="module")
def recorder(emulator: Running) -> Iterator[Recorder]:
    with recording(emulator.url) as found:
        yield found


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    path = tmp_path_factory.mktemp("deadlines") / "tenants.yaml"
    return write_tenants(path, {"hasty": tokens_a_day(10_000_000)})


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str], own: Tenants, recorder: Recorder
) -> Iterator[Client]:
    given = {
        **settings,
        "tenants_file": str(own.path),
        "emulator_base_url": recorder.url,
        "upstream_timeout_s": "200",
        "timeout_by_size": '{"512": 90, "4K": 400}',
        "upstream_slots_max": "3",
    }
    with running_gateway(tmp_path_factory.mktemp("hasty"), **given) as process:
        yield Client(process.url, own.keys["hasty"])


def fresh(words: str = "A fox", **fields: Any) -> dict[str, Any]:
    return {"prompt": f"{words} {secrets.token_hex(4)}", "image_size": "512", "delivery": "uri", **fields}


def late(answer: httpx2.Response, billed: str) -> None:
    assert answer.status_code == 504, answer.text
    assert answer.json()["code"] == "deadline_exceeded"
    assert answer.json()["upstream"] == {"billed": billed}


@pytest.mark.parametrize("header", ["X-Request-Timeout", "grpc-timeout"])
@pytest.mark.parametrize("cache", ["use", "refresh", "bypass"])
def test_too_little_time_for_a_call_is_refused_and_nothing_is_spent(
    client: Client, emulator: Running, header: str, cache: str
) -> None:
    calls, before = calls_of(emulator), client.budget()
    answer = client.post(fresh(cache=cache), **{header: "8" if header[0] == "X" else "8S"})
    late(answer, "no")
    assert header in answer.json()["detail"]
    assert "10 s" in answer.json()["detail"]
    assert "ratelimit" in answer.headers
    assert calls_of(emulator) == calls
    assert client.budget() == before, "nothing is held either"


def test_what_the_cache_has_needs_no_time_for_a_call(client: Client) -> None:
    body = fresh()
    assert client.post(body).status_code == 200
    hit = client.post(body, X_Request_Timeout="2.5")
    assert (hit.status_code, hit.json()["cache"]["status"]) == (200, "hit")


def test_a_follower_waits_as_long_as_it_said_and_the_leader_is_unharmed(
    client: Client, emulator: Running
) -> None:
    gate = secrets.token_hex(4)
    body = fresh(f"[[emulate:hold:{gate}]]")
    calls, settled = calls_of(emulator), client.budget()["settled"]
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(client.post, body)
        wait_for(lambda: calls_of(emulator) - calls == 1, "the leader's call is held")
        late(client.post(body, X_Request_Timeout="0.5"), "no")
        patient = pool.submit(client.post, body, X_Request_Timeout="60")
        HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
        assert leader.result().status_code == 200
        assert patient.result().json()["cache"]["status"] in {"coalesced", "hit"}
    assert calls_of(emulator) - calls == 1
    assert client.budget()["settled"] - settled == 747


def google(client: Client, prompt: str, timeout: str) -> httpx2.Response:
    body = {
        "contents": [{"parts": [{"text": prompt}]}],
        "generationConfig": {"imageConfig": {"imageSize": "512"}, "responseModalities": ["IMAGE"], "seed": 7},
    }
    headers = {"x-goog-api-key": client.key, "X-Server-Timeout": timeout}
    return HTTP.post(f"{client.url}/gemini/v1beta/models/{MODEL}:generateContent", json=body, headers=headers)


def openai(client: Client, prompt: str, timeout: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {client.key}", "X-Request-Timeout": timeout}
    body = {"prompt": prompt, "image_size": "512", "seed": 7}
    return HTTP.post(f"{client.url}/openai/v1/images/generations", json=body, headers=headers)


def test_what_was_sent_when_a_callers_patience_ends_is_finished_kept_and_paid_once(
    client: Client, emulator: Running
) -> None:
    """In all three dialects at once, because each of them waits for ten seconds.

    They leave no slot for a fourth, which is never sent: it costs nothing, although its turn comes after all.
    """
    gate = secrets.token_hex(4)
    prompts = [f"{name} {secrets.token_hex(4)} [[emulate:hold:{gate}]]" for name in ("a", "b", "c")]
    calls, settled = calls_of(emulator), client.budget()["settled"]
    native = {"prompt": prompts[0], "image_size": "512", "delivery": "uri"}
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(client.post, native, X_Request_Timeout="9.6"),
            pool.submit(openai, client, prompts[1], "9.6"),
            pool.submit(google, client, prompts[2], "10"),
        ]
        wait_for(lambda: calls_of(emulator) - calls == 3, "all three are sent")
        fourth = pool.submit(client.post, fresh(), X_Request_Timeout="9.5")
        wait_for(lambda: client.budget()["held"] == 4 * WIDEST, "the fourth waits for its turn")
        answers = [each.result() for each in asked]
        late(fourth.result(), "no")
    assert [answer.status_code for answer in answers] == [504] * 3
    late(answers[0], "maybe")
    assert answers[1].json()["error"]["code"] == "deadline_exceeded"
    assert answers[2].json()["error"]["status"] == "DEADLINE_EXCEEDED"
    assert all("being made" in answer.text for answer in answers)
    assert client.budget()["held"] == 4 * WIDEST, "the calls go on"
    HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
    wait_for(lambda: client.budget()["held"] == 0, "they are finished")
    assert client.budget()["settled"] - settled == 3 * 747
    again = [
        client.post(native, X_Request_Timeout="5"), openai(client, prompts[1], "5"),
        google(client, prompts[2], "10"),
    ]  # fmt: skip
    assert [answer.status_code for answer in again] == [200] * 3
    assert calls_of(emulator) - calls == 3


@pytest.mark.parametrize(
    ("fields", "said", "told"),
    [
        ({}, {}, 90),
        ({"image_size": "4K"}, {}, 200),
        ({"image_size": "1K"}, {"X_Request_Timeout": "3600"}, 180),
        ({}, {"X_Request_Timeout": "40"}, 90),
        ({"cache": "bypass"}, {"X_Request_Timeout": "40"}, 40),
        ({"cache": "bypass"}, {"grpc_timeout": "40000m", "X_Request_Timeout": "50"}, 40),
        ({"cache": "bypass"}, {"X_Request_Timeout": "40", "Idempotency_Key": "deadlines"}, 90),
    ],
    ids=["size", "server", "longer", "shared", "alone", "shorter", "repeatable"],
)
def test_the_upstream_is_told_the_seconds_that_are_left(
    client: Client, recorder: Recorder, fields: dict[str, Any], said: dict[str, str], told: int
) -> None:
    """A caller's patience is passed on where nobody else could have the picture."""
    assert client.post(fresh(**fields), **said).status_code == 200
    assert told - 10 < int(recorder.passed[-1].headers["x-server-timeout"]) <= told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("X-Request-Timeout", value) for value in ("", "soon", "-1", "1e3", "nan", "10s", "1" * 8)),
        *(("grpc-timeout", value) for value in ("", "10", "10s", "1" * 9 + "S", "-1S", "1.5S")),
    ],
)
def test_a_time_that_cannot_be_read_is_refused(client: Client, name: str, value: str) -> None:
    answer = client.post(fresh(), **{name: value})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert name in answer.json()["detail"]


def test_googles_own_minimum_is_refused_in_its_own_words(client: Client, emulator: Running) -> None:
    calls = calls_of(emulator)
    answer = google(client, "A fox", "9")
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "Minimum allowed deadline is 10s" in answer.json()["error"]["message"]
    assert calls_of(emulator) == calls
