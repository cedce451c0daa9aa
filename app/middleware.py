"""Pure ASGI middleware: request id, framing and header limits, body limit.

Each class is one concern and wraps the next application; ``main`` puts them in this order, outermost first:
``AnswerHeadersMiddleware``, ``RequestIdMiddleware``, the observation of ``app/observability/http.py``,
``FramingMiddleware``, ``PortsMiddleware``, ``BodyLimitMiddleware``, ``HandoverMiddleware``. All refuse in
the dialect of the path's surface. None of them is Starlette's ``BaseHTTPMiddleware``, which hides a caller
who leaves from the handlers (https://github.com/encode/starlette/discussions/2094).
"""

from __future__ import annotations

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
)
from app.domain.keys import resembles_key
from app.surfaces.errors import build_error_response
from app.surfaces.http.handover import RETRY_COUNT, Handover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
    """Answer the error in its path's dialect, and leave the outcome where metrics and logs look for it."""
    state = scope.setdefault("state", {})
    state["outcome"] = error.code
    response = build_error_response(error, state.get("request_id", ""), scope["path"])
    if close:
        # The rest of the body is still on its way; reading it only to drop it would serve the attacker.
        response.headers["Connection"] = "close"
    await response(scope, receive, send)


class AnswerHeadersMiddleware:
    """Has every answer forbid guessing its type and, unless it says otherwise, storing it.

    Answers depend on a key in a header that caches do not know as one, and some of them hold secrets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; all but HTTP passes through."""
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
    """Gives every request an id and every answer its ``X-Request-ID``; the last to see an exception.

    A caller's own ``X-Request-ID`` is kept where it is 1 to 64 of ``A-Za-z0-9._-`` and holds no gateway key;
    anything else is replaced. The id is in ``scope["state"]["request_id"]``. A header of an answer that
    holds a line break, which one of uvicorn's parsers would send as it is, is left out.

    Args:
        app: The next application.
        new_id: Makes an id that was not used before.
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
        """Serve one connection; all but HTTP passes through."""
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
                    log.error("an answer's header held a line break and was left out")
                others = [item for item in safe if item[0].lower() != b"x-request-id"]
                message = {**message, "headers": [*others, (b"x-request-id", request_id.encode("ascii"))]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            # Whatever escaped every handler is a fault of the gateway, and is answered as one. After the
            # answer began, only the server can still break the connection off.
            if started:
                raise
            log.exception("a request failed by a fault of the gateway", exc_info=error)
            await _refuse(InternalError(), scope, receive, send_with_id, close=False)


def _check_framing(http_version: str, headers: Headers) -> str | None:
    """What makes the framing ambiguous or the request invalid, as a sentence, or None (RFC 9112).

    Front ends and servers that disagree about where a request ends let one caller speak for another, so
    what the parsers let pass (both lengths, several hosts) is refused here.
    """
    lengths = _get_values(headers, b"content-length")
    encodings = _get_values(headers, b"transfer-encoding")
    hosts = _get_values(headers, b"host")
    whole = all(re.fullmatch(rb"[0-9]{1,18}", length) for length in lengths)
    chunked = [encoding.strip().lower() for encoding in encodings] == [b"chunked"]
    faults = {
        "A header value holds a line break.": any(_UNSAFE.search(value) for _, value in headers),
        "Content-Length and Transfer-Encoding exclude each other.": bool(lengths and encodings),
        "Content-Length is one whole number.": len(lengths) > 1 or not whole,
        "The only transfer encoding is chunked.": bool(encodings) and not chunked,
        "There is one Host header.": len(hosts) > 1,
        "The Host header is missing.": not hosts and http_version == "1.1",
        "The Host header is no host name.": not all(_HOST.fullmatch(host) for host in hosts),
    }
    return next((sentence for sentence, is_fault in faults.items() if is_fault), None)


class FramingMiddleware:
    """Refuses ambiguous framing (400) and too many or too large headers (431) before anything is read.

    Args:
        app: The next application.
        headers_max: Most header fields.
        header_bytes_max: Most bytes of names and values together.
    """

    def __init__(self, app: ASGIApp, headers_max: int = 100, header_bytes_max: int = 32_768) -> None:
        self._app = app
        self._headers_max = headers_max
        self._header_bytes_max = header_bytes_max

    def _check(self, scope: Scope) -> GatewayError | None:
        headers: Headers = list(scope["headers"])
        if len(headers) > self._headers_max:
            return HeadersTooLarge(f"A request may have {self._headers_max} header fields.")
        if sum(len(name) + len(value) for name, value in headers) > self._header_bytes_max:
            return HeadersTooLarge(f"All headers together may have {self._header_bytes_max} bytes.")
        sentence = _check_framing(scope["http_version"], headers)
        return InvalidRequest(sentence) if sentence else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; all but HTTP passes through."""
        fault = self._check(scope) if scope["type"] == "http" else None
        if fault is not None:
            await _refuse(fault, scope, receive, send, close=True)
        else:
            await self._app(scope, receive, send)


class PortsMiddleware:
    """Keeps what is for operators to ports of its own: on any other it does not exist.

    Which port a request came in by is the server's word, never a header's.

    Args:
        app: The next application.
        callers: The callers' port.
        admin: The operators' port, or None where it is the callers'.
        metrics: The port of ``/metrics`` alone, or None where there is none.
    """

    def __init__(self, app: ASGIApp, callers: int, admin: int | None, metrics: int | None) -> None:
        self._app = app
        self._admin = admin
        self._metrics = None if metrics in {callers, admin} else metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; all but HTTP passes through."""
        if scope["type"] == "http" and not self._is_served(scope):
            await _refuse(NotFound("There is nothing at this address."), scope, receive, send, close=False)
        else:
            await self._app(scope, receive, send)

    def _is_served(self, scope: Scope) -> bool:
        path, port = scope["path"], (scope.get("server") or ("", None))[1]
        if self._metrics is not None and port == self._metrics:
            return path in _METRICS_PORT_PATHS
        of_operators = any(path == each or path.startswith(f"{each}/") for each in _OPERATOR_PATHS)
        return self._admin in {None, port} or not of_operators


class _LimitedBody:
    """One request whose body is counted while it is read."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._left = limit
        self._error = BodyTooLarge(f"The body of this route may have {limit} bytes.")
        self.started = False
        self._replaced = False
        self.passed = False

    async def receive(self) -> Message:
        """The next message; raises BodyTooLarge as soon as the limit is passed, then the caller is gone."""
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
        """Send on. An answer that hides the reason, such as a parser's own 400, becomes the 413."""
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
        """Answer 413, unless another answer has begun."""
        if self.started or self._replaced:
            return
        self._replaced = True
        await _refuse(self._error, self._scope, self._receive, self._send, close=True)


class BodyLimitMiddleware:
    """Refuses a body over its route's limit: at once where it is declared, else as soon as it is passed.

    Args:
        app: The next application.
        limit_of: Bytes that a request to this path may have.
    """

    def __init__(self, app: ASGIApp, limit_of: Callable[[str], int]) -> None:
        self._app = app
        self._limit_of = limit_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; all but HTTP passes through."""
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


class HandoverMiddleware:
    """Follows the answers to clients that number their attempts; see ``app/surfaces/http/handover.py``.

    Its ``Handover`` is in ``scope["state"]["handover"]`` for the handlers, who say what is handed over.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; all but such requests pass through."""
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
                # Whoever has the last byte may hang up at once, so this is the last moment to look.
                await handover.settle_down()
            left -= length
            await send(message)
            if last:
                handover.sent()

        try:
            await self._app(scope, receive, send_followed)
        finally:
            await handover.aclose()
