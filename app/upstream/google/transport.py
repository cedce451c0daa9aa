"""An HTTP transport between the SDK and the network, past which image bytes go by instead of through.

Outwards it splices the inputs into the small JSON that the SDK wrote; inwards it lifts the pictures out
while the answer arrives, and the SDK gets a few hundred bytes. A call and its bytes find each other by a
context variable: the SDK makes the request in the task that called it, and it has no argument that would
carry them.
"""

from __future__ import annotations

import json
import zlib
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import httpx2

from app.media.lifting import Lifted, Lifter
from app.media.splicing import compute_spliced_length, splice_iter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

CONNECT_TIMEOUT_S: Final = 10.0
REFUSAL_BYTES_MAX: Final = 65_536
_INFLATED_PIECE_BYTES: Final = 1_048_576
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32
# These describe a body that is no longer the one that arrived.
_HEADERS_OF_THE_BODY: Final = frozenset({"content-length", "content-encoding", "transfer-encoding"})


class UnreadableAnswer(Exception):
    """The answer is too large, or encoded in a way that was not asked for."""


class PlaceholdersMissing(Exception):
    """The SDK's request does not hold the inputs' placeholders, so it would be sent without them."""


@dataclass(slots=True)
class Exchange:
    """One call: what goes out beside the SDK's request, and what came in beside its response.

    Attributes:
        outward: Inputs' bytes by the base64 text that stands for them in the request.
        instead: The skeleton body to send in place of the SDK's, or None.
        along: Headers that go out beside the SDK's.
        before: Earlier turns as JSON, with commas between them, to send before the SDK's; empty without any.
        sent: Whether the end of the request was handed to the network. Before that the upstream has no
            whole request, so it cannot have worked, nor charged.
        status: HTTP status of the answer, or None while there is none.
        headers: Of the answer.
        body: A refusal's first bytes (any status but 200); empty after success.
        lifted: Lifted strings of a good answer, by placeholder, until ``take_lifted``.
    """

    blobs: Mapping[str, bytes] = field(default_factory=dict)
    body_override: bytes | None = None
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    earlier_turns: bytes = b""
    sent: bool = False
    status: int | None = None
    headers: httpx2.Headers = field(default_factory=httpx2.Headers)
    body: bytes = b""
    lifted: dict[str, Lifted] = field(default_factory=dict)

    def take_lifted(self) -> dict[str, Lifted]:
        """The lifted strings, which the exchange itself then no longer holds; see ``exchanging``."""
        lifted, self.lifted = self.lifted, {}
        return lifted

    def reset(self) -> None:
        """Forget an attempt that was refused, for another one."""
        self.sent, self.status, self.headers, self.body = False, None, httpx2.Headers(), b""


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


@contextmanager
def bind_exchange(exchange: Exchange) -> Iterator[None]:
    """Every request that this task makes inside belongs to the exchange, whose inputs it lets go of at last.

    Timers of the event loop keep a copy of the context, and with it the exchange, until they are due;
    so no exchange may hold on to bytes when its call is over.
    """
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)
        exchange.blobs, exchange.body_override, exchange.earlier_turns = {}, None, b""


class LiftingTransport(httpx2.AsyncBaseTransport):
    """Wraps a transport. Requests outside an exchange, and event streams, pass as they are.

    Args:
        inner: What speaks to the network.
        answer_bytes_max: Bytes that an answer may have, before and after decompression.
        light_bytes_max: Bytes that may remain of it beside the pictures.
    """

    def __init__(
        self, inner: httpx2.AsyncBaseTransport, *, answer_bytes_max: int, light_bytes_max: int
    ) -> None:
        self._inner = inner
        self._answer_bytes_max = answer_bytes_max
        self._light_bytes_max = light_bytes_max

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request with its inputs, and give back its answer without its pictures.

        Raises:
            UnreadableAnswer: Too large, or compressed in an unknown way.
            SkeletonTooLarge: Too much beside the pictures.
            httpx2.TransportError: Whatever the network does.
        """
        exchange = _current.get()
        if exchange is None:
            return await self._inner.handle_async_request(request)
        request.headers.update(exchange.extra_headers)
        response = await self._inner.handle_async_request(_build_request(request, exchange))
        exchange.status, exchange.headers = response.status_code, response.headers
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = _BoundedStream(response, self._answer_bytes_max)
            return response
        try:
            content = await self._read_response(response, exchange)
        finally:
            await response.aclose()
        headers = [(k, v) for k, v in response.headers.multi_items() if k not in _HEADERS_OF_THE_BODY]
        return httpx2.Response(
            response.status_code, headers=headers, content=content, extensions=response.extensions
        )

    async def _read_response(self, response: httpx2.Response, exchange: Exchange) -> bytes:
        if response.status_code != httpx2.codes.OK:
            exchange.body = await _read_prefix(response, REFUSAL_BYTES_MAX)
            return exchange.body
        # Google writes canonical base64; a picture that was paid for is taken however it is spelt.
        lifter = Lifter(alphabets="either", padding="optional", light_bytes_max=self._light_bytes_max)
        async with aclosing(_decompress(response, self._answer_bytes_max)) as chunks:
            async for chunk in chunks:
                lifter.feed(chunk)
        answer = lifter.close()
        exchange.lifted = {item.placeholder: item for item in answer.blobs}
        return answer.skeleton

    async def aclose(self) -> None:
        """Close the wrapped transport."""
        await self._inner.aclose()


class _SplicedStream(httpx2.AsyncByteStream):
    """The request's body, encoded piece by piece as the network takes it.

    A piece is 768 KiB of image, which takes a fifth of a millisecond to encode: less than the hop to a
    thread and back would, and no stall that another request could feel.
    """

    def __init__(self, skeleton: bytes, exchange: Exchange) -> None:
        self._skeleton = skeleton
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        held = b""
        for piece in splice_iter(self._skeleton, self._exchange.blobs):
            if held:
                yield held
            held = piece
        self._exchange.sent = True
        yield held


class _BoundedStream(httpx2.AsyncByteStream):
    """A body that is passed on as it comes, up to a limit."""

    def __init__(self, response: httpx2.Response, bytes_max: int) -> None:
        if not isinstance(response.stream, httpx2.AsyncByteStream):
            raise TypeError("An asynchronous transport answers with an asynchronous stream.")
        self._stream = response.stream
        self._bytes_max = bytes_max

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async for chunk in self._stream:
            received += len(chunk)
            if received > self._bytes_max:
                raise UnreadableAnswer(f"The answer has more than {self._bytes_max} bytes.")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _prepend_turns(skeleton: bytes, earlier_turns: bytes) -> bytes:
    """The SDK's body with earlier turns before its own. Theirs are not read, so nothing in them changes."""
    body = json.loads(skeleton)
    contents = json.dumps(body.pop("contents")).encode()
    rest = json.dumps(body).encode()
    return b"".join((b'{"contents":[', earlier_turns, b",", contents[1:], b"," if body else b"", rest[1:]))


def _build_request(request: httpx2.Request, exchange: Exchange) -> httpx2.Request:
    """The request as it goes out: inputs in their places, exact length, no compression asked for."""
    skeleton = request.content if exchange.body_override is None else exchange.body_override
    if exchange.earlier_turns:
        skeleton = _prepend_turns(skeleton, exchange.earlier_turns)
    if any(f'"{name}"'.encode() not in skeleton for name in exchange.blobs):
        raise PlaceholdersMissing
    headers = request.headers.copy()
    headers["Content-Length"] = str(compute_spliced_length(skeleton, exchange.blobs))
    headers["Accept-Encoding"] = "identity"
    timeouts = request.extensions.get("timeout", {})
    connecting = {kind: min(timeouts.get(kind) or CONNECT_TIMEOUT_S, CONNECT_TIMEOUT_S)
                  for kind in ("connect", "pool")}  # fmt: skip
    return httpx2.Request(
        request.method,
        request.url,
        headers=headers,
        stream=_SplicedStream(skeleton, exchange),
        extensions={**request.extensions, "timeout": {**timeouts, **connecting}},
    )


async def _decompress(response: httpx2.Response, bytes_max: int) -> AsyncGenerator[bytes, None]:
    """The body's chunks, decompressed where the server compressed them all the same.

    Bounded before and after: a chunk is inflated at most a megabyte at a time.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip", "deflate"}:
        raise UnreadableAnswer(f"The answer is compressed as {encoding[:20]!r}.")
    inflating = zlib.decompressobj(_GZIP_OR_ZLIB) if encoding != "identity" else None
    received = decompressed = 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
        if received > bytes_max:
            raise UnreadableAnswer(f"The answer has more than {bytes_max} bytes.")
        if inflating is None:
            yield chunk
            continue
        more = True
        while more:
            try:
                piece = inflating.decompress(chunk, _INFLATED_PIECE_BYTES)
            except zlib.error:
                raise UnreadableAnswer("The answer's compression is damaged.") from None
            decompressed += len(piece)
            if decompressed > bytes_max:
                raise UnreadableAnswer(f"The answer has more than {bytes_max} bytes.")
            yield piece
            chunk = inflating.unconsumed_tail  # noqa: PLW2901 - what is left of this chunk
            more = bool(chunk) or len(piece) == _INFLATED_PIECE_BYTES
    if inflating is not None and not inflating.eof:
        raise UnreadableAnswer("The answer's compression ends too early.")


async def _read_prefix(response: httpx2.Response, bytes_max: int) -> bytes:
    """The beginning of a refusal; nobody needs the rest, and nobody may send us endless ones."""
    prefix = bytearray()
    try:
        async with aclosing(_decompress(response, bytes_max)) as chunks:
            async for chunk in chunks:
                prefix += chunk
    except UnreadableAnswer:
        pass  # the status alone tells enough
    return bytes(prefix)
