"""The application: lifespan, surfaces and middleware. Read this first."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from typing import TYPE_CHECKING

from fastapi import FastAPI

from app.middleware import (
    AddressMiddleware,
    AnswerHeadersMiddleware,
    BodyLimitMiddleware,
    ContentDecodingMiddleware,
    FramingMiddleware,
    HandoverMiddleware,
    HeadMiddleware,
    PortsMiddleware,
    RequestIdMiddleware,
)
from app.observability.http import ObservedRequests
from app.observability.live import LiveRequests
from app.observability.metrics import Metrics
from app.resilience.diagnosis import Diagnosis
from app.surfaces import docs, errors, openapi
from app.surfaces.admin import routes as admin
from app.surfaces.gemini import routes as gemini
from app.surfaces.http import health
from app.surfaces.native import operations as native_operations
from app.surfaces.native import routes as native
from app.surfaces.openai import routes as openai_images
from app.wiring import open_gateway, start_fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.observability.tracing import OtlpTracer
    from app.settings import Settings

log = logging.getLogger(__name__)

DESCRIPTION = """\
The gateway in front of Gemini 3.1 Flash Image. Every limit of the model card is checked before a token is
spent, budgets are reserved before the call and settled after it, nothing is paid for twice, and image
bytes pass untouched.
"""


def _open_tracer(settings: Settings) -> OtlpTracer | None:
    """What records traces, if they are exported."""
    if settings.otlp_endpoint is None:
        return None
    # OpenTelemetry's SDK takes a fifth of a second to load, which nobody needs who exports nothing.
    from app.observability.tracing import OtlpTracer  # noqa: PLC0415

    return OtlpTracer()


def create_app(settings: Settings) -> FastAPI:
    """Create the application. Nothing is opened before its lifespan begins."""
    metrics, live = Metrics(), LiveRequests()
    tracer = _open_tracer(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if tracer is not None:
                stack.push_async_callback(asyncio.to_thread, tracer.close)
            try:
                app.state.service = await stack.enter_async_context(open_gateway(settings, metrics, live))
            except Exception as fault:
                words = start_fault(fault)
                if words:
                    # No request has been served yet, so the message cannot hold a caller's data.
                    diagnosis = Diagnosis("cannot_start", "", words, "")
                    log.error("the gateway cannot start", extra={"diagnosis": diagnosis})  # noqa: TRY400
                    app.state.start_fault = words
                else:
                    log.exception("the gateway cannot start")
                raise
            yield

    app = FastAPI(
        title="flashgate",
        version=metadata.version("flashgate"),
        summary="The gateway in front of Gemini 3.1 Flash Image.",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # app/surfaces/docs.py serves one without requests to other hosts
        redoc_url=None,
    )
    app.include_router(native.router)
    app.include_router(native_operations.router)
    app.include_router(gemini.router)
    app.include_router(openai_images.router)
    app.include_router(admin.router)
    app.include_router(health.router)
    errors.install(app)
    openapi.install(app)
    docs.install(app)
    # Added last is outermost: a request meets them from the bottom up.
    app.add_middleware(HandoverMiddleware)
    app.add_middleware(ContentDecodingMiddleware, limit_of=lambda _path: settings.body_bytes_max)
    app.add_middleware(BodyLimitMiddleware, limit_of=lambda _path: settings.body_bytes_max)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(
        PortsMiddleware, callers=settings.port, admin=settings.admin_port, metrics=settings.metrics_port
    )
    app.add_middleware(FramingMiddleware)
    app.add_middleware(AddressMiddleware)
    app.add_middleware(ObservedRequests, metrics=metrics, live=live, tracer=tracer)
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(AnswerHeadersMiddleware)
    return app
