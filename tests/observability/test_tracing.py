"""Traces that a gateway exports, as a collector receives them."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.processes import HTTP, free_port, running_gateway
from tests.upstream.conftest import answer, part
from tests.upstream.server import answering, upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.processes import Running
    from tests.upstream.server import Upstream

CALLER = "a" * 32, "b" * 16
CANARY = "canaryq7x"


@dataclass(frozen=True)
class Exported:
    """A span as it was exported."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool


def spans_of(collector: Upstream) -> list[Exported]:
    spans = []
    for received in collector.received:
        assert received.path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(received.body).resource_spans:
            for scope in resource.scope_spans:
                spans += [read_span(span) for span in scope.spans]
    return spans


def read_span(span: Any) -> Exported:
    attributes = {}
    for item in span.attributes:
        kind = item.value.WhichOneof("value")
        value = getattr(item.value, kind)
        if kind == "array_value":
            value = [each.string_value for each in value.values]
        attributes[item.key] = value
    return Exported(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        attributes,
        failed=span.status.code == 2,
    )


@asynccontextmanager
async def exporting(folder: Path, google: Upstream, endpoint: str) -> AsyncIterator[Running]:
    """A gateway that exports its traces."""
    settings = {"upstream": "emulator", "emulator_base_url": google.url, "upstream_retry_attempts": "1"}
    settings["metrics_port"] = str(free_port())
    await asyncio.to_thread((folder / "metrics-port").write_text, settings["metrics_port"])
    with patch.dict(os.environ, {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}):
        gateway = running_gateway(folder, **settings)
        process = await asyncio.to_thread(gateway.__enter__)
    try:
        yield process
    finally:
        await asyncio.to_thread(gateway.__exit__, None, None, None)


def read_metrics(folder: Path) -> str:
    """The exposition with exemplars, as Prometheus asks for it."""
    port = (folder / "metrics-port").read_text()
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    response = HTTP.get(f"http://127.0.0.1:{port}/metrics", headers=accept)
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    return response.text


def log_of(folder: Path) -> str:
    return next(folder.glob("gateway-*.log")).read_text()


@asynccontextmanager
async def tracing(folder: Path) -> AsyncIterator[tuple[str, Upstream, Upstream]]:
    """A gateway's URL, the back end that it calls, and the collector, which has all spans after the block."""
    async with upstream() as google, upstream() as collector:
        google.reply = answering(answer(part()))
        collector.reply = answering(b"")
        async with exporting(folder, google, collector.url) as process:
            yield process.url, google, collector


async def ask(folder: Path, url: str, body: dict[str, Any], **headers: str) -> Any:
    key = (folder / "state" / "demo-key").read_text().strip()
    return await asyncio.to_thread(
        HTTP.post, f"{url}/v1/images:generate", json=body, headers={"X-API-Key": key, **headers}
    )


async def test_a_request_is_a_trace_of_its_steps(tmp_path: Path) -> None:
    body = {"prompt": f"A {CANARY}", "labels": {CANARY: CANARY}, "seed": 7}
    async with tracing(tmp_path) as (url, google, collector):
        response = await ask(tmp_path, url, body, traceparent=f"00-{CALLER[0]}-{CALLER[1]}-01")
        assert response.status_code == 200
        assert (await asyncio.to_thread(HTTP.get, f"{url}/livez")).status_code == 200
        metrics = await asyncio.to_thread(read_metrics, tmp_path)
    spans = spans_of(collector)
    names = Counter(span.name for span in spans)
    root = next(span for span in spans if span.name == "POST /v1/images:generate")
    by_id = {span.span_id: span for span in spans}

    def parent(span: Exported) -> str:
        return by_id[span.parent_id].name

    assert {span.trace_id for span in spans} == {CALLER[0]}
    assert root.parent_id == CALLER[1]
    for step in ("validate", "admit", "upstream", "settle"):
        assert names[step] == 1
        assert [parent(span) for span in spans if span.name == step] == [root.name]
    (attempt,) = (span for span in spans if span.name == "generate_content gemini-3.1-flash-image")
    assert parent(attempt) == "upstream"
    assert [parent(span) for span in spans if span.name == "store admit"] == ["admit"]
    assert [parent(span) for span in spans if span.name == "store settle"] == ["settle"]
    assert google.received[-1].headers["traceparent"] == f"00-{CALLER[0]}-{attempt.span_id}-01"
    assert attempt.attributes["gen_ai.output.type"] == "image"
    assert attempt.attributes["gen_ai.response.finish_reasons"] == ["STOP"]
    assert attempt.attributes["gen_ai.request.seed"] == 7
    usage = response.json()["usage"]
    assert attempt.attributes["gen_ai.usage.output_tokens"] == usage["output_tokens"]
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["flashgate.image_tokens"] == usage["image_tokens"]
    assert root.attributes["flashgate.generation_id"] == response.json()["id"]
    assert root.attributes["flashgate.usd"] == pytest.approx(usage["cost_usd"])
    assert not any(span.failed for span in spans)
    assert CANARY.encode() not in b"".join(received.body for received in collector.received)
    log = await asyncio.to_thread(log_of, tmp_path)
    lines = [json.loads(line) for line in log.splitlines() if '"message": "request"' in line]
    assert lines[0]["trace_id"] == CALLER[0]
    for name in ("request", "upstream"):
        family = re.findall(rf"flashgate_{name}_duration_seconds_bucket.*# (.*)", metrics)
        assert any(f'trace_id="{CALLER[0]}"' in exemplar for exemplar in family)


async def test_a_failed_call_is_a_failed_span(tmp_path: Path) -> None:
    async with tracing(tmp_path) as (url, google, collector):
        google.reply = answering({"error": {"code": 503, "message": "no", "status": "UNAVAILABLE"}}, 503)
        assert (await ask(tmp_path, url, {"prompt": "A fox"})).status_code == 503
        assert (await ask(tmp_path, url, {"prompt": "A fox", "n": 99})).status_code == 422
    failed = {span.name: span.attributes["error.type"] for span in spans_of(collector) if span.failed}
    assert failed == {
        "generate_content gemini-3.1-flash-image": "upstream_unavailable",
        "POST /v1/images:generate": "upstream_unavailable",
        "validate": "validation_failed",
    }


async def test_what_nobody_samples_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    async with tracing(tmp_path) as (url, google, collector):
        assert (await ask(tmp_path, url, {"prompt": "A fox"})).status_code == 200
        assert google.received[-1].headers["traceparent"].endswith("-00")
    assert spans_of(collector) == []


async def test_a_collector_that_is_not_there_costs_no_request_and_is_told(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with upstream() as google:
        google.reply = answering(answer(part()))
        async with exporting(tmp_path, google, f"http://{address}") as process:
            assert (await ask(tmp_path, process.url, {"prompt": "A fox"})).status_code == 200
    assert process.process.returncode == 0
    log = await asyncio.to_thread(log_of, tmp_path)
    (line,) = (json.loads(line) for line in log.splitlines() if "traces cannot be exported" in line)
    assert (line["address"], line["reason"]) == (address, "traces_lost")
    assert "(withheld)" not in log
