"""A few seconds of chaos with each run of the tests; ``make chaos`` is the long one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.chaos.run import chaos

SEED = 20_261_122


@pytest.mark.timeout(180)
def test_whatever_breaks_nothing_is_overspent_lost_or_unexplained() -> None:
    with tempfile.TemporaryDirectory(prefix="fg") as folder:
        report = chaos(8, SEED, 2, 12, Path(folder))
    assert report.faults == 0, f"\n{report}"
    assert report.harm["store flushed"] == 1
    assert report.harm.total() > 5
    assert report.answers["200"] > 5
    assert report.samples > 100
