"""Operations in the native dialect: begun by `Prefer: respond-async`, read and cancelled by their ids."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from app.domain.errors import (
    GatewayError,
    NotFound,
    OperationCancelled,
    OperationLost,
    StoreUnavailable,
)
from app.domain.generation import FREE
from app.domain.operation import OperationResult
from app.domain.repetition import ResultGone
from app.domain.stored_generation import StoredGeneration
from app.generation.operations import Telling
from app.surfaces.http.auth import CallerDep
from app.surfaces.http.context import ServiceDep, get_base_url
from app.surfaces.http.problems import PROBLEMS, Problem
from app.surfaces.native.errors import render_problem
from app.surfaces.native.response import render_result, render_stored_result
from app.surfaces.native.wire import GenerateResponse

if TYPE_CHECKING:
    from app.domain.card import Card
    from app.domain.operation import Operation
    from app.domain.tenancy import Caller
    from app.generation.order import GenerationResult, Order
    from app.surfaces.http.context import Service

router = APIRouter(prefix="/v1", tags=["native"])

OperationId = Annotated[
    str, Path(description="As id of an operation.", examples=["op_0123456789abcdef01234567"])
]


class OperationWire(BaseModel):
    """A generation that goes on after its caller was answered."""

    model_config = ConfigDict(frozen=True, title="Operation")

    id: str = Field(description="Names the operation.", examples=["op_0123456789abcdef01234567"])
    state: Literal["waiting", "running", "done", "failed", "cancelled"] = Field(
        description="waiting: nothing is sent and nothing spent, and it can be cancelled. running: the model "
        "is at work, which is paid for whatever comes. done: see result. failed: see problem; one whose "
        "process died fails as `operation_lost` when its lease is over. cancelled: nothing was spent.",
        examples=["running"],
    )
    created_at: datetime = Field(description="When it began.", examples=["2026-11-22T12:00:00Z"])
    expires_at: datetime = Field(
        description="When it is forgotten; the pictures have a time of their own.",
        examples=["2026-11-23T12:00:00Z"],
    )
    cancel_requested: bool = Field(
        description="Whether somebody asked to cancel it after it was sent, in vain.", examples=[False]
    )
    result: GenerateResponse | None = Field(
        None, description="What a synchronous answer would have been, with addresses in place of bytes."
    )
    problem: Problem | None = Field(None, description="What a synchronous answer would have been.")


ACCEPTED: Final[dict[str, Any]] = {
    "model": OperationWire,
    "description": "With `Prefer: respond-async`: it goes on as an operation.",
    "headers": {
        "Location": {"description": "Where the operation is read.", "schema": {"type": "string"}},
        "Preference-Applied": {"description": "RFC 7240.", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds to wait before that.", "schema": {"type": "integer"}},
    },
}


async def start_operation(
    request: Request, service: Service, order: Order, wait_s: int
) -> GenerationResult | Response:
    """The operation that an order becomes; or its result, where that is there within the caller's wait.

    Raises:
        GatewayError: The order's faults, at once; other failures only within the wait.
    """
    job = service.gateway.prepare(order)
    operation, task = await service.operations.start(job, order.idempotency, _build_encoder(request, service))
    if task is not None and wait_s:
        await asyncio.wait({task}, timeout=wait_s)
        if task.done():
            return task.result()
        with suppress(StoreUnavailable):
            operation = await service.operations.find(order.caller.tenant.id, operation.id)
    headers = {
        "Location": f"/v1/operations/{operation.id}",
        "Preference-Applied": "respond-async",
        "Retry-After": "1",
    }
    operation = await _fill_text(operation, request, order.caller, service)
    return _build_response(operation, request, 202, headers)


def _build_encoder(request: Request, service: Service) -> Telling:
    """How this request's operation is written down, when the request itself is long over."""
    base_url, path = get_base_url(request, service), request.url.path
    request_id = getattr(request.state, "request_id", "")

    def told(error: GatewayError) -> str:
        return json.dumps(render_problem(error, request_id, path))

    return Telling(lambda result: render_result(result, base_url, inline=False)[0].decode(), told)


def _datetime_from_ms(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)


async def _fill_text(operation: Operation, request: Request, caller: Caller, service: Service) -> Operation:
    """The operation with what came of it, from its generation where the store has given the text up.

    Raises:
        ResultGone: The generation is gone as well.
    """
    if operation.text or operation.state not in {"done", "failed"}:
        return operation
    result = operation.result or OperationResult("", None)
    if operation.state == "done" and (kept := await _load_generation(result, caller, service)) is not None:
        finished, card = kept
        windows = await service.gateway.get_budgets(caller)
        answer, _ = render_stored_result(finished, card, windows, get_base_url(request, service), None)
        return replace(operation, text=answer.decode())
    came_to = f"came to {result.generation_id}" if result.generation_id else "has ended"
    anew = "The same request under a new key, or without one, is made and paid anew."
    raise ResultGone(f"The operation {came_to}, and the answer is no longer kept.", anew, spent=result.spent)


async def _load_generation(
    result: OperationResult, caller: Caller, service: Service
) -> tuple[StoredGeneration, Card] | None:
    """The generation that an operation came to, at what the operation cost, where it is still kept."""
    try:
        found = await service.gateway.get_generation(caller, result.generation_id)
    except NotFound:
        return None
    card = service.gateway.catalogue.resolve(found.generation.model)
    if card is None:
        return None
    if result.spent == FREE:
        found = replace(found, generation=replace(found.generation, usage=FREE.usage))
    return found, card


def _build_response(operation: Operation, request: Request, status: int, headers: dict[str, str]) -> Response:
    """The document, with the result or the problem as it was written down."""
    ended, text = operation.state, operation.text or "null"
    if operation.lost:
        sent = operation.state == "running"
        spent = "was at work, and it may be billed" if sent else "was not called, and nothing was spent"
        lost = OperationLost(f"The process that carried the operation is gone; the model {spent}.")
        ended, text = "failed", _encode_problem(lost, request)
    elif operation.state == "cancelled":
        text = _encode_problem(OperationCancelled(), request)
    wire = OperationWire(
        id=operation.id,
        state=ended,
        created_at=_datetime_from_ms(operation.created_ms),
        expires_at=_datetime_from_ms(operation.expires_ms),
        cancel_requested=operation.cancel_requested,
    )
    result, failure = (text, "null") if ended == "done" else ("null", text)
    head = wire.model_dump_json(exclude={"result", "problem"}).removesuffix("}")
    body = f'{head},"result":{result},"problem":{failure}}}'
    private = {"Cache-Control": "private, no-store", **headers}
    return Response(body.encode(), status, headers=private, media_type="application/json")


def _encode_problem(error: GatewayError, request: Request) -> str:
    return json.dumps(render_problem(error, getattr(request.state, "request_id", ""), request.url.path))


def _build_retry_header(operation: Operation) -> dict[str, str]:
    going_on = operation.state in {"waiting", "running"} and not operation.lost
    return {"Retry-After": "1"} if going_on else {}


async def _render_operation(found: Operation, request: Request, caller: Caller, service: Service) -> Response:
    found = await _fill_text(found, request, caller, service)
    return _build_response(found, request, 200, _build_retry_header(found))


@router.get(
    "/operations/{operation_id}",
    operation_id="get_operation",
    response_class=Response,
    responses={
        200: {"model": OperationWire, "description": "As it stands."},
        **{status: PROBLEMS[status] for status in (401, 403, 404, 410, 503)},
    },
)
async def get_operation(
    operation_id: OperationId, request: Request, caller: CallerDep, service: ServiceDep
) -> Response:
    """An operation of this tenant, wherever it is carried: how far it is, then its result or its problem."""
    found = await service.operations.find(caller.tenant.id, operation_id)
    return await _render_operation(found, request, caller, service)


@router.post(
    "/operations/{operation_id}:cancel",
    operation_id="cancel_operation",
    response_class=Response,
    responses={
        200: {"model": OperationWire, "description": "As it stands after that."},
        **{status: PROBLEMS[status] for status in (401, 403, 404, 410, 503)},
    },
)
async def cancel_operation(
    operation_id: OperationId, request: Request, caller: CallerDep, service: ServiceDep
) -> Response:
    """Cancel an operation that waits; nothing is spent then.

    What was sent to the model is paid for, so a running operation goes on and can be read; the answer tells
    which it was. One that has ended stays as it is.
    """
    found = await service.operations.cancel(caller.tenant.id, operation_id)
    return await _render_operation(found, request, caller, service)
