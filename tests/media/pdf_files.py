"""PDF files for the tests: honest ones from a real writer, and false ones built object by object."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pikepdf


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


def padded(pages: int, length: int) -> bytes:
    """A PDF of so many pages and bytes; what it does not need is a comment at its beginning."""
    kids = b" ".join(b"%d 0 R" % (number + 3) for number in range(pages))
    tree = b"<</Type/Pages/Count %d/Kids[%s]>>" % (pages, kids)
    whole = pdf(b"%" + b"." * length + b"\n" + CATALOGUE, tree, *[LEAF] * pages)
    surplus = len(whole) - length
    return pdf(b"%" + b"." * (length - surplus) + b"\n" + CATALOGUE, tree, *[LEAF] * pages)


def locked() -> bytes:
    """A PDF of two pages that only a password opens."""
    return written(2, encryption=pikepdf.Encryption(owner="o", user="u"))


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
