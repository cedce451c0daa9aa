"""Multipart bodies with tricks: framing, names, charsets, and parts without end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.media.files import encoded

if TYPE_CHECKING:
    from tests.hostile.conftest import Caller, Memory, Watched

PATH = "/v1/images:edit"
FORM = "multipart/form-data; boundary=edge"
PNG = encoded("PNG", 9, 9)


def part(head: bytes, content: bytes) -> bytes:
    """One part with these headers."""
    return b"--edge\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def field(name: bytes, value: bytes) -> bytes:
    """A field."""
    return part(b'Content-Disposition: form-data; name="%s"' % name, value)


def file(
    data: bytes = PNG, name: bytes = b"a.png", mime_type: bytes = b"image/png", key: bytes = b"image"
) -> bytes:
    """A file part."""
    disposition = b'Content-Disposition: form-data; name="%s"; filename="%s"' % (key, name)
    return part(disposition + b"\r\nContent-Type: " + mime_type, data)


END = b"--edge--\r\n"
PROMPT = field(b"prompt", b"Hostile")
WRONG = field(b"aspect_ratio", b"7:3")
RATIO = ("unsupported_aspect_ratio", "/aspect_ratio")

UNREADABLE = {
    "no boundary": (PROMPT + file() + END, "multipart/form-data"),
    "an empty boundary": (PROMPT + file() + END, "multipart/form-data; boundary="),
    "a boundary without end": (PROMPT + file() + END, "multipart/form-data; boundary=" + "x" * 3000),
    "ten thousand fields": (b"".join(field(b"f%d" % n, b"v") for n in range(10_000)) + END, FORM),
    "ten thousand files": (PROMPT + file(b"x") * 10_000 + END, FORM),
    "a hundred files": (PROMPT + file() * 100 + END, FORM),
    "a part without a disposition": (PROMPT + part(b"X-A: b", b"x") + END, FORM),
    "a part without a name": (PROMPT + part(b"Content-Disposition: form-data", b"x") + END, FORM),
    "a part without headers": (PROMPT + b"--edge\r\n\r\nx\r\n" + END, FORM),
    "a header without a colon": (PROMPT + part(b"Content-Disposition form-data", b"x") + END, FORM),
    "a header of a megabyte": (PROMPT + part(b"X-A: " + b"b" * 1_000_000, b"x") + END, FORM),
    "a name of a header of a megabyte": (PROMPT + part(b"X" * 1_000_000 + b": b", b"x") + END, FORM),
    "a hundred thousand headers": (PROMPT + part(b"X-A: b\r\n" * 100_000 + b"X-B: c", b"x") + END, FORM),
    "a field of two megabytes": (field(b"prompt", b"x" * 2_000_000) + file() + END, FORM),
    "bare line feeds": ((PROMPT + file(b"x") + END).replace(b"\r\n", b"\n"), FORM),
    "another boundary": ((PROMPT + file(b"x") + END).replace(b"edge", b"rim"), FORM),
    "json": (json.dumps({"prompt": "x"}).encode(), FORM),
    "zeros": (bytes(100_000), FORM),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_form_is_no_request(watched: Watched, name: str) -> None:
    content, content_type = UNREADABLE[name]
    problem = watched.refused(content, content_type, path=PATH, status=400)
    assert problem["code"] == "invalid_request"


CUT = PROMPT + WRONG + file() + END


@pytest.mark.parametrize("kept", [0, 2, 30, 60, len(CUT) // 2, len(CUT) - 12, len(CUT) - 4])
def test_a_form_cut_anywhere_is_never_drawn(watched: Watched, kept: int) -> None:
    answer = watched.send(PATH, CUT[:kept], FORM)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


OTHER_TYPES = ("", "application/json", "multipart/mixed; boundary=edge", "x", "image/png")


@pytest.mark.parametrize("content_type", OTHER_TYPES)
def test_another_content_type_is_not_read(watched: Watched, content_type: str) -> None:
    assert watched.refused(CUT, content_type, path=PATH, status=415)["code"] == "unsupported_media_type"


NAMES = {
    "climbing": b"../../../../etc/passwd",
    "absolute": b"/etc/passwd",
    "of another system": b"C:\\\\Windows\\\\system32\\\\a.png",
    "with a zero": b"a.png\x00.exe",
    "of a device": b"CON",
    "with a command": b"$(id);`id`|id.png",
    "of another script": "狐.png".encode(),
    "of no encoding": b"\xff\xfe.png",
    "a kilobyte long": b"a" * 1000,
    "with markup": b"<script>.png",
    "of nothing but dots": b"..",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_files_name_means_nothing(watched: Watched, name: str) -> None:
    found = watched.faults(PROMPT + WRONG + file(name=NAMES[name]) + END, FORM, path=PATH)
    assert found == {RATIO}


REFUSED = {
    "no prompt": (file(), ("required", "/prompt")),
    "no file": (PROMPT, ("required", "/image")),
    "a prompt twice": (PROMPT + PROMPT + file(), ("repeated_field", "/prompt")),
    "an unknown field": (PROMPT + file() + field(b"colour", b"red"), ("unknown_field", "/colour")),
    "a file under another name": (PROMPT + file() + file(key=b"mask"), ("unknown_field", "/mask")),
    "labels that are no json": (PROMPT + file() + field(b"labels", b"{"), ("invalid_json", "/labels")),
    "a nested form": (
        PROMPT + file(b"--edge2\r\n\r\nx\r\n--edge2--", mime_type=b"multipart/mixed; boundary=edge2"),
        ("unsupported_image_type", "/image/0"),
    ),
    "a script": (PROMPT + file(b"<?php ?>", b"a.php", b"image/png"), ("unsupported_image_type", "/image/0")),
    "nothing in the file": (PROMPT + file(b""), ("empty_file", "/image/0")),
    "a text that is not utf-8": (
        PROMPT + file(b"\xff\xfea\x00", b"a.txt", b"text/plain", b"document"),
        ("unreadable_document", "/document/0"),
    ),
    "a document over its limit": (
        PROMPT + file(b"a" * 50_000_001, b"a.txt", b"text/plain", b"document"),
        ("input_too_large", "/document/0"),
    ),
    "a number that is none": (PROMPT + file() + field(b"n", b"\xd9\xa1\xd9\xa2"), ("wrong_type", "/n")),
    "modalities without end": (
        PROMPT + file() + field(b"response_modalities", b"IMAGE," * 150_000),
        ("unsupported_response_modalities", "/response_modalities"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_fault_in_a_form_is_named_with_its_place(watched: Watched, name: str) -> None:
    content, fault = REFUSED[name]
    assert fault in watched.faults(content + WRONG + END, FORM, path=PATH)


def test_a_file_over_every_limit_is_refused_without_being_read(caller: Caller, memory: Memory) -> None:
    """It lies on disk, and of its 120 MB not a fifth is ever in memory."""
    form = PROMPT + file(b"\x89PNG\r\n\x1a\n" + bytes(120_000_000)) + END
    memory.forget()
    before = memory.now()
    answer = caller.send(PATH, form, FORM)
    assert answer.status_code == 422
    assert [(item["code"], item["pointer"]) for item in answer.json()["violations"]] == [
        ("input_too_large", "/image/0")
    ]
    assert memory.peak() - before < 24_000_000


def test_fields_of_json_are_bounded_in_forms_too(watched: Watched) -> None:
    many = field(b"labels", json.dumps({f"label{n}": "v" for n in range(40_000)}).encode())
    watched.refused(PROMPT + file() + many + END, FORM, path=PATH, status=400)


@pytest.mark.parametrize("charset", ["utf-16", "utf-7", "nonsense", "latin-1"])
def test_no_charset_but_utf_8_is_read(watched: Watched, charset: str) -> None:
    found = watched.send(PATH, PROMPT + WRONG + file() + END, f"{FORM}; charset={charset}")
    assert found.status_code == 415
