"""A made-up unit, pages, is counted exactly after a change of two files; records that know less are read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.domain.budget import UNITS, Amounts
from app.ledger.hold_records import HoldRecord, UnreadableHold
from app.ledger.scripting import load_script

if TYPE_CHECKING:
    from tests.storeserver import ServerProcess

ROOT = Path(__file__).parents[2]
CHANGES = {
    "app/domain/budget.py": [
        ('"all_output_tokens"]', '"all_output_tokens", "pages"]'),
        ("    all_output_tokens: int = 0\n", "    all_output_tokens: int = 0\n    pages: int = 0\n"),
    ],
    "app/domain/estimate.py": [
        ("self.usd, self.output_tokens)", "self.usd, self.output_tokens, 7 * self.images)"),
    ],
}
"""The unit and its word, and what an estimate says of it."""

PROGRAM = """
import asyncio, sys, time
from zoneinfo import ZoneInfo
from redis.asyncio import Redis
from app.domain.budget import Amounts, Budget, build_window
from app.domain.estimate import Estimate
from app.domain.request import CacheDirective
from app.generation.ports import AdmissionRequest, Refused, Settlement
from app.ledger.redis import RedisLedger
from app.tenants.limits import BudgetLimitDocument

async def main():
    document = BudgetLimitDocument.model_validate({"unit": "pages", "window": "day", "limit": 20})
    window = build_window(document.build_budget("tenant"), "t", ZoneInfo("UTC"), time.time_ns() // 1_000_000)
    amounts = Estimate(0, 0, 0, 0, 1120, 0, 1, 5).amounts
    async with RedisLedger(Redis.from_url(sys.argv[1], decode_responses=True)) as ledger:
        def request(hold):
            return AdmissionRequest("a", hold, hold, (window,), amounts, CacheDirective("bypass"))
        for hold in ("one", "two"):
            await ledger.admit(request(hold))
        refused = await ledger.admit(request("three"))
        assert isinstance(refused, Refused), refused
        assert await ledger.dispatch("a", "one", "one")
        await ledger.settle(Settlement("a", "one", "one", "settle", amounts._replace(pages=3)), (window,))
        [state] = await ledger.get_windows("a", (window,))
        print(state.settled, state.held, await ledger._client.hget("fg:{a}:res", "one"))
        await ledger._client.aclose()

asyncio.run(main())
"""


def test_another_unit_takes_two_files_and_is_counted(own_server: ServerProcess, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    assert len(CHANGES) <= 3
    for name, replacements in CHANGES.items():
        path = tmp_path / name
        text = path.read_text()
        for old, new in replacements:
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        path.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, own_server.url],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    settled, held, record = ran.stdout.split()
    assert (settled, held) == ("3", "7")
    assert re.match(r"3;s;;\d+;one;1120,1120,1,5,1120,7;1120,1120,1,5,1120,3;6@.*;\d+;$", record)


def test_a_record_without_a_version_and_with_fewer_amounts_is_read() -> None:
    text = "s;f;17;work;747,750,1,9;747,749,1,8;1@1@2@t|output_tokens|day,0@0@0@t|concurrent"
    old = HoldRecord.decode("h", text)
    assert (old.est, old.act) == (Amounts(747, 750, 1, 9), Amounts(747, 749, 1, 8))
    padded = text.replace("747,750,1,9;747,749,1,8;", "747,750,1,9,0;747,749,1,8,0;")
    lasting = padded.replace("1@1@2@", "1@1@1@").replace("0@0@0@", "0@0s@0s@")
    assert old.encode() == f"3;{lasting};;"
    assert HoldRecord.decode("h", "s;f;17;work;747,750;747,749;").est == Amounts(747, 750)


@pytest.mark.parametrize(
    "record",
    [
        f"h;f;17;work;1,2,3,4;;{len(UNITS) + 1}@1@2@t|pages|day;2",
        "h;f;17;work;1,2,3,4;;1@1@2@t|images|day,what;2",
        "h;f;17;work;1,2,3,4,5,6,7,8,9;;;2",
        "h;f;17;work;1,2,3,4;;;3",
    ],
)
def test_an_unknown_unit_or_version_is_an_error(record: str) -> None:
    with pytest.raises(UnreadableHold):
        HoldRecord.decode("h", record)


def test_the_scripts_count_in_the_units_of_the_domain() -> None:
    assert load_script("settle").text.count(f"local UNITS = {len(UNITS)}\n") == 1
