"""Liveness, readiness and metrics, for operators and platforms."""

from __future__ import annotations

import asyncio
import json

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.surfaces.admin.auth import authenticate_operator
from app.surfaces.http.context import ServiceDep

router = APIRouter(tags=["operations"], include_in_schema=False)


@router.get("/livez")
async def get_liveness() -> Response:
    """Answer 200 while the process runs."""
    return Response('{"status":"alive"}', media_type="application/json")


@router.get("/readyz")
async def get_readiness(service: ServiceDep) -> Response:
    """Answer 200 if new requests would be served, else 503 with the reason by check."""
    names = list(service.readiness)
    results = await asyncio.gather(*(service.readiness[name]() for name in names))
    reasons = dict(zip(names, results, strict=True))
    ready = all(reason is None for reason in results)
    body = {
        "status": "ready" if ready else "not_ready",
        "checks": {name: reason or "ok" for name, reason in reasons.items()},
        "conditions": service.conditions(),
    }
    return Response(json.dumps(body), 200 if ready else 503, media_type="application/json")


@router.get("/metrics")
async def get_metrics(request: Request, service: ServiceDep) -> Response:
    """Return the Prometheus exposition, which names tenants: for operators, or on a separate port."""
    _, port = request.scope.get("server") or ("", None)
    if port not in service.operators_ports:
        await authenticate_operator(request)
    body, content_type = service.render_metrics(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})
