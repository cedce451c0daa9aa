"""Every decision says what it must, and is in the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/decisions").glob("*.md"))
HEADINGS = ["Context", "Decision", "Alternatives", "Consequences", "Enforced by"]
LINES_MAX = 40


def test_every_decision_has_a_number_of_its_own() -> None:
    assert [page.name[:5] for page in PAGES] == [f"{number:04}-" for number in range(1, len(PAGES) + 1)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name[:4])
def test_a_decision_says_why_instead_of_what_and_what_enforces_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    title = re.match(r"# (\d{4})\. \S", text)
    assert title
    assert title[1] == page.name[:4]
    parts = re.split(r"(?m)^## (.+)\n", text)
    assert parts[1::2] == HEADINGS
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert all(section.strip() for section in sections.values())
    assert re.search(r"(?m)^- \*\*[^*]+\*\*: \w", sections["Alternatives"]), (
        "an alternative, and why it was not taken"
    )
    enforced = [line for line in sections["Enforced by"].splitlines() if line.startswith("- ")]
    assert enforced
    assert all(re.match(r"- (`(app|tests|deploy)/|Review: \w)", line) for line in enforced)
    assert text.count("\n") <= LINES_MAX


def test_the_index_has_every_decision_once_with_its_title() -> None:
    index = re.findall(
        r"(?m)^- \[(\d{4})\]\(docs/decisions/(.+)\) (.+)$", (ROOT / "ARCHITECTURE.md").read_text()
    )
    titles = (page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for page in PAGES)
    assert index == [(page.name[:4], page.name, title[6:]) for page, title in zip(PAGES, titles, strict=True)]
