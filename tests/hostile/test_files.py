"""Files that lie, bomb, end early, or are two things at once, and the words in which they are refused."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures import bomb, image_bytes
from tests.media.files import (
    EOI,
    IDAT,
    IEND,
    MDAT,
    SCAN,
    SOI,
    animated,
    chunk,
    encoded,
    frame,
    ftyp,
    ihdr,
    png,
    segment,
)
from tests.media.inspection_cases import HARMLESS, HOSTILE, SIGNATURES
from tests.media.pdf_files import CATALOGUE, LEAF, deep, locked, padded, pdf, swollen, written

if TYPE_CHECKING:
    from tests.hostile.conftest import Watched

CARD_IMAGES = {"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"}


def asking(field: str, *files: bytes, **more: Any) -> bytes:
    """A request with these files, in the native dialect."""
    inputs = [{"data": base64.b64encode(data).decode(), **more} for data in files]
    return json.dumps({"prompt": "Hostile", field: inputs}).encode()


def archive() -> bytes:
    """A ZIP with a class in it, as the tail of a GIFAR has."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("Evil.class", b"\xca\xfe\xba\xbe")
    return file.getvalue()


IMAGES = {name: case for name, case in HOSTILE.items() if not case[1].endswith("document")}
DOCUMENTS = {name: case for name, case in HOSTILE.items() if case[1].endswith("document")}
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><image href="file:///etc/passwd"/></svg>'
NO_PICTURES = {
    "svg": (SVG, "unsupported_image_type"),
    "svg behind a mark": (b"\xef\xbb\xbf<?xml version='1.0'?>" + SVG, "unsupported_image_type"),
    "svg compressed": (gzip.compress(SVG, mtime=0), "unsupported_image_type"),
    "svg with an entity of entities": (b'<!DOCTYPE s [<!ENTITY a "aa">]>' + SVG, "unsupported_image_type"),
    "html": (b"<html><script>alert(1)</script>", "unsupported_image_type"),
    "php": (b"<?php system($_GET['c']); ?>", "unsupported_image_type"),
    "shell": (b"#!/bin/sh\nrm -rf /\n", "unsupported_image_type"),
    "postscript": (b"%!PS-Adobe-3.0\n(r) file", "unsupported_image_type"),
    "imagemagick script": (b"push graphic-context\nfill 'url(https://x/\"|id\")'", "unsupported_image_type"),
    "pdf": (b"%PDF-1.7\n%%EOF", "unsupported_image_type"),
    "zip": (archive(), "unsupported_image_type"),
    "gif with an archive behind it": (encoded("GIF", 9, 9) + archive(), "unsupported_image_type"),
    "bitmap of most pixels": (b"BM" + b"\xff" * 12 + b"\x28\0\0\0" + b"\xff" * 60, "unsupported_image_type"),
    "windows program": (b"MZ\x90\x00" + bytes(60), "unknown_image_type"),
    "java class": (b"\xca\xfe\xba\xbe\x00\x00\x00\x34", "unknown_image_type"),
    "nothing": (b"", "empty_file"),
    "one byte": (b"\x89", "unknown_image_type"),
    "pixel bomb": (bomb(), "too_many_pixels"),
    "the rest of a picture": (image_bytes("harbour.png")[8:], "unknown_image_type"),
    "animated gif": (animated("GIF", 3), "unsupported_image_type"),
    "film": (ftyp(b"isom") + MDAT, "unsupported_image_type"),
    "text in utf-16": ("fox".encode("utf-16"), "unsupported_image_type"),
}  # fmt: skip
POLYGLOTS = {
    "png and zip": png(ihdr(9, 9), IDAT, IEND) + archive(),
    "png with a script in a comment": png(ihdr(9, 9), chunk(b"tEXt", b"k\x00<?php id(); ?>"), IDAT, IEND),
    "png with a text that unpacks to much": png(
        ihdr(9, 9), chunk(b"zTXt", b"k\x00\x00" + zlib.compress(bytes(50_000_000))), IDAT, IEND
    ),
    "jpeg and zip": SOI + frame(9, 9) + SCAN + EOI + archive(),
    "jpeg with html in a comment": SOI + segment(0xFE, b"<script>") + frame(9, 9) + SCAN + EOI,
    "jpeg with a pdf in a comment": SOI + segment(0xFE, b"%PDF-1.7\n%%EOF") + frame(9, 9) + SCAN + EOI,
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_picture_with_a_fault_is_refused_by_the_name_of_its_fault(watched: Watched, name: str) -> None:
    data, code = IMAGES[name]
    found = watched.faults(asking("images", data))
    assert (code, "/images/0") in found
    assert {pointer for _, pointer in found} == {"/images/0"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_with_a_fault_is_refused_by_the_name_of_its_fault(watched: Watched, name: str) -> None:
    data, code = DOCUMENTS[name]
    assert (code, "/documents/0") in watched.faults(asking("documents", data))


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_of_the_card_is_refused_whatever_it_claims(watched: Watched, name: str) -> None:
    data, code = NO_PICTURES[name]
    assert watched.faults(asking("images", data)) == {(code, "/images/0")}
    assert watched.faults(asking("images", data, mime_type="image/png")) == {(code, "/images/0")}


@pytest.mark.parametrize("name", SIGNATURES)
def test_only_types_of_the_card_are_read_as_pictures(watched: Watched, name: str) -> None:
    data, mime_type = SIGNATURES[name]
    code = "unknown_image_type" if mime_type is None else "unsupported_image_type"
    assert mime_type not in CARD_IMAGES
    assert (code, "/images/0") in watched.faults(asking("images", data))


@pytest.mark.parametrize("name", [*HARMLESS, *POLYGLOTS])
def test_a_whole_picture_stays_one_whatever_else_is_in_the_file(watched: Watched, name: str) -> None:
    data = POLYGLOTS.get(name) or HARMLESS[name]
    assert watched.quoted(asking("images", data))["violations"] == []


@pytest.mark.parametrize("claimed", [*sorted(CARD_IMAGES), "image/gif", "png", "application/pdf", "x"])
@pytest.mark.parametrize("real", ["PNG", "JPEG", "WEBP"])
def test_a_claim_that_the_bytes_contradict_is_corrected_with_a_notice_that_names_both_types(
    watched: Watched, real: str, claimed: str
) -> None:
    quote = watched.quoted(asking("images", encoded(real, 9, 9), mime_type=claimed))
    assert quote["violations"] == []
    found = [item["detail"] for item in quote["warnings"] if item["code"] == "corrected_mime_type"]
    if claimed.removeprefix("image/") == real.lower():
        assert found == []
    else:
        assert f"image/{real.lower()}" in found[0]
        assert (claimed if "/" in claimed else "something else") in found[0] or claimed == "png"


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_accepted_with_a_notice(watched: Watched, kind: str) -> None:
    quote = watched.quoted(asking("images", animated(kind, 3)))
    assert quote["violations"] == []
    assert "animated_image" in {item["code"] for item in quote["warnings"]}


PDFS = {
    "a loop": (pdf(CATALOGUE, b"<</Type/Pages/Count 1/Kids[2 0 R]>>"), {"unreadable_document"}),
    "a deep tree": (deep(40_000), {"unreadable_document"}),
    "a swollen object stream": (swollen(600), {"unreadable_document"}),
    "encrypted": (locked(), {"encrypted_document"}),
    "cut": (written(3)[:-30], {"truncated_document"}),
    "cut in the middle": (written(300)[:3000], {"truncated_document"}),
    "without pages": (pdf(CATALOGUE, b"<</Type/Pages/Count 0/Kids[]>>"), {"unreadable_document"}),
    "head and tail alone": (b"%PDF-1.7\n%%EOF", {"unreadable_document"}),
    "noise": (b"%PDF-1.7\n" + bytes(range(256)) * 40 + b"%%EOF", {"unreadable_document"}),
    "of 255 pages": (padded(255, 60_000), {"document_too_many_tokens"}),
}


@pytest.mark.parametrize("name", PDFS)
def test_a_hostile_pdf_is_refused(watched: Watched, name: str) -> None:
    data, codes = PDFS[name]
    found = watched.faults(asking("documents", data))
    assert {pointer for _, pointer in found} == {"/documents/0"}
    assert {code for code, _ in found} <= codes


def test_a_deep_tree_of_one_page_that_can_be_read_is_one_page(watched: Watched) -> None:
    assert watched.quoted(asking("documents", deep(50)))["estimate"]["document_input"] == 560


def test_a_lie_about_the_number_of_pages_is_not_paid(watched: Watched) -> None:
    lie = pdf(CATALOGUE, b"<</Type/Pages/Count 99999/Kids[3 0 R]>>", LEAF)
    assert watched.quoted(asking("documents", lie))["estimate"]["document_input"] == 560


def test_a_document_that_is_also_an_archive_is_counted_as_what_it_is(watched: Watched) -> None:
    assert watched.quoted(asking("documents", written(2) + archive() + b"%%EOF"))["violations"] == []


TEXTS = {
    "utf-16": "狐 in the snow".encode("utf-16"),
    "latin-1": "Ein Fuchs über dem Schnee".encode("latin-1"),
    "overlong": b"a fox in the snow \xc0\xaf",
    "half a surrogate pair": b"a fox in the snow \xed\xa0\xbd",
    "beyond unicode": b"a fox in the snow \xf4\x90\x80\x80",
    "with a zero": b"a fox in the snow and another one\x00",
    "wrong far behind": b"a" * 100_000 + b"\xff",
    "cut inside a letter": "狐".encode() * 3000 + b"\xe7",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_utf_8_throughout(watched: Watched, name: str) -> None:
    found = watched.faults(asking("documents", TEXTS[name], mime_type="text/plain"))
    assert found == {("unreadable_document", "/documents/0")}


@pytest.mark.parametrize("mime_type", ["text/html", "text/markdown", "text/csv", "application/json", "csv"])
def test_every_kind_of_text_is_plain_text(watched: Watched, mime_type: str) -> None:
    assert watched.quoted(asking("documents", b"<p>hello</p>", mime_type=mime_type))["violations"] == []
