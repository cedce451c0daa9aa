"""Each requirement is answered by tests that are there, or by a reason."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "tests/REQUIREMENTS.md").read_text().splitlines()
    if re.match(r"\| R\d+ \|", line)
]


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions)


def test_all_are_there_in_order() -> None:
    assert [row[0] for row in ROWS] == [f"R{number}" for number in range(1, 82)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_row_names_tests_that_are_there(row: list[str]) -> None:
    number, _required, shown = row
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", shown)
    assert named or shown.startswith("*not so*"), f"{number} has neither a test nor a reason"
    for path, name in named:
        assert name in functions_of(path), f"{number}: {path} has no test {name}"
