"""Metrics and one wide log line for each request; pure ASGI, so that it can wrap any application.

The line has what the request path notes (``app/resilience/wide_event.py``): model, tokens, dollars, back end,
ids, milliseconds by stage. Surfaces leave further facts in ``scope["state"]`` (``request.state`` in a
handler). All are optional, and all are the gateway's own words, never a caller's:

| key          | type            | meaning                                                                |
|--------------|-----------------|------------------------------------------------------------------------|
| `request_id` | str             | set by the request id middleware                                       |
| `surface`    | str             | ``native``, ``gemini``, …; by default told from the path               |
| `outcome`    | str             | the error's code; by default ``ok`` below 400, else from the status    |
| `violations` | sequence of str | codes of the faults that validation found                              |
| `tenant`     | str             | id of the authenticated tenant                                         |
| `key`        | str             | id of the authenticated key                                            |
| `cache`      | str             | ``hit``, ``miss``, ``coalesced`` or ``bypass``                         |

The path and the query are never logged and never a label: the route's template stands for them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from app.observability.live import LiveRequests
from app.observability.logs import CORRELATION, Correlation
from app.observability.observed import CANCELLED, name_outcome
from app.observability.traces import find_trace
from app.resilience.best_effort import best_effort
from app.resilience.spans import NO_SPAN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping
    from contextlib import AbstractContextManager

    from app.observability.metrics import Metrics
    from app.observability.tracing import OtlpTracer
    from app.resilience.spans import Span

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)

UNMATCHED = "unmatched"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SURFACES = ("/v1/admin", "admin"), ("/v1", "native"), ("/gemini", "gemini"), ("/openai", "openai")
_OF_SPANS = frozenset(
    {"surface", "outcome", "tenant", "key", "project", "cache", "model", "image_size", "images", "attempts",
     "image_tokens", "output_tokens", "total_tokens", "usd", "generation_id", "operation_id", "hold_id"}
)  # fmt: skip
"""Fields of the log that a request's span has as well, as ``flashgate.…``."""
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})


def find_surface(path: str) -> str:
    """The surface that a path belongs to; ``operations`` for all other paths."""
    for prefix, surface in _SURFACES:
        if path == prefix or path.startswith(f"{prefix}/"):
            return surface
    return "operations"


def get_route_template(scope: Scope, root_path: str) -> str:
    """The template of the matched route, prefixes and mounts included, or ``unmatched``.

    Args:
        scope: The scope after the application ran, where routing leaves the route.
        root_path: The server's ``root_path``; routing appends the mounts to it.
    """
    # FastAPI leaves the template with all routers' prefixes in a context of its own, and the template
    # without them in ``route``. Both are read by name, so this module needs no framework.
    context = scope.get("fastapi", {}).get("effective_route_context")
    route = scope.get("route")
    template = getattr(context, "path_format", None) or getattr(route, "path_format", None)
    if not isinstance(template, str):
        template = getattr(route, "path", None)
    if not isinstance(template, str):
        return UNMATCHED
    return str(scope.get("root_path", "")).removeprefix(root_path) + template


def read_correlation(scope: Scope) -> Correlation:
    """Read the request's id and trace."""
    request_id = scope.setdefault("state", {}).get("request_id", "")
    trace = find_trace(scope["headers"])
    if trace is None:
        return Correlation(request_id)
    return Correlation(request_id, *trace)


def _name_outcome(status: int) -> str:
    if status < 400:
        return "ok"
    return f"status_{status}"


class ObservedRequests:
    """Counts and logs every HTTP request of the application that it wraps."""

    def __init__(
        self,
        app: Application,
        metrics: Metrics,
        live: LiveRequests | None = None,
        tracer: OtlpTracer | None = None,
    ) -> None:
        self._app = app
        self._tracer = tracer
        self._metrics = metrics
        self._live = live or LiveRequests()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; anything but HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        path, root_path = scope["path"], scope.get("root_path", "")
        answered = {"status": 0, "bytes": 0}
        failed: BaseException | None = None

        async def record_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered["status"] = message["status"]
            elif message["type"] == "http.response.body":
                answered["bytes"] += len(message.get("body", b""))
            await send(message)

        token = CORRELATION.set(read_correlation(scope))
        self._metrics.track_in_flight("request", 1)
        try:
            with self._open_span(scope) as span, self._live.follow(scope["state"]) as noted:
                try:
                    await self._app(scope, receive, record_and_send)
                except BaseException as error:  # counted and raised again, cancellation included
                    failed = error
                    raise
                finally:
                    with best_effort("metrics"):
                        fields = self._record(
                            scope, path, root_path, answered, failed, noted, time.perf_counter() - began
                        )
                        _describe_request(span, fields)
        finally:
            self._metrics.track_in_flight("request", -1)
            CORRELATION.reset(token)

    def _open_span(self, scope: Scope) -> AbstractContextManager[Span]:
        if self._tracer is None or scope["path"] in _PROBES:
            return nullcontext(NO_SPAN)
        return self._tracer.follow("request", {})

    def _record(
        self,
        scope: Scope,
        path: str,
        root_path: str,
        answered: dict[str, int],
        failed: BaseException | None,
        noted: dict[str, Any],
        duration_s: float,
    ) -> dict[str, Any]:
        """Count and log a request, and return the fields of its line."""
        state = scope["state"]
        status = answered["status"] or 500
        if isinstance(failed, asyncio.CancelledError):
            outcome = CANCELLED
        elif failed is not None:
            outcome = name_outcome(failed)
        else:
            outcome = state.get("outcome") or _name_outcome(status)
        surface = state.get("surface") or find_surface(path)
        route = get_route_template(scope, root_path)
        self._metrics.count_request(surface, route, outcome, duration_s)
        violations = list(state.get("violations", ()))
        for code in violations:
            self._metrics.count_violation(code)
        level = logging.INFO
        if route in _PROBES:
            level = logging.DEBUG
        elif status >= 500:
            level = logging.WARNING
        fields = {
            **noted,
            "violations": violations or None,
            "surface": surface,
            "route": route,
            "outcome": outcome,
            **{name: state[name] for name in ("tenant", "key", "cache") if state.get(name)},
            "http_request": {
                "requestMethod": scope["method"] if scope["method"] in _METHODS else "OTHER",
                "requestUrl": route,
                "status": status,
                "responseSize": str(answered["bytes"]),
                "latency": f"{duration_s:.6f}s",
                "protocol": f"HTTP/{scope.get('http_version', '')}",
            },
        }
        log.log(level, "request", extra=fields)
        return fields


def _describe_request(span: Span, fields: Mapping[str, Any]) -> None:
    """Name the span of a request, and give it the attributes of the semantic conventions."""
    request = fields["http_request"]
    span.rename(f"{request['requestMethod']} {fields['route']}")
    span.set(
        {
            "http.request.method": request["requestMethod"],
            "http.route": fields["route"],
            "http.response.status_code": request["status"],
            **{
                f"flashgate.{name}": value
                for name, value in fields.items()
                if name in _OF_SPANS and value is not None
            },
        }
    )
    if request["status"] >= 500:
        span.fail(fields["outcome"])
