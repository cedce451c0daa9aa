"""What the project cites is there; each kind of citation that leads nowhere is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.citations import broken
from tests.architecture.test_layers import committed

ROOT = Path(__file__).parents[2]


def test_no_citation_leads_nowhere() -> None:
    files = ((name, text) for name, text in committed() if not name.endswith("package-lock.json"))
    found = [str(breach) for name, text in files for breach in broken(ROOT, name, text)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "text", "cited"),
    [
        ("app/main.py", "# See reliability.md.", "reliability.md"),
        ("app/main.py", "# See docs/nothing.md.", "docs/nothing.md"),
        ("app/main.py", "# See docs/model.md.", "say which part"),
        ("app/main.py", "# See docs/model.md#nothing.", "#nothing"),
        ("app/main.py", "# See docs/reliability.md R999.", "R999"),
        ("app/main.py", "# Exactly once (R6).", "say where R6"),
        ("app/main.py", "# Exactly once, finding 6.", "finding 6"),
        ("app/main.py", "# docs/reliability.md R6, R7 and R999", "R999"),
        ("app/main.py", "# See docs/decisions/9999.", "9999"),
        ("app/main.py", "# See docs/decisions/0001-nothing.md.", "0001-nothing.md"),
        ("app/main.py", "# As in\n# domain/usage.py.", "domain/usage.py"),
        ("app/main.py", "# See policy.py.", "policy.py"),
        ("app/main.py", '"""See ``app/nothing/``."""', "app/nothing"),
        ("app/main.py", "# See app.nothing.ledger.", "app.nothing"),
        ("app/main.py", 'x = "see deploy/NOTHING.md"', "deploy/NOTHING.md"),
        ("tests/test_a.py", "def f():\n    '''See ``tests/nothing.py``.'''", "tests/nothing.py"),
        ("app/ledger/scripts/a.lua", "return 1 -- see _nothing.lua", "_nothing.lua"),
        ("deploy/a.yaml", "a: 1  # see deploy/NOTHING.md", "deploy/NOTHING.md"),
        ("deploy/a.tf", "# see deploy/NOTHING.md", "deploy/NOTHING.md"),
        ("deploy/a.tf", 'content = "See deploy/NOTHING.md"', "deploy/NOTHING.md"),
        ("deploy/a.json", '{"description": "See NOTHING.md"}', "NOTHING.md"),
        ("README.md", "[x](docs/nothing.md)", "docs/nothing.md"),
        ("docs/decisions/0001-a.md", "[x](../nothing.md#a)", "../nothing.md"),
        ("docs/a.md", "`tests/architecture/test_citations.py::test_nothing`", "test_nothing"),
        ("docs/a.md", "[x](#nothing)", "#nothing"),
        ("docs/a.md", "decision 9999", "9999"),
    ],
)
def test_a_citation_that_leads_nowhere_is_found(path: str, text: str, cited: str) -> None:
    [breach] = broken(ROOT, path, text)
    assert cited in breach.sentence


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("app/main.py", "# See docs/reliability.md R6, R7 and\n# R8 to R10, and docs/model.md#usage."),
        ("app/main.py", "# docs/decisions/0001, app/main.py, tests/architecture/ and https://a.b/c.md"),
        ("tests/test_a.py", 'x = "there is no docs/nothing.md"'),
        ("app/ledger/scripts/a.lua", "-- behind _common.lua"),
        ("docs/decisions/0001-a.md", "[x](../model.md#usage), R6, decision 0002"),
    ],
)
def test_what_is_there_may_be_cited(path: str, text: str) -> None:
    assert list(broken(ROOT, path, text)) == []
