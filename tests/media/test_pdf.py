"""Counting pages behind a fence: honest PDFs, and seven kinds of hostile ones."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from app.media.pdf import PageCounter, Pages
from tests.fixtures import file_bytes
from tests.media.pdf_files import (
    CATALOGUE,
    LEAF,
    deep,
    fan_out,
    locked,
    packed,
    padded,
    pdf,
    swollen,
    written,
)

PATIENT_S = 20.0
UNREADABLE = "unreadable_document"


async def count(data: bytes) -> Pages:
    """With more patience than the gateway has, because the tests' machine is busy."""
    return await PageCounter(wall_s=PATIENT_S).count(data)


@pytest.mark.parametrize("pages", [1, 7, 300])
async def test_the_pages_of_an_honest_pdf_are_counted(pages: int) -> None:
    assert await count(written(pages)) == Pages(pages)
    assert await count(packed(pages)) == Pages(pages)


@pytest.mark.parametrize("claim", [-5, 0, 1, 2, 99_999, 2**31 - 1])
async def test_a_lie_about_the_count_is_not_believed(claim: int) -> None:
    lie = pdf(CATALOGUE, b"<</Type/Pages/Count %d/Kids[3 0 R 4 0 R 5 0 R]>>" % claim, LEAF, LEAF, LEAF)
    assert await count(lie) == Pages(3)


@pytest.mark.parametrize("pages", [1, 6, 7])
async def test_nor_is_one_in_an_object_stream_that_claims_too_many(pages: int) -> None:
    assert await count(packed(pages, claimed=99_999)) == Pages(pages)


@pytest.mark.parametrize(
    ("name", "pages"),
    [
        ("d-junk-line-before.pdf", 1),
        ("d-binary-before.pdf", 1),
        ("d-no-eof.pdf", 1),
        ("d-eof-then-5000-nul.pdf", 1),
        ("d-empty-node-twice.pdf", 1),
        ("d-owner-password.pdf", 2),
        ("d-rc4-owner.pdf", 2),
        ("d-linearised.pdf", 3),
        ("d-portfolio.pdf", 1),
    ],
)
async def test_what_every_reader_opens_is_opened(name: str, pages: int) -> None:
    assert await count(file_bytes(name)) == Pages(pages)


async def test_a_pdf_of_the_largest_size_is_read() -> None:
    largest = padded(3, 50_000_000)
    assert len(largest) == 50_000_000
    assert await count(largest) == Pages(3)


async def test_an_object_stream_of_a_usual_size_is_read() -> None:
    assert await count(swollen(1)) == Pages(1)


async def test_a_password_is_named() -> None:
    found = await count(locked())
    assert found.fault is not None
    assert found.fault[0] == "encrypted_document"


HOSTILE = {
    "loop": pdf(CATALOGUE, b"<</Type/Pages/Count 1/Kids[2 0 R]>>"),
    "no pages": pdf(CATALOGUE, b"<</Type/Pages/Count 0/Kids[]>>"),
    "nothing behind the head": b"%PDF-1.7\n%%EOF\n",
    "deep": deep(40_000),
    "noise": b"%PDF-1.7\n" + bytes(range(256)) * 40 + b"%%EOF",
    "swollen object stream": swollen(600),
    "no pdf": b"hello %%EOF",
    "empty": b"%%EOF",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_pdf_is_refused(name: str) -> None:
    found = await count(HOSTILE[name])
    assert found.fault is not None
    assert found.fault[0] == UNREADABLE


@pytest.mark.parametrize("data", [fan_out(9), padded(100_000, 13_000_000)], ids=["fan-out", "many pages"])
async def test_a_large_tree_ends_in_an_answer(data: bytes) -> None:
    found = await count(data)
    assert (found.count is None) != (found.fault is None)


@pytest.mark.parametrize("data", [written(3)[:-30], file_bytes("d-cut.pdf"), file_bytes("d-cut-half.pdf")])
async def test_a_cut_pdf_is_named_so(data: bytes) -> None:
    found = await count(data)
    assert found.fault is not None
    assert found.fault[0] == "truncated_document"


async def test_a_child_that_takes_too_long_is_killed_and_leaves_nothing_behind() -> None:
    found = await PageCounter(wall_s=0.001).count(written(1))
    assert found == Pages(fault=(UNREADABLE, "The PDF takes too long to read."))
    assert [child for child in psutil.Process().children() if "pdf_pages" in " ".join(child.cmdline())] == []


def is_counting(child: psutil.Process) -> bool:
    """Whether the process counts pages; other tests' servers are children too."""
    try:
        return "pdf_pages" in " ".join(child.cmdline())
    except psutil.Error:
        return False  # it has ended meanwhile


async def test_no_more_children_run_at_once_than_allowed() -> None:
    counter = PageCounter(wall_s=PATIENT_S, at_once=1)
    most = 0
    done = asyncio.gather(*(counter.count(written(1)) for _ in range(4)))
    while not done.done():
        running = [child for child in psutil.Process().children() if is_counting(child)]
        most = max(most, len(running))
        await asyncio.sleep(0.005)
    assert await done == [Pages(1)] * 4
    assert most == 1
