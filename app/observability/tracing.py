"""Traces by OpenTelemetry, exported by OTLP over HTTP. Imported only where an endpoint is configured.

Names of spans and attributes follow the semantic conventions for HTTP, databases and generative AI; what
these lack is under ``flashgate.``. Nothing that a caller wrote is in a span. The SDK reads the other
variables of its specification, such as ``OTEL_SERVICE_NAME`` and ``OTEL_TRACES_SAMPLER``.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from app.domain.errors import GatewayError
from app.observability.logs import CORRELATION, Correlation
from app.resilience.diagnosis import Diagnosis
from app.resilience.spans import TRACER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan

    from app.resilience.spans import Attributes, Span
    from app.resilience.spans import SpanKind as Kind

log = logging.getLogger(__name__)

FLUSH_MS: Final = 2_000
_KINDS: Final[dict[Kind, SpanKind]] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
}


class _OpenSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    def fail(self, reason: str) -> None:
        self._span.set_attribute("error.type", reason)
        self._span.set_status(StatusCode.ERROR)


def _build_parent(caller: Correlation) -> Context | None:
    """The context of a caller's span, or None if it sent none."""
    if not caller.span_id:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if caller.sampled else TraceFlags.DEFAULT)
    span = SpanContext(int(caller.trace_id, 16), int(caller.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(span))


def _correlate(span: trace.Span) -> Token[Correlation | None]:
    """Let log lines, and calls of the upstream, name this span."""
    ids, current = span.get_span_context(), CORRELATION.get()
    return CORRELATION.set(
        Correlation(
            "" if current is None else current.request_id,
            f"{ids.trace_id:032x}",
            f"{ids.span_id:016x}",
            sampled=ids.trace_flags.sampled,
        )
    )


class _Exporter(OTLPSpanExporter):
    """Says once why traces do not arrive, in place of the library's own messages."""

    _failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            url = urlsplit(self._endpoint)
            cause = "The collector took no spans; they are lost, and requests go on."
            diagnosis = Diagnosis("traces_lost", url.netloc, cause, "Check OTEL_EXPORTER_OTLP_ENDPOINT.")
            log.warning("traces cannot be exported", extra={"diagnosis": diagnosis})
        self._failing = failed
        return result


class OtlpTracer:
    """Records spans, and exports them in the background."""

    def __init__(self) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        own = {SERVICE_NAME: "flashgate", SERVICE_VERSION: metadata.version("flashgate")}
        resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(_Exporter()))
        self._tracer = self._provider.get_tracer("flashgate")

    @contextmanager
    def follow(self, name: str, attributes: Attributes) -> Iterator[Span]:
        """Open the span of a request, below its caller's; spans that are opened inside belong to it."""
        caller = CORRELATION.get()
        context = None if caller is None else _build_parent(caller)
        token = TRACER.set(self)
        try:
            with self._open(name, "server", attributes, context) as span:
                yield span
        finally:
            TRACER.reset(token)

    def open(self, name: str, kind: Kind, attributes: Attributes) -> AbstractContextManager[Span]:
        """Open a span below the one that is open."""
        return self._open(name, kind, attributes, None)

    @contextmanager
    def _open(self, name: str, kind: Kind, attributes: Attributes, context: Context | None) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name,
            context,
            _KINDS[kind],
            dict(attributes),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            opened = _OpenSpan(span)
            token = _correlate(span)
            try:
                yield opened
            except BaseException as error:
                opened.fail(error.code if isinstance(error, GatewayError) else type(error).__qualname__)
                raise
            finally:
                CORRELATION.reset(token)

    def close(self) -> None:
        """Export what is left, within two seconds. It blocks."""
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()
