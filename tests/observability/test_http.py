"""Requests as they are counted and logged, from outside a real FastAPI application."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import JSONResponse, StreamingResponse

from app.domain.errors import BudgetExceeded, ValidationFailed, Violation
from app.observability.http import ObservedRequests, find_surface, get_route_template
from app.observability.logs import configure
from app.observability.metrics import Metrics
from app.surfaces import errors
from tests.observability.test_logs import logging_restored  # noqa: F401 - a fixture, used by its name
from tests.observability.test_metrics import samples, value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping

CANARY = "CANARY-3c1"

pytestmark = pytest.mark.usefixtures("logging_restored")


def application() -> FastAPI:
    """Routers in routers and a mount, as the surfaces are built."""
    images = APIRouter(prefix="/images")

    @images.get("/{image_id}")
    async def get(image_id: str, request: Request) -> dict[str, str]:
        request.state.tenant, request.state.key, request.state.cache = "search", "k1", "hit"
        return {}

    @images.post("/x:generate")
    async def generate(request: Request) -> dict[str, str]:
        body = await request.body()
        if b"budget" in body:
            raise BudgetExceeded("too little left", (), 9)
        if b"faults" in body:
            raise ValidationFailed((Violation("/a", "too_long", ""), Violation("/b", "too_long", "")))
        raise ValueError(f"cannot draw {body.decode()}")

    @images.get("/x/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"12345"
            yield b"678"

        return StreamingResponse(parts())

    @images.get("/x/teapot")
    async def teapot() -> JSONResponse:
        return JSONResponse({}, 418)

    version = APIRouter(prefix="/v1")
    version.include_router(images)
    api = FastAPI()
    errors.install(api)
    api.include_router(version)
    below = FastAPI()
    below.include_router(images, prefix="/v1beta")
    api.mount("/gemini", below)

    @api.get("/livez")
    async def livez() -> dict[str, str]:
        return {}

    return api


class Observed:
    """The observed application, a client of it, its metrics and its log."""

    def __init__(self, app: Any = None) -> None:
        self.metrics = Metrics()
        self.log = io.StringIO()
        configure("debug", "json", "a-project", self.log)
        app = ObservedRequests(app or application(), self.metrics)
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://test")

    @property
    def access(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["logger"] == "app.observability.http"]

    def requests(self) -> dict[tuple[str, str, str], float]:
        """(surface, route, outcome) to count."""
        found = {}
        for (name, labels), count in samples(self.metrics).items():
            if name == "flashgate_requests_total":
                by_name = dict(labels)
                found[by_name["surface"], by_name["route"], by_name["outcome"]] = count
        return found


@pytest.fixture
async def observed() -> AsyncIterator[Observed]:
    found = Observed()
    async with found.client:
        yield found


async def test_a_request_is_counted_by_its_template_with_every_prefix(observed: Observed) -> None:
    for path in ("/v1/images/abc", "/v1/images/def", "/gemini/v1beta/images/abc"):
        assert (await observed.client.get(path)).status_code == 200
    assert observed.requests() == {
        ("native", "/v1/images/{image_id}", "ok"): 2,
        ("gemini", "/gemini/v1beta/images/{image_id}", "ok"): 1,
    }
    count = value(
        observed.metrics,
        "request_duration_seconds_count",
        surface="native",
        route="/v1/images/{image_id}",
    )
    assert count == 2


async def test_paths_without_a_route_are_one_series(observed: Observed) -> None:
    for at in range(50):
        await observed.client.get(f"/v1/{CANARY}/{at}")
        await observed.client.get(f"/{CANARY}{at}")
    assert observed.requests() == {
        ("native", "unmatched", "not_found"): 50,
        ("operations", "unmatched", "not_found"): 50,
    }


async def test_an_error_is_counted_by_its_code_and_faults_one_by_one(observed: Observed) -> None:
    await observed.client.post("/v1/images/x:generate", content=b"budget")
    await observed.client.post("/v1/images/x:generate", content=b"faults")
    await observed.client.put("/v1/images/x/stream")
    await observed.client.get("/v1/images/x/teapot")
    route = "/v1/images/x:generate"
    found = observed.requests()
    assert found["native", route, "budget_exceeded"] == 1
    assert found["native", route, "validation_failed"] == 1
    assert found["native", "/v1/images/x/stream", "method_not_allowed"] == 1
    assert found["native", "/v1/images/x/teapot", "status_418"] == 1
    assert value(observed.metrics, "validation_violations_total", code="too_long") == 2


async def test_an_access_line_is_what_cloud_logging_reads(observed: Observed) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    await observed.client.get("/v1/images/abc", headers={"traceparent": trace})
    (line,) = observed.access
    assert line["severity"] == "INFO"
    assert line["message"] == "request"
    assert (line["surface"], line["outcome"]) == ("native", "ok")
    assert (line["tenant"], line["key"], line["cache"]) == ("search", "k1", "hit")
    assert line["logging.googleapis.com/trace"] == "projects/a-project/traces/" + "a" * 32
    latency = line["httpRequest"].pop("latency")
    assert latency.endswith("s")
    assert float(latency[:-1]) > 0
    assert line["httpRequest"] == {
        "requestMethod": "GET",
        "requestUrl": "/v1/images/{image_id}",
        "status": 200,
        "responseSize": "2",
        "protocol": "HTTP/1.1",
    }


async def test_the_bytes_of_a_stream_are_added_up(observed: Observed) -> None:
    await observed.client.get("/v1/images/x/stream")
    assert observed.access[0]["httpRequest"]["responseSize"] == "8"


async def test_probes_are_logged_only_when_debugging_and_failures_as_warnings(observed: Observed) -> None:
    await observed.client.get("/livez")
    await observed.client.post("/v1/images/x:generate", content=b"boom")
    probe, failure = observed.access
    assert probe["severity"] == "DEBUG"
    assert (failure["severity"], failure["outcome"], failure["httpRequest"]["status"]) == (
        "WARNING",
        "internal",
        500,
    )


@pytest.mark.parametrize("path", ["/v1/images/{canary}", "/{canary}", "/v1/images/x:generate?key={canary}"])
@pytest.mark.parametrize("method", ["GET", "POST", CANARY])
async def test_nothing_that_a_caller_sends_reaches_logs_or_metrics(
    observed: Observed, path: str, method: str
) -> None:
    headers = dict.fromkeys(
        ("Authorization", "X-API-Key", "x-goog-api-key", "User-Agent", "Cookie", "Referer", "traceparent",
         "X-Cloud-Trace-Context", "X-Forwarded-For", "Host", "Content-Type", "Idempotency-Key", CANARY),
        CANARY,
    )  # fmt: skip
    await observed.client.request(
        method, path.format(canary=CANARY), headers=headers, content=CANARY.encode()
    )
    text = observed.log.getvalue()
    assert observed.access
    assert CANARY not in text
    assert CANARY.lower() not in text.lower()
    assert CANARY.encode() not in observed.metrics.render()[0]


async def test_requests_in_flight_are_shown_while_they_last() -> None:
    begun, release = asyncio.Barrier(4), asyncio.Event()

    async def slow(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await begun.wait()
        await release.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    observed = Observed(slow)
    async with observed.client as client:
        running = [asyncio.create_task(client.get("/x")) for _ in range(3)]
        await begun.wait()
        assert value(observed.metrics, "in_flight", stage="request") == 3
        release.set()
        await asyncio.gather(*running)
    assert value(observed.metrics, "in_flight", stage="request") == 0


async def test_a_cancelled_request_is_counted_as_such() -> None:
    begun = asyncio.Barrier(2)

    async def endless(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await begun.wait()
        await asyncio.Event().wait()

    observed = Observed(endless)
    async with observed.client as client:
        running = asyncio.create_task(client.get("/v1/x"))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert observed.requests() == {("native", "unmatched", "cancelled"): 1}
    assert value(observed.metrics, "in_flight", stage="request") == 0


async def test_a_surface_may_name_itself_and_its_outcome() -> None:
    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        scope["state"] |= {"surface": "openai", "outcome": "content_blocked", "violations": ["a", "b"]}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    observed = Observed(app)
    async with observed.client as client:
        await client.get("/v1/x")
    assert observed.requests() == {("openai", "unmatched", "content_blocked"): 1}
    assert value(observed.metrics, "validation_violations_total", code="b") == 1


async def test_what_is_no_http_passes_through_uncounted() -> None:
    seen: list[str] = []

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    metrics = Metrics()
    await ObservedRequests(app, metrics)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
    assert "flashgate_requests_total" not in {name for name, _ in samples(metrics)}


@pytest.mark.parametrize(
    ("path", "surface"),
    [
        ("/v1/images:generate", "native"),
        ("/v1/admin/tenants", "admin"),
        ("/v1", "native"),
        ("/v1beta/x", "operations"),
        ("/gemini/v1beta/models", "gemini"),
        ("/openai/v1/images", "openai"),
        ("/livez", "operations"),
        ("/", "operations"),
    ],
)
def test_the_surface_is_told_from_the_path(path: str, surface: str) -> None:
    assert find_surface(path) == surface


def test_what_the_server_calls_its_root_is_no_part_of_the_template() -> None:
    class Route:
        path = "/images/{id}"

    assert get_route_template({"route": Route(), "root_path": "/served/below/gemini"}, "/served/below") == (
        "/gemini/images/{id}"
    )
    assert get_route_template({}, "") == "unmatched"


def test_the_access_log_is_the_only_one() -> None:
    observed = Observed()
    logging.getLogger("uvicorn.access").info("%s", "GET /")
    assert observed.log.getvalue() == ""
