"""Operations in the native dialect: started with `Prefer: respond-async`, then read and cancelled by id."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Request
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
from app.generation.operations import OperationEncoder
from app.resilience.wide_event import note
from app.surfaces.http.auth import CallerDep
from app.surfaces.http.context import ServiceDep, get_base_url
from app.surfaces.http.parameters import refuse_unknown_query
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

router = APIRouter(prefix="/v1", tags=["native"], dependencies=[Depends(refuse_unknown_query)])

OperationId = Annotated[str, Path(description="Operation id.", examples=["op_0123456789abcdef01234567"])]


class OperationWire(BaseModel):
    """A generation that continues after its caller got a response."""

    model_config = ConfigDict(frozen=True, title="Operation")

    id: str = Field(description="Operation id.", examples=["op_0123456789abcdef01234567"])
    state: Literal["waiting", "running", "done", "failed", "cancelled"] = Field(
        description="waiting: nothing was sent or spent, and it can be cancelled. running: the model was "
        "called, and the call is paid for. done: see result. failed: see problem; if its process died, the "
        "code is `operation_lost` once the lease has expired. cancelled: nothing was spent.",
        examples=["running"],
    )
    created_at: datetime = Field(description="Time of creation.", examples=["2026-11-22T12:00:00Z"])
    expires_at: datetime = Field(
        description="Time at which the operation is forgotten; its pictures expire on their own.",
        examples=["2026-11-23T12:00:00Z"],
    )
    cancel_requested: bool = Field(
        description="Whether cancellation was requested too late, after the model was called.",
        examples=[False],
    )
    result: GenerateResponse | None = Field(
        None, description="The response of a synchronous request, with URLs instead of bytes."
    )
    problem: Problem | None = Field(None, description="The problem document of a synchronous request.")


ACCEPTED: Final[dict[str, Any]] = {
    "model": OperationWire,
    "description": "With `Prefer: respond-async`: the request continues as an operation.",
    "headers": {
        "Location": {"description": "URL of the operation.", "schema": {"type": "string"}},
        "Preference-Applied": {"description": "RFC 7240.", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds to wait before reading it.", "schema": {"type": "integer"}},
    },
}


async def start_operation(
    request: Request, service: Service, order: Order, wait_s: int
) -> GenerationResult | Response:
    """Start an operation; return its result instead if that is ready within ``wait_s`` seconds.

    Raises:
        GatewayError: The order's violations, at once; other failures only within the wait.
    """
    job = service.gateway.prepare(order)
    operation, task = await service.operations.start(job, order.idempotency, _build_encoder(request, service))
    note(operation_id=operation.id)
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


def _build_encoder(request: Request, service: Service) -> OperationEncoder:
    """Return the encoder of the operation's outcome, which is used after this request has ended."""
    base_url, path = get_base_url(request, service), request.url.path
    request_id = getattr(request.state, "request_id", "")

    def encode_error(error: GatewayError) -> str:
        return json.dumps(render_problem(error, request_id, path))

    def encode_result(result: GenerationResult) -> str:
        return render_result(result, base_url, inline=False)[0].decode()

    return OperationEncoder(encode_result, encode_error)


def _datetime_from_ms(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)


async def _fill_text(operation: Operation, request: Request, caller: Caller, service: Service) -> Operation:
    """Return the operation with its response, rebuilt from the generation if the store evicted the text.

    Raises:
        ResultGone: The generation has been evicted as well.
    """
    if operation.text or operation.state not in {"done", "failed"}:
        return operation
    result = operation.result or OperationResult("", None)
    stored = None
    if operation.state == "done":
        stored = await _load_generation(result, caller, service)
    if stored is not None:
        finished, card = stored
        windows = await service.gateway.get_budgets(caller)
        answer, _ = render_stored_result(finished, card, windows, get_base_url(request, service), None)
        return replace(operation, text=answer.decode())
    outcome = "has ended"
    if result.generation_id:
        outcome = f"ended with {result.generation_id}"
    remedy = "The same request under a new key, or without one, is generated and paid for again."
    raise ResultGone(
        f"The operation {outcome}, and its response is no longer stored.", remedy, spent=result.spent
    )


async def _load_generation(
    result: OperationResult, caller: Caller, service: Service
) -> tuple[StoredGeneration, Card] | None:
    """Load the generation of an operation, at the operation's cost; None if it is no longer stored."""
    try:
        stored = await service.gateway.get_generation(caller, result.generation_id)
    except NotFound:
        return None
    card = service.gateway.catalogue.resolve(stored.generation.model)
    if card is None:
        return None
    if result.spent == FREE:
        stored = replace(stored, generation=replace(stored.generation, usage=FREE.usage))
    return stored, card


def _build_response(operation: Operation, request: Request, status: int, headers: dict[str, str]) -> Response:
    """Build the response; the result or problem is inserted as stored, without parsing it."""
    state, text = operation.state, operation.text or "null"
    if operation.lost:
        sent = operation.state == "running"
        spent = "was not called, and nothing was spent"
        if sent:
            spent = "was called, and the call may be billed"
        lost = OperationLost(f"The process that ran the operation died; the model {spent}.")
        state, text = "failed", _encode_problem(lost, request)
    elif operation.state == "cancelled":
        text = _encode_problem(OperationCancelled(), request)
    operation_wire = OperationWire(
        id=operation.id,
        state=state,
        created_at=_datetime_from_ms(operation.created_ms),
        expires_at=_datetime_from_ms(operation.expires_ms),
        cancel_requested=operation.cancel_requested,
    )
    result, failure = (text, "null") if state == "done" else ("null", text)
    head = operation_wire.model_dump_json(exclude={"result", "problem"}).removesuffix("}")
    body = f'{head},"result":{result},"problem":{failure}}}'
    private = {"Cache-Control": "private, no-store", **headers}
    return Response(body.encode(), status, headers=private, media_type="application/json")


def _encode_problem(error: GatewayError, request: Request) -> str:
    return json.dumps(render_problem(error, getattr(request.state, "request_id", ""), request.url.path))


def _build_retry_header(operation: Operation) -> dict[str, str]:
    is_running = operation.state in {"waiting", "running"} and not operation.lost
    if not is_running:
        return {}
    return {"Retry-After": "1"}


async def _render_operation(
    operation: Operation, request: Request, caller: Caller, service: Service
) -> Response:
    operation = await _fill_text(operation, request, caller, service)
    return _build_response(operation, request, 200, _build_retry_header(operation))


@router.get(
    "/operations/{operation_id}",
    operation_id="get_operation",
    response_class=Response,
    responses={
        200: {"model": OperationWire, "description": "Current state of the operation."},
        **{status: PROBLEMS[status] for status in (401, 403, 404, 410, 503)},
    },
)
async def get_operation(
    operation_id: OperationId, request: Request, caller: CallerDep, service: ServiceDep
) -> Response:
    """Get the state of an operation of this tenant, with its result or problem once it has ended."""
    operation = await service.operations.find(caller.tenant.id, operation_id)
    return await _render_operation(operation, request, caller, service)


@router.post(
    "/operations/{operation_id}:cancel",
    operation_id="cancel_operation",
    response_class=Response,
    responses={
        200: {"model": OperationWire, "description": "State of the operation after the request."},
        **{status: PROBLEMS[status] for status in (401, 403, 404, 410, 503)},
    },
)
async def cancel_operation(
    operation_id: OperationId, request: Request, caller: CallerDep, service: ServiceDep
) -> Response:
    """Cancel an operation that is still waiting, at no cost.

    A call that was sent to the model is paid for, so a running operation continues and can be read. The
    response shows the state. An operation that has ended does not change.
    """
    operation = await service.operations.cancel(caller.tenant.id, operation_id)
    return await _render_operation(operation, request, caller, service)
