"""The transport: no image byte reaches the SDK's JSON, in either direction, and none is changed."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import pytest_asyncio

from app.domain.errors import UpstreamError
from app.media.lifting import SkeletonTooLarge
from app.upstream.google.transport import (
    Exchange,
    LiftingTransport,
    PlaceholdersMissing,
    UnreadableAnswer,
    bind_exchange,
)
from tests.upstream.conftest import answer, asked, calling, large_png, lasting, part
from tests.upstream.server import Received, Upstream, answering, dropping, head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.upstream.google.client import GoogleImageModel

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACEHOLDER = "A" * 32


class SeenByTheSDK:
    """The largest JSON texts that were parsed or written, and the response bodies that the SDK was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: GoogleImageModel) -> None:
        self.parsed: list[int] = []
        self.written: list[int] = []
        self.responses: list[int] = []
        loads, dumps = json.loads, json.dumps

        def counted_loads(text: Any, *args: Any, **options: Any) -> Any:
            self.parsed.append(len(text))
            return loads(text, *args, **options)

        def counted_dumps(*args: Any, **options: Any) -> str:
            text = dumps(*args, **options)
            self.written.append(len(text))
            return text

        async def count_response(response: httpx2.Response) -> None:
            self.responses.append(len(await response.aread()))

        monkeypatch.setattr(json, "loads", counted_loads)
        monkeypatch.setattr(json, "dumps", counted_dumps)
        assert model._http is not None
        monkeypatch.setattr(model._http, "event_hooks", {"request": [], "response": [count_response]})


async def test_of_a_20_mb_picture_the_sdk_sees_a_few_hundred_bytes(
    server: Upstream, model: GoogleImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = large_png(20_000_000)
    server.reply = answering(answer(part(picture)), chunk=1_000_003)
    seen = SeenByTheSDK(monkeypatch, model)
    came = await model.generate(asked(), None, lasting(30))
    assert hashlib.sha256(came.pictures[0].data).digest() == hashlib.sha256(picture).digest()
    assert 0 < max(seen.parsed) < 2_000
    assert 0 < seen.responses[0] < 2_000


async def test_of_14_references_the_sdk_writes_a_few_kilobytes_and_the_server_gets_every_byte(
    server: Upstream, model: GoogleImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [large_png(1_000_000) for _ in range(14)]
    server.reply = answering(answer(part()))
    seen = SeenByTheSDK(monkeypatch, model)
    await model.generate(asked(*images), None, lasting(30))
    assert 0 < max(seen.written) < 8_000
    monkeypatch.undo()
    [received] = server.received
    parts = received.json["contents"][0]["parts"]
    assert [base64.b64decode(item["inlineData"]["data"], validate=True) for item in parts[:-1]] == images
    assert parts[-1] == {"text": "a cat"}
    assert int(received.headers["content-length"]) == len(received.body)
    assert "transfer-encoding" not in received.headers


# --- the transport alone ---------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    transport = LiftingTransport(
        httpx2.AsyncHTTPTransport(), answer_bytes_max=300_000, light_bytes_max=10_000
    )
    async with httpx2.AsyncClient(transport=transport, timeout=10) as opened:
        yield opened


async def ask(client: httpx2.AsyncClient, server: Upstream) -> tuple[httpx2.Response, Exchange]:
    exchange = Exchange()
    with bind_exchange(exchange):
        return await client.post(server.url, content=b"{}"), exchange


def pictures(exchange: Exchange) -> list[bytes]:
    return [item.data for item in exchange.lifted.values()]


@pytest.mark.parametrize("chunk", [None, 1, 7, 4096])
@pytest.mark.parametrize(
    "spelt",
    [
        json.dumps,
        lambda body: json.dumps(body, indent=2),
        lambda body: json.dumps(body).replace("=", "\\u003d").replace("/", "\\/"),
        lambda body: json.dumps(body).replace("inlineData", "inline_data"),
        lambda body: json.dumps(body).replace("=", ""),
        lambda body: json.dumps(body).replace("/", "_").replace("+", "-"),
    ],
    ids=["compact", "pretty", "escaped", "snake_case", "unpadded", "url_safe"],
)
async def test_a_picture_is_lifted_however_the_answer_is_spelt_and_cut(
    client: httpx2.AsyncClient, server: Upstream, spelt: Any, chunk: int | None
) -> None:
    data = bytes(range(256)) + b"\xff"
    body = spelt({"parts": [{"inlineData": {"data": base64.b64encode(data).decode()}}]})
    server.reply = answering(body.encode(), chunk=chunk)
    response, exchange = await ask(client, server)
    assert pictures(exchange) == [data]
    [name] = exchange.lifted
    assert name in response.text
    assert len(response.content) < 120
    assert response.headers["content-length"] == str(len(response.content))


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("x-gzip", gzip.compress)],
)
@pytest.mark.parametrize("chunk", [None, 100])
async def test_an_answer_that_is_compressed_all_the_same_is_read(
    client: httpx2.AsyncClient, server: Upstream, encoding: str, compress: Any, chunk: int | None
) -> None:
    body = compress(b'{"data": "%s"}' % base64.b64encode(b"\0" * 200_000))
    server.reply = answering(body, chunk=chunk, content_encoding=encoding)
    response, exchange = await ask(client, server)
    assert server.received[0].headers["accept-encoding"] == "identity"
    assert pictures(exchange) == [b"\0" * 200_000]
    assert "content-encoding" not in response.headers
    assert json.loads(response.content)["data"] in exchange.lifted


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"data": "' + b"A" * 400_000 + b'"}', {}),
        (gzip.compress(b'{"data": "' + b"A" * 5_000_000 + b'"}'), {"content_encoding": "gzip"}),
        (gzip.compress(b'{"data": "AAAA"}')[:-12], {"content_encoding": "gzip"}),
        (b"this is no gzip", {"content_encoding": "gzip"}),
        (b"{}", {"content_encoding": "br"}),
    ],
    ids=["large", "bomb", "cut", "damaged", "unknown"],
)
async def test_an_answer_beyond_its_limits_is_not_read_on(
    client: httpx2.AsyncClient, server: Upstream, body: bytes, headers: dict[str, Any]
) -> None:
    server.reply = answering(body, chunk=50_000, **headers)
    with pytest.raises(UnreadableAnswer):
        await ask(client, server)


async def test_an_answer_that_grows_beside_its_pictures_is_not_read_on(
    client: httpx2.AsyncClient, server: Upstream
) -> None:
    server.reply = answering(b'{"text": "' + b"x" * 20_000 + b'"}')
    with pytest.raises(SkeletonTooLarge):
        await ask(client, server)


async def test_an_endless_refusal_is_cut(client: httpx2.AsyncClient, server: Upstream) -> None:
    server.reply = answering(b"x" * 5_000_000, 500, chunk=10_000)
    response, exchange = await ask(client, server)
    assert response.status_code == 500
    assert 0 < len(exchange.body) <= 65_536


async def test_a_refusal_is_given_on_as_it_came(client: httpx2.AsyncClient, server: Upstream) -> None:
    body = {"error": {"code": 400, "details": [{"data": "aGk="}]}}
    server.reply = answering(body, 400)
    response, exchange = await ask(client, server)
    assert response.json() == body
    assert json.loads(exchange.body) == body


async def test_an_event_stream_passes_unharmed(client: httpx2.AsyncClient, server: Upstream) -> None:
    event = b'data: {"candidates": [{"data": "aGk="}]}\r\n\r\n'

    async def stream(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
            % (2 * len(event))
        )
        writer.write(event)
        await writer.drain()
        writer.write(event)

    server.reply = stream
    with bind_exchange(Exchange()):
        async with client.stream("POST", server.url, content=b"{}") as response:
            assert await response.aread() == 2 * event


async def test_an_endless_event_stream_is_cut(client: httpx2.AsyncClient, server: Upstream) -> None:
    async def stream(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for _event in range(100):
            writer.write(b"data: " + b"x" * 10_000 + b"\r\n\r\n")
            await writer.drain()
        writer.close()

    server.reply = stream
    with pytest.raises(UnreadableAnswer):
        await ask(client, server)


async def test_requests_outside_an_exchange_pass_as_they_are(
    client: httpx2.AsyncClient, server: Upstream
) -> None:
    server.reply = answering({"data": "aGk="})
    assert (await client.post(server.url, content=b'{"data": "aG8="}')).json() == {"data": "aGk="}
    assert server.received[0].body == b'{"data": "aG8="}'


async def test_a_request_that_lost_its_inputs_is_not_sent(
    client: httpx2.AsyncClient, server: Upstream
) -> None:
    with bind_exchange(Exchange(blobs={PLACEHOLDER: b"hi"})), pytest.raises(PlaceholdersMissing):
        await client.post(server.url, content=b'{"data": "another"}')
    assert server.received == []


async def test_two_calls_at_once_keep_their_own_bytes(client: httpx2.AsyncClient, server: Upstream) -> None:
    both = asyncio.Barrier(2)

    async def echo(received: Received, writer: asyncio.StreamWriter) -> None:
        await both.wait()
        writer.write(head(200, len(received.body)) + received.body)

    async def call(data: bytes) -> tuple[list[bytes], list[bytes]]:
        exchange = Exchange(blobs={PLACEHOLDER: data})
        with bind_exchange(exchange):
            await client.post(server.url, content=b'{"data": "%s"}' % PLACEHOLDER.encode())
        return [data], pictures(exchange)

    server.reply = echo
    for sent, came in await asyncio.gather(call(b"one"), call(b"two")):
        assert came == sent


async def test_a_request_counts_as_sent_only_with_its_last_piece(server: Upstream) -> None:
    """A server that hangs up in the middle of the upload has no whole request, so it cannot have charged."""
    reading = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1000)
        reading.set()
        writer.transport.abort()

    hanging_up = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{hanging_up.sockets[0].getsockname()[1]}"
    async with hanging_up, calling(url) as model:
        with pytest.raises(UpstreamError) as raised:
            await model.generate(asked(large_png(30_000_000)), None, lasting(10))
    assert reading.is_set()
    assert raised.value.billed == "no"


async def test_a_dropped_connection_is_closed_and_the_next_call_works(
    client: httpx2.AsyncClient, server: Upstream
) -> None:
    server.reply = dropping(head(200, 1000) + b'{"data": "aGk')
    with pytest.raises(httpx2.RemoteProtocolError):
        await ask(client, server)
    server.reply = answering({"data": "aGk="})
    _, exchange = await ask(client, server)
    assert pictures(exchange) == [b"hi"]
