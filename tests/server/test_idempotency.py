"""Idempotency-Key through the whole gateway: one call and one charge, whatever the caller does."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import Client, Tenants, calls_of, tokens_a_day, wait_for, write_tenants

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def client(gateway: Running, tenants: Tenants) -> Client:
    return Client(gateway.url, tenants.keys["idempotent"])


def fresh(directive: str = "", **more: Any) -> dict[str, Any]:
    """A request that nobody made before."""
    prompt = f"Once {secrets.token_hex(4)} {directive}".strip()
    return {"prompt": prompt, "delivery": "uri", "image_size": "512", **more}


@pytest.mark.parametrize("cache", ["use", "refresh", "bypass"])
def test_a_repetition_gets_the_same_pictures_and_is_not_paid_again(
    client: Client, emulator: Running, cache: str
) -> None:
    body, key = fresh(cache=cache), f'"{secrets.token_hex(8)}"'
    calls, settled = calls_of(emulator), client.budget()["settled"]
    first = client.post(body, idempotency_key=key)
    again = client.post(body, idempotency_key=key.strip('"'))
    assert (first.status_code, again.status_code) == (200, 200)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["images"] == first.json()["images"]
    assert again.json()["usage"]["output_tokens"] == 0
    assert calls_of(emulator) - calls == 1
    assert client.budget()["settled"] - settled == 747
    image = client.get(first.json()["images"][0]["uri"].removeprefix(client.url))
    assert image.status_code == 200


@pytest.mark.parametrize("cache", ["use", "bypass"])
def test_twenty_at_once_under_one_key_are_one_call_and_one_charge(
    client: Client, emulator: Running, cache: str
) -> None:
    gate, key = secrets.token_hex(4), secrets.token_hex(8)
    body = fresh(f"[[emulate:hold:{gate}]]", cache=cache)
    calls, settled = calls_of(emulator), client.budget()["settled"]
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(client.post, body, idempotency_key=key) for _ in range(20)]
        wait_for(lambda: sum(future.done() for future in asked) == 19, "nineteen are sent away")
        HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
        answers = [future.result() for future in asked]
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["code"] == "idempotency_in_flight"
    assert int(refused.headers["retry-after"]) >= 1
    assert client.post(body, idempotency_key=key).headers["idempotency-replayed"] == "true"
    assert calls_of(emulator) - calls == 1
    assert client.budget()["settled"] - settled == 747


def test_another_request_under_the_key_is_refused(client: Client, emulator: Running) -> None:
    key = secrets.token_hex(8)
    client.post(fresh(), idempotency_key=key)
    calls = calls_of(emulator)
    other = client.post(fresh(), idempotency_key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert calls_of(emulator) == calls


def test_a_refusal_is_replayed_as_the_refusal(client: Client, emulator: Running) -> None:
    body, key, calls = fresh("[[emulate:image-safety]]"), secrets.token_hex(8), calls_of(emulator)
    first, again = [client.post(body, idempotency_key=key) for _ in range(2)]
    assert (first.status_code, again.status_code) == (422, 422)
    assert again.json()["code"] == first.json()["code"] == "content_blocked"
    assert again.json()["detail"] == first.json()["detail"]
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["usage"] == first.json()["usage"], "what it had cost; nothing is paid again"
    assert calls_of(emulator) - calls == 1


def test_an_error_that_cost_nothing_frees_the_key(client: Client, emulator: Running) -> None:
    body, key, calls = fresh("[[emulate:permission-denied:1]]"), secrets.token_hex(8), calls_of(emulator)
    assert client.post(body, idempotency_key=key).json()["code"] == "upstream_rejected"
    again = client.post(body, idempotency_key=key)
    assert again.status_code == 200
    assert "idempotency-replayed" not in again.headers
    assert calls_of(emulator) - calls == 2


def test_an_unknown_outcome_is_not_made_again_at_once(client: Client, emulator: Running) -> None:
    body, key, calls = fresh("[[emulate:reset:1]]"), secrets.token_hex(8), calls_of(emulator)
    assert client.post(body, idempotency_key=key).status_code == 502
    again = client.post(body, idempotency_key=key)
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_in_flight")
    assert int(again.headers["retry-after"]) > 20
    assert calls_of(emulator) - calls == 1


@pytest.mark.parametrize("key", ['""', '"open', "two words", "a,b", "x" * 256, '"a\\b"'])
def test_a_key_that_cannot_be_read_is_refused_before_anything_is_spent(
    client: Client, emulator: Running, key: str
) -> None:
    calls = calls_of(emulator)
    answer = client.post(fresh(), idempotency_key=key)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert calls_of(emulator) == calls


def test_after_a_kill_the_retry_works_once(tmp_path: Path, emulator: Running) -> None:
    """Kill -9 while the first is being drawn: the key is in flight for a lease, then one retry is made."""
    found = write_tenants(tmp_path / "tenants.yaml", {"killed": tokens_a_day(1_000_000)})
    settings = {
        "tenants_file": str(found.path),
        "key_pepper": "a pepper of the tests, long enough to be one",
        "upstream": "emulator",
        "emulator_base_url": emulator.url,
        "lease_s": "3",
    }
    gate, key = secrets.token_hex(4), secrets.token_hex(8)
    body = fresh(f"[[emulate:hold:{gate}]]")
    folder = tmp_path / "state"
    folder.mkdir()
    calls = calls_of(emulator)
    with ThreadPoolExecutor(8) as pool, running_gateway(folder, **settings) as survivor:
        client = Client(survivor.url, found.keys["killed"])
        with running_gateway(folder, **settings) as victim:
            dying = pool.submit(Client(victim.url, client.key).post, body, idempotency_key=key)
            wait_for(lambda: calls_of(emulator) - calls == 1, "the first call has reached the upstream")
            victim.kill()
            assert dying.exception() is not None
        assert client.post(body, idempotency_key=key).status_code == 409
        HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
        answers = []

        def served() -> bool:
            answers.append(client.post(body, idempotency_key=key))
            return answers[-1].status_code == 200

        wait_for(served, "the lease is over")
        assert {answer.status_code for answer in answers[:-1]} <= {409}
        assert "idempotency-replayed" not in answers[-1].headers
        again = client.post(body, idempotency_key=key)
        assert again.headers["idempotency-replayed"] == "true"
        assert calls_of(emulator) - calls == 2
        assert client.budget()["settled"] == 2 * 747, "the dead call at its estimate, the retry at its usage"
