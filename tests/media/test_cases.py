"""Files as people have them, with the verdict on each and why (``tests/fixtures/files/cases.json``)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures import FILES, GENERATED, case_bytes
from tests.media import corpus
from tests.media.corpus import CASES, compared, table
from tests.media.films import audio
from tests.media.verdicts import declared_by, verdict_of

if TYPE_CHECKING:
    from pathlib import Path

LISTED: dict[str, dict[str, Any]] = json.loads((FILES / CASES).read_text(encoding="utf-8"))
TYPES_BY_KIND = {"image": "image/png", "document": "application/pdf", "video": "video/mp4"}


def test_every_file_is_listed_and_every_decision_says_what_it_is() -> None:
    there = {path.name for path in FILES.iterdir()} - {CASES, "README.md"} | GENERATED.keys()
    assert there == LISTED.keys()
    for name, case in LISTED.items():
        word = "Accepted" if case["verdict"] == "accept" else "Refused"
        assert case.get("decided", word).startswith(word), name


@pytest.mark.parametrize("name", LISTED)
async def test_a_file_is_accepted_or_refused_as_decided(name: str) -> None:
    case = LISTED[name]
    found = await verdict_of(case_bytes(name), case.get("declared") or declared_by(name), case["kind"])
    assert found.word == case["verdict"], found.sentence
    for fact in ("width", "height", "frames", "pages"):
        if fact in case and found.word == "accept":
            assert getattr(found.item, fact) == case[fact], fact
    if "seconds" in case and found.word == "accept":
        assert found.item.seconds == pytest.approx(case["seconds"], abs=0.5)


@pytest.mark.parametrize("name", LISTED)
async def test_what_a_file_is_called_changes_no_verdict(name: str) -> None:
    case = LISTED[name]
    for claim in ("application/octet-stream", TYPES_BY_KIND[case["kind"]], "binary/x"):
        assert (await verdict_of(case_bytes(name), claim, case["kind"])).word == case["verdict"], claim


@pytest.mark.parametrize("name", [name for name, case in LISTED.items() if case["verdict"] == "accept"])
async def test_a_good_file_is_accepted_also_where_its_kind_is_told_by_its_bytes(name: str) -> None:
    case = LISTED[name]
    found = await verdict_of(case_bytes(name), "application/octet-stream")
    assert (found.word, found.item.kind) == ("accept", case["kind"])


async def test_decoders_agree_but_for_what_is_decided() -> None:
    looked_at, found = await compared(FILES)
    assert looked_at == len(LISTED) - len(GENERATED)
    assert [each for each in found if not each.explained] == [], table(looked_at, found)
    assert "p-no-plte.png" in {each.name for each in found}


def test_a_difference_that_nobody_explains_is_a_row_and_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "whole.png").write_bytes(case_bytes("p-plain.png"))
    (tmp_path / "sound.mp4").write_bytes(audio(2))
    assert corpus.main(str(tmp_path)) == 0
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "cut.png").write_bytes(case_bytes("p-no-iend.png"))
    assert corpus.main(str(tmp_path)) == 1
    said = capsys.readouterr().out
    assert "files: 3, differences: 1, unexplained: 1" in said
    assert "| inner/cut.png | truncated_image" in said
    entry = {"verdict": "truncated_image", "why": "It was cut."}
    (tmp_path / CASES).write_text(json.dumps({"inner/cut.png": entry}), encoding="utf-8")
    assert corpus.main(str(tmp_path)) == 0
    (tmp_path / CASES).write_text(
        json.dumps({"inner/cut.png": {**entry, "verdict": "accept"}}), encoding="utf-8"
    )
    assert corpus.main(str(tmp_path)) == 1
