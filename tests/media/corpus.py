"""``python -m tests.media.corpus FOLDER``: compares what the gateway accepts with what decoders open.

Prints each difference as a row of a table, and ends with 1 where one is not explained: by a rule that is not
about decoding, or by the folder's ``cases.json``, whose entry states the verdict and why.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.media.decoders import Opened, opened
from tests.media.verdicts import Verdict, declared_by, verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = "cases.json"
_NOT_ABOUT_DECODING = frozenset(
    {
        "unsupported_image_type",
        "unsupported_document_type",
        "unsupported_video_type",
        "too_many_pixels",
        "image_too_large",
        "document_too_large",
        "document_too_many_tokens",
        "documents_too_many_tokens",
        "input_tokens_over_limit",
    }
)
"""Types that the card does not list, and limits."""

_SECONDS_OFF = 1.0
_NO_CASES = frozenset({CASES, "README.md"})


class Difference(NamedTuple):
    """One file that the gateway and a decoder see differently; ``explained`` is empty where nothing does."""

    name: str
    ours: str
    theirs: str
    explained: str


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _NO_CASES)


async def compared(folder: Path) -> tuple[int, list[Difference]]:
    """How many files were looked at, and the differences."""
    listed = folder / CASES
    cases = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else {}
    found: list[Difference] = []
    files = _files(folder)
    for path in files:
        case = cases.get(path.relative_to(folder).as_posix(), {})
        data = path.read_bytes()
        declared = case.get("declared") or declared_by(path.name)
        verdict = await verdict_of(data, declared, case.get("kind"))
        found += _differences(path, folder, data, verdict, case)
    return len(files), found


def _differences(
    path: Path, folder: Path, data: bytes, verdict: Verdict, case: dict[str, Any]
) -> Iterator[Difference]:
    name = path.relative_to(folder).as_posix()
    if verdict.word in _NOT_ABOUT_DECODING:
        return  # no decoder contradicts it, and what is too large for the gateway is not decoded here either
    theirs = opened(path, data, verdict.item.kind)
    explained = case["why"] if case.get("verdict") == verdict.word else ""
    if theirs.opens is not None and theirs.opens != (not verdict.codes):
        word = f"{theirs.by} opens it" if theirs.opens else theirs.by
        yield Difference(name, f"{verdict.word} {verdict.sentence}".strip(), word, explained)
    elif theirs.opens:
        yield from _facts(name, verdict, theirs, explained)


def _facts(name: str, verdict: Verdict, theirs: Opened, explained: str) -> Iterator[Difference]:
    """Where both open a file, but see different pixels, pages or seconds."""
    item = verdict.item
    # Decoders may turn what is stored; the same two sides are the same picture.
    if theirs.size is not None and sorted((item.width or 0, item.height or 0)) != sorted(theirs.size):
        yield Difference(name, f"{item.width}x{item.height}", "{}x{}".format(*theirs.size), explained)
    if theirs.pages is not None and item.pages is not None and theirs.pages != item.pages:
        yield Difference(name, f"{item.pages} pages", f"{theirs.pages} pages by {theirs.by}", explained)
    known = item.seconds is not None and theirs.seconds is not None
    if known and abs((item.seconds or 0) - (theirs.seconds or 0)) > _SECONDS_OFF:
        yield Difference(name, f"{item.seconds:.1f} s", f"{theirs.seconds:.1f} s by {theirs.by}", explained)


def table(looked_at: int, found: list[Difference]) -> str:
    """The report as Markdown."""
    unexplained = sum(not each.explained for each in found)
    head = f"files: {looked_at}, differences: {len(found)}, unexplained: {unexplained}"
    if not found:
        return head + "\n"
    rows = [f"| {each.name} | {each.ours} | {each.theirs} | {each.explained} |" for each in found]
    return "\n".join([head, "", "| file | gateway | decoder | why |", "|---|---|---|---|", *rows, ""])


def main(folder: str) -> int:
    """Compare, print, and say whether all is explained."""
    looked_at, found = asyncio.run(compared(Path(folder)))
    sys.stdout.write(table(looked_at, found))
    return int(any(not each.explained for each in found))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Say which folder: make corpus DIR=…")
    sys.exit(main(sys.argv[1]))
