"""Each requirement is shown by tests, or says why by none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.citations import REQUIREMENTS

ROOT = Path(__file__).parents[2]
PARTS = re.split(r"(?m)^### R(\d+)\. ", (ROOT / REQUIREMENTS).read_text(encoding="utf-8"))
SECTIONS = dict(zip(map(int, PARTS[1::2]), PARTS[2::2], strict=True))


def test_no_number_is_missing_or_used_twice() -> None:
    assert sorted(map(int, PARTS[1::2])) == list(range(1, len(SECTIONS) + 1))


@pytest.mark.parametrize("number", SECTIONS)
def test_a_requirement_names_the_tests_that_show_it(number: int) -> None:
    shown = re.findall(r"(?m)^- `tests/[\w/]+\.py::\w+`$", SECTIONS[number])
    assert shown or "*Not asserted*" in SECTIONS[number]
