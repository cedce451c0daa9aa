"""Counting pages behind a fence: honest PDFs, and seven kinds of hostile ones."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from typing import Any

import psutil
import pytest

from app.media.inspection import inspect
from app.media.pdf import PageCounter, Pages

pikepdf: Any = pytest.importorskip("pikepdf")

PATIENT_S = 20.0
UNREADABLE = "unreadable_document"


def pdf(*objects: bytes, trailer: bytes = b"") -> bytes:
    """A PDF of these objects, numbered from 1; the first is the catalogue."""
    body = b"%PDF-1.7\n"
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n"
    start = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    return body + start + table + end % (len(objects) + 1, trailer, len(body))


CATALOGUE = b"<</Type/Catalog/Pages 2 0 R>>"
LEAF = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"


def written(pages: int, **options: Any) -> bytes:
    """A PDF from qpdf's writer."""
    document = pikepdf.new()
    for _ in range(pages):
        document.add_blank_page()
    stream = io.BytesIO()
    document.save(stream, **options)
    return stream.getvalue()


def fan_out(levels: int) -> bytes:
    """Every node names the next one ten times: ten to the power of ``levels`` pages in a kilobyte."""
    nodes = [b"<</Type/Pages/Count 1/Kids[%s]>>" % (b"%d 0 R " % (level + 3) * 10) for level in range(levels)]
    return pdf(CATALOGUE, *nodes, LEAF)


def deep(levels: int) -> bytes:
    """One page at the bottom of a very deep tree."""
    nodes = [b"<</Type/Pages/Count 1/Kids[%d 0 R]>>" % (level + 3) for level in range(levels)]
    return pdf(CATALOGUE, *nodes, LEAF)


def swollen(megabytes: int) -> bytes:
    """An object stream of little that unpacks to very much, with the page tree at its beginning."""
    packer = zlib.compressobj(1)
    packed = packer.compress(b"2 0  <</Type/Pages/Count 1/Kids[3 0 R]>>")
    packed += b"".join(packer.compress(b" " * 1_000_000) for _ in range(megabytes)) + packer.flush()
    stream = b"<</Type/ObjStm/N 1/First 5/Filter/FlateDecode/Length %d>>stream\n%s\nendstream"
    objects = {1: CATALOGUE, 3: LEAF, 4: stream % (len(packed), packed)}
    body, places = b"%PDF-1.7\n", {}
    for number, content in objects.items():
        places[number] = len(body)
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    places[5] = len(body)
    rows = [(0, 0, 0), (1, places[1], 0), (2, 4, 0), *((1, places[n], 0) for n in (3, 4, 5))]
    table = b"".join(struct.pack(">BIH", *row) for row in rows)
    cross = b"5 0 obj\n<</Type/XRef/Size 6/W[1 4 2]/Root 1 0 R/Length %d>>stream\n%s\nendstream\nendobj\n"
    return body + cross % (len(table), table) + b"startxref\n%d\n%%%%EOF\n" % places[5]


async def count(data: bytes) -> Pages:
    """With more patience than the gateway has, because the tests' machine is busy."""
    return await PageCounter(wall_s=PATIENT_S).count(data)


@pytest.mark.parametrize("pages", [1, 7, 300])
async def test_the_pages_of_an_honest_pdf_are_counted(pages: int) -> None:
    assert await count(written(pages)) == Pages(pages)
    packed = written(pages, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    assert await count(packed) == Pages(pages)


async def test_a_lie_about_the_count_is_not_believed() -> None:
    lie = pdf(CATALOGUE, b"<</Type/Pages/Count 99999/Kids[3 0 R]>>", LEAF)
    assert await count(lie) == Pages(1)


async def test_an_object_stream_of_a_usual_size_is_read() -> None:
    assert await count(swollen(1)) == Pages(1)


async def test_a_password_is_named() -> None:
    locked = written(2, encryption=pikepdf.Encryption(owner="o", user="u"))
    found = await count(locked)
    assert found.fault is not None
    assert found.fault[0] == "encrypted_document"


HOSTILE = {
    "loop": pdf(CATALOGUE, b"<</Type/Pages/Count 1/Kids[2 0 R]>>"),
    "no pages": pdf(CATALOGUE, b"<</Type/Pages/Count 0/Kids[]>>"),
    "nothing behind the head": b"%PDF-1.7\n%%EOF\n",
    "noise": b"%PDF-1.7\n" + bytes(range(256)) * 40 + b"%%EOF",
    "swollen object stream": swollen(600),
    "no pdf": b"hello",
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_pdf_is_refused(name: str) -> None:
    found = await count(HOSTILE[name])
    assert found.fault is not None
    assert found.fault[0] == UNREADABLE


@pytest.mark.parametrize("data", [fan_out(9), deep(40_000)], ids=["fan-out", "deep"])
async def test_a_hostile_tree_ends_in_an_answer(data: bytes) -> None:
    found = await count(data)
    assert (found.count is None) != (found.fault is None)


def test_a_cut_pdf_is_named_before_any_process_starts() -> None:
    whole = written(3)
    assert inspect(whole, pixels_max=1).faults == ()
    assert [code for code, _ in inspect(whole[:-30], pixels_max=1).faults] == ["truncated_document"]


async def test_a_child_that_takes_too_long_is_killed_and_leaves_nothing_behind() -> None:
    found = await PageCounter(wall_s=0.001).count(written(1))
    assert found == Pages(fault=(UNREADABLE, "The PDF takes too long to read."))
    assert [child for child in psutil.Process().children() if "pdf_pages" in " ".join(child.cmdline())] == []


async def test_no_more_children_run_at_once_than_allowed() -> None:
    counter = PageCounter(wall_s=PATIENT_S, at_once=1)
    most = 0
    done = asyncio.gather(*(counter.count(written(1)) for _ in range(4)))
    while not done.done():
        running = [c for c in psutil.Process().children() if c.is_running() and "python" in c.name()]
        most = max(most, len(running))
        await asyncio.sleep(0.005)
    assert await done == [Pages(1)] * 4
    assert most == 1
