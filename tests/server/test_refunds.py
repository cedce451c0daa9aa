"""The refund matrix (docs/reliability.md R14): what each ending of a request is booked with, one row each."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.processes import HTTP, Running, running_emulator, running_gateway
from tests.server.conftest import PEPPER, Client, Tenants, calls_of, wait_for, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PICTURE = 747
UNITS = ("image_tokens", "total_tokens", "images", "usd", "all_output_tokens")
AMPLE = dict(zip(UNITS, (10_000_000, 100_000_000, 10_000, 1000, 100_000_000), strict=True))
# Upper bounds, because the emulator's words vary: a picture with its words, a prompt, an estimate.
WORDS_MAX, PROMPT_MAX = 700, 60


@dataclass(frozen=True)
class Row:
    """One way in which a request can end.

    Attributes:
        rehearsal: What the emulator is asked for.
        code: The error that the caller gets, or empty for a picture.
        booked: ``nothing``, ``usage`` as reported, ``input`` alone, or the whole ``estimate``.
        pictures: Whether picture tokens are part of it.
    """

    rehearsal: str
    code: str
    booked: str
    pictures: bool = False


ROWS = {
    "a picture": Row("", "", "usage", pictures=True),
    "a picture without a report": Row("no-usage", "", "usage", pictures=True),
    "a prompt that is blocked, with usage": Row("blocked-prompt", "content_blocked", "usage"),
    "a picture that is blocked, with usage": Row("image-safety", "content_blocked", "usage"),
    "a picture that is blocked, without usage": Row(
        "image-safety]] [[emulate:no-usage", "content_blocked", "input"
    ),
    "words instead of a picture": Row("text-only", "model_refused", "usage"),
    "refused as invalid": Row("invalid", "upstream_invalid_request", "nothing"),
    "refused credentials": Row("permission-denied", "upstream_rejected", "nothing"),
    "a used up quota": Row("quota-day", "upstream_quota", "nothing"),
    "a 500": Row("internal", "upstream_error", "nothing"),
    "a 503": Row("unavailable", "upstream_unavailable", "nothing"),
    "a 504": Row("deadline", "deadline_exceeded", "estimate", pictures=True),
    "a reset in mid-body": Row("reset", "upstream_error", "estimate", pictures=True),
    "an end in mid-body": Row("truncated", "upstream_error", "estimate", pictures=True),
}


@pytest.fixture(scope="module")
def purse(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    budgets = [{"unit": unit, "window": "month", "limit": AMPLE[unit]} for unit in UNITS]
    path = tmp_path_factory.mktemp("purse") / "tenants.yaml"
    return write_tenants(path, {"purse": budgets})


def settings_of(purse: Tenants, emulator_url: str) -> dict[str, str]:
    return {
        "tenants_file": str(purse.path),
        "key_pepper": PEPPER,
        "upstream": "emulator",
        "emulator_base_url": emulator_url,
    }


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, purse: Tenants, emulator: Running) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("refunds")
    with running_gateway(folder, **settings_of(purse, emulator.url)) as gateway:
        yield Client(gateway.url, purse.keys["purse"])


def books(client: Client) -> dict[str, float]:
    """What is settled by unit; nothing may be held."""
    budgets = client.get("/v1/usage").json()["budgets"]
    assert [budget["held"] for budget in budgets] == [0] * len(UNITS)
    return {budget["unit"]: budget["settled"] for budget in budgets}


def body_of(rehearsal: str) -> dict[str, Any]:
    directive = f" [[emulate:{rehearsal}]]" if rehearsal else ""
    return {
        "prompt": f"Booked {secrets.token_hex(4)}{directive}",
        "image_size": "512",
        "delivery": "uri",
        "cache": "bypass",
    }


def check(row: Row, spent: dict[str, float]) -> None:
    """The ledger's difference is what the row says, in all units."""
    if row.booked == "nothing":
        assert spent == dict.fromkeys(UNITS, 0)
        return
    assert spent["image_tokens"] == (PICTURE if row.pictures else 0)
    assert spent["images"] == (1 if row.pictures else 0)
    assert spent["usd"] > 0
    words = spent["all_output_tokens"] - spent["image_tokens"]
    assert 0 <= words <= (0 if row.booked == "input" else WORDS_MAX)
    assert 0 < spent["total_tokens"] - spent["all_output_tokens"] <= PROMPT_MAX


@pytest.mark.parametrize("name", ROWS)
def test_a_request_is_booked_with_what_its_ending_may_have_cost(client: Client, name: str) -> None:
    row = ROWS[name]
    before = books(client)
    answer = client.post(body_of(row.rehearsal))
    assert answer.json().get("code", "") == row.code, answer.text
    after = books(client)
    check(row, {unit: round(after[unit] - before[unit], 9) for unit in UNITS})


def test_a_request_that_is_refused_before_the_call_is_booked_with_nothing(
    client: Client, emulator: Running
) -> None:
    before, calls = books(client), calls_of(emulator)
    assert client.post({"prompt": "x", "aspect_ratio": "7:3"}).status_code == 422
    assert client.post({**body_of(""), "cache": None}, cache_control="only-if-cached").status_code == 504
    assert books(client) == before
    assert calls_of(emulator) == calls


def test_an_upstream_that_cannot_be_reached_costs_nothing(tmp_path: Path, purse: Tenants) -> None:
    with (
        running_emulator(tmp_path) as upstream,
        running_gateway(tmp_path, **settings_of(purse, upstream.url)) as gateway,
    ):
        upstream.kill()
        client = Client(gateway.url, purse.keys["purse"])
        answer = client.post(body_of(""))
        assert answer.json()["code"] == "upstream_unavailable"
        assert books(client) == dict.fromkeys(UNITS, 0)


def test_a_caller_who_left_pays_what_was_used(client: Client, emulator: Running) -> None:
    gate = secrets.token_hex(4)
    before, calls = books(client), calls_of(emulator)
    with pytest.raises(httpx2.ReadTimeout):
        HTTP.post(
            f"{client.url}/v1/images:generate",
            json=body_of(f"hold:{gate}"),
            headers={"X-API-Key": client.key},
            timeout=1.0,
        )
    wait_for(lambda: calls_of(emulator) - calls == 1, "the call has reached the upstream")
    HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
    wait_for(lambda: client.budget("tenant-month-images")["held"] == 0, "the picture is paid")
    after = books(client)
    check(Row("", "", "usage", pictures=True), {unit: round(after[unit] - before[unit], 9) for unit in UNITS})


@pytest.mark.parametrize("name", ["a 504", "a reset in mid-body", "a picture that is blocked, without usage"])
def test_the_deployment_can_choose_to_book_nothing_where_nobody_knows(lenient: Client, name: str) -> None:
    before = books(lenient)
    assert lenient.post(body_of(ROWS[name].rehearsal)).json()["code"] == ROWS[name].code
    assert books(lenient) == before


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory, purse: Tenants, emulator: Running) -> Iterator[Client]:
    chosen = {"unknown_outcome": "release", "blocked_charge": "none"}
    folder = tmp_path_factory.mktemp("lenient")
    with running_gateway(folder, **settings_of(purse, emulator.url), **chosen) as gateway:
        yield Client(gateway.url, purse.keys["purse"])
