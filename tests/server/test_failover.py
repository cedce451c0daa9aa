"""Two back ends, each a real server: what one cannot do the other does, and no picture is paid for twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, Running, running_emulator, running_gateway
from tests.server.conftest import PEPPER, Client, Tenants, calls_of, tokens_a_day, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

ROWS = ("served", "gone", "ambiguous", "turns", "dialect", "typed", "dead")


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    budgets = dict.fromkeys(ROWS, tokens_a_day(10**6))
    return write_tenants(tmp_path_factory.mktemp("two") / "tenants.yaml", budgets)


@pytest.fixture(scope="module")
def vertex(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_emulator(tmp_path_factory.mktemp("vertex")) as process:
        yield process


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, callers: Tenants, vertex: Running, emulator: Running
) -> Iterator[Running]:
    """Vertex AI in its express form, then the Gemini Developer API."""
    settings = {
        "tenants_file": str(callers.path),
        "key_pepper": PEPPER,
        "upstream": "vertex,gemini",
        "gemini_api_key": "a-key",
        "vertex_base_url": vertex.url,
        "gemini_base_url": emulator.url,
    }
    with running_gateway(tmp_path_factory.mktemp("gateway"), **settings) as process:
        yield process


@pytest.fixture(autouse=True)
def _in_good_health(vertex: Running) -> None:
    if vertex.process.poll() is None:
        HTTP.delete(f"{vertex.url}/emulator/faults").raise_for_status()


def meets(back_end: Running, *rehearsals: str) -> None:
    """Whatever this back end is asked from now on meets these faults."""
    rules = {"rules": [{"rehearse": list(rehearsals)}]}
    HTTP.put(f"{back_end.url}/emulator/faults", json=rules).raise_for_status()


class Asked:
    """One tenant's calls, and how many each back end got since it began."""

    def __init__(self, gateway: Running, callers: Tenants, back_ends: tuple[Running, ...], name: str) -> None:
        self.client = Client(gateway.url, callers.keys[name])
        self._back_ends = back_ends
        self._before = [calls_of(each) for each in back_ends]

    def draw(self, prompt: str, **fields: Any) -> httpx2.Response:
        return self.client.post({"prompt": prompt, "image_size": "512", "delivery": "uri", **fields})

    @property
    def calls(self) -> tuple[int, ...]:
        return tuple(
            calls_of(each) - before for each, before in zip(self._back_ends, self._before, strict=True)
        )

    @property
    def booked(self) -> tuple[int, int]:
        budget = self.client.budget()
        return budget["settled"], budget["held"]


def served_by(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-flashgate-back-end"])


@pytest.mark.parametrize(("row", "fault"), [("served", "unavailable"), ("gone", "not-found")])
def test_the_second_back_end_draws_what_the_first_did_not_and_it_is_paid_once(
    row: str, fault: str, gateway: Running, callers: Tenants, vertex: Running, emulator: Running
) -> None:
    asked = Asked(gateway, callers, (vertex, emulator), row)
    assert served_by(asked.draw("In good health")) == "vertex"
    meets(vertex, fault)
    assert served_by(asked.draw("On a bad day")) == "gemini"
    assert (asked.calls, asked.booked) == ((2, 1), (2 * 747, 0))
    again = asked.draw("On a bad day")
    assert (again.json()["cache"]["status"], served_by(again)) == ("hit", "gemini")
    metrics = HTTP.get(gateway.metrics_url).text
    assert 'flashgate_upstream_failovers_total{left="vertex",model="gemini-3.1-flash-image"' in metrics


def test_an_outcome_that_nobody_knows_is_asked_of_nobody_else(
    gateway: Running, callers: Tenants, vertex: Running, emulator: Running
) -> None:
    asked = Asked(gateway, callers, (vertex, emulator), "ambiguous")
    meets(vertex, "reset")
    answer = asked.draw("Lost on the way")
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream_error")
    assert (asked.calls, asked.booked) == ((1, 0), (747, 0))


def test_a_conversation_goes_on_where_its_signatures_were_made(
    gateway: Running, callers: Tenants, vertex: Running, emulator: Running
) -> None:
    asked = Asked(gateway, callers, (vertex, emulator), "turns")
    meets(vertex, "unavailable")
    first = asked.draw("A fox")
    assert served_by(first) == "gemini"
    HTTP.delete(f"{vertex.url}/emulator/faults").raise_for_status()
    second = asked.draw("Make it blue", continue_from=first.json()["id"])
    assert served_by(second) == "gemini"
    assert asked.calls == (1, 2)


def test_a_conversation_in_googles_dialect_goes_on_where_its_signatures_were_made(
    gateway: Running, callers: Tenants, vertex: Running, emulator: Running
) -> None:
    asked = Asked(gateway, callers, (vertex, emulator), "dialect")
    url = f"{gateway.url}/gemini/v1beta/models/gemini-3.1-flash-image:generateContent"
    headers = {"x-goog-api-key": callers.keys["dialect"]}

    def says(contents: list[dict[str, Any]]) -> httpx2.Response:
        config = {"imageConfig": {"imageSize": "512"}, "responseModalities": ["IMAGE"]}
        body = {"contents": contents, "generationConfig": config}
        return HTTP.post(url, json=body, headers=headers)

    turns = [{"role": "user", "parts": [{"text": "A hen"}]}]
    meets(vertex, "unavailable")
    first = says(turns)
    assert served_by(first) == "gemini"
    HTTP.delete(f"{vertex.url}/emulator/faults").raise_for_status()
    drawn = first.json()["candidates"][0]["content"]
    assert any(part.get("thoughtSignature") for part in drawn["parts"])
    turns += [drawn, {"role": "user", "parts": [{"text": "Make it blue"}]}]
    assert served_by(says(turns)) == "gemini"
    path = "v1beta/models/gemini-3.1-flash-image:generateContent"
    elsewhere = HTTP.post(
        f"{vertex.url}/{path}", json={"contents": [turns[0]]}, headers={"x-goog-api-key": "k"}
    ).json()
    turns[1] = elsewhere["candidates"][0]["content"]
    meets(vertex, "unavailable")
    assert says(turns).status_code == 503, "its signatures are not known here, so it is not failed over"
    assert asked.calls[1] == 2


def test_a_type_that_only_one_back_end_offers_is_asked_of_that_one(
    gateway: Running, callers: Tenants, vertex: Running, emulator: Running
) -> None:
    asked = Asked(gateway, callers, (vertex, emulator), "typed")
    assert served_by(asked.draw("As PNG", output_mime_type="image/png")) == "vertex"
    meets(vertex, "permission-denied")
    answer = asked.draw("As PNG, again", output_mime_type="image/png")
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream_rejected")
    assert (asked.calls, asked.booked) == ((2, 0), (747, 0))


def test_a_dead_back_end_is_nobodys_trouble(
    gateway: Running, callers: Tenants, vertex: Running, emulator: Running
) -> None:
    """The last test here: the first back end does not come back."""
    asked = Asked(gateway, callers, (emulator,), "dead")
    vertex.kill()
    assert [served_by(asked.draw(f"Picture {number}")) for number in range(3)] == ["gemini"] * 3
    assert (asked.calls, asked.booked) == ((3,), (3 * 747, 0))
    assert HTTP.get(f"{gateway.url}/readyz").status_code == 200


def test_the_announced_end_of_a_model_is_a_metric_and_shown_with_its_source(
    gateway: Running, callers: Tenants
) -> None:
    lines = HTTP.get(gateway.metrics_url).text.splitlines()
    ends = [line for line in lines if line.startswith("flashgate_model_retirement_timestamp_seconds{")]
    model = 'flashgate_model_retirement_timestamp_seconds{back_end="vertex",model="gemini-3.1-flash-image"}'
    assert f"{model} 1.8114624e+09" in ends
    assert not [line for line in ends if 'back_end="gemini"' in line], "that one was lifted"
    client = Client(gateway.url, next(iter(callers.keys.values())))
    retires = client.get("/v1/models/gemini-3.1-flash-image").json()["retires"]
    assert {name: (end["date"], end["status"]) for name, end in retires.items()} == {
        "gemini": ("2026-10-29", "lifted"),
        "vertex": ("2027-05-28", "announced"),
    }
    assert "life cycle" in retires["vertex"]["source"]
