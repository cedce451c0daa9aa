"""Rules: which calls meet which rehearsals, and what is said of rules that cannot be."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.errors import ConfigurationError
from app.emulator.child import EmulatorChild
from app.emulator.rules import BYTES_MAX, BadRules, Call, FaultRules, Rulebook, load_rules, read_rules
from tests.emulator.conftest import EXPRESS, GENERATE, small

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

FOX = Call("A red Fox", {"x-goog-api-key": "k"}, "1K", "gemini-3.1-flash-image", 1)
YAML = """
seed: 3
rules:
  - name: the morning's wave
    match: {prompt: fox, headers: {X-Goog-Api-Key: "*"}}
    rehearse: [unavailable, "slow:0.01"]
    first: 2
    last: 4
    share: 0.5
"""


def struck(rules: list[dict[str, Any]], calls: int = 1, call: Call = FOX, seed: int = 0) -> list[int]:
    """The numbers of the calls that meet a fault, from 1."""
    book = Rulebook(FaultRules.model_validate({"seed": seed, "rules": rules}))
    return [number for number in range(1, calls + 1) if book.apply(call).error is not None]


@pytest.mark.parametrize(
    ("match", "meets"),
    [
        ({}, True),
        ({"prompt": "red fox"}, True),
        ({"prompt": "hen"}, False),
        ({"pattern": "^A .*Fox$"}, True),
        ({"pattern": "^Fox"}, False),
        ({"headers": {"X-Goog-Api-Key": "k"}}, True),
        ({"headers": {"X-Goog-Api-Key": "*"}}, True),
        ({"headers": {"X-Goog-Api-Key": "other"}}, False),
        ({"headers": {"x-tenant": "*"}}, False),
        ({"image_size": "1K", "model": "gemini-3.1-flash-image"}, True),
        ({"image_size": "4K"}, False),
        ({"model": "gemini-3-pro-image"}, False),
        ({"prompt": "fox", "image_size": "4K"}, False),
    ],
)
def test_a_rule_meets_the_calls_that_are_like_it_in_every_respect(match: dict[str, Any], meets: bool) -> None:
    assert struck([{"match": match, "rehearse": "internal"}]) == ([1] if meets else [])


def test_a_rule_strikes_from_its_first_to_its_last_call_and_counts_what_it_matches_alone() -> None:
    rules = [{"rehearse": "internal", "first": 2, "last": 3}]
    assert struck(rules, calls=5) == [2, 3]
    book = Rulebook(FaultRules.model_validate({"rules": [rules[0] | {"match": {"image_size": "1K"}}]}))
    other = Call("A hen", {}, "4K", "m", 1)
    assert [book.apply(call).error is None for call in (other, other, FOX, FOX)] == [True] * 3 + [False]


def test_a_share_of_the_calls_is_struck_and_the_same_ones_again() -> None:
    rules = [{"rehearse": "internal", "share": 0.3}]
    once = struck(rules, calls=1000)
    assert 250 < len(once) < 350
    assert struck(rules, calls=1000) == once != struck(rules, calls=1000, seed=1)


def test_rules_act_together_and_a_later_one_wins() -> None:
    book = Rulebook(
        read_rules(b'{"rules": [{"rehearse": ["internal", "slow:2"]}, {"rehearse": "unavailable"}]}')
    )
    behaviour = book.apply(FOX)
    assert (behaviour.error and behaviour.error.code, behaviour.delay_s) == (503, 2.0)


def test_yaml_and_json_are_read_alike() -> None:
    rules = read_rules(YAML.encode())
    assert read_rules(rules.model_dump_json().encode()) == rules
    assert (rules.seed, rules.rules[0].rehearse, rules.rules[0].last) == (3, ["unavailable", "slow:0.01"], 4)


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        ({"rules": [{"rehearse": "storm"}]}, "rules[0].rehearse", "no rehearsal called storm; there are"),
        ({"rules": [{"rehearse": "slow"}]}, "rules[0].rehearse", "another argument (seconds)"),
        ({"rules": [{"rehearse": "not a word"}]}, "rules[0].rehearse", "NAME or NAME:ARGUMENT"),
        ({"rules": [{"rehearse": []}]}, "rules[0].rehearse", "at least 1"),
        ({"rules": [{}]}, "rules[0].rehearse", "required"),
        ({"rules": [{"rehearse": "pretty", "share": 0}]}, "rules[0].share", "greater than 0"),
        (
            {"rules": [{"rehearse": "pretty", "first": 3, "last": 2}]},
            "rules[0]",
            "last (2) is before first (3)",
        ),
        (
            {"rules": [{"rehearse": "pretty", "match": {"pattern": "("}}]},
            "rules[0].match.pattern",
            "no regular",
        ),
        (
            {"rules": [{"rehearse": "pretty", "match": {"path": "x"}}]},
            "rules[0].match.path",
            "not a known field",
        ),
        ({"rules": [{"rehearse": "pretty"}] * 1001}, "rules", "at most 1000"),
        ([], "the document", "must be a JSON object"),
        ("rules: [", "the document", "neither JSON nor YAML"),
        ("#" * (BYTES_MAX + 1), "the document", "more than"),
    ],
)
def test_what_is_wrong_with_rules_is_said_with_its_field(document: Any, field: str, words: str) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(BadRules) as raised:
        read_rules(text.encode())
    [(found, sentence)] = raised.value.faults
    assert found == field
    assert words in sentence


async def test_rules_are_put_in_force_shown_with_their_counts_and_taken_away(
    ruled: httpx2.AsyncClient,
) -> None:
    rules = {"rules": [{"rehearse": "unavailable", "match": {"prompt": "ruled"}, "last": 2}]}
    assert (await ruled.put("/emulator/faults", json=rules)).status_code == 200
    statuses = [(await ruled.post(GENERATE, json=small("A ruled fox"))).status_code for _ in range(3)]
    assert statuses == [503, 503, 200]
    assert (await ruled.get("/emulator/faults")).json() == {
        "seed": 0,
        "rules": [rules["rules"][0] | {"rehearse": ["unavailable"], "matched": 3, "struck": 2}],
    }
    assert (await ruled.delete("/emulator/faults")).status_code == 204
    assert (await ruled.get("/emulator/faults")).json() == {"seed": 0, "rules": []}


async def test_a_prompt_has_the_last_word(ruled: httpx2.AsyncClient) -> None:
    await ruled.put("/emulator/faults", json={"rules": [{"rehearse": ["internal", "finish:SPII"]}]})
    answer = await ruled.post(GENERATE, json=small("A fox [[emulate:exhausted]]"))
    assert answer.status_code == 429


async def test_a_rule_can_single_out_one_caller(ruled: httpx2.AsyncClient) -> None:
    rules = {"rules": [{"rehearse": "exhausted", "match": {"headers": {"x-goog-api-key": "theirs"}}}]}
    await ruled.put("/emulator/faults", json=rules)
    theirs = await ruled.post(EXPRESS, json=small("A fox"), headers={"x-goog-api-key": "theirs"})
    ours = await ruled.post(EXPRESS, json=small("A fox"))
    assert (theirs.status_code, ours.status_code) == (429, 200)


async def test_bad_rules_are_refused_and_the_old_ones_stay(ruled: httpx2.AsyncClient) -> None:
    await ruled.put("/emulator/faults", json={"rules": [{"rehearse": "pretty"}]})
    refused = await ruled.put("/emulator/faults", json={"rules": [{"rehearse": "storm"}, {"share": 2}]})
    [detail] = refused.json()["error"]["details"]
    assert refused.status_code == 400
    fields = [violation["field"] for violation in detail["fieldViolations"]]
    assert fields == ["rules[0].rehearse", "rules[1].rehearse", "rules[1].share"]
    assert (await ruled.put("/emulator/faults", content=b"x" * (BYTES_MAX + 1))).status_code == 400
    assert len((await ruled.get("/emulator/faults")).json()["rules"]) == 1


@pytest.fixture
async def ruled(client: httpx2.AsyncClient) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an emulator whose rules are taken away after the test."""
    yield client
    await client.delete("/emulator/faults")


async def test_an_emulator_can_begin_with_the_rules_of_a_file_and_a_pace(
    tmp_path: Path, client: httpx2.AsyncClient
) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(YAML)
    async with EmulatorChild(options=("--faults", str(path), "--pace", "0.05")) as child:
        clock = asyncio.get_running_loop()
        began = clock.time()
        await client.post(child.base_url + GENERATE, json=small("A hen"))
        assert clock.time() - began >= 0.05 * 6
        shown = (await client.get(f"{child.base_url}/emulator/faults")).json()
    assert [rule["name"] for rule in shown["rules"]] == ["the morning's wave"]


def test_a_file_with_faults_of_its_own_is_named_with_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("rules: [{rehearse: storm}, {rehearse: pretty, share: 2}]")
    ended = subprocess.run(
        [sys.executable, "-m", "app.emulator", "--faults", str(path)], capture_output=True, check=False
    )
    said = ended.stderr.decode()
    assert ended.returncode == 2
    assert all(word in said for word in (str(path), "2 faults", "rules[0].rehearse", "rules[1].share")), said
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_rules(tmp_path / "missing.yaml")


def test_the_rules_in_the_readme_are_rules() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    [block] = [part for part in text.split("```yaml\n") if "--faults FILE" in part.partition("```")[0]]
    assert len(read_rules(block.partition("```")[0].encode()).rules) == 3
