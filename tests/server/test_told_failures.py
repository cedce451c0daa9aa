"""What others are told of a failure: followers, repetitions under a key, and readers of an operation."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import Client, Tenants, calls_of, wait_for
from tests.server.test_coalescing import followers

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

CALLERS = 8
EACH_ONES_OWN = {"request_id", "instance"}


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("told")
    with running_gateway(folder, **settings, upstream_retry_attempts="1") as process:
        yield process


@pytest.fixture(scope="module")
def client(replica: Running, tenants: Tenants) -> Client:
    return Client(replica.url, tenants.keys["refused"])


def asked(directive: str) -> dict[str, Any]:
    """A request that nobody made before, and that fails."""
    return {"prompt": f"Told {secrets.token_hex(4)} [[emulate:{directive}]]", "image_size": "512"}


def said(answer: httpx2.Response, *but: str) -> dict[str, Any]:
    """All that an answer says of the failure."""
    told = {name: value for name, value in answer.json().items() if name not in EACH_ONES_OWN | {*but}}
    return {**told, "Retry-After": answer.headers.get("retry-after")}


@pytest.mark.parametrize(
    ("directive", "retry_after"),
    [
        ("quota", "35"),
        ("quota-zero", None),
        ("unavailable", None),
        ("reset", None),
        ("invalid", None),
        ("image-prohibited", None),
        ("text-only", None),
        ("finish:MAX_TOKENS", None),
    ],
)
def test_followers_get_the_whole_failure_of_whom_they_followed(
    replica: Running, client: Client, emulator: Running, directive: str, retry_after: str | None
) -> None:
    gate = secrets.token_hex(4)
    body = asked(f"hold:{gate}]] [[emulate:{directive}")
    following = followers([replica])
    with ThreadPoolExecutor(CALLERS) as pool:
        asking = [pool.submit(client.post, body) for _ in range(CALLERS)]
        wait_for(lambda: followers([replica]) - following >= CALLERS - 1, "all but the first follow it")
        HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
        answers = [each.result() for each in asking]
    first = said(answers[0], "usage")
    assert [said(answer, "usage") for answer in answers] == [first] * CALLERS
    if retry_after is not None:
        assert first["Retry-After"] == retry_after
    paid = sum("usage" in answer.json() for answer in answers)
    assert paid <= 2, "who called the model; a failure that may pass is tried once more"


@pytest.mark.parametrize("directive", ["image-safety", "text-only", "finish:MAX_TOKENS", "finish:NO_IMAGE"])
def test_a_repetition_gets_the_whole_failure_with_what_it_had_cost(
    client: Client, emulator: Running, directive: str
) -> None:
    body, key, calls = asked(directive), secrets.token_hex(8), calls_of(emulator)
    first, again = [client.post(body, idempotency_key=key) for _ in range(2)]
    assert first.status_code >= 400
    assert again.headers["idempotency-replayed"] == "true"
    assert said(again) == said(first)
    assert said(again)["usage"]["output_tokens"] >= 0
    assert calls_of(emulator) - calls == 1


@pytest.mark.parametrize("directive", ["image-safety", "finish:NO_IMAGE"])
def test_a_repetition_in_openais_dialect_says_as_the_first_whether_to_retry(
    client: Client, directive: str
) -> None:
    body = {**asked(directive), "model": "gemini-3.1-flash-image"}
    headers = {"Authorization": f"Bearer {client.key}", "Idempotency-Key": secrets.token_hex(8)}
    url = f"{client.url}/openai/v1/images/generations"
    del body["image_size"]
    first, again = [HTTP.post(url, json=body, headers=headers) for _ in range(2)]
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    assert again.headers["x-should-retry"] == first.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("directive", ["quota", "unavailable", "image-safety", "finish:MAX_TOKENS"])
def test_an_operation_tells_the_failure_as_a_caller_who_waited_gets_it(
    client: Client, directive: str
) -> None:
    waited = said(client.post(asked(directive)))
    begun = client.post(asked(directive), Prefer="respond-async")
    address = begun.headers["location"]
    wait_for(lambda: client.get(address).json()["state"] == "failed", "it has failed")
    problem = client.get(address).json()["problem"]
    found = {name: value for name, value in problem.items() if name not in EACH_ONES_OWN}
    assert found.keys() == waited.keys() - {"Retry-After"}
    for name in found.keys() - {"usage"}:
        assert found[name] == waited[name], name
    assert str(found.get("retry_after_s")) == str(waited["Retry-After"])
