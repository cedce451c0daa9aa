"""Strings under the key of a file's bytes that are no file stay as they were written, in every dialect."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request

from app.domain.errors import InvalidRequest
from app.media.lifting import TEXT_BYTES_MAX
from app.media.splicing import splice
from app.surfaces.admin.routes import _read_members
from app.surfaces.gemini.routes import BYTES_FORMAT
from app.surfaces.http.body import JsonBody, read_json
from app.surfaces.native.request import parse_json_order
from app.surfaces.openai.request import parse_json_request
from tests.surfaces.test_gemini_request import (
    CALLER,
    CATALOGUE,
    LIMITS,
    PLAIN,
    PNG,
    asked,
    inline,
    ordered,
    turn,
)

TEXTS = [
    "512",
    "",
    "Hello, world!",
    "é — 雪",
    'two\nlines "quoted" \\ /',
    "_-_-",
    "AA",
    "AAAB",
    "AAA=",
    "AB==",
    "=",
    "😀",
]


def holding(text: Any) -> dict[str, Any]:
    """A body with a text wherever the model takes JSON of any form."""
    free = {"data": text, "inlineData": {"data": text}, "list": [{"data": text}], "thought_signature": text}
    call = {"functionCall": {"name": "f", "args": free}, "partMetadata": free}
    answer = {"functionResponse": {"name": "f", "response": free, "parts": [inline(PNG)]}}
    return {
        "contents": [turn(call, role="model"), turn(answer), turn("Draw", inline(PNG))],
        "generationConfig": {"responseJsonSchema": {"properties": {"a": {"default": free}}}},
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"default": free}}]}],
    }


async def send(body: Any) -> Any:
    """The body as it is sent on."""
    request = await asked(body)
    assert request.verbatim is not None
    return json.loads(b"".join(splice(request.verbatim.skeleton, request.verbatim.blobs)))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("ascii_only", [True, False])
async def test_a_text_is_sent_as_it_was_written(text: str, ascii_only: bool) -> None:
    sent = await send(json.dumps(holding(text), ensure_ascii=ascii_only).replace("/", "\\/"))
    wanted = holding(text)
    assert sent == wanted


async def test_its_words_are_counted_as_they_are_sent() -> None:
    quotes = "\n" * 500
    [long, short] = [(await asked(holding(text))).other_text_bytes for text in (quotes, "")]
    assert long - short == (len(json.dumps(quotes)) - 2) * json.dumps(holding(quotes)).count(
        json.dumps(quotes)
    )


async def test_a_text_is_told_from_another_that_decodes_to_the_same_bytes() -> None:
    identities = {(await asked(holding(text))).verbatim.identity for text in ("AA", "AA==", "AB==")}  # type: ignore[union-attr]
    assert len(identities) == 3


async def test_a_text_that_is_longer_than_what_a_model_reads_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="more than 131072 bytes"):
        await ordered(holding("AAAA" * (TEXT_BYTES_MAX // 4 + 1)))


async def test_a_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        await ordered(json.dumps(holding("marker")).replace("marker", "\\x", 1))


async def test_a_label_may_be_called_data() -> None:
    labels = {"data": "no_base64"}
    assert (await asked({**PLAIN, "labels": labels})).labels == tuple(labels.items())
    body = await read({"prompt": "Draw", "labels": labels})
    service = cast("Any", SimpleNamespace(limits=LIMITS, gateway=SimpleNamespace(catalogue=CATALOGUE)))
    native, _ = await parse_json_order(service, CALLER, body, None)
    openai = await parse_json_request(service, CALLER, body, None)
    assert native.request.labels == openai.order.request.labels == tuple(labels.items())
    assert not native.violations


async def test_what_an_operator_writes_may_be_called_data() -> None:
    members = {"labels": {"data": "A tenant's word"}}
    service = cast("Any", SimpleNamespace(limits=LIMITS))
    assert await _read_members(build_request(members), service) == members


def build_request(members: Any) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(members).encode(), "more_body": False}

    return Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)


async def read(members: Any) -> JsonBody:
    return await read_json(build_request(members), LIMITS)


async def test_too_many_strings_are_refused_by_the_keys_that_they_stand_under() -> None:
    most = LIMITS.inputs_max * BYTES_FORMAT.strings_per_input
    with pytest.raises(InvalidRequest, match=f"more than {most} strings under data or thought"):
        await ordered(json.dumps(holding([{"data": "x"}] * most)))
