"""Work that goes on after its caller was answered, over two processes and one store."""

from __future__ import annotations

import base64
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures import image_bytes
from tests.processes import HTTP, running_gateway
from tests.server.conftest import WIDEST, Client, calls_of, tokens_a_day, wait_for, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.processes import Running
    from tests.server.conftest import Tenants

PRICE = 747


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    ample = tokens_a_day(10_000_000)
    path = tmp_path_factory.mktemp("operations") / "tenants.yaml"
    return write_tenants(path, {"patient": ample, "foreign": ample, "mortal": ample, "poor": tokens_a_day(1)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replicas")


@pytest.fixture(scope="module")
def replicas(folder: Path, settings: dict[str, str], own: Tenants) -> Iterator[list[Running]]:
    given = {**settings, "tenants_file": str(own.path), "operations_max": "3", "upstream_slots_max": "3"}
    with ExitStack() as stack:
        yield [stack.enter_context(running_gateway(folder, **given)) for _ in range(2)]


@pytest.fixture
def client(replicas: list[Running], own: Tenants) -> Client:
    return Client(replicas[0].url, own.keys["patient"])


@pytest.fixture
def elsewhere(replicas: list[Running], own: Tenants) -> Client:
    """The same caller at the other process."""
    return Client(replicas[1].url, own.keys["patient"])


def fresh(words: str = "A fox", **fields: Any) -> dict[str, Any]:
    return {"prompt": f"{words} {secrets.token_hex(4)}", "image_size": "512", **fields}


def begun(client: Client, body: dict[str, Any], prefer: str = "respond-async", **headers: str) -> str:
    """The address of a new operation."""
    answer = client.post(body, Prefer=prefer, **headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["preference-applied"] == "respond-async"
    address = answer.headers["location"]
    assert address == f"/v1/operations/{answer.json()['id']}"
    return address


def ended(client: Client, address: str) -> dict[str, Any]:
    """The operation once it has ended."""
    seen: list[dict[str, Any]] = []

    def is_over() -> bool:
        seen.append(client.get(address).json())
        return seen[-1]["state"] not in {"waiting", "running"}

    wait_for(is_over, "the operation ends")
    return seen[-1]


def cancelled(client: Client, address: str) -> dict[str, Any]:
    answer = HTTP.post(f"{client.url}{address}:cancel", headers={"X-API-Key": client.key})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def released(emulator: Running, gate: str) -> None:
    HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()


def in_state(client: Client, address: str, state: str) -> None:
    wait_for(lambda: client.get(address).json()["state"] == state, f"it is {state}")


def test_an_operation_is_read_at_any_replica_and_comes_to_what_an_answer_would_be(
    client: Client, elsewhere: Client
) -> None:
    body = fresh()
    found = ended(elsewhere, begun(client, body))
    assert (found["state"], found["problem"], found["cancel_requested"]) == ("done", None, False)
    assert found["created_at"] < found["expires_at"]
    again = client.post({**body, "delivery": "uri"}).json()
    assert again["cache"]["status"] == "hit"
    for name in ("id", "model", "effective", "text", "finish_reason"):
        assert found["result"][name] == again[name]
    (image,) = found["result"]["images"]
    assert "data" not in image
    assert (image["id"], image["bytes"]) == (again["images"][0]["id"], again["images"][0]["bytes"])
    assert image["uri"].startswith(client.url)
    assert len(client.get(f"/v1/images/{image['id']}").content) == image["bytes"]
    assert client.get(f"/v1/generations/{found['result']['id']}").status_code == 200


def test_a_form_becomes_an_operation_too(client: Client) -> None:
    parts = [("image", ("a", image_bytes("harbour.png"), "image/png"))]
    headers = {"X-API-Key": client.key, "Prefer": "respond-async"}
    answer = HTTP.post(f"{client.url}/v1/images:edit", data=fresh(), files=parts, headers=headers)
    assert answer.status_code == 202, answer.text
    found = ended(client, answer.headers["location"])
    assert found["result"]["usage"]["image_input"] == 1120


def test_what_was_sent_cannot_be_cancelled_and_is_kept(
    client: Client, elsewhere: Client, emulator: Running
) -> None:
    gate, settled = secrets.token_hex(4), client.budget()["settled"]
    address = begun(client, fresh(f"[[emulate:hold:{gate}]]"))
    in_state(client, address, "running")
    assert client.get(address).headers["retry-after"] == "1"
    found = cancelled(elsewhere, address)
    assert (found["state"], found["cancel_requested"]) == ("running", True)
    released(emulator, gate)
    found = ended(client, address)
    assert (found["state"], found["cancel_requested"]) == ("done", True)
    assert cancelled(client, address) == found, "what has ended stays as it is"
    assert client.budget()["settled"] - settled == PRICE


@pytest.mark.parametrize("where", ["client", "elsewhere"])
def test_what_waits_is_cancelled_at_once_wherever_that_is_asked_and_costs_nothing(
    client: Client, elsewhere: Client, emulator: Running, where: str
) -> None:
    gate = secrets.token_hex(4)
    body = fresh(f"[[emulate:hold:{gate}]]")
    calls, settled = calls_of(emulator), client.budget()["settled"]
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(client.post, body)
        wait_for(lambda: calls_of(emulator) - calls == 1, "somebody else's call is held")
        address = begun(client, body)
        assert client.get(address).json()["state"] == "waiting"
        found = cancelled({"client": client, "elsewhere": elsewhere}[where], address)
        assert (found["state"], found["result"]) == ("cancelled", None)
        assert found["problem"]["code"] == "operation_cancelled"
        released(emulator, gate)
        assert leader.result().status_code == 200
    assert client.get(address).json()["state"] == "cancelled"
    assert calls_of(emulator) - calls == 1
    assert client.budget()["settled"] - settled == PRICE, "the leader's"


def test_what_waits_for_its_turn_is_cancelled_and_its_tokens_are_given_back(
    client: Client, emulator: Running
) -> None:
    gate = secrets.token_hex(4)
    calls, settled = calls_of(emulator), client.budget()["settled"]
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(client.post, fresh(f"[[emulate:hold:{gate}]]")) for _ in range(3)]
        wait_for(lambda: calls_of(emulator) - calls == 3, "every slot is taken")
        address = begun(client, fresh())
        wait_for(lambda: client.budget()["held"] == 4 * WIDEST, "the fourth holds its tokens and waits")
        assert cancelled(client, address)["state"] == "cancelled"
        released(emulator, gate)
        assert {other.result().status_code for other in others} == {200}
    wait_for(lambda: client.budget()["held"] == 0, "nothing is held any more", patience_s=10)
    assert client.get(address).json()["state"] == "cancelled"
    assert client.budget()["settled"] - settled == 3 * PRICE
    assert calls_of(emulator) - calls == 3


@pytest.mark.parametrize(
    ("body", "tenant"),
    [
        (fresh("[[emulate:image-safety]]"), "patient"),
        (fresh("[[emulate:bad-key]]"), "patient"),
    ],
    ids=["blocked", "upstream"],
)
def test_a_failure_is_the_problem_that_an_answer_would_be(
    replicas: list[Running], own: Tenants, body: dict[str, Any], tenant: str
) -> None:
    client = Client(replicas[0].url, own.keys[tenant])
    found = ended(client, begun(client, {**body, "cache": "bypass"}))
    answer = client.post({**body, "cache": "bypass"}).json()
    assert (found["state"], found["result"]) == ("failed", None)
    varying = {"request_id": "", "retry_after_s": 0, "refused_by": []}
    assert {**found["problem"], **varying} == {**answer, **varying}


def test_what_is_wrong_with_the_request_is_answered_at_once(client: Client, emulator: Running) -> None:
    calls = calls_of(emulator)
    answer = client.post(fresh(aspect_ratio="7:3"), Prefer="respond-async")
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert calls_of(emulator) == calls


def test_a_wait_ends_with_the_answer_or_with_the_operation(client: Client, emulator: Running) -> None:
    body = fresh()
    answer = client.post(body, Prefer="RESPOND-ASYNC; foo, Respond-Async, wait=30")
    assert (answer.status_code, answer.json()["cache"]["status"]) == (200, "miss")
    assert base64.b64decode(answer.json()["images"][0]["data"])
    blocked = client.post(fresh("[[emulate:image-safety]]"), Prefer="respond-async, wait=30")
    assert (blocked.status_code, blocked.json()["code"]) == (422, "content_blocked")
    gate = secrets.token_hex(4)
    address = begun(client, fresh(f"[[emulate:hold:{gate}]]"), prefer="wait=1, respond-async")
    assert client.get(address).json()["state"] == "running"
    released(emulator, gate)
    assert ended(client, address)["state"] == "done"


def test_a_repetition_under_a_key_finds_the_operation_and_pays_once(
    client: Client, elsewhere: Client, emulator: Running
) -> None:
    gate, key = secrets.token_hex(4), secrets.token_hex(8)
    body = fresh(f"[[emulate:hold:{gate}]]")
    calls, settled = calls_of(emulator), client.budget()["settled"]
    address = begun(client, body, Idempotency_Key=key)
    assert begun(elsewhere, body, Idempotency_Key=key) == address
    other = elsewhere.post(fresh(), Prefer="respond-async", Idempotency_Key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    in_state(client, address, "running")
    assert client.post(body, Idempotency_Key=key).json()["code"] == "idempotency_in_flight"
    released(emulator, gate)
    done = ended(client, address)
    assert begun(elsewhere, body, Idempotency_Key=key) == address
    assert elsewhere.get(address).json() == done
    replayed = client.post(body, Idempotency_Key=key)
    assert replayed.headers["idempotency-replayed"] == "true"
    assert calls_of(emulator) - calls == 1
    assert client.budget()["settled"] - settled == PRICE


def test_a_failure_that_cost_nothing_is_begun_anew_under_its_key(client: Client) -> None:
    body, key = fresh("[[emulate:permission-denied:1]]"), secrets.token_hex(8)
    address = begun(client, body, Idempotency_Key=key)
    assert ended(client, address)["problem"]["code"] == "upstream_rejected"
    assert begun(client, body, Idempotency_Key=key) == address
    assert ended(client, address)["state"] == "done"


def test_no_more_operations_than_a_process_may_carry(client: Client, emulator: Running) -> None:
    gate = secrets.token_hex(4)
    wait_for(lambda: client.budget()["held"] == 0, "earlier ones are over")
    carried = [begun(client, fresh(f"[[emulate:hold:{gate}]]")) for _ in range(3)]
    answer = client.post(fresh(), Prefer="respond-async")
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    released(emulator, gate)
    assert {ended(client, address)["state"] for address in carried} == {"done"}


@pytest.mark.parametrize("odd", ["op_" + "0" * 24, "op_1", "op_" + "G" * 24, "x"])
def test_unknown_operations_are_not_found(client: Client, odd: str) -> None:
    assert client.get(f"/v1/operations/{odd}").status_code == 404
    answer = HTTP.post(f"{client.url}/v1/operations/{odd}:cancel", headers={"X-API-Key": client.key})
    assert answer.status_code == 404


def test_another_tenants_operation_is_as_unknown(
    replicas: list[Running], client: Client, own: Tenants
) -> None:
    address = begun(client, fresh())
    foreign = Client(replicas[0].url, own.keys["foreign"])
    assert foreign.get(address).status_code == 404
    answer = HTTP.post(f"{client.url}{address}:cancel", headers={"X-API-Key": foreign.key})
    assert answer.status_code == 404
    assert ended(client, address)["state"] == "done"


def test_the_metrics_count_how_operations_end(replicas: list[Running], client: Client) -> None:
    ended(client, begun(client, fresh()))

    def counted() -> bool:
        text = HTTP.get(replicas[0].metrics_url).text
        return all(f'flashgate_operations_total{{state="{state}"}}' in text for state in ("done", "failed"))

    wait_for(counted, "both kinds are counted")


def test_operations_of_processes_that_end_are_told_by_those_that_live(
    folder: Path, replicas: list[Running], settings: dict[str, str], own: Tenants, emulator: Running
) -> None:
    """One process is told to end, and ends what it carries, what waits included; one is killed."""
    given = {**settings, "tenants_file": str(own.path), "lease_s": "2", "drain_s": "0.5"}
    gate, calls = secrets.token_hex(4), calls_of(emulator)
    body, shared = f"[[emulate:hold:{gate}]]", fresh(f"[[emulate:hold:{gate}]]")
    client = Client(replicas[0].url, own.keys["mortal"])
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(client.post, shared)
        wait_for(lambda: calls_of(emulator) - calls == 1, "the survivor's call was sent")
        with running_gateway(folder, **given) as stopped, running_gateway(folder, **given) as killed:
            at = Client(stopped.url, client.key)
            waiting, running = begun(at, shared), begun(at, fresh(body))
            dying = begun(Client(killed.url, client.key), fresh(body))
            wait_for(lambda: calls_of(emulator) - calls == 3, "both were sent")
            killed.kill()
            stopped.process.terminate()
            assert stopped.process.wait(15) is not None
        told = [client.get(address).json() for address in (waiting, running)]
        assert [each["state"] for each in told] == ["failed"] * 2
        assert [each["problem"]["code"] for each in told] == ["draining"] * 2
        lost = ended(client, dying)
        released(emulator, gate)
        assert (lost["state"], lost["problem"]["code"]) == ("failed", "operation_lost")
        assert "may be billed" in lost["problem"]["detail"]
        assert leader.result().status_code == 200
    wait_for(lambda: client.budget()["held"] == 0, "the dead call's lease is over")
    assert client.budget()["settled"] == 3 * PRICE, "two of them at their estimates"
