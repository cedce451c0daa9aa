"""``python -m tests.badday.run``: an hour of a bad day in a minute, as a table and as a picture."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.badday.chart import drawn
from tests.badday.day import Day
from tests.badday.report import Report

SECONDS_MAX = 600


def main(arguments: list[str] | None = None) -> int:
    """0 where no promise was broken."""
    parser = argparse.ArgumentParser("bad-day")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=8, help="requests a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder of table and picture")
    given: Any = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fg") as folder:
        seen = Day(min(given.seconds, SECONDS_MAX), given.seed, given.rate, Path(folder)).run()
    report = Report(seen)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "bad-day.txt").write_text(f"{report}\n")
    drawn(report).quantize(128).save(given.out / "bad-day.png", optimize=True)
    sys.stdout.write(f"{report}\n  picture   {given.out / 'bad-day.png'}\n")
    return min(1, len(report.faults))


if __name__ == "__main__":
    sys.exit(main())
