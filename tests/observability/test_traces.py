"""Which trace a request belongs to, and what the upstream is told of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from app.observability.logs import CORRELATION, Correlation
from app.observability.traces import Trace, build_trace_headers, find_trace
from tests.processes import HTTP, running_gateway
from tests.upstream.server import answering, upstream

if TYPE_CHECKING:
    from pathlib import Path

A, B = "a" * 32, "b" * 16
W3C, CLOUD = "traceparent", "x-cloud-trace-context"


def found(*headers: tuple[str, str]) -> Trace | None:
    return find_trace([(name.encode(), value.encode()) for name, value in headers])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"00-{A}-{B}-01", Trace(A, B, sampled=True)),
        (f"00-{A}-{B}-00", Trace(A, B, sampled=False)),
        (f"00-{A}-{B}-fe", Trace(A, B, sampled=False)),
        (f"01-{A}-{B}-01-and-more", Trace(A, B, sampled=True)),
        (f"00-{A}-{B}-01-and-more", None),
        (f"01-{A}-{B}-01and-more", None),
        (f"ff-{A}-{B}-01", None),
        (f"00-{'0' * 32}-{B}-01", None),
        (f"00-{A}-{'0' * 16}-01", None),
        (f"00-{A.upper()}-{B}-01", None),
        (f"00-{A}-{B}", None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_its_standard_says(value: str, expected: Trace | None) -> None:
    assert found((W3C, value)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"{A}/255;o=1", Trace(A, "00000000000000ff", sampled=True)),
        (f"{A}/18446744073709551615;o=0", Trace(A, "f" * 16, sampled=False)),
        (f"{A.upper()}/1", Trace(A, "0" * 15 + "1", sampled=False)),
        (A, Trace(A, "", sampled=False)),
        (f"{A}/0;o=1", Trace(A, "", sampled=True)),
        (f"{A}/18446744073709551616", Trace(A, "", sampled=False)),
        (f"{'0' * 32}/1", None),
        (f"{A}/b", None),
        ("canary", None),
    ],
)
def test_the_header_of_googles_front_ends_is_read_too(value: str, expected: Trace | None) -> None:
    assert found((CLOUD, value)) == expected


def test_the_standard_goes_first_unless_it_says_nothing() -> None:
    cloud = (CLOUD, f"{'c' * 32}/1;o=1")
    ours = (W3C, f"00-{A}-{B}-01")
    assert found(cloud, ours) == Trace(A, B, sampled=True)
    assert found((W3C, "wrong"), cloud) == found(cloud)
    assert found(ours, ours) is None


def test_outside_of_a_request_and_without_a_span_nothing_is_told() -> None:
    assert build_trace_headers() == {}
    for correlation in (Correlation("r"), Correlation("r", A)):
        token = CORRELATION.set(correlation)
        assert build_trace_headers() == {}
        CORRELATION.reset(token)


def lines_of(folder: Path) -> list[Any]:
    """What a gateway wrote into its log."""
    (log,) = folder.glob("gateway-*.log")
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


@pytest.mark.parametrize("header", [(W3C, f"00-{A}-{B}-01"), (CLOUD, f"{A}/{int(B, 16)};o=1")])
async def test_the_upstream_and_every_line_of_the_log_are_told_the_trace(
    tmp_path: Path, header: tuple[str, str]
) -> None:
    def ask(url: str, *headers: tuple[str, str]) -> Any:
        key = (tmp_path / "state" / "demo-key").read_text().strip()
        return HTTP.post(
            f"{url}/v1/images:generate",
            json={"prompt": "A lighthouse", "cache": "bypass"},
            headers=[("X-API-Key", key), *headers],
        )

    async with upstream() as google:
        google.reply = answering({"error": {"code": 400, "message": "no"}}, 400)
        gateway = running_gateway(
            tmp_path, upstream="emulator", emulator_base_url=google.url, trace_project="a-project"
        )
        process = await asyncio.to_thread(gateway.__enter__)
        try:
            await asyncio.to_thread(ask, process.url, header)
            await asyncio.to_thread(ask, process.url)
        finally:
            await asyncio.to_thread(gateway.__exit__, None, None, None)
    told = [request.headers.get("traceparent") for request in google.received]
    assert told == [f"00-{A}-{B}-01", None]
    lines = await asyncio.to_thread(lines_of, tmp_path)
    access = [line for line in lines if line["message"] == "request" and "key" in line]
    assert len(access) == 2
    assert access[0]["logging.googleapis.com/trace"] == f"projects/a-project/traces/{A}"
    assert access[0]["logging.googleapis.com/spanId"] == B
    assert access[0]["logging.googleapis.com/trace_sampled"] is True
    assert "logging.googleapis.com/trace" not in access[1]
