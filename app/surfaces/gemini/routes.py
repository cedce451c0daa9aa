"""Routes of Google's dialect below ``/gemini``, in the form of either back end (docs/model.md#addresses).

They are not in the OpenAPI document, because their schema is Google's.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from app.domain.errors import (
    GatewayError,
    InvalidRequest,
    NotFound,
    UpstreamInvalidRequest,
    ValidationFailed,
    Violation,
)
from app.domain.policy import CALL_S_MIN
from app.domain.tenancy import Caller
from app.generation.order import ClientTimeout
from app.surfaces.gemini.errors import PREFIX, is_vertex
from app.surfaces.gemini.request import TIER_HEADER, parse_count_request, parse_order
from app.surfaces.gemini.response import (
    PAGE_SIZE,
    render_model,
    render_page,
    render_result,
    render_token_count,
)
from app.surfaces.gemini.streaming import RenderedAnswer, build_dialect
from app.surfaces.gemini.system_parameters import check_system_parameters
from app.surfaces.http.auth import authorize, find_presented_key
from app.surfaces.http.body import BytesFormat, read_json
from app.surfaces.http.cache_control import read_cache_control
from app.surfaces.http.client_timeout import read_client_timeout
from app.surfaces.http.context import ServiceDep
from app.surfaces.http.end_user import attach_header_user
from app.surfaces.http.envelope import build_error_headers
from app.surfaces.http.idempotency import attach_idempotency_key
from app.surfaces.http.max_cost import attach_max_cost
from app.surfaces.http.ratelimit import build_rate_limit_headers
from app.surfaces.http.replies import build_generation_headers, build_json_response
from app.surfaces.http.streams import stream

if TYPE_CHECKING:
    from app.domain.card import Card
    from app.surfaces.gemini.response import StreamFormat
    from app.surfaces.http.context import Service

router = APIRouter(prefix=PREFIX, include_in_schema=False)

_VERSIONS: Final = frozenset({"v1", "v1alpha", "v1beta", "v1beta1"})
_MODELS: Final = (
    "/{version}/models",
    "/{version}/publishers/google/models",
    "/{version}/projects/{project}/locations/{location}/publishers/google/models",
)
# Thought signatures are opaque and can be larger than anything but the pictures. A conversation repeats the
# model's pictures and texts, each with its signature.
BYTES_FORMAT: Final = BytesFormat(
    frozenset({"data", "thoughtSignature", "thought_signature"}), strings_per_input=4
)
_NO_SUCH_METHOD: Final = (
    "No such method. Below /gemini/{version}, GET lists models and shows one, and POST calls"
    " generateContent, streamGenerateContent and countTokens of a model."
)
MODEL_LENGTH_MAX: Final = 100
_SECONDS: Final = re.compile(r"\d{1,7}(\.\d{1,9})?", re.ASCII)


async def _authorize(request: Request, version: str, service: ServiceDep) -> Caller:
    """Authorize the caller by a key in a header, or in ``key`` or ``access_token`` of the query.

    The path must name a supported version and location. Its project is ignored: clients must name one, and
    they keep their own when only base URL and key are changed.
    """
    query = request.query_params
    presented = find_presented_key(request) or query.get("key") or query.get("access_token")
    caller = await authorize(request, "images", presented)
    request.state.notices = check_system_parameters(request)
    if version not in _VERSIONS:
        raise NotFound(f"No such version of the API. Use {', '.join(sorted(_VERSIONS))}.")
    location = request.path_params.get("location")
    if location is not None:
        _check_location(service, location, request.path_params.get("model"))
    return attach_header_user(caller, request, service)


def _check_location(service: Service, location: str, model: str | None) -> None:
    """Refuse a region that is not served: a caller who names one must not be served elsewhere unnoticed.

    Raises:
        NotFound: The card or the deployment does not serve the location.
    """
    cards = service.gateway.catalogue if model is None else [_resolve_card(service, model)]
    here = {"global", service.limits.location}
    served = {service.limits.location} | {
        place for card in cards for place in card.locations if place in here
    }
    if location not in served:
        raise NotFound(
            "The publisher model was not found at this location. Available locations:"
            f" {', '.join(f'locations/{place}' for place in sorted(served))}."
        )


GoogleCallerDep = Annotated[Caller, Depends(_authorize)]


async def generate_content(
    model: str, request: Request, caller: GoogleCallerDep, service: ServiceDep
) -> Response:
    """Generate a picture in Google's dialect; the response is the upstream's own."""
    answered = await _generate(request, service, caller, model)
    skeleton, bound = answered.document.encode(), service.limits.chunked_above_bytes
    return build_json_response(skeleton, answered.blobs, answered.headers, bound)


async def stream_generate_content(
    model: str, request: Request, caller: GoogleCallerDep, service: ServiceDep
) -> Response:
    """Generate a picture, streamed as server-sent events (`alt=sse`) or as a JSON array."""
    form: StreamFormat = "array"
    if request.query_params.get("alt") == "sse":
        form = "sse"
    dialect = build_dialect(form, getattr(request.state, "request_id", ""), request.url.path)
    answered = _generate(request, service, caller, model)
    return await stream(answered, dialect, patience_s=service.limits.stream_status_wait_s)


async def count_tokens(
    model: str, request: Request, _caller: GoogleCallerDep, service: ServiceDep
) -> Response:
    """Count the tokens that would be reserved for the input; nothing is spent."""
    card = _resolve_card(service, model)
    body = await read_json(request, service.limits, BYTES_FORMAT)
    vertex = is_vertex(request.url.path)
    content = await parse_count_request(service, card, body, vertex=vertex)
    answer = render_token_count(content, card, vertex=vertex)
    return Response(answer, media_type="application/json")


async def list_models(request: Request, caller: GoogleCallerDep, service: ServiceDep) -> Response:
    """List the models that the caller may use, in Google's form."""
    query = request.query_params
    size, start = query.get("pageSize", str(PAGE_SIZE)), query.get("pageToken", "0")
    faults = [
        Violation(f"/{name}", "wrong_type", "This must be a whole number.")
        for name, value in (("page_size", size), ("page_token", start))
        if not (value.isascii() and value.isdecimal() and len(value) < 10)
    ]
    if faults:
        raise ValidationFailed(tuple(faults))
    models = caller.models
    cards = [card for card in service.gateway.catalogue if not models or card.id in models]
    page = render_page(cards, int(size), int(start), vertex=is_vertex(request.url.path))
    return Response(json.dumps(page), media_type="application/json")


async def get_model(model: str, request: Request, _caller: GoogleCallerDep, service: ServiceDep) -> Response:
    """Get a model by id or alias, in Google's form."""
    document = render_model(_resolve_card(service, model), vertex=is_vertex(request.url.path))
    return Response(json.dumps(document), media_type="application/json")


for _prefix in _MODELS:
    router.add_api_route(_prefix, list_models, methods=["GET"])
    router.add_api_route(_prefix + "/{model}", get_model, methods=["GET"])
    for _verb, _endpoint in (
        ("generateContent", generate_content),
        ("streamGenerateContent", stream_generate_content),
        ("countTokens", count_tokens),
    ):
        router.add_api_route(f"{_prefix}/{{model}}:{_verb}", _endpoint, methods=["POST"])


@router.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def refuse_unknown_path() -> Response:
    """Answer 404 as Google does, even if only the HTTP method or the verb after the colon is unknown."""
    raise NotFound(_NO_SUCH_METHOD)


def _resolve_card(service: Service, model: str) -> Card:
    card = service.gateway.catalogue.resolve(model)
    if card is None:
        name = model[:MODEL_LENGTH_MAX]
        raise NotFound(f"models/{name} is not found. Call ListModels to see the list of available models.")
    return card


async def _generate(request: Request, service: Service, caller: Caller, model: str) -> RenderedAnswer:
    """Generate the upstream's own response. A refusal is one too: Google answers 200 to a blocked prompt."""
    card = _resolve_card(service, model)
    patience = _read_timeout(request)
    body = await read_json(request, service.limits, BYTES_FORMAT)
    control, vertex = read_cache_control(request), is_vertex(request.url.path)
    tier = request.headers.get(TIER_HEADER) if vertex else None
    parsed = await parse_order(service, caller, card, body, control, vertex=vertex, tier=tier)
    notices = request.state.notices + parsed.notices
    order = attach_max_cost(replace(parsed, patience=patience, notices=notices), request)
    order = attach_idempotency_key(order, request, "generateContent")
    try:
        result = await service.gateway.generate(order)
    except GatewayError as error:
        request.state.outcome = error.code
        if not error.verbatim or isinstance(error, UpstreamInvalidRequest):
            raise
        return RenderedAnswer(error.verbatim, headers=build_error_headers(error))
    request.state.cache = result.cache_status
    document, blobs = render_result(result)
    return RenderedAnswer(
        document,
        blobs,
        {**build_generation_headers(result), **build_rate_limit_headers(result.windows, result.rates)},
    )


def _read_timeout(request: Request) -> ClientTimeout | None:
    """Return the caller's timeout, which Google's SDKs send in ``X-Server-Timeout``; None for no timeout.

    Raises:
        InvalidRequest: The timeout is below Google's minimum.
    """
    usual = read_client_timeout(request)
    sent = _SECONDS.fullmatch(request.headers.get("x-server-timeout", ""))
    if sent is None:
        return usual
    seconds = float(sent[0])
    if seconds < CALL_S_MIN:
        raise InvalidRequest(
            f"Manually set deadline {seconds:g}s is too short. Minimum allowed deadline is {CALL_S_MIN:g}s."
        )
    if usual is not None and usual.seconds < seconds:
        return usual
    return ClientTimeout(seconds, time.monotonic(), "X-Server-Timeout")
