"""PDF files for the tests, honest and false, built object by object."""

from __future__ import annotations

import struct
import zlib

from tests.fixtures import file_bytes


def pdf(*objects: bytes, trailer: bytes = b"") -> bytes:
    """A PDF of these objects, numbered from 1; the first is the catalogue."""
    body, places = bytearray(b"%PDF-1.7\n"), []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n"
    start = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    return bytes(body) + start + table + end % (len(objects) + 1, trailer, len(body))


CATALOGUE = b"<</Type/Catalog/Pages 2 0 R>>"
LEAF = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"


def _tree(pages: int) -> bytes:
    kids = b" ".join(b"%d 0 R" % (number + 3) for number in range(pages))
    return b"<</Type/Pages/Count %d/Kids[%s]>>" % (pages, kids)


def written(pages: int) -> bytes:
    """A PDF of blank pages."""
    return pdf(CATALOGUE, _tree(pages), *[LEAF] * pages)


def padded(pages: int, length: int) -> bytes:
    """A PDF of so many pages and bytes; what it does not need is a comment at its beginning."""
    surplus = len(pdf(b"%" + b"." * length + b"\n" + CATALOGUE, _tree(pages), *[LEAF] * pages)) - length
    return pdf(b"%" + b"." * (length - surplus) + b"\n" + CATALOGUE, _tree(pages), *[LEAF] * pages)


def locked() -> bytes:
    """A PDF that only a password opens."""
    return file_bytes("d-user-password.pdf")


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
    return _packed(b"<</Type/Pages/Count 1/Kids[3 0 R]>>", 1, megabytes)


def packed(pages: int, claimed: int | None = None) -> bytes:
    """A PDF whose page tree is in an object stream; the tree may claim another number of pages."""
    tree = _tree(pages).replace(b"/Count %d" % pages, b"/Count %d" % (pages if claimed is None else claimed))
    return _packed(tree, pages)


def _packed(tree: bytes, pages: int, megabytes: int = 0) -> bytes:
    packer = zlib.compressobj(1)
    stream = packer.compress(b"2 0  " + tree)
    stream += b"".join(packer.compress(b" " * 1_000_000) for _ in range(megabytes)) + packer.flush()
    last = pages + 3
    whole = b"<</Type/ObjStm/N 1/First 5/Filter/FlateDecode/Length %d>>stream\n%s\nendstream"
    leaves = dict.fromkeys(range(3, last), LEAF)
    objects = {1: CATALOGUE, **leaves, last: whole % (len(stream), stream)}
    body, places = b"%PDF-1.7\n", {}
    for number, content in objects.items():
        places[number] = len(body)
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    places[last + 1] = len(body)
    rows = [(0, 0, 0), (1, places[1], 0), (2, last, 0), *((1, places[n], 0) for n in range(3, last + 2))]
    table = b"".join(struct.pack(">BIH", *row) for row in rows)
    cross = b"%d 0 obj\n<</Type/XRef/Size %d/W[1 4 2]/Root 1 0 R/Length %d>>stream\n%s\nendstream\nendobj\n"
    return (
        body
        + cross % (last + 1, last + 2, len(table), table)
        + b"startxref\n%d\n%%%%EOF\n" % places[last + 1]
    )
