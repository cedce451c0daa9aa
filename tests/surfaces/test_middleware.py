"""The middleware at work: raw bytes over a socket to a real server, with both of its parsers."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from app.domain.keys import ENTROPY_BYTES, mint
from app.middleware import BodyLimitMiddleware, FramingMiddleware, RequestIdMiddleware
from app.surfaces import errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.types import Message, Receive, Scope, Send

LIMIT = 1000
HEAD = b"GET /state HTTP/1.1\r\nHost: test\r\n"


class Answer(NamedTuple):
    """A status, headers by lower-case name, and the body as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        assert found["request_id"] == self.headers["x-request-id"]
        return found


class Door:
    """An application behind the three middlewares; remembers what reached it and what came back out."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.states: list[dict[str, Any]] = []
        api = FastAPI()
        errors.install(api)
        api.add_api_route("/state", self._state, methods=["GET", "POST"])
        api.add_api_route("/read", self._read, methods=["POST"])
        api.add_api_route("/json", self._json, methods=["POST"])
        api.add_api_route("/stream", self._stream, methods=["POST"])
        api.add_api_route("/unsafe", self._unsafe)
        app = RequestIdMiddleware(
            FramingMiddleware(
                BodyLimitMiddleware(self._raw(api), lambda path: 10**7 if path == "/big" else LIMIT)
            )
        )

        async def remembering(scope: Scope, receive: Receive, send: Send) -> None:
            scope = {**scope, "state": {}}
            self.states.append(scope["state"])
            await app(scope, receive, send)

        self.app = remembering

    def _raw(self, api: FastAPI) -> Any:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self.reached.append(scope["path"])
            if scope["path"] == "/broken":
                raise ValueError("a secret of the caller")
            if scope["path"] == "/broken-late":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"half", "more_body": True})
                raise ValueError("a secret of the caller")
            await api(scope, receive, send)

        return app

    async def _state(self, request: Request) -> dict[str, str]:
        return {"request_id": request.state.request_id}

    async def _read(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    async def _json(self, body: dict[str, Any]) -> int:
        return len(body)

    async def _stream(self, request: Request) -> Response:
        async def echo() -> AsyncIterator[bytes]:
            yield b"first;"
            async for part in request.stream():
                yield part

        return StreamingResponse(echo())

    async def _unsafe(self) -> Response:
        response = PlainTextResponse("fine")
        response.raw_headers.append((b"x-echo", b"a\r\nset-cookie: stolen=1"))
        response.raw_headers.append((b"x-request-id", b"not-mine"))
        return response


class Served(NamedTuple):
    """A door behind a real server."""

    door: Door
    port: int


@pytest.fixture(scope="module", params=["h11", "httptools"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def h11() -> Iterator[Served]:
    with served("h11") as found:
        yield found


@pytest.fixture(scope="module")
def httptools() -> Iterator[Served]:
    with served("httptools") as found:
        yield found


@contextmanager
def served(parser: str) -> Iterator[Served]:
    """A server in a thread, on a port that the kernel picks."""
    door = Door()
    config = uvicorn.Config(door.app, http=parser, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield Served(door, listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(10)


@asynccontextmanager
async def connection(server: Served) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):  # what was not read yet is dropped with a reset
            await writer.wait_closed()


async def talk(server: Served, request: bytes) -> Answer:
    """Send raw bytes; read one whole answer, however its length is told."""
    server.door.reached.clear()
    server.door.states.clear()
    async with connection(server) as (reader, writer):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        length = headers.get("content-length")
        body = await (reader.readexactly(int(length)) if length else reader.read())
    return Answer(int(head[0].split()[1]), headers, body)


def post(path: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join((f"POST {path} HTTP/1.1", "Host: test", *headers, "", "")).encode() + body


def chunked(path: str, *parts: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))
    return post(path, "Transfer-Encoding: chunked", "Content-Type: application/json", body=chunks)


@pytest.mark.parametrize("offered", ["a", "Trace-01.b_C", "x" * 64])
async def test_a_callers_request_id_is_kept(server: Served, offered: str) -> None:
    answer = await talk(server, HEAD + f"X-Request-ID: {offered}\r\n\r\n".encode())
    assert answer.headers["x-request-id"] == offered
    assert json.loads(answer.body) == {"request_id": offered}


@pytest.mark.parametrize(
    "offered",
    [
        "",
        "x" * 65,
        "two words",
        "semi;colon",
        "caf\xe9",
        "../../etc/passwd",
        "a\r\nX-Request-ID: b",
        mint("p", bytes(ENTROPY_BYTES), "k").text,
    ],
)
async def test_an_unsafe_request_id_is_replaced_by_a_new_one(h11: Served, offered: str) -> None:
    answers = [await talk(h11, HEAD + b"X-Request-ID: %s\r\n\r\n" % offered.encode("latin-1")) for _ in "ab"]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert offered not in ids
    assert len({*ids}) == 2
    assert [json.loads(answer.body)["request_id"] for answer in answers] == ids
    assert all(len(one) == 32 for one in ids)


async def test_a_line_break_cannot_leave_in_a_header_and_the_id_is_the_gateways(
    server: Served,
) -> None:
    answer = await talk(server, b"GET /unsafe HTTP/1.1\r\nHost: test\r\nX-Request-ID: mine\r\n\r\n")
    assert (answer.status, answer.body) == (200, b"fine")
    assert "set-cookie" not in answer.headers
    assert "x-echo" not in answer.headers
    assert answer.headers["x-request-id"] == "mine"


async def test_what_escapes_every_handler_is_answered_without_its_words(h11: Served) -> None:
    answer = await talk(h11, b"GET /broken HTTP/1.1\r\nHost: test\r\n\r\n")
    assert (answer.status, answer.problem["code"]) == (500, "internal")
    assert b"secret" not in answer.body
    assert h11.door.states[0]["outcome"] == "internal"


async def test_an_answer_that_breaks_off_is_not_finished_as_if_it_were_whole(h11: Served) -> None:
    async with connection(h11) as (reader, writer):
        writer.write(b"GET /broken-late HTTP/1.1\r\nHost: test\r\n\r\n")
        received = await reader.read()
    assert b"4\r\nhalf\r\n" in received
    assert not received.endswith(b"0\r\n\r\n")


async def test_a_declared_body_over_the_limit_is_refused_before_it_is_sent(server: Served) -> None:
    answer = await talk(server, post("/read", f"Content-Length: {LIMIT + 1}", "Expect: 100-continue"))
    assert (answer.status, answer.problem["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
    assert server.door.reached == []
    assert server.door.states[0]["outcome"] == "body_too_large"


@pytest.mark.parametrize("path", ["/read", "/json"])
async def test_a_chunked_body_is_refused_as_soon_as_it_passes_the_limit(server: Served, path: str) -> None:
    endless = chunked(path, b'{"a": "' + b"x" * 600, b"x" * 600)[:-5]  # the end never comes
    answer = await talk(server, endless)
    assert (answer.status, answer.problem["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"


async def test_a_body_of_exactly_the_limit_passes_in_either_framing(server: Served) -> None:
    declared = await talk(server, post("/read", f"Content-Length: {LIMIT}", body=b"x" * LIMIT))
    streamed = await talk(server, chunked("/read", *[b"x" * (LIMIT // 4)] * 4))
    assert (declared.status, declared.body) == (200, b"1000")
    assert (streamed.status, streamed.body) == (200, b"1000")


async def test_one_byte_over_the_limit_is_too_many_in_either_framing(server: Served) -> None:
    declared = await talk(server, post("/read", f"Content-Length: {LIMIT + 1}", body=b"x" * (LIMIT + 1)))
    streamed = await talk(server, chunked("/read", b"x" * LIMIT, b"x"))
    assert (declared.status, streamed.status) == (413, 413)


async def test_each_route_has_its_own_limit(h11: Served) -> None:
    answer = await talk(h11, post("/big", f"Content-Length: {LIMIT + 1}", body=b"x" * (LIMIT + 1)))
    assert answer.status == 404  # let through, and there is no such route


async def test_an_answer_that_began_is_cut_off_rather_than_mixed_with_a_refusal(h11: Served) -> None:
    whole = chunked("/stream", b"x" * 600, b"y" * 600)
    at = whole.index(b"yy")
    first, second = whole[:at], whole[at:]
    async with connection(h11) as (reader, writer):
        writer.write(first)
        began = await reader.readuntil(b"first;")
        writer.write(second)
        rest = await reader.read()
    assert began.startswith(b"HTTP/1.1 200 ")
    assert b"body_too_large" not in rest
    assert not rest.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    "smuggled",
    [
        post("/state", "Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        post("/state", "Transfer-Encoding: chunked", "Content-Length: 4", body=b"0\r\n\r\n"),
        post("/state", "Content-Length: 0", "Content-Length: 4", body=b"abcd"),
        post("/state", "Content-Length: +4", body=b"abcd"),
        post("/state", "Content-Length: -1"),
        post("/state", "Content-Length: 0x4", body=b"abcd"),
        post("/state", "Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
        post("/state", "Transfer-Encoding: identity"),
        post("/state", "Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=b"0\r\n\r\n"),
        post("/state", "Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
        post("/state", "X-Nul: a\x00b"),
        b"GET /state HTTP/1.1\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: user@evil\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: test\r\nBad Name: x\r\n\r\n",
    ],
)
async def test_ambiguous_framing_is_refused_by_the_parser_or_by_the_gateway(
    server: Served, smuggled: bytes
) -> None:
    answer = await talk(server, smuggled)
    assert answer.status == 400
    assert server.door.reached == []


async def test_the_gateway_itself_refuses_what_a_parser_lets_pass(h11: Served, httptools: Served) -> None:
    both = post("/state", "Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n")
    hosts = b"GET /state HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
    lengths = await talk(h11, both)
    doubled = await talk(httptools, hosts)
    missing = await talk(httptools, b"GET /state HTTP/1.1\r\n\r\n")
    assert lengths.problem["detail"] == "Content-Length and Transfer-Encoding are mutually exclusive."
    assert doubled.problem["detail"] == "There must be one Host header."
    assert missing.problem["detail"] == "The Host header is missing."
    for answer in (lengths, doubled, missing):
        assert answer.problem["code"] == "invalid_request"
        assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("host", ["test", "test:8080", "127.0.0.1:1", "[::1]", "[::1]:80", "a-b.example.org"])
async def test_ordinary_hosts_pass(server: Served, host: str) -> None:
    answer = await talk(server, f"GET /state HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([f"X-{at}: 1" for at in range(99)], 200),
        ([f"X-{at}: 1" for at in range(100)], 431),
        (["X-Long: " + "x" * 32_000], 200),
        (["X-Long: " + "x" * 33_000], 431),
        ([f"X-{at}: " + "x" * 400 for at in range(90)], 431),
    ],
)
async def test_headers_are_limited_in_number_and_size(
    server: Served, headers: list[str], status: int
) -> None:
    answer = await talk(server, HEAD + "\r\n".join([*headers, "", ""]).encode())
    assert answer.status == status
    if status == 431:
        assert answer.problem["code"] == "headers_too_large"
        assert server.door.reached == []


async def test_twenty_megabytes_of_headers_are_never_accepted(httptools: Served) -> None:
    answer = await talk(httptools, HEAD + b"X-Long: " + b"x" * 20_000_000 + b"\r\n\r\n")
    assert answer.status == 431


async def test_what_is_no_http_passes_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    door = RequestIdMiddleware(FramingMiddleware(BodyLimitMiddleware(app, lambda _: 0)))
    await door({"type": "lifespan"}, receive, send)
    await door({"type": "websocket"}, receive, send)
    assert seen == ["lifespan", "websocket"]
