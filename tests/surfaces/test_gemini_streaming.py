"""Streams that outlast the patience of their status line: signs of life, then the answer or an error."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from app.domain.errors import Overloaded, UpstreamError, UpstreamInvalidRequest
from app.surfaces.gemini.streaming import RenderedAnswer, build_dialect
from app.surfaces.http.streams import stream

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Message

    from app.surfaces.gemini.response import StreamFormat


class Door:
    """Answers when it is opened, as the generation behind a stream does."""

    def __init__(self, outcome: RenderedAnswer | Exception) -> None:
        self.opened = asyncio.Event()
        self._outcome = outcome

    async def answer(self) -> RenderedAnswer:
        await self.opened.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


async def sent_by(response: Response, door: Door) -> list[bytes]:
    """Every piece of a response; the door opens after the second."""
    pieces: list[bytes] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body" and message.get("body"):
            pieces.append(message["body"])
            if len(pieces) == 2:
                door.opened.set()

    await response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
    return pieces


async def streamed(door: Door, form: StreamFormat) -> list[bytes]:
    dialect = build_dialect(form, "r", "/gemini/v1/x")
    response = await stream(door.answer(), dialect, patience_s=0.001, beat_s=0.001)
    assert response.status_code == 200
    return await sent_by(response, door)


@pytest.mark.parametrize(("form", "beat"), [("sse", b"\r\n\r\n"), ("array", b"\r\n")])
async def test_signs_of_life_come_before_a_late_answer(form: StreamFormat, beat: bytes) -> None:
    door = Door(RenderedAnswer('{"data":"img_1",\n "a":1}', {"img_1": b"abc"}))
    pieces = await streamed(door, form)
    beats = [piece for piece in pieces if piece == beat]
    assert len(beats) >= 2
    text = b"".join(pieces[len(beats) :]).decode()
    if form == "sse":
        assert text.endswith("\r\n\r\n")
        text = text.strip().removeprefix("data: ")
        assert "\n" not in text
    assert json.loads(text) in ({"data": "YWJj", "a": 1}, [{"data": "YWJj", "a": 1}])


@pytest.mark.parametrize("form", ["sse", "array"])
async def test_a_late_failure_is_an_event_of_the_stream(form: StreamFormat) -> None:
    door = Door(UpstreamError("It broke.", billed="maybe"))
    text = b"".join(await streamed(door, form)).decode().strip()
    document = json.loads(text.removeprefix("data: "))
    error = (document[0] if form == "array" else document)["error"]
    assert (error["code"], error["status"], error["message"]) == (500, "INTERNAL", "It broke.")


async def test_an_early_failure_has_its_own_status() -> None:
    door = Door(Overloaded("Too much."))
    door.opened.set()
    with pytest.raises(Overloaded):
        await stream(door.answer(), build_dialect("sse", "r", "/gemini/v1/x"), patience_s=60)


async def test_an_early_answer_keeps_its_status_and_headers() -> None:
    door = Door(RenderedAnswer("{}", headers={"Age": "3"}))
    door.opened.set()
    response = await stream(door.answer(), build_dialect("sse", "r", "/gemini/v1/x"), patience_s=60)
    assert (response.status_code, response.headers["age"]) == (200, "3")
    assert await sent_by(response, door) == [b"data: {}\r\n\r\n"]


async def test_a_late_refusal_in_the_upstreams_words_is_passed_on() -> None:
    refused = UpstreamInvalidRequest("Not so.", upstream_status=400).with_attributes(
        verbatim='{\n "error": {"code": 400}\n}'
    )
    text = b"".join(await streamed(Door(refused), "sse")).decode().strip()
    error = json.loads(text.removeprefix("data: "))["error"]
    (detail,) = error.pop("details")
    assert error == {"code": 400}
    assert (detail["domain"], detail["metadata"]["explanation"]) == ("flashgate", "Not so.")
