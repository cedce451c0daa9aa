"""Lifting: what comes out is what went in, wherever the chunks are cut and however the JSON is spelt."""

from __future__ import annotations

import base64
import gc
import json
import os
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.media.base64_text import Fault
from app.media.lifting import TEXT_BYTES_MAX, LiftedBody, Lifter, SkeletonTooLarge
from app.media.splicing import splice

PIXELS = bytes(range(256)) * 3


def lift(text: bytes, *, every: int = 65536, **options: Any) -> LiftedBody:
    lifter = Lifter(**options)
    for start in range(0, len(text), every):
        lifter.feed(text[start : start + every])
    return lifter.close()


def put_back(body: LiftedBody, text: str = "ascii") -> Any:
    """The skeleton body's value with each placeholder replaced by the standard base64 of its bytes."""
    blobs = {item.placeholder: base64.b64encode(item.data).decode(text) for item in body.blobs}

    def restore(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: restore(item) for key, item in value.items()}
        if isinstance(value, list):
            return [restore(item) for item in value]
        return blobs.get(value, value) if isinstance(value, str) else value

    return restore(json.loads(body.skeleton))


def fault_of(value: str, **options: Any) -> Fault | None:
    [item] = lift(json.dumps({"data": value}).encode(), **options).blobs
    return item.fault


# --- any document, any chunks ----------------------------------------------------------------------------

BASE64 = st.binary(max_size=40).map(lambda raw: base64.b64encode(raw).decode())
KEYS = st.one_of(
    st.sampled_from(["data", "dat", "datum", "mimeType", '"data"', "\\", ""]), st.text(max_size=5)
)
QUOTING = st.integers(1, 5).map('say "data": "aGk=" and \\ as JSON: {"data": "x"} '.__mul__)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), QUOTING, st.just("data"))


def members(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda plain, image: {**{key: value for key, value in plain.items() if key != "data"}, **image},
        st.dictionaries(KEYS, values, max_size=4),
        st.one_of(
            st.fixed_dictionaries({"data": BASE64}),
            st.fixed_dictionaries({"data": st.one_of(st.integers(), st.lists(LEAVES, max_size=2))}),
            st.just({}),
        ),
    )


DOCUMENTS = st.recursive(LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=4), members(inner)))


def as_written(document: Any, layout: int) -> bytes:
    if layout == 0:
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")
    if layout == 1:
        return json.dumps(document, indent=3).encode()
    return json.dumps(document).replace("/", "\\/").replace("=", "\\u003d").encode()


@given(DOCUMENTS, st.integers(0, 2), st.integers(1, 50))
def test_any_document_survives_lifting_in_any_chunks(document: Any, layout: int, every: int) -> None:
    body = lift(as_written(document, layout), every=every)
    assert all(item.fault is None for item in body.blobs)
    assert put_back(body) == document


@given(DOCUMENTS, st.integers(0, 1), st.integers(1, 50))
def test_splicing_undoes_lifting_byte_for_byte(document: Any, layout: int, every: int) -> None:
    text = as_written(document, layout)
    body = lift(text, every=every)
    assert b"".join(splice(body.skeleton, {item.placeholder: item.data for item in body.blobs})) == text


@given(st.binary(max_size=200), st.integers(1, 50))
def test_no_bytes_at_all_can_crash_it_and_chunks_make_no_difference(noise: bytes, every: int) -> None:
    text = b'{"data": "' + noise
    whole, cut = lift(text), lift(text, every=every)
    assert [(item.data, item.fault) for item in whole.blobs] == [
        (item.data, item.fault) for item in cut.blobs
    ]
    assert [len(item.placeholder) for item in whole.blobs] == [len(item.placeholder) for item in cut.blobs]
    assert len(whole.skeleton) == len(cut.skeleton)


@given(st.text(alphabet='Aa/+-_=\\"u03d ', max_size=30), st.booleans())
def test_it_takes_exactly_what_a_strict_canonical_decoder_takes(value: str, url_safe: bool) -> None:
    standard = value.replace("-", "+").replace("_", "/") if url_safe else value
    try:
        expected: bytes | None = base64.b64decode(standard, validate=True)
    except ValueError:
        expected = None
    canonical = expected is not None and base64.b64encode(expected).decode() == standard
    [item] = lift(
        json.dumps({"data": value}).encode(), every=3, alphabets="either" if url_safe else "standard"
    ).blobs
    assert (item.fault is None) == canonical
    assert item.text_length == len(value)
    if canonical:
        assert item.data == expected


@given(st.text(max_size=20), st.integers(0, 2), st.integers(1, 9))
def test_the_text_is_kept_as_it_was_written(value: str, layout: int, every: int) -> None:
    text = as_written({"data": value}, layout)
    [item] = lift(text, every=every).blobs
    assert b'"%b"' % (item.text or b"") in text
    assert json.loads(b'"%b"' % (item.text or b"")) == value


@pytest.mark.parametrize("every", [1000, TEXT_BYTES_MAX, 10 * TEXT_BYTES_MAX])
def test_of_a_long_string_no_text_is_kept(every: int) -> None:
    strings = ["A" * TEXT_BYTES_MAX, "A" * (TEXT_BYTES_MAX + 4), "AAAA"]
    texts = [
        item.text for item in lift(json.dumps([{"data": x} for x in strings]).encode(), every=every).blobs
    ]
    assert texts == [strings[0].encode(), None, b"AAAA"]


# --- what is lifted, and what is not ---------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2, 3, 7, 64, 65536])
def test_the_light_body_is_the_same_text_with_a_placeholder(every: int) -> None:
    text = b'{ "parts" : [ {"data"\n:\t"%s", "n": 1.50} ] }\r\n' % base64.b64encode(PIXELS)
    body = lift(text, every=every)
    [item] = body.blobs
    assert item.data == PIXELS
    assert body.skeleton == b'{ "parts" : [ {"data"\n:\t"%s", "n": 1.50} ] }\r\n' % item.placeholder.encode()


@pytest.mark.parametrize(
    "text",
    [
        b'{"prompt": "{\\"data\\": \\"aGk=\\"}"}',
        b'{"prompt": "a \\\\", "x": ["data", "aGk="]}',
        b'{"data": 5, "x": {"data": null}, "y": {"data": ["aGk="]}, "z": {"data": {"a": "aGk="}}}',
        b'{"Data": "aGk=", "data ": "aGk=", "metadata": "aGk=", "datas": "aGk="}',
        b'["data" , "aGk="]',
        b'{"a key that says \\" and \\"data": "aGk=", "\\"data": "aGk=", "data\\"": "aGk="}',
        b'"data"',
        b"",
    ],
)
@pytest.mark.parametrize("every", [1, 5, 4096])
def test_what_is_no_string_under_the_key_stays(text: bytes, every: int) -> None:
    body = lift(text, every=every)
    assert body.skeleton == text
    assert body.blobs == ()


@pytest.mark.parametrize("key", ['"d\\u0061ta"', '"\\u0064\\u0061\\u0074\\u0061"', '"dat\\u0061"'])
@pytest.mark.parametrize("every", [1, 4096])
def test_a_key_spelt_with_escapes_is_the_same_key(key: str, every: int) -> None:
    body = lift(b'{%s: "aGk="}' % key.encode(), every=every)
    assert [item.data for item in body.blobs] == [b"hi"]


@pytest.mark.parametrize("every", [1, 2, 5, 6, 7, 4096])
def test_escapes_inside_the_base64_are_read_as_json_reads_them(every: int) -> None:
    raw = b"\xff\xff\xff\xfb"
    text = base64.b64encode(raw).decode()
    assert "/" in text
    assert text.endswith("==")
    for spelt in (
        text.replace("/", "\\/"),
        text.replace("=", "\\u003d"),
        text.replace("=", "\\u003D").replace("/", "\\u002f"),
        "".join(f"\\u{ord(letter):04x}" for letter in text),
    ):
        [item] = lift(b'{"data": "%s"}' % spelt.encode(), every=every).blobs
        assert (item.data, item.fault, item.text_length) == (raw, None, len(text))


def test_other_keys_can_be_lifted_as_well() -> None:
    body = lift(b'{"data": "aGk=", "thoughtSignature": "aG8="}', keys={"data", "thoughtSignature"})
    assert [item.data for item in body.blobs] == [b"hi", b"ho"]


def test_a_placeholder_is_base64_that_the_writer_of_the_body_cannot_know() -> None:
    text = b'{"data": "aGk="}'
    first, second = (lift(text).blobs[0].placeholder for _ in range(2))
    assert first != second
    assert base64.b64encode(base64.b64decode(first, validate=True)).decode() == first


# --- faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("", None),
        ("aGk=", None),
        ("aGkh", None),
        ("aG!k", Fault("alphabet", 2)),
        ("A" * 100 + "\n" + "A" * 3, Fault("alphabet", 100)),
        ("A" * 66000 + "é" + "A" * 3, Fault("alphabet", 66000)),
        ("data:image/png;base64,aGk=", Fault("alphabet", 4)),
        ("not base64 at all", Fault("alphabet", 3)),
        ("a-_k", Fault("alphabet", 1)),
        ("aG!", Fault("alphabet", 2)),
        ("aGk", Fault("padding", 3)),
        ("aG", Fault("padding", 2)),
        ("a", Fault("padding", 1)),
        ("aGkh=", Fault("padding", 4)),
        ("aGk==", Fault("padding", 3)),
        ("aG=", Fault("padding", 2)),
        ("aG=k", Fault("padding", 2)),
        ("aGk=aGk=", Fault("padding", 3)),
        ("=", Fault("padding", 0)),
        ("aGl=", Fault("not_canonical", 2)),
        ("aH==", Fault("not_canonical", 1)),
    ],
)
def test_each_fault_has_its_code_and_place(value: str, fault: Fault | None) -> None:
    assert fault_of(value) == fault
    assert fault_of(value, every=1) == fault


@pytest.mark.parametrize(
    ("value", "raw"), [("-_-_", b"\xfb\xff\xbf"), ("+/-_", b"\xfb\xff\xbf"), ("-_8=", b"\xfb\xff")]
)
def test_either_alphabet_is_taken_where_the_dialect_says_so(value: str, raw: bytes) -> None:
    [item] = lift(json.dumps({"data": value}).encode(), alphabets="either").blobs
    assert (item.data, item.fault) == (raw, None)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("aGk", None),
        ("aGk=", None),
        ("aG", Fault("not_canonical", 1)),
        ("a", Fault("padding", 1)),
        ("aG=", Fault("padding", 2)),
    ],
)
def test_padding_may_be_missing_but_not_wrong_where_it_is_optional(value: str, fault: Fault | None) -> None:
    assert fault_of(value, padding="optional") == fault


def test_a_string_that_is_too_large_is_counted_but_not_kept() -> None:
    text = b'{"data": "%s", "n": 1}' % base64.b64encode(b"\0" * 3_000_000)
    tracemalloc.start()
    try:
        body = lift(text, string_bytes_max=30_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    [item] = body.blobs
    assert (item.data, item.fault, item.text_length) == (b"", Fault("too_large", 40_000), 4_000_000)
    assert json.loads(body.skeleton)["n"] == 1
    assert peak < 500_000


def test_a_string_of_exactly_the_largest_size_is_kept() -> None:
    text = b'{"data": "%s"}' % base64.b64encode(PIXELS)
    assert lift(text, string_bytes_max=len(PIXELS)).blobs[0].data == PIXELS
    assert lift(text, string_bytes_max=len(PIXELS) - 1).blobs[0].fault is not None


def test_a_faulty_string_does_not_spoil_the_next() -> None:
    body = lift(b'{"data": "!", "x": {"data": "aGk="}}')
    assert [(item.data, item.fault) for item in body.blobs] == [(b"", Fault("alphabet", 0)), (b"hi", None)]


@pytest.mark.parametrize("tail", [b"", b"\\", b"\\u00"])
def test_a_text_cut_short_keeps_what_came_and_stays_broken(tail: bytes) -> None:
    body = lift(b'{"data": "aGkhaGk' + tail, every=4)
    [item] = body.blobs
    assert item.data == (b"hi!" if not tail else b"")
    assert item.fault is not None
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(body.skeleton)


def test_a_text_cut_short_outside_loses_nothing() -> None:
    for text in (
        b'{"dat',
        b'{"data"',
        b'{"data" :',
        b'{"x": "long enough to be no key at all \\',
        b'{"data": "aG',
    ):
        body = lift(text, every=3)
        assert body.skeleton.startswith(text[:6])
        if not body.blobs:
            assert body.skeleton == text


# --- limits ----------------------------------------------------------------------------------------------


def test_images_do_not_count_against_the_light_body() -> None:
    text = b'{"data": "%s"}' % base64.b64encode(b"\0" * 100_000)
    assert len(lift(text, light_bytes_max=100).skeleton) < 100


@pytest.mark.parametrize(
    "filler", [b'"' + b"x" * 200_000, b'"",' * 70_000, b'"data":"",' * 5_000, b" " * 200_000]
)
def test_a_body_that_grows_beside_its_images_is_stopped_while_it_comes(filler: bytes) -> None:
    with pytest.raises(SkeletonTooLarge):
        lift(filler, every=1000, light_bytes_max=10_000)


def test_memory_is_the_image_and_a_chunk() -> None:
    text = base64.b64encode(os.urandom(49152))
    lifter = Lifter()
    lifter.feed(b'{"data": "')
    tracemalloc.start()
    try:
        for _ in range(200):
            lifter.feed(text)
        lifter.feed(b'"}')
        body = lifter.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    [item] = body.blobs
    assert len(item.data) == 200 * 49152
    assert peak < 1.2 * len(item.data)


def test_a_lifter_that_is_dropped_frees_its_images_at_once() -> None:
    text = b'{"data": "%s"}' % base64.b64encode(os.urandom(1_000_000))
    gc.disable()
    tracemalloc.start()
    try:
        assert len(lift(text).blobs[0].data) == 1_000_000
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert left < 500_000
