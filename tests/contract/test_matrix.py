"""The matrix of clients is whole: each client, each case, a test that is there or a reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
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
    for section in (HERE / "MATRIX.md").read_text().split("\n## ")[1:]:
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
        named = re.findall(r"`(test_\w+\.py)::(\w+)`", told)
        assert named or told.startswith("*no*: "), f"{case}: neither a test nor a reason"
        for file, name in named:
            tree = ast.parse((HERE / file).read_text())
            functions = {
                node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            assert name in functions, f"{file} has no test {name}"
