"""JSON that is none, or too much of it, and base64 with tricks."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from app.surfaces.http.body import JSON_VALUES_MAX
from app.surfaces.native.wire import GenerateRequest
from tests.media.files import encoded

if TYPE_CHECKING:
    from tests.hostile.conftest import Watched

NUMBER = b"9" * 400
PNG = base64.b64encode(encoded("PNG", 9, 9)).decode()


def asking(**more: Any) -> bytes:
    """A valid request apart from what is said."""
    return json.dumps({"prompt": "Hostile", **more}).encode()


def with_data(text: str) -> bytes:
    """A request with this text in place of a picture's base64."""
    return asking(images=[{"data": text}])


UNREADABLE = {
    "nothing": b"",
    "blanks": b" \n\t ",
    "a word": b"prompt",
    "an array": b'[{"prompt": "x"}]',
    "a string": b'"prompt"',
    "null": b"null",
    "two documents": b'{"prompt": "x"}{"prompt": "y"}',
    "something behind": b'{"prompt": "x"} x',
    "cut": b'{"prompt": "x"',
    "cut in a string": b'{"prompt": "x',
    "cut in a picture": b'{"prompt": "x", "images": [{"data": "iVBORw0K',
    "cut in an escape": b'{"prompt": "\\u00',
    "comments": b'{"prompt": "x" /* y */}',
    "single quotes": b"{'prompt': 'x'}",
    "no quotes": b"{prompt: 1}",
    "a comma too many": b'{"prompt": "x",}',
    "a bare line break": b'{"prompt": "a\nb"}',
    "a bare zero": b'{"prompt": "a\x00b"}',
    "an unknown escape": b'{"prompt": "\\x41"}',
    "half a pair": b'{"prompt": "\\ud83e"}',
    "the other half": b'{"prompt": "\\udd8a"}',
    "a pair turned": b'{"prompt": "\\udd8a\\ud83e"}',
    "half a pair in a name": b'{"prompt": "x", "\\ud83e": 1}',
    "not utf-8": b'{"prompt": "\xff\xfe"}',
    "overlong": b'{"prompt": "\xc0\xaf"}',
    "a surrogate in utf-8": b'{"prompt": "\xed\xa0\xbd"}',
    "latin-1": '{"prompt": "\u00fc"}'.encode("latin-1"),
    "utf-16": '{"prompt": "x"}'.encode("utf-16"),
    "utf-32": '{"prompt": "x"}'.encode("utf-32"),
    "two byte order marks": b'\xef\xbb\xbf\xef\xbb\xbf{"prompt": "x"}',
    "not a number": b'{"prompt": "x", "temperature": NaN}',
    "infinite": b'{"prompt": "x", "temperature": -Infinity}',
    "hexadecimal": b'{"prompt": "x", "n": 0x10}',
    "a leading zero": b'{"prompt": "x", "n": 01}',
    "a leading plus": b'{"prompt": "x", "n": +1}',
    "arrays without end": b'{"prompt":' + b"[" * 900_000,
    "objects without end": b'{"a":' * 180_000,
    "arrays with an end": b'{"labels":' + b"[" * 400_000 + b"]" * 400_000 + b"}",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n--x--\r\n',
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_json_object_is_no_request(watched: Watched, name: str) -> None:
    problem = watched.refused(UNREADABLE[name], status=400)
    assert problem["code"] == "invalid_request"


NUMBERS = {
    "n": b'{"prompt": "x", "n": %s}' % NUMBER,
    "seed": b'{"prompt": "x", "seed": -%s}' % NUMBER,
    "variant": b'{"prompt": "x", "variant": %s}' % NUMBER,
    "temperature": b'{"prompt": "x", "temperature": 1e400}',
    "top_p": b'{"prompt": "x", "top_p": %s}' % NUMBER,
    "max_output_tokens": b'{"prompt": "x", "max_output_tokens": 1e400}',
    "candidate_count": b'{"prompt": "x", "candidate_count": 1.0000000000000000000001}',
    "top_k": b'{"prompt": "x", "top_k": %s}' % NUMBER,
    "output_compression_quality": b'{"prompt": "x", "output_compression_quality": 1e9999999999}',
}


@pytest.mark.parametrize("field", NUMBERS)
def test_a_number_beyond_all_bounds_is_a_fault_of_its_field(watched: Watched, field: str) -> None:
    answer = watched.send("/v1/images:generate", NUMBERS[field])
    problem = answer.json()
    if answer.status_code == 422:
        assert {item["pointer"] for item in problem["violations"]} == {f"/{field}"}
    else:
        assert (answer.status_code, problem["code"]) == (400, "invalid_request")


def test_a_number_of_a_hundred_thousand_digits_is_refused(watched: Watched) -> None:
    answer = watched.send("/v1/images:generate", b'{"prompt": "x", "n": %s}' % (b"9" * 100_000))
    assert answer.status_code in {400, 422}


TYPES: tuple[Any, ...] = (None, True, 7, 1.5, "x", [], ["x"], [[]], {}, {"x": {}})
FIELDS = tuple(GenerateRequest.model_fields)


@pytest.mark.parametrize("field", FIELDS)
def test_any_type_in_any_field_gets_an_answer(watched: Watched, field: str) -> None:
    for value in TYPES:
        quote = watched.quoted(asking(**{field: value}))
        places = {item["pointer"].split("/")[1] for item in quote["violations"]}
        assert places <= {field}, (value, quote["violations"])
        assert quote["valid"] == (not places)


def test_of_a_name_that_stands_twice_the_last_value_is_judged_and_used(watched: Watched) -> None:
    twice = watched.quoted(b'{"prompt": "x", "image_size": "8K", "image_size": "512"}')
    assert (twice["violations"], twice["effective"]["image_size"]) == ([], "512")
    other = watched.quoted(b'{"prompt": "x", "image_size": "512", "image_size": "8K"}')
    assert [item["code"] for item in other["violations"]] == ["unsupported_image_size"]
    escaped = watched.quoted(b'{"prompt": "x", "n": 1, "\\u006e": 9}')
    assert [item["pointer"] for item in escaped["violations"]] == ["/n"]


LARGE = {
    "unknown fields": asking(**{f"field{index}": 1 for index in range(45_000)}),
    "unknown fields of one letter": asking(**{chr(0x4E00 + index): 1 for index in range(20_000)}),
    "as many unknown fields as are read": asking(**{f"f{n}": 1 for n in range(JSON_VALUES_MAX - 2)}),
    "as many wrong inputs as are read": asking(images=[1] * (JSON_VALUES_MAX - 3)),
    "as many empty inputs as are read": asking(documents=[{}] * (JSON_VALUES_MAX - 3)),
    "as many safety settings as are read": asking(safety_settings=[{}] * (JSON_VALUES_MAX - 3)),
    "as many wrong modalities as are read": asking(response_modalities=[1] * (JSON_VALUES_MAX - 3)),
    "as many modalities as are read": asking(response_modalities=["IMAGE"] * (JSON_VALUES_MAX - 3)),
    "as many labels as are read": asking(labels={f"f{n}": "v" for n in range(JSON_VALUES_MAX - 3)}),
    "as many wrong labels as are read": asking(labels={f"f{n}": 1 for n in range(JSON_VALUES_MAX - 3)}),
    "as many addresses as are looked at": asking(images=[{"uri": "gs://inputs/a.png"}] * 64),
    "a long name": asking(**{"x" * 900_000: 1}),
    "labels": asking(labels={f"label{index}": "v" for index in range(50_000)}),
    "labels of wrong types": asking(labels={f"label{index}": 1 for index in range(50_000)}),
    "a long label": asking(labels={"k" * 400_000: "v" * 400_000}),
    "safety settings": asking(safety_settings=[{"category": "X", "threshold": "Y"}] * 18_000),
    "empty safety settings": asking(safety_settings=[{}] * 200_000),
    "modalities": asking(response_modalities=["IMAGE"] * 90_000),
    "modalities of wrong types": asking(response_modalities=[1] * 300_000),
    "empty inputs": asking(images=[{}] * 200_000),
    "inputs of wrong types": asking(images=[1] * 300_000),
    "inputs without bytes": asking(images=[{"data": ""}] * 20_000),
    "small inputs": asking(images=[{"data": "QQ=="}] * 20_000),
    "addresses": asking(images=[{"uri": "gs://inputs/a.png"}] * 20_000),
    "earlier pictures": asking(images=[{"image_id": "img_" + "0" * 64}] * 10_000),
    "a long model": asking(model="m" * 900_000),
    "a long ratio": asking(aspect_ratio="1:" + "1" * 900_000),
    "a long type": asking(images=[{"uri": "gs://a/b", "mime_type": "image/" + "p" * 900_000}]),
    "a long delivery": asking(delivery="x" * 900_000),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_however_many_faults_there_are_the_answer_is_short(watched: Watched, name: str) -> None:
    problem = watched.refused(
        LARGE[name], status=watched.send("/v1/images:generate", LARGE[name]).status_code
    )
    assert problem["status"] in {400, 422}
    assert len(problem.get("violations", [])) <= 100


BASE64 = {
    "too much padding": "QUI==",
    "padding alone": "====",
    "padding in front": "=QUI",
    "padding inside": "QUI=QUI=",
    "set bits behind the end": "QUJ=",
    "one character": "Q",
    "five characters": "QUJDR",
    "an address": "https://example.org/a.png",
    "a data address without base64": "data:image/png," + PNG,
    "a data address without an end": "data:image/png;base64" + "x" * 400,
    "a data address in another": "data:image/png;base64,data:image/png;base64," + PNG,
    "a zero": "QUI\x00",
    "an escape of json": "QU\\nI=",
    "digits of another script": "\u0661\u0662\u0663\u0664",
    "letters that look alike": "\u0410\u0412\u0421\u0415",
    "an invisible letter": PNG[:8] + "\u200b" + PNG[8:],
    "a letter of four bytes": "\U0001f98a",
    "percent signs": "QUI%3D",
    "a placeholder of ours": "lifted" + "0" * 26 + "!",
    "quotes": '"' * 40,
    "backslashes": "\\" * 41,
    "hexadecimal": "0x89504E47!",
}  # fmt: skip


@pytest.mark.parametrize("name", BASE64)
def test_what_is_no_base64_is_named_with_its_place(watched: Watched, name: str) -> None:
    problem = watched.refused(with_data(BASE64[name]))
    assert [item["code"] for item in problem["violations"]] == ["invalid_base64"]
    assert problem["violations"][0]["pointer"] == "/images/0/data"


SPELLED = {
    "a blank in front": " " + PNG,
    "a line break inside": PNG[:40] + "\n" + PNG[40:],
    "lines of 76": "\r\n".join(PNG[at : at + 76] for at in range(0, len(PNG), 76)),
    "a tab at the end": PNG + "\t",
    "a data address": "data:image/png;base64," + PNG,
    "a data address with more": "DATA:image/png;charset=utf-8;BASE64," + PNG,
    "a data address in lines": "data:;base64,\n" + PNG[:41] + "\n" + PNG[41:],
}


@pytest.mark.parametrize("name", SPELLED)
def test_base64_in_lines_or_a_data_address_is_the_same_picture_and_told(watched: Watched, name: str) -> None:
    quote = watched.quoted(with_data(SPELLED[name]))
    assert quote["violations"] == []
    assert [item["code"] for item in quote["warnings"]] == ["normalised_base64"]


@pytest.mark.parametrize("text", [PNG.replace("/", "_").replace("+", "-"), PNG.rstrip("=")])
def test_the_other_alphabet_and_no_padding_are_the_same_picture(watched: Watched, text: str) -> None:
    quote = watched.quoted(with_data(text))
    assert (quote["violations"], quote["warnings"]) == ([], [])


ESCAPED = {
    "every letter escaped": "".join(f"\\u{ord(letter):04x}" for letter in PNG),
    "every solidus escaped": PNG.replace("/", "\\/"),
}


@pytest.mark.parametrize("name", ESCAPED)
def test_base64_in_escapes_is_the_same_picture(watched: Watched, name: str) -> None:
    body = b'{"prompt": "x", "\\u0069mages": [{"d\\u0061ta": "%s"}]}' % ESCAPED[name].encode()
    assert watched.quoted(body)["violations"] == []


def test_a_string_of_a_hundred_megabytes_is_given_up_while_it_streams_in(watched: Watched) -> None:
    body = with_data("A" * 100_000_000)
    assert watched.faults(body) == {("input_too_large", "/images/0/data")}


def test_a_hundred_megabytes_of_pictures_hold_up_nobody(watched: Watched) -> None:
    picture = base64.b64encode(encoded("PNG", 9, 9).ljust(6_900_000, b"\x00")).decode()
    body = asking(images=[{"data": picture}] * 14, aspect_ratio="7:3")
    assert watched.faults(body) == {("unsupported_aspect_ratio", "/aspect_ratio")}


def test_the_placeholder_of_another_picture_is_no_way_to_it(watched: Watched) -> None:
    guess = "lifted" + "0" * 26
    found = watched.faults(asking(images=[{"uri": guess}, {"image_id": guess}]))
    assert found >= {("invalid_address", "/images/0"), ("unknown_image", "/images/1/image_id")}
