"""Routes of the OpenAI dialect, for OpenAI's SDKs with the base URL ``…/openai/v1``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from app.domain.errors import GatewayError, ValidationFailed, Violation
from app.domain.failure import list_error_classes
from app.surfaces.http.auth import CallerDep
from app.surfaces.http.body import read_form, read_json
from app.surfaces.http.cache_control import read_cache_control
from app.surfaces.http.client_timeout import REQUEST_TIMEOUT, read_client_timeout
from app.surfaces.http.context import ServiceDep, get_base_url
from app.surfaces.http.end_user import END_USER
from app.surfaces.http.handover import read_retry_count, read_sdk_timeout
from app.surfaces.http.idempotency import IDEMPOTENCY_KEY, attach_idempotency_key
from app.surfaces.http.max_cost import MAX_COST, attach_max_cost
from app.surfaces.http.parameters import Parameter, check_parameters
from app.surfaces.http.problems import RATE_LIMIT_HEADERS
from app.surfaces.http.ratelimit import build_rate_limit_headers
from app.surfaces.http.replies import build_generation_headers, build_json_response
from app.surfaces.openai.errors import classify_error
from app.surfaces.openai.events import stream_events
from app.surfaces.openai.request import parse_form_request, parse_json_request, translate_violations
from app.surfaces.openai.response import render_events, render_model, render_result
from app.surfaces.openai.wire import OpenAIError, OpenAIImages, OpenAIModel, OpenAIModels

if TYPE_CHECKING:
    from app.domain.card import Card
    from app.domain.tenancy import Caller
    from app.generation.order import GenerationResult, Order
    from app.surfaces.http.context import Service
    from app.surfaces.http.handover import Handover
    from app.surfaces.openai.request import ParsedRequest

_HEADERS: Final = {
    "openai-organization": Parameter("the gateway key decides who pays"),
    "openai-project": Parameter("the gateway key decides who pays"),
    "openai-beta": Parameter("the Images API has no beta features"),
}
_QUERIES: Final = {"api-version": Parameter("all versions of Azure's API are served alike", told=False)}


async def check_openai_parameters(request: Request) -> None:
    """Leave a notice for each header of OpenAI's API without effect, and refuse unknown query parameters."""
    request.state.notices = check_parameters(request, _QUERIES, _HEADERS)


router = APIRouter(prefix="/openai/v1", tags=["openai"], dependencies=[Depends(check_openai_parameters)])

_RETRY_HEADERS = {
    "X-Should-Retry": {
        "description": "Whether an SDK may retry: false if a retry cannot succeed or may be billed.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    }
}


def _describe_errors() -> dict[int | str, dict[str, Any]]:
    codes = {400: ["invalid_value"], 404: ["model_not_found"]}
    for error in list_error_classes():
        kind = classify_error(error)
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


_ERRORS = _describe_errors()
_GENERATE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": OpenAIImages, "description": "The pictures.", "headers": RATE_LIMIT_HEADERS},
    **_ERRORS,
}


def _describe_body(media_type: str, schema: str) -> dict[str, Any]:
    content = {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {
        "requestBody": {"required": True, "content": content},
        "parameters": [IDEMPOTENCY_KEY, MAX_COST, END_USER, REQUEST_TIMEOUT],
    }


@router.post(
    "/images/generations",
    operation_id="openai_generate_images",
    responses=_GENERATE_RESPONSES,
    openapi_extra=_describe_body("application/json", "OpenAIImageGeneration"),
)
async def generate_images(request: Request, caller: CallerDep, service: ServiceDep) -> Response:
    """Generate pictures from a prompt, in OpenAI's dialect.

    With `stream` the response is `text/event-stream` with one `image_generation.completed` event per picture,
    an `OpenAIImageEvent`. A failure within the first seconds has its own status; a later one is an `error`
    event.
    """
    client_timeout = read_client_timeout(request)
    body = await read_json(request, service.limits)
    deployment = _read_deployment(request)
    if deployment and body.members.get("model") is None:
        body.members["model"] = deployment
    parsed = await parse_json_request(service, caller, body, read_cache_control(request))
    return await _generate(request, service, parsed.with_timeout(client_timeout), "generation")


@router.post(
    "/images/edits",
    operation_id="openai_edit_images",
    responses=_GENERATE_RESPONSES,
    openapi_extra=_describe_body("multipart/form-data", "OpenAIImageEdit"),
)
async def edit_images(request: Request, caller: CallerDep, service: ServiceDep) -> Response:
    """Generate pictures from a prompt and files, in OpenAI's dialect: `image` for one, `image[]` for several.

    With `stream` the response is `text/event-stream` with one `image_edit.completed` event per picture, an
    `OpenAIImageEvent`.
    """
    client_timeout = read_client_timeout(request)
    async with read_form(request, service.limits) as form:
        deployment = _read_deployment(request)
        if deployment:
            form.fields.setdefault("model", [deployment])
        parsed = await parse_form_request(service, caller, form, read_cache_control(request))
    return await _generate(request, service, parsed.with_timeout(client_timeout), "edit")


def _read_deployment(request: Request) -> str:
    """Return the deployment in a path of Azure's form, which stands for the model; empty in other paths."""
    return str(getattr(request.state, "deployment", ""))


async def _generate(
    request: Request, service: Service, parsed: ParsedRequest, route: Literal["generation", "edit"]
) -> Response:
    base_url = get_base_url(request, service)
    notices = request.state.notices + parsed.order.notices
    order = replace(parsed.order, retries=read_retry_count(request), notices=notices)
    order = attach_max_cost(order, request)
    order = attach_idempotency_key(order, request, f"openai/images/{route}")

    async def generating() -> GenerationResult:
        try:
            result = await _serve(request, service, order, streamed=parsed.stream)
        except ValidationFailed as error:
            raise ValidationFailed(translate_violations(error.violations, parsed.places)) from None
        except GatewayError as error:
            request.state.outcome = error.code  # a stream that has begun already sent its status
            raise
        request.state.cache = result.cache_status
        return result

    if parsed.stream:
        return await stream_events(
            generating(),
            lambda result: render_events(result, parsed, base_url, route),
            _build_headers,
            patience_s=service.limits.stream_status_wait_s,
        )
    result = await generating()
    skeleton, blobs = render_result(result, parsed, base_url)
    return build_json_response(skeleton, blobs, _build_headers(result), service.limits.chunked_above_bytes)


async def _serve(request: Request, service: Service, order: Order, *, streamed: bool) -> GenerationResult:
    job = service.gateway.prepare(order)
    if job.attempt is None:
        return await service.gateway.serve(job)
    handover: Handover = request.state.handover
    return await handover.serve(service.gateway, job, None if streamed else read_sdk_timeout(request))


def _build_headers(result: GenerationResult) -> dict[str, str]:
    return {**build_generation_headers(result), **build_rate_limit_headers(result.windows, result.rates)}


@router.get(
    "/models",
    operation_id="openai_list_models",
    responses={status: _ERRORS[status] for status in (401, 403)},
)
async def list_models(caller: CallerDep, service: ServiceDep) -> OpenAIModels:
    """List the models that the caller may use, in OpenAI's dialect."""
    cards = [card for card in service.gateway.catalogue if _may_use(caller, card)]
    return OpenAIModels(object="list", data=[render_model(card) for card in cards])


@router.get(
    "/models/{model:path}",
    operation_id="openai_get_model",
    responses={status: _ERRORS[status] for status in (401, 403, 404)},
)
async def get_model(
    model: Annotated[str, Path(description="Model id or alias.", examples=["gemini-3.1-flash-image"])],
    caller: CallerDep,
    service: ServiceDep,
) -> OpenAIModel:
    """Get a model by id or alias, in OpenAI's dialect."""
    card = service.gateway.catalogue.resolve(model)
    if card is None or not _may_use(caller, card):
        detail = "There is no such model, or the caller may not use it."
        raise ValidationFailed((Violation("/model", "unknown_model", detail),))
    return render_model(card)


def _may_use(caller: Caller, card: Card) -> bool:
    models = caller.models
    return not models or card.id in models
