"""Searches of a call are paid for by what the answer lists, and its sources reach the caller."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP
from tests.server.conftest import Client, Tenants

if TYPE_CHECKING:
    from tests.processes import Running

QUERY_USD = 0.014
BOTH = {"web_search": True, "image_search": True}


@pytest.fixture
def client(gateway: Running, tenants: Tenants) -> Client:
    return Client(gateway.url, tenants.keys["both"])


def grounded(queries: int, **more: Any) -> dict[str, Any]:
    prompt = f"The tide at Ostend {secrets.token_hex(4)} [[emulate:searches:{queries}]]"
    return {"prompt": prompt, "image_size": "512", "delivery": "uri", "grounding": BOTH} | more


def compute_token_cost(usage: dict[str, Any]) -> float:
    written = usage["text_output"] + usage["thinking"]
    return float(usage["input_tokens"] * 0.5 + usage["image_tokens"] * 60 + written * 3) / 1e6


def test_every_query_is_paid_and_every_source_is_shown(client: Client) -> None:
    answer = client.post(grounded(3, n=2)).json()
    assert answer["usage"]["search_queries"] == 6
    paid = answer["usage"]["cost_usd"]
    assert paid == pytest.approx(compute_token_cost(answer["usage"]) + 6 * QUERY_USD, abs=1e-8)
    assert answer["effective"]["grounding"] == BOTH
    first, second = answer["grounding"]
    assert first == second
    assert len(first["queries"]) == 3
    assert "emulated search" in first["search_entry_point"]
    assert first["sources"] == [
        {"title": "example.com", "uri": "https://example.com/", "image_uri": None},
        {
            "title": "A page with a picture",
            "uri": "https://example.com/page",
            "image_uri": "https://example.com/picture.png",
        },
    ]
    again = client.get(f"/v1/generations/{answer['id']}").json()
    assert (again["grounding"], again["effective"]) == (answer["grounding"], answer["effective"])


def test_more_queries_than_the_ten_of_a_hold_are_booked_all_the_same(client: Client) -> None:
    answer = client.post(grounded(14)).json()
    assert answer["usage"]["search_queries"] == 14
    assert answer["usage"]["cost_usd"] > 14 * QUERY_USD


def test_a_request_without_searches_has_no_results(client: Client) -> None:
    answer = client.post({**grounded(3), "grounding": None}).json()
    assert answer["grounding"] == []
    assert answer["effective"]["grounding"] == {"web_search": False, "image_search": False}
    assert answer["usage"]["search_queries"] == 0


def test_an_estimate_shows_the_reserved_queries(client: Client) -> None:
    answer = HTTP.post(
        f"{client.url}/v1/images:estimate",
        json=grounded(1, n=2),
        headers={"X-API-Key": client.key},
        timeout=30,
    )
    estimate = answer.json()["estimate"]
    assert estimate["search_queries"] == 20
    assert estimate["cost_usd"] > 20 * QUERY_USD
