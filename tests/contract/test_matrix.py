"""The matrix of clients is whole: each client, each case, a test that is there or a reason."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from tests.contract import test_all_clients
from tests.contract.all_clients.workshop import SCRIPTS

HERE = Path(__file__).parent
WHOLE, _, OTHERS = (HERE / "MATRIX.md").read_text().partition("\n# Frameworks")
CASES = [
    "generate",
    "edit with two references",
    "three-turn chat",
    "stream",
    "count tokens",
    "invalid size",
    "blocked prompt",
    "exhausted budget",
    "cancelled call",
    "four at once",
]


def _sections() -> dict[str, list[list[str]]]:
    """The rows of each client's table."""
    found: dict[str, list[list[str]]] = {}
    for section in WHOLE.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
        found[title] = [[cell.strip() for cell in row] for row in rows[1:]]
    return found


SECTIONS = _sections()


def test_every_client_is_there() -> None:
    named = [re.split(r"[:,] ", title)[:2] for title in SECTIONS]
    assert [" ".join(words).split(" image")[0] for words in named] == [
        "google-genai Python",
        "@google/genai Node",
        "openai Python",
        "openai Node",
        "Pydantic AI",
    ]


@pytest.mark.parametrize("client", SECTIONS)
def test_a_client_is_tried_with_every_case(client: str) -> None:
    rows = SECTIONS[client]
    assert [row[0] for row in rows] == CASES
    for case, told in rows:
        assert find_tests(told) or told.startswith("*no*: "), f"{case}: neither a test nor a reason"


def find_tests(text: str) -> list[str]:
    """The tests that a text names, all of which exist."""
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", text)
    for file, name in named:
        tree = ast.parse((HERE / file).read_text())
        functions = {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in functions, f"{file} has no test {name}"
    return [name for _, name in named]


def test_the_other_clients_are_all_there_with_the_versions_of_the_locks() -> None:
    folder = HERE / "all_clients"
    locked = dict(json.loads((folder / "package.json").read_text())["dependencies"])
    pins = (folder / "requirements.in").read_text()
    locked |= dict(re.findall(r"(?m)^([\w.-]+)==(\S+)$", pins))
    rows = dict(re.findall(r"(?m)^\| ([\w-]+) \| (\S+ \d.*) \|$", OTHERS))
    assert list(rows) == list(SCRIPTS)
    named = {pair for packages in rows.values() for pair in re.findall(r"(\S+) (\d[\w.]*)", packages)}
    assert named == set(locked.items())
    tests = {name for name in vars(test_all_clients) if name.startswith("test_")}
    assert tests - set(find_tests(OTHERS)) == {"test_the_scripts_are_those_that_are_recorded"}
