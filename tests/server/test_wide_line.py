"""The one line that the log has about a request, an operation, or work that outlives its caller."""

from __future__ import annotations

import socket
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, running_gateway
from tests.server.conftest import Client, tokens_a_day, wait_for, write_tenants
from tests.server.test_hanging_up import connected, lines_since, log_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.processes import Running

STAGES = {"validate_ms", "admit_ms", "upstream_ms", "settle_ms"}


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("wide")
    tenants = write_tenants(folder / "tenants.yaml", {"wide": tokens_a_day(100_000), "poor": tokens_a_day(1)})
    folder.joinpath("key").write_text(tenants.keys["wide"])
    folder.joinpath("poor").write_text(tenants.keys["poor"])
    own = {"tenants_file": str(tenants.path), "upstream_retry_attempts": "2"}
    with running_gateway(folder, **{**settings, **own}) as process:
        yield process


@pytest.fixture
def client(replica: Running) -> Client:
    return Client(replica.url, key_of(replica))


def key_of(replica: Running, name: str = "key") -> str:
    return log_of(replica).parent.joinpath(name).read_text()


class Lines:
    """What the log of a gateway says from now on."""

    def __init__(self, replica: Running) -> None:
        self._replica, self._before = replica, log_of(replica).stat().st_size

    def named(self, message: str) -> list[dict[str, Any]]:
        return [line for line in lines_since(self._replica, self._before) if line["message"] == message]

    def wait(self, message: str, count: int = 1) -> list[dict[str, Any]]:
        wait_for(lambda: len(self.named(message)) >= count, f"the log says {message}")
        return self.named(message)


def test_the_line_of_a_request_says_what_was_made_and_what_it_cost(replica: Running, client: Client) -> None:
    lines, body = Lines(replica), {"prompt": f"Wide {token_hex(4)}", "image_size": "2K", "n": 2, "seed": 7}
    made, again = client.post(body).json(), client.post(body).json()
    first, second = lines.wait("request", 2)
    usage = made["usage"]
    expected = {
        "model": "gemini-3.1-flash-image", "image_size": "2K", "images": 2, "cache": "miss",
        "back_end": "emulator", "attempts": 2,
    }  # fmt: skip
    assert {name: first[name] for name in expected} == expected
    assert first["image_tokens"] == usage["image_tokens"] == 2 * 1680
    assert first["output_tokens"] == usage["output_tokens"]
    assert first["usd"] == pytest.approx(usage["cost_usd"])
    assert first["generation_id"] == made["id"] == again["id"] == f"gen_{first['hold_id']}"
    assert first.keys() >= STAGES
    assert first["upstream_ms"] > 0
    assert (second["cache"], second["usd"], second["image_tokens"]) == ("hit", 0, 0)
    assert "attempts" not in second
    assert second["generation_id"] == first["generation_id"]


def test_the_line_of_a_failure_says_what_the_upstream_said(replica: Running, client: Client) -> None:
    lines = Lines(replica)
    assert client.post({"prompt": f"{token_hex(4)} [[emulate:unavailable:9]]"}).status_code == 503
    (line,) = lines.wait("request")
    assert (line["attempts"], line["upstream_status"], line["reason"]) == (2, 503, "UNAVAILABLE")
    assert (line["billed"], line["back_end"]) == ("no", "emulator")
    calls = lines.named("a call of the model failed")
    assert len(calls) == 2
    for call in calls:
        assert call["request_id"] == line["request_id"]
        assert call["cause"] == "The upstream answered 503 UNAVAILABLE."
        assert call["remedy"]


def test_failures_of_the_network_are_told_apart(tmp_path: Path, settings: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    tenants = write_tenants(tmp_path / "tenants.yaml", {"wide": tokens_a_day(100_000)})
    own = {
        "tenants_file": str(tenants.path),
        "emulator_base_url": f"http://127.0.0.1:{port}",
        "probe": "/livez",
    }
    with running_gateway(
        tmp_path / "gateway", **{**settings, **own, "upstream_retry_attempts": "1"}
    ) as replica:
        lines = Lines(replica)
        assert Client(replica.url, tenants.keys["wide"]).post({"prompt": "A fox"}).status_code == 503
        (call,) = lines.wait("a call of the model failed")
    assert call["address"] == f"127.0.0.1:{port}"
    assert "ECONNREFUSED: Connection refused" in call["cause"]


def test_the_line_of_a_refusal_names_budgets_and_violations(replica: Running) -> None:
    lines, poor = Lines(replica), Client(replica.url, key_of(replica, "poor"))
    assert poor.post({"prompt": "A fox"}).status_code == 429
    assert poor.post({"prompt": "A fox", "image_size": "7K", "n": 99}).status_code == 422
    refused, invalid = lines.wait("request", 2)
    assert (refused["outcome"], refused["refused_by"]) == ("budget_exceeded", ["tenant:image_tokens/day"])
    assert sorted(invalid["violations"]) == ["n_out_of_range", "unsupported_image_size"]


@pytest.mark.parametrize(("prompt", "state"), [("A fox", "done"), ("[[emulate:image-safety]]", "failed")])
def test_an_operation_logs_its_end(replica: Running, client: Client, prompt: str, state: str) -> None:
    lines = Lines(replica)
    begun = client.post({"prompt": f"{token_hex(4)} {prompt}"}, Prefer="respond-async").json()
    (line,) = lines.wait("operation")
    (request,) = lines.named("request")
    assert (line["state"], line["operation_id"], line["tenant"]) == (state, begun["id"], "wide")
    assert line["outcome"] == ("ok" if state == "done" else "content_blocked")
    assert request["operation_id"] == begun["id"]
    assert request["request_id"] == line["request_id"]
    assert line["duration_s"] > 0
    assert line["image_tokens"] == (1120 if state == "done" else 0)


def test_work_that_outlives_its_caller_logs_its_end(replica: Running, emulator: Running) -> None:
    lines, gate = Lines(replica), token_hex(4)
    body = f'{{"prompt": "[[emulate:hold:{gate}]]"}}'
    calls = HTTP.get(f"{emulator.url}/emulator/calls").json()["generate"]
    with connected(replica) as connection:
        connection.sendall(
            f"POST /openai/v1/images/generations HTTP/1.1\r\nHost: gateway\r\n"
            f"X-API-Key: {key_of(replica)}\r\nX-Stainless-Retry-Count: 0\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        wait_for(
            lambda: HTTP.get(f"{emulator.url}/emulator/calls").json()["generate"] > calls, "it is being drawn"
        )
    (left,) = lines.wait("request")
    HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
    (line,) = lines.wait("a request ended after its caller had left")
    assert left["outcome"] in {"client_closed_request", "cancelled"}
    assert line["request_id"] == left["request_id"]
    assert (line["image_tokens"], line["hold_id"]) == (1120, left["hold_id"])
