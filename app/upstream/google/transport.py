"""An HTTP transport between the SDK and the network, so that image bytes bypass the SDK.

It splices the inputs into the small JSON body that the SDK wrote, and lifts the images out of the response
while it arrives, so that the SDK parses a few hundred bytes. A context variable connects a call with its
bytes: the SDK sends the request in the task that called it, and has no argument that could carry them.
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
    """The response is too large, or its content encoding is not supported."""


class PlaceholdersMissing(Exception):
    """The SDK's request lacks a placeholder, so an input would be missing from it."""


@dataclass(slots=True)
class Exchange:
    """One call: what is sent beside the SDK's request, and what was received beside its response.

    Attributes:
        blobs: The inputs' bytes by the placeholder that stands for them in the request.
        body_override: The skeleton to send in place of the SDK's body, or None.
        extra_headers: Headers to send beside the SDK's.
        earlier_turns: Earlier turns as comma-separated JSON, sent before the SDK's; empty if there are none.
        sent: Whether the end of the request was handed to the network. Before that, the upstream has no
            complete request and cannot have billed anything.
        status: HTTP status of the response, or None until it arrives.
        headers: Headers of the response.
        body: The first bytes of an error response (any status but 200); empty after success.
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
        """Hand over the lifted strings; see ``bind_exchange`` for why the exchange must not keep them."""
        lifted, self.lifted = self.lifted, {}
        return lifted

    def reset(self) -> None:
        """Forget a refused attempt before the next one."""
        self.sent, self.status, self.headers, self.body = False, None, httpx2.Headers(), b""


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


@contextmanager
def bind_exchange(exchange: Exchange) -> Iterator[None]:
    """Bind every request that this task makes in the block to the exchange, and drop its inputs at the end.

    Timers of the event loop keep a copy of the context, and so the exchange, alive until they are due. So an
    exchange must not keep image bytes after its call.
    """
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)
        exchange.blobs, exchange.body_override, exchange.earlier_turns = {}, None, b""


class LiftingTransport(httpx2.AsyncBaseTransport):
    """Wraps a transport. Requests outside an exchange and event streams pass through unchanged.

    Args:
        inner: The transport that talks to the network.
        answer_bytes_max: Largest response in bytes, before and after decompression.
        light_bytes_max: Largest response in bytes without its images.
    """

    def __init__(
        self, inner: httpx2.AsyncBaseTransport, *, answer_bytes_max: int, light_bytes_max: int
    ) -> None:
        self._inner = inner
        self._answer_bytes_max = answer_bytes_max
        self._light_bytes_max = light_bytes_max

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request with its inputs, and return the response without its images.

        Raises:
            UnreadableAnswer: The response is too large, or has an unsupported content encoding.
            SkeletonTooLarge: The response is too large without its images.
            httpx2.TransportError: A network error.
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
        # Google writes canonical base64, but an image that was paid for is accepted in any spelling.
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

    Encoding a piece of 768 KiB takes a fifth of a millisecond, which is less than a switch to a thread and
    back, and too short to delay other requests.
    """

    def __init__(self, skeleton: bytes, exchange: Exchange) -> None:
        self._skeleton = skeleton
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # Each piece is held back until the next one is known, so that ``sent`` is set right before the last.
        held = b""
        for piece in splice_iter(self._skeleton, self._exchange.blobs):
            if held:
                yield held
            held = piece
        self._exchange.sent = True
        yield held


class _BoundedStream(httpx2.AsyncByteStream):
    """A body that is passed on as it arrives, up to a limit."""

    def __init__(self, response: httpx2.Response, bytes_max: int) -> None:
        if not isinstance(response.stream, httpx2.AsyncByteStream):
            raise TypeError("An asynchronous transport must return an asynchronous stream.")
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
    """Insert the earlier turns before the SDK's own contents, as text, so that their bytes do not change."""
    body = json.loads(skeleton)
    contents = json.dumps(body.pop("contents")).encode()
    rest = json.dumps(body).encode()
    return b"".join((b'{"contents":[', earlier_turns, b",", contents[1:], b"," if body else b"", rest[1:]))


def _build_request(request: httpx2.Request, exchange: Exchange) -> httpx2.Request:
    """The request to send: inputs spliced in, exact length, no compression accepted."""
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
    """The body's chunks, decompressed if the server compressed them although it was asked not to.

    The size is bounded before and after decompression. At most a megabyte is inflated at a time.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip", "deflate"}:
        raise UnreadableAnswer(f"The answer is compressed as {encoding[:20]!r}.")
    inflating = None
    if encoding != "identity":
        inflating = zlib.decompressobj(_GZIP_OR_ZLIB)
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
    """The first bytes of an error response, bounded, because the rest is not needed."""
    prefix = bytearray()
    try:
        async with aclosing(_decompress(response, bytes_max)) as chunks:
            async for chunk in chunks:
                prefix += chunk
    except UnreadableAnswer:
        pass  # the status alone is enough
    return bytes(prefix)
