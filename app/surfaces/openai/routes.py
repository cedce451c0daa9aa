"""Routes of the OpenAI dialect, for its SDKs with another base URL: ``…/openai/v1``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.domain.errors import GatewayError, ValidationFailed, Violation
from app.domain.failure import list_error_classes
from app.surfaces.http.auth import CallerDep
from app.surfaces.http.body import read_form, read_json
from app.surfaces.http.cache_control import cache_control_of
from app.surfaces.http.client_timeout import REQUEST_TIMEOUT, patience_of
from app.surfaces.http.context import ServiceDep, base_url_of
from app.surfaces.http.handover import client_timeout_s, retries_of
from app.surfaces.http.idempotency import IDEMPOTENCY_KEY, named
from app.surfaces.http.problems import RATE_LIMIT_HEADERS
from app.surfaces.http.ratelimit import rate_limit_headers
from app.surfaces.http.replies import generation_headers, json_reply
from app.surfaces.openai.errors import kind_of
from app.surfaces.openai.events import event_stream
from app.surfaces.openai.request import asked_of_form, asked_of_json, in_callers_words
from app.surfaces.openai.response import answer_of, events_of, model_of
from app.surfaces.openai.wire import OpenAIError, OpenAIImages, OpenAIModel, OpenAIModels

if TYPE_CHECKING:
    from app.domain.card import Card
    from app.domain.tenancy import Caller
    from app.generation.order import GenerationResult, Order
    from app.surfaces.http.context import Service
    from app.surfaces.http.handover import Handover
    from app.surfaces.openai.request import Asked

router = APIRouter(prefix="/openai/v1", tags=["openai"])

_RETRY_HEADERS = {
    "X-Should-Retry": {
        "description": "Whether an SDK may repeat the call: false where that cannot help or may be billed.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    }
}


def _errors() -> dict[int | str, dict[str, Any]]:
    codes = {400: ["invalid_value"], 404: ["model_not_found"]}
    for error in list_error_classes():
        kind = kind_of(error)
        code = kind.code or error.code
        if error is not ValidationFailed and code not in codes.setdefault(kind.status, []):
            codes[kind.status].append(code)
    return {
        status: {
            "model": OpenAIError,
            "description": " or ".join(f"`{code}`" for code in codes[status]) + ".",
            "headers": _RETRY_HEADERS,
        }
        for status in sorted(codes)
    }


_ERRORS = _errors()
_GENERATED: dict[int | str, dict[str, Any]] = {
    200: {"model": OpenAIImages, "description": "The pictures.", "headers": RATE_LIMIT_HEADERS},
    **_ERRORS,
}


def _body(media_type: str, schema: str) -> dict[str, Any]:
    content = {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {
        "requestBody": {"required": True, "content": content},
        "parameters": [IDEMPOTENCY_KEY, REQUEST_TIMEOUT],
    }


@router.post(
    "/images/generations",
    operation_id="openai_generate_images",
    responses=_GENERATED,
    openapi_extra=_body("application/json", "OpenAIImageGeneration"),
)
async def generate_images(request: Request, caller: CallerDep, service: ServiceDep) -> Response:
    """Generate pictures from a prompt, in OpenAI's dialect.

    With `stream` the answer is `text/event-stream`: an `image_generation.completed` event a picture, each an
    `OpenAIImageEvent`. What fails within the first seconds is answered with its status, later by an `error`
    event.
    """
    patience = patience_of(request)
    body = await read_json(request, service.limits)
    asked = await asked_of_json(service, caller, body, cache_control_of(request))
    return await _generated(request, service, asked.within(patience), "generation")


@router.post(
    "/images/edits",
    operation_id="openai_edit_images",
    responses=_GENERATED,
    openapi_extra=_body("multipart/form-data", "OpenAIImageEdit"),
)
async def edit_images(request: Request, caller: CallerDep, service: ServiceDep) -> Response:
    """Generate pictures from a prompt and files, in OpenAI's dialect: `image` for one, `image[]` for several.

    With `stream` the answer is `text/event-stream`: an `image_edit.completed` event a picture, each an
    `OpenAIImageEvent`.
    """
    patience = patience_of(request)
    async with read_form(request, service.limits) as form:
        asked = await asked_of_form(service, caller, form, cache_control_of(request))
    return await _generated(request, service, asked.within(patience), "edit")


async def _generated(
    request: Request, service: Service, asked: Asked, route: Literal["generation", "edit"]
) -> Response:
    base_url = base_url_of(request, service)
    order = named(replace(asked.order, retries=retries_of(request)), request, f"openai/images/{route}")

    async def generating() -> GenerationResult:
        try:
            result = await _served(request, service, order, streamed=asked.stream)
        except ValidationFailed as error:
            raise ValidationFailed(in_callers_words(error.violations, asked.places)) from None
        except GatewayError as error:
            request.state.outcome = error.code  # a stream that has begun has no status to tell it by
            raise
        request.state.cache = result.cache_status
        return result

    if asked.stream:
        return await event_stream(
            generating(),
            lambda result: events_of(result, asked, base_url, route),
            _headers,
            patience_s=service.limits.stream_patience_s,
        )
    result = await generating()
    light, cargo = answer_of(result, asked, base_url)
    return json_reply(light, cargo, _headers(result), service.limits.chunked_above_bytes)


async def _served(request: Request, service: Service, order: Order, *, streamed: bool) -> GenerationResult:
    job = service.gateway.prepare(order)
    if job.attempt is None:
        return await service.gateway.serve(job)
    handover: Handover = request.state.handover
    return await handover.serve(service.gateway, job, None if streamed else client_timeout_s(request))


def _headers(result: GenerationResult) -> dict[str, str]:
    return {**generation_headers(result), **rate_limit_headers(result.windows, result.rates)}


@router.get(
    "/models",
    operation_id="openai_list_models",
    responses={status: _ERRORS[status] for status in (401, 403)},
)
async def list_models(caller: CallerDep, service: ServiceDep) -> OpenAIModels:
    """Every model that the tenant may use, in OpenAI's dialect."""
    cards = [card for card in service.gateway.catalogue if _may_use(caller, card)]
    return OpenAIModels(object="list", data=[model_of(card) for card in cards])


@router.get(
    "/models/{model:path}",
    operation_id="openai_get_model",
    responses={status: _ERRORS[status] for status in (401, 403, 404)},
)
async def get_model(
    model: Annotated[str, Path(description="Id or alias.", examples=["gemini-3.1-flash-image"])],
    caller: CallerDep,
    service: ServiceDep,
) -> OpenAIModel:
    """One model, by id or alias, in OpenAI's dialect."""
    card = service.gateway.catalogue.resolve(model)
    if card is None or not _may_use(caller, card):
        detail = "There is no such model here, or this caller may not use it."
        raise ValidationFailed((Violation("/model", "unknown_model", detail),))
    return model_of(card)


def _may_use(caller: Caller, card: Card) -> bool:
    models = caller.models
    return not models or card.id in models
