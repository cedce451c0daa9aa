"""A stream waits for the status, lives while nothing comes, and tells what goes wrong later."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, cast

import pytest
from starlette.responses import StreamingResponse

from app.domain.errors import Overloaded, StoreUnavailable
from app.surfaces.openai.events import HEARTBEAT, stream_events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.responses import Response

    from app.generation.order import GenerationResult
    from app.surfaces.openai.response import Spliced

IMAGE = bytes(range(256)) * 4096
RESULT = cast("GenerationResult", object())


def events_of(result: GenerationResult) -> Iterator[Spliced]:
    assert result is RESULT
    yield b'data: {"b64_json":"here"}\n\n', {"here": IMAGE}
    yield b'data: {"b64_json":"there"}\n\n', {"there": IMAGE[::-1]}


def headers_of(result: GenerationResult) -> dict[str, str]:
    assert result is RESULT
    return {"Age": "7"}


class Kitchen:
    """A generation that ends when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.ready = asyncio.Event()
        self.left = False
        self._error = error

    async def cook(self) -> GenerationResult:
        """Wait, then deliver or fail."""
        try:
            await self.ready.wait()
        except asyncio.CancelledError:
            self.left = True
            raise
        if self._error is not None:
            raise self._error
        return RESULT

    async def served(self) -> Response:
        """The response of an impatient route."""
        return await stream_events(self.cook(), events_of, headers_of, patience_s=0.01, beat_s=0.01)


def body_of(response: Response) -> AsyncIterator[bytes]:
    assert isinstance(response, StreamingResponse)
    return cast("AsyncIterator[bytes]", response.body_iterator)


async def test_a_result_in_time_has_its_headers_and_no_beat() -> None:
    kitchen = Kitchen()
    kitchen.ready.set()
    response = await kitchen.served()
    assert response.headers["age"] == "7"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["content-type"].startswith("text/event-stream")
    text = b"".join([piece async for piece in body_of(response)])
    bodies = [json.loads(line.removeprefix(b"data: ")) for line in text.split(b"\n\n") if line]
    assert [base64.b64decode(body["b64_json"]) for body in bodies] == [IMAGE, IMAGE[::-1]]


async def test_a_failure_in_time_is_raised() -> None:
    kitchen = Kitchen(Overloaded("full"))
    kitchen.ready.set()
    with pytest.raises(Overloaded):
        await kitchen.served()


async def test_a_late_result_is_preceded_by_signs_of_life() -> None:
    kitchen = Kitchen()
    body = body_of(await kitchen.served())
    assert [await anext(body) for _ in range(3)] == [HEARTBEAT] * 3
    kitchen.ready.set()
    rest = b"".join([piece async for piece in body])
    assert rest.replace(HEARTBEAT, b"").count(b"\n\n") == 2


async def test_a_late_failure_is_an_error_event() -> None:
    kitchen = Kitchen(StoreUnavailable("gone"))
    body = body_of(await kitchen.served())
    assert await anext(body) == HEARTBEAT
    kitchen.ready.set()
    rest = b"".join([piece async for piece in body]).replace(HEARTBEAT, b"")
    event, data = rest.strip().split(b"\n")
    assert event == b"event: error"
    error = json.loads(data.removeprefix(b"data: "))
    assert (error["type"], error["error"]["code"]) == ("error", "store_unavailable")


async def test_a_late_fault_of_the_gateway_is_an_error_event() -> None:
    kitchen = Kitchen(ValueError("a prompt"))
    body = body_of(await kitchen.served())
    assert await anext(body) == HEARTBEAT
    kitchen.ready.set()
    rest = b"".join([piece async for piece in body]).replace(HEARTBEAT, b"")
    assert b'"code": "internal"' in rest
    assert b"a prompt" not in rest


async def test_a_result_that_cannot_be_written_is_an_error_event() -> None:
    def broken(result: GenerationResult) -> Iterator[Spliced]:
        raise ValueError(result)

    kitchen = Kitchen()
    kitchen.ready.set()
    response = await stream_events(kitchen.cook(), broken, headers_of, patience_s=0.01)
    text = b"".join([piece async for piece in body_of(response)])
    assert text.startswith(b"event: error\n")
    assert b'"code": "internal"' in text


async def test_who_leaves_a_stream_stops_waiting_for_it() -> None:
    kitchen = Kitchen()
    response = await kitchen.served()
    assert isinstance(response, StreamingResponse)
    body = body_of(response)
    await anext(body)
    await body.aclose()  # type: ignore[attr-defined]  # it is a generator
    await asyncio.sleep(0)
    assert kitchen.left


async def test_who_leaves_before_it_begins_stops_waiting_too() -> None:
    kitchen = Kitchen()
    asked = asyncio.ensure_future(stream_events(kitchen.cook(), events_of, headers_of, patience_s=60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait({asked})
    await asyncio.sleep(0)
    assert asked.cancelled()
    assert kitchen.left
