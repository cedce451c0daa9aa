"""Routes of the native surface."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from app.domain.errors import NotFound, StoreUnavailable
from app.domain.report import sum_rows
from app.surfaces.http.auth import CallerDep
from app.surfaces.http.body import read_form, read_json
from app.surfaces.http.cache_control import read_cache_control
from app.surfaces.http.client_timeout import REQUEST_TIMEOUT, read_client_timeout
from app.surfaces.http.context import ServiceDep, get_base_url
from app.surfaces.http.end_user import END_USER
from app.surfaces.http.idempotency import IDEMPOTENCY_KEY, attach_idempotency_key
from app.surfaces.http.max_cost import MAX_COST, attach_max_cost
from app.surfaces.http.parameters import refuse_unknown_query
from app.surfaces.http.preferences import PREFER, read_preference
from app.surfaces.http.problems import PROBLEMS, RATE_LIMIT_HEADERS
from app.surfaces.http.ratelimit import build_rate_limit_headers
from app.surfaces.http.replies import (
    build_generation_headers,
    build_image_response,
    build_json_response,
    build_stored_image_response,
)
from app.surfaces.http.reports import render_spent, resolve_days
from app.surfaces.native.operations import ACCEPTED, start_operation
from app.surfaces.native.request import parse_form_order, parse_json_order
from app.surfaces.native.response import (
    render_budget,
    render_model,
    render_quote,
    render_rate,
    render_result,
    render_stored_result,
)
from app.surfaces.native.wire import (
    EndUserWire,
    EstimateResponse,
    GenerateResponse,
    UsageResponse,
)
from app.surfaces.native.wire_models import ModelsResponse, ModelWire

if TYPE_CHECKING:
    from app.domain.tenancy import Caller
    from app.generation.order import Order
    from app.surfaces.http.context import Service

router = APIRouter(prefix="/v1", tags=["native"], dependencies=[Depends(refuse_unknown_query)])

_GENERATE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": GenerateResponse, "description": "The pictures.", "headers": RATE_LIMIT_HEADERS},
    202: ACCEPTED,
    **PROBLEMS,
}


# The upstream chooses PNG or JPEG. One media range, because generated clients expect a single type.
_BYTES = {"image/*": {"schema": {"type": "string", "format": "binary"}}}
_KEPT = {
    "ETag": {"description": "Strong ETag: the image id.", "schema": {"type": "string"}},
    "Cache-Control": {"description": "Immutable: a picture never changes.", "schema": {"type": "string"}},
}


def _describe_header(name: str, description: str, example: str) -> dict[str, Any]:
    schema = {"type": "string", "examples": [example]}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


_SPENDING = (REQUEST_TIMEOUT, PREFER)


def _describe_body(media_type: str, schema: str, *more: dict[str, Any]) -> dict[str, Any]:
    content = {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {
        "requestBody": {"required": True, "content": content},
        "parameters": [IDEMPOTENCY_KEY, MAX_COST, END_USER, *more],
    }


@router.post(
    "/images:generate",
    operation_id="generate_images",
    responses=_GENERATE_RESPONSES,
    openapi_extra=_describe_body("application/json", "GenerateRequest", *_SPENDING),
)
async def generate_images(request: Request, caller: CallerDep, service: ServiceDep) -> Response:
    """Generate pictures from a prompt and optional reference images, documents and videos.

    With `Accept: image/*` the response body is the first picture.
    """
    client_timeout = read_client_timeout(request)
    body = await read_json(request, service.limits)
    parsed, delivery = await parse_json_order(service, caller, body, read_cache_control(request))
    order = attach_max_cost(replace(parsed, patience=client_timeout), request)
    order = attach_idempotency_key(order, request, "images:generate")
    return await _generate(request, service, order, delivery)


@router.post(
    "/images:edit",
    operation_id="edit_images",
    responses=_GENERATE_RESPONSES,
    openapi_extra=_describe_body("multipart/form-data", "EditForm", *_SPENDING),
)
async def edit_images(request: Request, caller: CallerDep, service: ServiceDep) -> Response:
    """Generate pictures from a prompt and uploaded files: the same as generate, as a multipart form.

    With `Accept: image/*` the response body is the first picture.
    """
    client_timeout = read_client_timeout(request)
    async with read_form(request, service.limits) as form:
        parsed, delivery = await parse_form_order(service, caller, form, read_cache_control(request))
    order = attach_max_cost(replace(parsed, patience=client_timeout), request)
    order = attach_idempotency_key(order, request, "images:edit")
    return await _generate(request, service, order, delivery)


@router.post(
    "/images:estimate",
    operation_id="estimate_images",
    responses={**{status: PROBLEMS[status] for status in (400, 401, 403, 413, 415, 503)}},
    openapi_extra=_describe_body("application/json", "GenerateRequest"),
)
async def estimate_images(
    request: Request, response: Response, caller: CallerDep, service: ServiceDep
) -> EstimateResponse:
    """Validate a request, estimate its cost, and tell whether it would be admitted now.

    Nothing is spent or reserved, so the budgets may have changed by the time the request is made.
    """
    body = await read_json(request, service.limits)
    parsed, _ = await parse_json_order(service, caller, body, read_cache_control(request))
    order = attach_max_cost(parsed, request)
    quote = await service.gateway.estimate(order)
    response.headers.update(build_rate_limit_headers(quote.windows, quote.rates))
    return render_quote(quote)


async def _generate(request: Request, service: Service, order: Order, delivery: str) -> Response:
    preference = read_preference(request)
    if preference.respond_async:
        result = await start_operation(request, service, order, preference.wait_s)
        if isinstance(result, Response):
            return result
    else:
        result = await service.gateway.generate(order)
    request.state.cache = result.cache_status
    headers = {**build_generation_headers(result), **build_rate_limit_headers(result.windows, result.rates)}
    bound = service.limits.chunked_above_bytes
    if wants_image(request.headers.get("accept", "")):
        headers["X-Flashgate-Generation"] = result.generation.id
        return build_image_response(result.pictures[0], headers, bound)
    skeleton, blobs = render_result(result, get_base_url(request, service), inline=delivery == "inline")
    return build_json_response(skeleton, blobs, headers, bound)


def wants_image(accept: str) -> bool:
    """Whether the caller prefers the bytes of a picture to JSON.

    Any image type counts, because a picture is never discarded or converted for its type.
    """
    best = {"image": 0.0, "json": 0.0}
    for item in accept.lower().split(","):
        media_range, *parameters = (part.strip() for part in item.split(";"))
        quality = next((_parse_quality(part) for part in parameters if part.startswith("q=")), 1.0)
        if media_range.startswith("image/"):
            best["image"] = max(best["image"], quality)
        elif media_range in {"application/json", "application/*"}:
            best["json"] = max(best["json"], quality)
    return best["image"] > best["json"]


def _parse_quality(parameter: str) -> float:
    try:
        return float(parameter.removeprefix("q="))
    except ValueError:
        return 0.0


@router.get(
    "/images/{image_id}",
    operation_id="get_image",
    response_class=Response,
    responses={
        200: {
            "description": "The bytes of the picture, unchanged from the upstream.",
            "headers": _KEPT,
            "content": _BYTES,
        },
        206: {"description": "The requested range of bytes.", "headers": _KEPT, "content": _BYTES},
        304: {"description": "The caller already has this picture.", "headers": _KEPT},
        416: {"description": "The range cannot be satisfied; the response has no body."},
        **{status: PROBLEMS[status] for status in (401, 403, 404, 503)},
    },
    openapi_extra={
        "parameters": [
            _describe_header(
                "If-None-Match",
                "ETags that the caller has; 304 if one of them matches.",
                '"img_' + "0" * 64 + '"',
            ),
            _describe_header("Range", "One range of bytes, which is returned with 206.", "bytes=0-1023"),
        ]
    },
)
async def get_image(
    image_id: Annotated[
        str, Path(description="Image id, from `images[].id` of a response.", examples=["img_" + "0" * 64])
    ],
    request: Request,
    caller: CallerDep,
    service: ServiceDep,
) -> Response:
    """Get the bytes of a picture of this tenant, until it expires."""
    picture = await service.gateway.get_picture(caller, image_id)
    reply = build_stored_image_response(
        picture,
        if_none_match=request.headers.get("if-none-match"),
        range_header=request.headers.get("range"),
        if_range=request.headers.get("if-range"),
        chunked_above=service.limits.chunked_above_bytes,
    )
    reply.headers.update(await _load_rate_limit_headers(service, caller))
    return reply


async def _load_rate_limit_headers(service: Service, caller: Caller) -> dict[str, str]:
    """Build RateLimit headers for a response that spends nothing; empty if the store is unavailable."""
    try:
        return build_rate_limit_headers(await service.gateway.get_budgets(caller))
    except StoreUnavailable:
        return {}


@router.delete(
    "/images/{image_id}",
    operation_id="delete_image",
    status_code=204,
    response_class=Response,
    responses={status: PROBLEMS[status] for status in (401, 403, 404, 503)},
)
async def delete_image(
    image_id: Annotated[str, Path(description="Image id.", examples=["img_" + "0" * 64])],
    caller: CallerDep,
    service: ServiceDep,
) -> Response:
    """Delete a picture or file of this tenant at once, wherever it is used.

    A request that would have returned it from the cache is drawn again; one that repeats the idempotency key
    of its request gets 410.
    """
    await service.gateway.delete_picture(caller, image_id)
    return Response(status_code=204)


@router.delete(
    "/generations/{generation_id}",
    operation_id="delete_generation",
    status_code=204,
    response_class=Response,
    responses={status: PROBLEMS[status] for status in (401, 403, 404, 503)},
)
async def delete_generation(
    generation_id: Annotated[
        str, Path(description="Generation id.", examples=["gen_0123456789abcdef01234567"])
    ],
    caller: CallerDep,
    service: ServiceDep,
) -> Response:
    """Delete a finished generation of this tenant with its pictures and its cached result.

    What it was made from stays until it expires, because other generations may need it: delete it with
    `DELETE /v1/images/{image_id}`.
    """
    await service.gateway.delete_generation(caller, generation_id)
    return Response(status_code=204)


@router.get(
    "/generations/{generation_id}",
    operation_id="get_generation",
    response_class=Response,
    responses={
        200: {
            "model": GenerateResponse,
            "description": "The finished generation.",
            "headers": RATE_LIMIT_HEADERS,
        },
        **{status: PROBLEMS[status] for status in (401, 403, 404, 422, 503)},
    },
)
async def get_generation(
    generation_id: Annotated[
        str,
        Path(
            description="Generation id, from `id` of a response.", examples=["gen_0123456789abcdef01234567"]
        ),
    ],
    request: Request,
    caller: CallerDep,
    service: ServiceDep,
    delivery: Annotated[
        Literal["inline", "uri"],
        Query(description="uri: URLs of the pictures; inline: their bytes as well.", examples=["uri"]),
    ] = "uri",
) -> Response:
    """Get a finished generation of this tenant, until its pictures expire: the response of its request.

    `usage` is its original cost, `cache` is a hit, and `budgets` are the current ones. For the state of an
    operation, use `GET /v1/operations/{operation_id}`.
    """
    stored = await service.gateway.get_generation(caller, generation_id)
    pictures = None
    if delivery == "inline":
        records = stored.generation.pictures
        pictures = tuple([await service.gateway.get_picture(caller, record.id) for record in records])
    windows = await service.gateway.get_budgets(caller)
    card = service.gateway.catalogue.resolve(stored.generation.model)
    if card is None:
        raise NotFound("The model of this generation is no longer available.")
    skeleton, blobs = render_stored_result(stored, card, windows, get_base_url(request, service), pictures)
    headers = {"Cache-Control": "private", **build_rate_limit_headers(windows)}
    return build_json_response(skeleton, blobs, headers, service.limits.chunked_above_bytes)


@router.get(
    "/models",
    operation_id="list_models",
    responses={status: PROBLEMS[status] for status in (401, 403)},
)
async def list_models(response: Response, caller: CallerDep, service: ServiceDep) -> ModelsResponse:
    """List all models: limits, aspect ratios and sizes with pixels and tokens, prices, lifecycle."""
    response.headers.update(await _load_rate_limit_headers(service, caller))
    gateway = service.gateway
    models = [render_model(card, gateway.get_alias(caller, card)) for card in gateway.catalogue]
    return ModelsResponse(models=models)


@router.get(
    "/models/{model}",
    operation_id="get_model",
    responses={status: PROBLEMS[status] for status in (401, 403, 404)},
)
async def get_model(
    model: Annotated[str, Path(description="Model id or alias.", examples=["gemini-3.1-flash-image"])],
    response: Response,
    caller: CallerDep,
    service: ServiceDep,
) -> ModelWire:
    """Get a model by id or alias."""
    response.headers.update(await _load_rate_limit_headers(service, caller))
    card = service.gateway.catalogue.resolve(model)
    if card is None:
        raise NotFound("There is no such model.")
    return render_model(card, service.gateway.get_alias(caller, card))


@router.get(
    "/usage",
    operation_id="get_usage",
    responses={status: PROBLEMS[status] for status in (400, 401, 403, 422, 503)},
    openapi_extra={"parameters": [END_USER]},
)
async def get_usage(
    response: Response,
    caller: CallerDep,
    service: ServiceDep,
    since: Annotated[
        date | None, Query(description="First day of the report, UTC; the first of the month if omitted.")
    ] = None,
    until: Annotated[date | None, Query(description="Last day of the report, UTC; today if omitted.")] = None,
) -> UsageResponse:
    """Get the caller's budgets and rates, and what its key used and the cache saved."""
    first, last = resolve_days(since, until, service.limits.usage_days)
    rows = await service.reports.read_key(caller.tenant.id, caller.key.id, first, last)
    user = None
    if caller.user is not None:
        used = await service.reports.read_user(caller.tenant.id, caller.user.id, first, last)
        user = EndUserWire(id=caller.user.id, spent=render_spent(sum_rows(used)))
    windows = await service.gateway.get_budgets(caller)
    rates = await service.gateway.get_rates(caller)
    response.headers.update(build_rate_limit_headers(windows, rates))
    return UsageResponse(
        tenant=caller.tenant.id,
        project=caller.key.project,
        key=caller.key.id,
        user=user,
        budgets=[render_budget(window) for window in windows],
        rates=[render_rate(rate) for rate in rates],
        since=first,
        until=last,
        spent=render_spent(sum_rows(rows)),
    )
