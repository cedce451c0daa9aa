"""No tenant can overspend, whatever the model answers: bounds, the last of a budget, cuts, cost limits."""

from __future__ import annotations

import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, Running, running_emulator, running_gateway
from tests.server.conftest import PEPPER, Client, Tenants, calls_of, tokens_a_day, wait_for, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

DUNES = Path(__file__).parents[1] / "fixtures/images/dunes-16bit.png"
GREEDY = "[[emulate:greedy]]"
BUDGETS: dict[str, list[dict[str, Any]]] = {
    "tokens": tokens_a_day(11_200),
    "images": [{"unit": "images", "window": "day", "limit": 10}],
    "dollars": [{"unit": "usd", "window": "month", "limit": 1.5}],
    "output": [{"unit": "all_output_tokens", "window": "hour", "limit": 20_000}],
    "total": [{"unit": "total_tokens", "window": "week", "limit": 20_000}],
    "several": [*tokens_a_day(40_000), {"unit": "usd", "window": "lifetime", "limit": 2}],
    "thinker": tokens_a_day(3 * 1120),
    "tail": tokens_a_day(1120),
    "refusing": tokens_a_day(1679),
    "ample": tokens_a_day(10_000_000),
    "adaptive": tokens_a_day(20_000),
    "adapting": tokens_a_day(40_000),
    "unknown": tokens_a_day(2 * 1680),
    "capped": tokens_a_day(100_000),
}
MORE: dict[str, dict[str, Any]] = {"refusing": {"tail": "refuse"}}


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    return write_tenants(tmp_path_factory.mktemp("bounds") / "tenants.yaml", BUDGETS, MORE)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_emulator(tmp_path_factory.mktemp("upstream")) as process:
        yield process


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, callers: Tenants, upstream: Running) -> Iterator[Running]:
    settings = {"tenants_file": str(callers.path), "key_pepper": PEPPER, "emulator_base_url": upstream.url}
    with running_gateway(tmp_path_factory.mktemp("door"), upstream="emulator", **settings) as process:
        yield process


def fresh(directive: str = "", **more: Any) -> dict[str, Any]:
    return {"prompt": f"Bounded {secrets.token_hex(4)} {directive}", "delivery": "uri", **more}


def limits_of(client: Client) -> dict[str, dict[str, Any]]:
    return {item["unit"]: item for item in client.get("/v1/usage").json()["budgets"]}


def estimated(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"X-API-Key": client.key}
    answer = HTTP.post(f"{client.url}/v1/images:estimate", json=body, headers=headers, timeout=60)
    return dict(answer.json())


def gap(quote: dict[str, Any], unit: str) -> float:
    """How far one request can take a window above its limit."""
    member = {"usd": "cost_usd", "all_output_tokens": "output_tokens"}.get(unit, unit)
    expected = quote["estimate"].get(member, 1)
    return float(quote["worst"][member] - expected)


def spend(client: Client, body: dict[str, Any]) -> list[httpx2.Response]:
    """Many callers at once, each of which comes back as long as it is refused for calls under way alone."""

    def ask(_: int) -> httpx2.Response:
        while True:
            answer = client.post(body | {"prompt": f"{body['prompt']} {secrets.token_hex(4)}"})
            if answer.status_code != 429 or "under way" not in answer.json()["detail"]:
                return answer

    with ThreadPoolExecutor(10) as pool:
        return list(pool.map(ask, range(30)))


@pytest.mark.parametrize(
    ("tenant", "body"),
    [
        ("tokens", {"thinking_level": "high"}),
        ("images", {"thinking_level": "high", "image_size": "512"}),
        ("dollars", {"thinking_level": "high"}),
        ("output", {}),
        ("total", {}),
        ("several", {"n": 8, "thinking_level": "high", "image_size": "512"}),
    ],
)
def test_a_greedy_model_overspends_no_budget_by_more_than_one_request_can(
    door: Running, callers: Tenants, tenant: str, body: dict[str, Any]
) -> None:
    client, greedy = Client(door.url, callers.keys[tenant]), fresh(GREEDY, **body)
    quote = estimated(client, greedy)
    answers = spend(client, greedy)
    served = [answer.json() for answer in answers if answer.status_code == 200]
    assert served
    assert any(answer.status_code == 429 for answer in answers)
    made = sum(len(answer["images"]) for answer in served)
    for unit, budget in limits_of(client).items():
        assert (budget["held"], budget["unresolved"]) == (0, 0)
        assert budget["settled"] <= budget["limit"] + gap(quote, unit) + 1e-6
        if unit == "images":
            assert budget["settled"] == made
    if tenant == "tokens":
        assert made > len(served), "the model is greedy"


def test_a_thinking_budget_is_no_way_around_it(door: Running, callers: Tenants) -> None:
    client = Client(door.url, callers.keys["thinker"])
    body = {
        "contents": [{"role": "user", "parts": [{"text": f"Thoughtful {GREEDY}"}]}],
        "generationConfig": {"responseModalities": ["IMAGE"], "thinkingConfig": {"thinkingBudget": 30_000}},
    }
    url = f"{door.url}/gemini/v1beta/models/gemini-3.1-flash-image:generateContent"
    statuses = [
        HTTP.post(url, json=body, headers={"X-API-Key": client.key}, timeout=60).status_code for _ in range(3)
    ]
    assert statuses == [200, 429, 429], (
        "one may be served, and takes all that is left and what it can be above"
    )
    (budget,) = limits_of(client).values()
    assert budget["settled"] <= 3 * 1120 + 31_120


def test_the_last_of_a_budget_is_for_one_call_and_the_others_are_told_to_wait_for_it(
    door: Running, callers: Tenants, upstream: Running
) -> None:
    client, gate = Client(door.url, callers.keys["tail"]), secrets.token_hex(4)
    calls = calls_of(upstream)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, fresh(f"[[emulate:hold:{gate}]] [[emulate:image-safety]]"))
        wait_for(lambda: calls_of(upstream) > calls, "the first is being drawn")
        refused = client.post(fresh())
        problem = refused.json()
        assert (refused.status_code, problem["code"], problem["retryable"]) == (429, "budget_exceeded", True)
        assert "under way hold 1,680" in problem["detail"]
        assert 1 <= int(refused.headers["retry-after"]) <= 22
        assert client.budget()["held"] == 1680
        HTTP.post(f"{upstream.url}/emulator/release/{gate}").raise_for_status()
        assert first.result().status_code == 422
    served = client.post(fresh())
    assert (served.status_code, served.json()["effective"]["max_output_tokens"]) == (200, 1720)
    spent = client.post(fresh())
    assert int(spent.headers["retry-after"]) <= 86_400 + 60
    assert "under way" not in spent.json()["detail"]


def test_a_tenant_whose_tail_is_refused_is_never_above_its_limit(door: Running, callers: Tenants) -> None:
    refused = Client(door.url, callers.keys["refusing"]).post(fresh())
    assert (refused.status_code, refused.json()["retryable"]) == (429, False)
    assert refused.json()["refused_by"][0]["asked"] == 1680


def test_where_there_is_room_the_bound_is_wide_and_a_callers_own_stays(
    door: Running, callers: Tenants
) -> None:
    client = Client(door.url, callers.keys["ample"])
    answer = client.post(fresh("[[emulate:two-images]]")).json()
    assert answer["effective"]["max_output_tokens"] == 32_768
    assert len(answer["images"]) == 2
    own = client.post(fresh(max_output_tokens=2000)).json()
    assert own["effective"]["max_output_tokens"] == 2000
    assert "output_bounded" not in {warning["code"] for warning in own["warnings"]}
    lowered = Client(door.url, callers.keys["capped"]).post(fresh(max_output_tokens=30_000)).json()
    assert lowered["effective"]["max_output_tokens"] == 1720
    assert "output_bounded" in {warning["code"] for warning in lowered["warnings"]}


def test_an_answer_that_the_bound_cuts_off_is_paid_and_no_follower_is_told(
    door: Running, callers: Tenants, upstream: Running
) -> None:
    client, gate = Client(door.url, callers.keys["capped"]), secrets.token_hex(4)
    body, calls = fresh(f"[[emulate:hold:{gate}]] [[emulate:max-tokens]]"), calls_of(upstream)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(client.post, body) for _ in range(2)]
        wait_for(lambda: calls_of(upstream) - calls == 1, "one of them is being drawn")
        HTTP.post(f"{upstream.url}/emulator/release/{gate}").raise_for_status()
        answers = [future.result() for future in asked]
    assert [answer.status_code for answer in answers] == [502, 502]
    assert {answer.json()["code"] for answer in answers} == {"answer_cut"}
    assert all(answer.json()["usage"]["input_tokens"] > 0 for answer in answers)
    assert calls_of(upstream) - calls == 2, "each has led, and nobody tried again"


def test_where_the_callers_own_bound_cuts_it_off_it_is_the_callers_matter(
    door: Running, callers: Tenants
) -> None:
    client = Client(door.url, callers.keys["ample"])
    refused = client.post(fresh("[[emulate:max-tokens]]", max_output_tokens=1200))
    assert (refused.status_code, refused.json()["code"]) == (422, "max_tokens")


def test_no_bound_is_sent_for_a_while_where_it_cuts_off_too_many(door: Running, callers: Tenants) -> None:
    client = Client(door.url, callers.keys["adaptive"])
    level = {"thinking_level": "high"}
    assert client.post(fresh(**level)).json()["effective"]["max_output_tokens"] == 3520
    for caller in (client, Client(door.url, callers.keys["adapting"])) * 10:
        caller.post(fresh("[[emulate:max-tokens]]", **level))
    free = client.post(fresh(**level)).json()
    assert free["effective"]["max_output_tokens"] == 32_768
    limited = client.post(fresh(**level, max_cost_usd=1.0)).json()
    assert limited["effective"]["max_output_tokens"] < 32_768, "a caller's limit is kept in any case"
    metrics = HTTP.get(door.metrics_url).text
    assert re.search(r'flashgate_bounded_calls_total\{[^}]*ending="none"[^}]*\} [1-9]', metrics)


def test_of_an_unknown_outcome_the_rest_stays_set_aside(door: Running, callers: Tenants) -> None:
    client = Client(door.url, callers.keys["unknown"])
    assert client.post(fresh(f"{GREEDY} [[emulate:reset]]")).status_code == 502
    budget = client.budget()
    assert (budget["settled"], budget["held"], budget["unresolved"], budget["remaining"]) == (
        1120,
        0,
        560,
        1680,
    )
    assert client.post(fresh()).status_code == 200
    assert client.post(fresh()).status_code == 429


@pytest.mark.parametrize("n", [1, 3])
def test_a_request_that_can_cost_more_than_its_caller_allows_is_refused_on_every_door(
    door: Running, callers: Tenants, upstream: Running, n: int
) -> None:
    client, calls = Client(door.url, callers.keys["capped"]), calls_of(upstream)
    quote = estimated(client, fresh(n=n))
    most, expected = quote["worst"]["cost_usd"], quote["estimate"]["cost_usd"]
    assert expected < most
    refused = client.post(fresh(n=n, max_cost_usd=round(most - 0.001, 3)))
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (402, "max_cost_exceeded")
    assert (problem["expected_usd"], problem["most_usd"]) == pytest.approx((expected, most), abs=1e-4)
    assert problem["would_fit"]["image_size"] == "512"
    quoted = estimated(client, fresh(n=n, max_cost_usd=0.01))
    assert (quoted["would_be_admitted"], quoted["refusal"]["code"]) == (False, "max_cost_exceeded")
    header = {"X-API-Key": client.key, "X-Flashgate-Max-Cost": "0.01"}
    google = HTTP.post(
        f"{door.url}/gemini/v1beta/models/gemini-3.1-flash-image:generateContent",
        json={"contents": [{"parts": [{"text": "A boat"}]}]},
        headers=header,
    )
    assert (google.status_code, google.json()["error"]["details"][-1]["reason"]) == (400, "MAX_COST_EXCEEDED")
    openai = HTTP.post(f"{door.url}/openai/v1/images/generations", json={"prompt": "A boat"}, headers=header)
    assert (openai.status_code, openai.json()["error"]["code"]) == (402, "max_cost_exceeded")
    form = HTTP.post(
        f"{door.url}/v1/images:edit",
        data={"prompt": "A boat", "max_cost_usd": "0.01"},
        files={"image": ("dunes.png", DUNES.read_bytes(), "image/png")},
        headers={"X-API-Key": client.key},
    )
    assert (form.status_code, form.json()["code"]) == (402, "max_cost_exceeded")
    deferred = client.post(fresh(max_cost_usd=0.01), Prefer="respond-async")
    assert deferred.status_code == 402
    assert calls_of(upstream) == calls
    served = client.post(fresh(max_cost_usd=round(quote["worst"]["cost_usd"] + 0.001, 3)))
    assert served.status_code == 200


@pytest.mark.parametrize("amount", ["", "-1", "a dollar", "1e9"])
def test_a_cost_limit_that_is_no_amount_is_told_so(door: Running, callers: Tenants, amount: str) -> None:
    answer = Client(door.url, callers.keys["capped"]).post(fresh(), **{"X-Flashgate-Max-Cost": amount})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "X-Flashgate-Max-Cost" in answer.json()["detail"]
