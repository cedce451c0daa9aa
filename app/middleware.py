"""Pure ASGI middleware: request id, framing and header limits, body limit.

Each class has one concern and wraps the next application. ``main`` adds them in this order, outermost first:
``AnswerHeadersMiddleware``, ``RequestIdMiddleware``, the observation of ``app/observability/http.py``,
``AddressMiddleware``, ``FramingMiddleware``, ``PortsMiddleware``, ``HeadMiddleware``,
``BodyLimitMiddleware``, ``ContentDecodingMiddleware``, ``HandoverMiddleware``. All refuse requests in the
dialect of the path's surface. None is a ``BaseHTTPMiddleware`` of Starlette, which hides disconnects from the
handlers (https://github.com/encode/starlette/discussions/2094).
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
from typing import TYPE_CHECKING

from app.domain.errors import (
    BodyTooLarge,
    GatewayError,
    HeadersTooLarge,
    InternalError,
    InvalidRequest,
    NotFound,
    UnsupportedContentEncoding,
)
from app.domain.keys import resembles_key
from app.media.inflating import CODINGS, Inflater, NotDecodable, find_coding
from app.surfaces.addresses import resolve_address
from app.surfaces.errors import build_error_response
from app.surfaces.http.handover import RETRY_COUNT, Handover

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    Headers = list[tuple[bytes, bytes]]

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%-]*(:[0-9]{0,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{0,5})?")
_UNSAFE = re.compile(rb"[\r\n\x00]")
_CLOSE = (b"connection", b"close")
_OPERATOR_PATHS = ("/v1/admin", "/metrics")
_METRICS_PORT_PATHS = frozenset({"/metrics", "/livez", "/readyz"})
_CACHEABLE = ("/docs", "/openapi.json")
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_NO_STORE = (b"cache-control", b"no-store")


def _get_values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


async def _refuse(error: GatewayError, scope: Scope, receive: Receive, send: Send, *, close: bool) -> None:
    """Send the error in its path's dialect, and store the outcome for the metrics and logs."""
    state = scope.setdefault("state", {})
    state["outcome"] = error.code
    response = build_error_response(error, state.get("request_id", ""), scope["path"])
    if close:
        # The rest of the body is still arriving. Reading it only to discard it would help an attacker.
        response.headers["Connection"] = "close"
    await response(scope, receive, send)


class AnswerHeadersMiddleware:
    """Adds ``nosniff`` and, unless the response sets ``Cache-Control``, ``no-store``.

    Responses depend on a key in a header that caches do not recognize, and some contain secrets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; only HTTP is affected."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        defaults = [_NOSNIFF] if scope["path"].startswith(_CACHEABLE) else [_NOSNIFF, _NO_STORE]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: Headers = list(message.get("headers", ()))
                names = {name.lower() for name, _ in headers}
                added = [item for item in defaults if item[0] not in names]
                message = {**message, "headers": [*headers, *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


class RequestIdMiddleware:
    """Gives every request an id and every response its ``X-Request-ID``; handles exceptions last.

    The caller's ``X-Request-ID`` is kept if it is 1 to 64 of ``A-Za-z0-9._-`` and contains no gateway key.
    The id is in ``scope["state"]["request_id"]``. Response headers with a line break are dropped, because one
    of uvicorn's parsers would send them unchanged.

    Args:
        app: The next application.
        new_id: Generates a unique id.
    """

    def __init__(self, app: ASGIApp, new_id: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        self._app = app
        self._new_id = new_id

    def _choose_id(self, scope: Scope) -> str:
        candidates = _get_values(scope["headers"], b"x-request-id")
        if len(candidates) == 1:
            text = candidates[0].decode("latin-1")
            if _REQUEST_ID.fullmatch(text) and not resembles_key(text):
                return text
        return self._new_id()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; only HTTP is affected."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._choose_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers: Headers = list(message.get("headers", ()))
                safe = [item for item in headers if not any(map(_UNSAFE.search, item))]
                if len(safe) < len(headers):
                    log.error("a response header contained a line break and was dropped")
                others = [item for item in safe if item[0].lower() != b"x-request-id"]
                message = {**message, "headers": [*others, (b"x-request-id", request_id.encode("ascii"))]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            # No handler caught this, so it is an internal error. Once the response has begun, only the
            # server can still close the connection.
            if started:
                raise
            log.exception("a request failed with an unexpected error", exc_info=error)
            await _refuse(InternalError(), scope, receive, send_with_id, close=False)


def _check_framing(http_version: str, headers: Headers) -> str | None:
    """Return why the framing is ambiguous or invalid, as a sentence, or None (RFC 9112).

    If front end and server disagree about where a request ends, one caller can inject requests of another.
    So this refuses what the parsers accept: both lengths, several hosts.
    """
    lengths = _get_values(headers, b"content-length")
    encodings = _get_values(headers, b"transfer-encoding")
    hosts = _get_values(headers, b"host")
    whole = all(re.fullmatch(rb"[0-9]{1,18}", length) for length in lengths)
    chunked = [encoding.strip().lower() for encoding in encodings] == [b"chunked"]
    faults = {
        "A header value contains a line break.": any(_UNSAFE.search(value) for _, value in headers),
        "Content-Length and Transfer-Encoding are mutually exclusive.": bool(lengths and encodings),
        "Content-Length must be a single whole number.": len(lengths) > 1 or not whole,
        "The only supported transfer encoding is chunked.": bool(encodings) and not chunked,
        "There must be one Host header.": len(hosts) > 1,
        "The Host header is missing.": not hosts and http_version == "1.1",
        "The Host header is not a host name.": not all(_HOST.fullmatch(host) for host in hosts),
    }
    return next((sentence for sentence, is_fault in faults.items() if is_fault), None)


class FramingMiddleware:
    """Refuses ambiguous framing (400) and too many or too large headers (431) before the body is read.

    Args:
        app: The next application.
        headers_max: Largest number of header fields.
        header_bytes_max: Largest number of bytes of all names and values.
    """

    def __init__(self, app: ASGIApp, headers_max: int = 100, header_bytes_max: int = 32_768) -> None:
        self._app = app
        self._headers_max = headers_max
        self._header_bytes_max = header_bytes_max

    def _check(self, scope: Scope) -> GatewayError | None:
        headers: Headers = list(scope["headers"])
        if len(headers) > self._headers_max:
            return HeadersTooLarge(f"A request may have at most {self._headers_max} header fields.")
        if sum(len(name) + len(value) for name, value in headers) > self._header_bytes_max:
            return HeadersTooLarge(f"All headers together must not exceed {self._header_bytes_max} bytes.")
        sentence = _check_framing(scope["http_version"], headers)
        return InvalidRequest(sentence) if sentence else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; only HTTP is affected."""
        fault = self._check(scope) if scope["type"] == "http" else None
        if fault is not None:
            await _refuse(fault, scope, receive, send, close=True)
        else:
            await self._app(scope, receive, send)


class PortsMiddleware:
    """Restricts operators' routes to their own ports; other ports answer 404.

    The port of a request is the one of the server's socket, never one from a header.

    Args:
        app: The next application.
        callers: The callers' port.
        admin: The operators' port, or None if it is the callers' port.
        metrics: The separate port of ``/metrics``, or None.
    """

    def __init__(self, app: ASGIApp, callers: int, admin: int | None, metrics: int | None) -> None:
        self._app = app
        self._admin = admin
        self._metrics = None if metrics in {callers, admin} else metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; only HTTP is affected."""
        if scope["type"] == "http" and not self._is_served(scope):
            await _refuse(NotFound("No such route."), scope, receive, send, close=False)
        else:
            await self._app(scope, receive, send)

    def _is_served(self, scope: Scope) -> bool:
        path, port = scope["path"], (scope.get("server") or ("", None))[1]
        if self._metrics is not None and port == self._metrics:
            return path in _METRICS_PORT_PATHS
        of_operators = any(path == each or path.startswith(f"{each}/") for each in _OPERATOR_PATHS)
        return self._admin in {None, port} or not of_operators


class _LimitedBody:
    """A request whose body is counted while it is read."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._left = limit
        self._error = BodyTooLarge(f"The body must not exceed {limit} bytes on this route.")
        self.started = False
        self._replaced = False
        self.passed = False

    async def receive(self) -> Message:
        """Receive a message. Raises BodyTooLarge once the limit is exceeded, then reports a disconnect."""
        if self.passed:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self.passed = True
                raise self._error
        return message

    async def send(self, message: Message) -> None:
        """Send a message. A response that hides the reason, such as a parser's 400, becomes the 413."""
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            if self.passed and message["status"] != self._error.status:
                await self.refuse()
                return
            self.started = True
            if self.passed:
                message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
        await self._send(message)

    async def refuse(self) -> None:
        """Send the 413, unless another response has begun."""
        if self.started or self._replaced:
            return
        self._replaced = True
        await _refuse(self._error, self._scope, self._receive, self._send, close=True)


class BodyLimitMiddleware:
    """Refuses a body over its route's limit: immediately if declared, else once the limit is exceeded.

    Args:
        app: The next application.
        limit_of: Returns the limit of a path in bytes.
    """

    def __init__(self, app: ASGIApp, limit_of: Callable[[str], int]) -> None:
        self._app = app
        self._limit_of = limit_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; only HTTP is affected."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        body = _LimitedBody(scope, receive, send, limit)
        declared = _get_values(scope["headers"], b"content-length")
        if declared and int(declared[0]) > limit:
            await body.refuse()
            return
        try:
            await self._app(scope, body.receive, body.send)
        except Exception:  # task groups and parsers wrap the BodyTooLarge that receive() raised
            if not body.passed or body.started:
                raise
        if body.passed:
            await body.refuse()


class AddressMiddleware:
    """Serves addresses that a client puts together wrongly but that can mean only one route.

    See ``app/surfaces/addresses.py``. The deployment in a path of Azure's form is in
    ``scope["state"]["deployment"]``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; only HTTP is affected."""
        if scope["type"] == "http":
            path, deployment = resolve_address(scope["path"])
            scope["path"] = path
            if deployment:
                scope.setdefault("state", {})["deployment"] = deployment
        await self._app(scope, receive, send)


class HeadMiddleware:
    """Answers HEAD as GET without the body (RFC 9110 section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; only HEAD requests are affected."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        as_get = {**scope, "method": "GET"}
        try:
            await self._app(as_get, receive, send_head)
        finally:
            scope.update({**as_get, "method": "HEAD"})  # routing leaves the route in the scope


class ContentDecodingMiddleware:
    """Decodes bodies with ``Content-Encoding: gzip`` or ``deflate``, and refuses other encodings (415).

    What is decoded has the limit of the route's body, like what is sent.

    Args:
        app: The next application.
        limit_of: Returns the limit of a path in bytes.
    """

    def __init__(self, app: ASGIApp, limit_of: Callable[[str], int]) -> None:
        self._app = app
        self._limited = BodyLimitMiddleware(app, limit_of)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; only HTTP with a Content-Encoding is affected."""
        values = _get_values(scope["headers"], b"content-encoding") if scope["type"] == "http" else []
        coding = find_coding(",".join(value.decode("latin-1") for value in values))
        if coding is None:
            detail = f"Send the body without a Content-Encoding, or with {' or '.join(CODINGS)}."
            await _refuse(UnsupportedContentEncoding(detail), scope, receive, send, close=True)
        elif not coding:
            await self._app(scope, receive, send)
        else:
            undeclared = {b"content-encoding", b"content-length"}
            scope["headers"] = [item for item in scope["headers"] if item[0].lower() not in undeclared]
            messages = _decode_messages(receive, Inflater(coding))

            async def receive_decoded() -> Message:
                return await anext(messages, {"type": "http.disconnect"})

            await self._limited(scope, receive_decoded, send)


async def _decode_messages(receive: Receive, inflater: Inflater) -> AsyncIterator[Message]:
    """Yield the messages of a request with its body decoded, then all others as they are.

    Raises:
        InvalidRequest: The body cannot be decoded.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            yield message
            continue
        more = message.get("more_body", False)
        try:
            for piece in inflater.feed(message.get("body", b"")):
                yield {"type": "http.request", "body": piece, "more_body": True}
                await asyncio.sleep(0)  # a chunk can become long, and others want to be served meanwhile
            if not more:
                inflater.close()
        except NotDecodable as error:
            raise InvalidRequest(str(error)) from None
    yield {"type": "http.request", "body": b"", "more_body": False}
    while True:
        yield await receive()


class HandoverMiddleware:
    """Tracks responses to clients that number their attempts; see ``app/surfaces/http/handover.py``.

    The ``Handover`` is in ``scope["state"]["handover"]`` for the handlers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; only such requests are affected."""
        if scope["type"] != "http" or not _get_values(scope["headers"], RETRY_COUNT.encode("ascii")):
            await self._app(scope, receive, send)
            return
        handover = scope.setdefault("state", {})["handover"] = Handover(receive)
        left: float = math.inf

        async def send_followed(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                lengths = _get_values(message.get("headers", ()), b"content-length")
                left = int(lengths[0]) if lengths else math.inf
                await send(message)
                return
            last, length = not message.get("more_body", False), len(message.get("body", b""))
            if left > 0 and (last or length >= left):
                # The caller may disconnect once it has the last byte, so this is the last chance to notice
                # that it left before.
                await handover.settle_down()
            left -= length
            await send(message)
            if last:
                handover.sent()

        try:
            await self._app(scope, receive, send_followed)
        finally:
            await handover.aclose()
