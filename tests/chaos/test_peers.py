"""Each bug of the peers' budgets is answered by a test that is there, or by a reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (Path(__file__).parent / "PEERS.md").read_text().splitlines()
    if re.match(r"\| \d+ \|", line)
]


def test_all_twenty_five_are_there_in_order() -> None:
    assert [row[0] for row in ROWS] == [str(number) for number in range(1, 26)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_the_row_names_tests_that_are_there(row: list[str]) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[3])
    assert named or row[3].startswith("*cannot arise*: "), "neither a test nor a reason"
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        functions = {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in functions, f"{path} has no test {name}"
