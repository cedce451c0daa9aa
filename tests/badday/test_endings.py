"""Each ending of a call, through the whole service: what is answered, booked, called and kept."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from google.genai import types

from app.emulator.faults import FAULTS
from app.upstream.google import failures
from tests.badday.endings import BLOCKS, ENDINGS, FINISHES, STATUSES, Ending
from tests.processes import HTTP, Running, running_emulator, running_gateway
from tests.server.conftest import PEPPER, Client, Tenants, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = ("image_tokens", "total_tokens", "images", "usd", "all_output_tokens")
PICTURE = 747
ALLOWANCE_MAX = 700
ANSWER_BYTES_MAX = 3_000_000
AT_ONCE = 4


@dataclass(frozen=True)
class Seen:
    """What one request came to: its answer, and the tenant's books and the upstream's calls after it."""

    status: int
    answer: dict[str, Any]
    cache: str
    books: dict[str, float]
    held: float
    calls: int


def marked(name: str) -> str:
    """A prompt that one row's rule alone finds."""
    return f"A fox in row {list(ENDINGS).index(name)}."


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    rules = [
        {"name": name, "match": {"prompt": marked(name)}, "rehearse": list(ending.rehearse)}
        for name, ending in ENDINGS.items()
    ]
    with running_emulator(tmp_path_factory.mktemp("emulator")) as process:
        HTTP.put(f"{process.url}/emulator/faults", json={"rules": rules}).raise_for_status()
        HTTP.post(f"{process.url}/emulator/release/the-tables").raise_for_status()
        yield process


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    budgets = [{"unit": unit, "window": "month", "limit": 1_000_000} for unit in UNITS]
    names = [f"row-{number}" for number in range(len(ENDINGS))]
    return write_tenants(tmp_path_factory.mktemp("rows") / "tenants.yaml", dict.fromkeys(names, budgets))


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, tenants: Tenants, emulator: Running
) -> Iterator[Running]:
    settings = {
        "tenants_file": str(tenants.path),
        "key_pepper": PEPPER,
        "upstream": "emulator",
        "emulator_base_url": emulator.url,
        "upstream_answer_bytes_max": str(ANSWER_BYTES_MAX),
        "upstream_breaker.calls_min": "1000",  # the failures of many rows hold no other row back
    }
    with running_gateway(tmp_path_factory.mktemp("gateway"), **settings) as process:
        yield process


@pytest.fixture(scope="module")
def seen(gateway: Running, emulator: Running, tenants: Tenants) -> dict[str, list[Seen]]:
    """Every row asked for, and asked for again, several rows at a time: each has a tenant of its own."""

    def asked(name: str) -> list[Seen]:
        ending = ENDINGS[name]
        client = Client(gateway.url, tenants.keys[f"row-{list(ENDINGS).index(name)}"])
        body = {"prompt": marked(name), "image_size": "512", "delivery": "uri", **ending.asks}
        found = []
        for _ in range(1 if ending.again is None else 2):
            answer = client.post(body)
            budgets = client.get("/v1/usage").json()["budgets"]
            [rule] = [
                rule
                for rule in HTTP.get(f"{emulator.url}/emulator/faults").json()["rules"]
                if rule["name"] == name
            ]
            found.append(
                Seen(
                    answer.status_code,
                    answer.json(),
                    answer.headers.get("cache-status", ""),
                    {budget["unit"]: budget["settled"] for budget in budgets},
                    sum(budget["held"] for budget in budgets),
                    rule["matched"],
                )
            )
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(ENDINGS, pool.map(asked, ENDINGS), strict=True))


def member(answer: Any, path: str) -> Any:
    for step in path.split("."):
        answer = answer[int(step)] if isinstance(answer, list) else answer[step]
    return answer


@pytest.mark.parametrize("name", ENDINGS)
def test_an_ending_is_answered_as_it_is(seen: dict[str, list[Seen]], name: str) -> None:
    ending = ENDINGS[name]
    for each in seen[name]:
        assert (each.status, each.answer.get("code", "")) == (ending.status, ending.code), each.answer
    first = seen[name][0].answer
    assert {path: member(first, path) for path in ending.tells} == ending.tells


@pytest.mark.parametrize("name", ENDINGS)
def test_an_ending_is_booked_with_what_it_may_have_cost(seen: dict[str, list[Seen]], name: str) -> None:
    first = seen[name][0]
    booked, ending = first.books, ENDINGS[name]
    assert first.held == 0
    assert booked["images"] == (ending.pictures if not ending.code or ending.booked == "estimate" else 0)
    check_tokens(ending, booked, first.answer.get("usage"), prompt=len(marked(name)))
    paid_again = not ending.pictures or ending.again or ending.code
    for second in seen[name][1:]:
        assert second.held == 0
        once_or_twice = 2 if paid_again else 1
        assert second.books["image_tokens"] == once_or_twice * booked["image_tokens"]


def check_tokens(ending: Ending, booked: dict[str, float], told: dict[str, Any] | None, prompt: int) -> None:
    """The ledger's image, output and total tokens, and its dollars, are those that the ending means."""
    match ending.booked:
        case "nothing":
            assert booked == dict.fromkeys(UNITS, 0)
            assert told is None
        case "usage":
            assert told is not None
            assert booked["image_tokens"] == told["image_tokens"]
            assert booked["all_output_tokens"] == told["output_tokens"]
            assert booked["total_tokens"] == told["input_tokens"] + told["output_tokens"] > 0
            assert ending.code or booked["image_tokens"] == PICTURE * ending.pictures
        case "input":
            assert booked["image_tokens"] == booked["all_output_tokens"] == 0
            assert booked["total_tokens"] == -(-prompt // 3)
        case "estimate":
            assert booked["image_tokens"] == PICTURE
            assert PICTURE < booked["all_output_tokens"] <= PICTURE + ALLOWANCE_MAX
            assert booked["all_output_tokens"] < booked["total_tokens"] <= PICTURE + ALLOWANCE_MAX + prompt
    assert (booked["usd"] > 0) == (ending.booked != "nothing")


@pytest.mark.parametrize("name", ENDINGS)
def test_an_ending_calls_the_upstream_as_often_as_is_safe(seen: dict[str, list[Seen]], name: str) -> None:
    ending = ENDINGS[name]
    calls = [each.calls for each in seen[name]]
    again = () if ending.again is None else (ending.calls + ending.again,)
    assert calls == [ending.calls, *again]


@pytest.mark.parametrize("name", [name for name, ending in ENDINGS.items() if ending.again is not None])
def test_only_whole_pictures_are_kept(seen: dict[str, list[Seen]], name: str) -> None:
    first, second = seen[name]
    assert not first.cache.startswith("flashgate; hit")
    assert second.cache.startswith("flashgate; hit") == (ENDINGS[name].again == 0)
    if ENDINGS[name].again == 0:
        assert second.answer["images"] == first.answer["images"]


def test_new_words_are_counted_and_no_word_of_the_upstream_makes_a_series(
    seen: dict[str, list[Seen]], gateway: Running
) -> None:
    text = HTTP.get(gateway.metrics_url).text
    counted = {
        reason: float(count)
        for reason, count in re.findall(
            r'^flashgate_upstream_finishes_total\{.*reason="(\w+)"\} (\S+)$', text, re.MULTILINE
        )
    }
    new_words = [name for name in ENDINGS if "new " in name]
    assert counted["unknown"] == 2 * len(new_words)
    assert counted["IMAGE_SAFETY"] > 0
    assert not [reason for reason in counted if "20" in reason]


def test_the_tables_are_whole() -> None:
    rehearsed = {word.partition(":")[0] for ending in ENDINGS.values() for word in ending.rehearse}
    by_bound = {"greedy", "over"}  # depend on the bound that is sent; tests/server/test_bounds.py has them
    by_price = {"answered-by", "cached"}  # change what is booked, which other tests compare with prices
    assert rehearsed == set(FAULTS) - by_bound - by_price
    assert set(FINISHES) == {reason.value for reason in types.FinishReason}
    assert set(BLOCKS) == {reason.value for reason in types.BlockedReason}
    assert {int(name.split(" ")[0]) for name in STATUSES} == set(failures.STATUSES)
