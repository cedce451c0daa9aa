"""Clients that repeat calls by themselves: what one attempt paid and was not delivered, the next one gets."""

from __future__ import annotations

import json
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml

from app.domain.keys import ENTROPY_BYTES, hash_secret, mint
from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER, Client, calls_of, tokens_a_day, wait_for, write_tenants
from tests.server.test_sharing import held, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/openai/v1/images/generations"
PRICE = 747


@dataclass(frozen=True)
class Caller:
    """A client of OpenAI's dialect that numbers its attempts, on one of two replicas over one store."""

    replicas: tuple[Running, Running]
    key: str
    other_key: str
    emulator: Running

    def post(
        self,
        prompt: str,
        count: int | None = 0,
        *,
        replica: int = 0,
        timeout: float = 60,
        key: str = "",
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> httpx2.Response:
        """One attempt over a connection of its own, which is closed when the time is over."""
        named = {"Authorization": f"Bearer {key or self.key}", **(headers or {})}
        if count is not None:
            named["x-stainless-retry-count"] = str(count)
        body = {"prompt": prompt, "image_size": "512", **fields}
        return httpx2.post(self.replicas[replica].url + PATH, json=body, headers=named, timeout=timeout)

    def give_up(self, prompt: str, count: int | None = 0, **fields: Any) -> None:
        """An attempt whose caller hangs up when its call is upstream."""
        with pytest.raises(httpx2.ReadTimeout):
            self.post(prompt, count, timeout=0.7, **fields)

    def spent(self) -> int:
        """Tokens that are settled, when none are held any more."""
        native = Client(self.replicas[0].url, self.key)
        wait_for(lambda: native.budget()["held"] == 0, "the books are closed")
        return int(native.budget()["settled"])

    def release(self, gate: str) -> None:
        HTTP.post(f"{self.emulator.url}/emulator/release/{gate}").raise_for_status()


@pytest.fixture(scope="module")
def caller(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str], emulator: Running
) -> Iterator[Caller]:
    folder = tmp_path_factory.mktemp("retries")
    written = write_tenants(folder / "tenants.yaml", {"retries": tokens_a_day(10_000_000)})
    listed = yaml.safe_load(written.path.read_text())
    second = mint("test", bytes([9]) * ENTROPY_BYTES)
    hashed = hash_secret(PEPPER.encode(), second.secret)
    entry = {"id": second.key_id, "hash": f"hmac-sha256:{hashed}", "scopes": ["images"]}
    listed["tenants"][0]["keys"].append(entry)
    written.path.write_text(yaml.safe_dump(listed))
    given = {**settings, "tenants_file": str(written.path), "stream_status_wait_s": "0.2"}
    with ExitStack() as stack:
        first, other = [stack.enter_context(running_gateway(folder, **given)) for _ in range(2)]
        yield Caller((first, other), written.keys["retries"], second.text, emulator)


@pytest.fixture
def gate(caller: Caller) -> Iterator[str]:
    """Holds the calls whose prompts name it."""
    name = secrets.token_hex(6)
    yield name
    caller.release(name)


def prompt_at(gate: str) -> str:
    return f"Repeated [[emulate:hold:{gate}]]"


def fresh() -> str:
    return f"Repeated {secrets.token_hex(6)}"


def picture(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"][0]["b64_json"])


def test_a_retry_on_another_replica_joins_the_call_in_flight(caller: Caller, gate: str) -> None:
    calls, spent = calls_of(caller.emulator), caller.spent()
    caller.give_up(prompt_at(gate))
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(caller.post, prompt_at(gate), 1, replica=1)
        wait_for(lambda: waiting(caller.replicas[1]) == 1, "the retry waits")
        caller.release(gate)
        answer = again.result()
    assert picture(answer)
    assert answer.json()["usage"]["total_tokens"] == 0
    assert answer.headers["cache-status"].startswith("flashgate; fwd=miss; collapsed")
    assert calls_of(caller.emulator) - calls == 1
    assert caller.spent() - spent == PRICE


@pytest.mark.parametrize("stream", [False, True])
def test_a_retry_gets_what_was_finished_when_nobody_read_it_and_only_one_does(
    caller: Caller, gate: str, stream: bool
) -> None:
    calls, spent = calls_of(caller.emulator), caller.spent()
    caller.give_up(prompt_at(gate), stream=stream)
    caller.release(gate)
    assert caller.spent() - spent == PRICE
    again = caller.post(prompt_at(gate), 1, replica=1)
    assert again.headers["cache-status"].startswith("flashgate; hit")
    assert calls_of(caller.emulator) - calls == 1
    third = caller.post(prompt_at(gate), 2)
    assert picture(third) != picture(again)
    assert calls_of(caller.emulator) - calls == 2


def test_a_retry_that_gives_up_itself_leaves_the_call_to_the_next(caller: Caller, gate: str) -> None:
    calls, spent = calls_of(caller.emulator), caller.spent()
    caller.give_up(prompt_at(gate))
    caller.give_up(prompt_at(gate), 1, replica=1)
    caller.give_up(prompt_at(gate), 2)
    caller.release(gate)
    assert picture(caller.post(prompt_at(gate), 3, replica=1))
    assert calls_of(caller.emulator) - calls == 1
    assert caller.spent() - spent == PRICE


def test_of_four_at_once_the_one_that_is_retried_gets_its_own_and_nobody_a_copy(
    caller: Caller, gate: str
) -> None:
    calls, spent = calls_of(caller.emulator), caller.spent()
    with ThreadPoolExecutor(5) as pool:
        patient = [pool.submit(caller.post, prompt_at(gate), replica=number % 2) for number in range(3)]
        leaving = pool.submit(caller.give_up, prompt_at(gate))
        wait_for(lambda: held(caller.emulator, gate) == 4, "four calls are upstream")
        leaving.result()
        again = pool.submit(caller.post, prompt_at(gate), 1, replica=1)
        wait_for(lambda: waiting(caller.replicas[1]) == 1, "the retry waits")
        caller.release(gate)
        answers = [each.result() for each in (*patient, again)]
    assert len({picture(answer) for answer in answers}) == 4
    assert calls_of(caller.emulator) - calls == 4
    assert caller.spent() - spent == 4 * PRICE


def test_a_retry_beside_a_caller_who_is_still_there_takes_nothing_from_it(caller: Caller, gate: str) -> None:
    calls = calls_of(caller.emulator)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(caller.post, prompt_at(gate))
        wait_for(lambda: held(caller.emulator, gate) == 1, "the first call is upstream")
        again = pool.submit(caller.post, prompt_at(gate), 1, replica=1)
        wait_for(lambda: waiting(caller.replicas[1]) == 1, "the retry waits")
        caller.release(gate)
        answers = [first.result(), again.result()]
    assert len({picture(answer) for answer in answers}) == 2
    assert calls_of(caller.emulator) - calls == 2


def test_an_answer_that_breaks_while_it_is_written_goes_to_the_retry(caller: Caller) -> None:
    prompt, calls = f"{fresh()} [[emulate:huge:24]]", calls_of(caller.emulator)
    body = json.dumps({"prompt": prompt, "image_size": "512"}).encode()
    port = int(caller.replicas[0].url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {caller.key}\r\n"
            "x-stainless-retry-count: 0\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    assert len(picture(caller.post(prompt, 1, replica=1))) > 24 << 20
    assert calls_of(caller.emulator) - calls == 1


@pytest.mark.parametrize("header", ["x-stainless-read-timeout", "x-stainless-timeout"])
def test_a_caller_whose_own_time_is_over_is_gone_though_a_proxy_hides_it(
    caller: Caller, gate: str, header: str
) -> None:
    calls = calls_of(caller.emulator)
    late = caller.post(prompt_at(gate), headers={header: "1"})
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    caller.release(gate)
    assert picture(caller.post(prompt_at(gate), 1, replica=1))
    assert calls_of(caller.emulator) - calls == 1


def test_a_refusal_that_nobody_heard_is_not_paid_again(caller: Caller, gate: str) -> None:
    prompt, calls = f"{prompt_at(gate)} [[emulate:image-safety]]", calls_of(caller.emulator)
    caller.give_up(prompt)
    caller.release(gate)
    again = caller.post(prompt, 1, replica=1)
    assert (again.status_code, again.json()["error"]["code"]) == (400, "moderation_blocked")
    assert calls_of(caller.emulator) - calls == 1


@pytest.mark.parametrize(
    "again",
    [{"count": 0}, {"count": None}, {"count": 1, "other": True}, {"count": 1, "n": 2}, {"count": -1}],
    ids=["first", "unnumbered", "another key", "other work", "no number"],
)
def test_nobody_else_gets_what_was_not_delivered(caller: Caller, gate: str, again: dict[str, Any]) -> None:
    calls = calls_of(caller.emulator)
    caller.give_up(prompt_at(gate))
    caller.release(gate)
    caller.spent()
    key = caller.other_key if again.pop("other", False) else ""
    made = caller.post(prompt_at(gate), **again, key=key)
    assert calls_of(caller.emulator) - calls == 1 + len(made.json()["data"])


def test_what_was_delivered_is_not_given_to_a_retry(caller: Caller) -> None:
    prompt, calls = fresh(), calls_of(caller.emulator)
    answers = [caller.post(prompt), caller.post(prompt, 1, replica=1)]
    assert len({picture(answer) for answer in answers}) == 2
    assert calls_of(caller.emulator) - calls == 2


def test_a_failure_that_cost_nothing_is_made_anew(caller: Caller) -> None:
    prompt, calls = f"{fresh()} [[emulate:permission-denied:1]]", calls_of(caller.emulator)
    assert caller.post(prompt).status_code >= 400
    assert picture(caller.post(prompt, 1))
    assert calls_of(caller.emulator) - calls == 2


def test_a_result_that_is_not_kept_any_more_is_made_anew(caller: Caller, gate: str) -> None:
    calls = calls_of(caller.emulator)
    caller.give_up(f"{prompt_at(gate)} [[emulate:huge:33]]")
    caller.release(gate)
    caller.spent()
    assert picture(caller.post(f"{prompt_at(gate)} [[emulate:huge:33]]", 1, replica=1))
    assert calls_of(caller.emulator) - calls == 2
