"""Parses requests in the native dialect into orders, which carry all violations found so far."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from app.domain.errors import VIOLATIONS_MAX, Violation
from app.domain.pointers import build_pointer
from app.domain.request import CacheDirective, GenerationRequest, Grounding, Input, SafetySetting
from app.domain.requirements import classify_kind, describe_requirement, list_choices
from app.generation.conversations import CannotContinue
from app.generation.order import Order
from app.surfaces.http.body import parse_json
from app.surfaces.http.cache_control import parse_cache_control
from app.surfaces.http.end_user import attach_body_user
from app.surfaces.http.inputs import build_uri_input, check_base64, inspect_input, load_earlier_image
from app.surfaces.http.max_cost import convert_dollars
from app.surfaces.native.wire import (
    EditForm,
    GenerateRequest,
    GroundingWire,
    InputReference,
    Parameters,
    SafetySettingWire,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails
    from starlette.datastructures import UploadFile

    from app.domain.conversation import Earlier
    from app.domain.request import InputKind
    from app.domain.tenancy import Caller
    from app.surfaces.http.body import FormBody, JsonBody
    from app.surfaces.http.context import Service

P = TypeVar("P", bound=Parameters)
Inputs: TypeAlias = dict[str, tuple[Input, ...]]
_KINDS: tuple[tuple[InputKind, str], ...] = (
    ("image", "images"),
    ("document", "documents"),
    ("video", "videos"),
)
_SOURCES = ("data", "uri", "image_id")
FILES = frozenset(kind for kind, _ in _KINDS)
"""Form fields that hold files."""
NO_FILE = "Send this as a file part, with a file name."
_INNER: Mapping[str, type[BaseModel]] = {"grounding": GroundingWire, "safety_settings": SafetySettingWire}
_JSON_FIELDS = frozenset({"safety_settings", "grounding", "labels"})
_JSON_LISTS = frozenset({"safety_settings"})


async def parse_json_order(
    service: Service, caller: Caller, body: JsonBody, cache_control: str | None
) -> tuple[Order, str]:
    """Parse a JSON request into an order with its violations, and the requested delivery."""
    parameters, violations = parse_members(GenerateRequest, restore_texts(body), strict=True)
    inputs, input_violations = await read_json_inputs(service, caller, parameters, body, violations)
    order = await build_order(
        service, caller, parameters, inputs, (*violations, *input_violations), cache_control
    )
    return order, parameters.delivery


def restore_texts(body: JsonBody) -> dict[str, Any]:
    """Return the members of a body with all strings put back that are none of a file.

    Raises:
        InvalidRequest: See ``JsonBody.restore``.
    """
    files = {field for _, field in _KINDS}
    return {name: value if name in files else body.restore(value) for name, value in body.members.items()}


async def read_json_inputs(
    service: Service,
    caller: Caller,
    parameters: GenerateRequest,
    body: JsonBody,
    reported: Iterable[Violation],
) -> tuple[Inputs, list[Violation]]:
    """Load the inputs of a JSON request by field, and find their violations.

    An input that already has a violation, because it could not be parsed, gets no further one.
    """
    invalid = {"/".join(violation.pointer.split("/")[:3]) for violation in reported}
    inputs: Inputs = {}
    violations: list[Violation] = []
    for kind, field in _KINDS:
        loaded: list[Input] = []
        references = getattr(parameters, field)
        if len(references) > service.limits.inputs_max:
            detail = f"{len(references)} inputs; at most {service.limits.inputs_max} are accepted."
            violations.append(Violation(f"/{field}", "too_many_inputs", detail))
            references = []
        for index, reference in enumerate(references):
            place = f"/{field}/{index}"
            if place in invalid and not _list_sources(reference):
                continue
            item = await _load_input(service, caller, kind, place, reference, body)
            if isinstance(item, Input):
                loaded.append(item)
            else:
                violations.append(item)
        inputs[field] = tuple(loaded)
    return inputs, violations


async def parse_form_order(
    service: Service, caller: Caller, form: FormBody, cache_control: str | None
) -> tuple[Order, str]:
    """Parse a multipart request into an order with its violations, and the requested delivery."""
    members, field_violations = parse_fields(form.fields)
    parameters, violations = parse_members(EditForm, members, strict=False)
    required = parameters.continue_from is None and not FILES & form.fields.keys()
    inputs, input_violations = await read_form_inputs(service, form.files, required=required)
    all_violations = (*field_violations, *input_violations, *violations)
    return await build_order(
        service, caller, parameters, inputs, all_violations, cache_control
    ), parameters.delivery


async def read_form_inputs(
    service: Service, parts: Mapping[str, list[UploadFile]], *, required: bool = True
) -> tuple[Inputs, list[Violation]]:
    """Load the inputs of a form by field, and find their violations.

    At least one is required, unless the request continues a conversation, which already has pictures.
    """
    kinds = {kind for kind, _ in _KINDS}
    violations = [
        Violation(build_pointer(name), "unknown_field", "This field does not take a file.")
        for name in parts
        if name not in kinds
    ]
    inputs: Inputs = {}
    for kind, field in _KINDS:
        uploads: list[Input] = []
        for index, part in enumerate(parts.get(kind, [])):
            place = f"/{kind}/{index}"
            if (part.size or 0) > service.limits.input_bytes_max:
                # The file is on disk; do not read it into memory just to refuse it.
                detail = f"The file exceeds {service.limits.input_bytes_max} bytes."
                violations.append(Violation(place, "input_too_large", detail))
                continue
            uploads.append(
                await inspect_input(
                    service, kind, place, await part.read(), _read_declared_type(part.content_type)
                )
            )
        inputs[field] = tuple(uploads)
    if required and not any(parts.get(kind) for kind in kinds):
        detail = "Send at least one file to edit, as form part image, document or video."
        violations.append(Violation("/image", "required", detail))
    return inputs, violations


def _read_declared_type(content_type: str | None) -> str | None:
    """Return the declared type of a form part; octet-stream means that the client does not know it."""
    if content_type in {None, "", "application/octet-stream"}:
        return None
    return content_type


def parse_fields(fields: Mapping[str, list[str]]) -> tuple[dict[str, Any], list[Violation]]:
    """Convert form fields to JSON members: repeated fields become lists, structured ones are parsed.

    Empty fields count as absent, because web forms send those that nobody filled in.
    """
    members: dict[str, Any] = {}
    violations: list[Violation] = []
    for name, values in fields.items():
        if name != "prompt" and not any(values):
            continue
        if name == "response_modalities":
            members[name] = [
                item.strip() for value in values for item in value.strip("[]").replace('"', "").split(",", 9)
            ]
        elif name in FILES:
            violations.append(Violation(build_pointer(name), "wrong_type", NO_FILE))
        elif len(values) > 1 and name not in _JSON_LISTS:
            violations.append(Violation(build_pointer(name), "repeated_field", "Send this field once."))
        elif name in _JSON_FIELDS:
            try:
                read_values = [parse_json(value) for value in values]
                members[name] = _flatten(read_values) if name in _JSON_LISTS else read_values[0]
            except ValueError:
                violations.append(Violation(build_pointer(name), "invalid_json", "This field must be JSON."))
        else:
            members[name] = values[0]
    return members, violations


def _flatten(values: list[Any]) -> list[Any]:
    """Flatten a list that came as one field, or item by item as generated clients send it."""
    return [item for value in values for item in (value if isinstance(value, list) else [value])]


def parse_members(model: type[P], members: Mapping[str, Any], *, strict: bool) -> tuple[P, list[Violation]]:
    """Parse members and collect violations; invalid ones are dropped, so that the rest is validated too."""
    try:
        return model.model_validate(members, strict=strict), []
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=True)
    violations = [_build_violation(model, item) for item in errors[: VIOLATIONS_MAX + 1]]
    pruned = _prune(members, [item["loc"] for item in errors])
    pruned.setdefault("prompt", "-")
    try:
        return model.model_validate(pruned, strict=strict), violations
    except ValidationError as error:
        for item in error.errors():
            pruned.pop(str(item["loc"][0]), None)
    pruned.setdefault("prompt", "-")
    return model.model_validate(pruned, strict=strict), violations


def _prune(members: Mapping[str, Any], locations: list[tuple[int | str, ...]]) -> dict[str, Any]:
    """Return the members without invalid parts; with too many of those, drop whole top-level members."""
    if len(locations) > VIOLATIONS_MAX:
        names = {location[0] for location in locations}
        return {name: value for name, value in members.items() if name not in names}
    pruned = copy.deepcopy(dict(members))
    for location in locations:
        _remove(pruned, location)
    return pruned


def _remove(members: dict[str, Any], location: tuple[int | str, ...]) -> None:
    """Remove an invalid member. A list item becomes an empty object, so that the others keep their index."""
    place: Any = members
    for step in location[:-1]:
        if isinstance(place, dict):
            place = place.get(step)
        elif isinstance(place, list):
            place = place[int(step)]
    if isinstance(place, dict):
        place.pop(location[-1], None)
    elif isinstance(place, list) and isinstance(location[-1], int):
        place[location[-1]] = {}


def _build_violation(model: type[Parameters], item: ErrorDetails) -> Violation:
    where, kind, context = item["loc"], item["type"], item.get("ctx")
    code, allowed = classify_kind(kind), list_choices(kind, context)
    detail = f"This {describe_requirement(kind, context)}."
    if code == "unknown_field":
        inner = _INNER.get(str(where[0]), InputReference)
        allowed = tuple(sorted((model if len(where) == 1 else inner).model_fields))
    return Violation(build_pointer(*where), code, detail, allowed)


def _list_sources(reference: InputReference) -> list[str]:
    return [name for name in _SOURCES if getattr(reference, name) is not None]


async def _load_input(
    service: Service, caller: Caller, kind: InputKind, place: str, reference: InputReference, body: JsonBody
) -> Input | Violation:
    if len(_list_sources(reference)) != 1:
        detail = "Exactly one of data, uri and image_id is required."
        return Violation(place, "one_source", detail, _SOURCES)
    if reference.uri is not None:
        return build_uri_input(kind, place, reference.uri, reference.mime_type)
    if reference.image_id is not None:
        return await load_earlier_image(service, caller, kind, place, reference.image_id)
    lifted = body.blobs[reference.data or ""]
    fault = check_base64(lifted, f"{place}/data", service.limits.input_bytes_max)
    if fault is not None:
        return fault
    declared = reference.mime_type or lifted.media_type or None
    item = await inspect_input(service, kind, place, lifted.data, declared)
    return replace(item, plain=lifted.plain)


async def _load_earlier(
    service: Service, caller: Caller, generation_id: str | None
) -> tuple[Earlier | None, tuple[Violation, ...]]:
    """Load the conversation that a request continues, or return the violation."""
    if generation_id is None:
        return None, ()
    try:
        return await service.gateway.conversations.load_earlier(caller.tenant.id, generation_id), ()
    except CannotContinue as fault:
        return None, (Violation("/continue_from", fault.code, fault.sentence),)


async def build_order(
    service: Service,
    caller: Caller,
    parameters: Parameters,
    inputs: Inputs,
    violations: Iterable[Violation],
    cache_control: str | None,
) -> Order:
    """Build an order from the parsed parameters, the inputs and all violations found so far."""
    grounding = parameters.grounding
    earlier, continuation_violations = await _load_earlier(service, caller, parameters.continue_from)
    request = GenerationRequest(
        model=parameters.model or (earlier.conversation.model if earlier else service.limits.default_model),
        prompt=parameters.prompt,
        images=inputs["images"],
        documents=inputs["documents"],
        videos=inputs["videos"],
        aspect_ratio=parameters.aspect_ratio,
        image_size=parameters.image_size,
        n=parameters.n,
        response_modalities=tuple(parameters.response_modalities),
        output_mime_type=parameters.output_mime_type,
        output_compression_quality=parameters.output_compression_quality,
        temperature=parameters.temperature,
        top_p=parameters.top_p,
        top_k=parameters.top_k,
        candidate_count=parameters.candidate_count,
        seed=parameters.seed,
        max_output_tokens=parameters.max_output_tokens,
        thinking_level=parameters.thinking_level,
        system_instruction=parameters.system_instruction,
        safety_settings=tuple(
            SafetySetting(item.category, item.threshold) for item in parameters.safety_settings
        ),
        grounding=Grounding(grounding.web_search, grounding.image_search) if grounding else Grounding(),
        variant=parameters.variant,
        labels=tuple(sorted(parameters.labels.items())),
        service_tier=parameters.service_tier,
        earlier=earlier,
    )
    directive = CacheDirective(parameters.cache) if parameters.cache else parse_cache_control(cache_control)
    max_cost = parameters.max_cost_usd
    order = Order(
        caller,
        request,
        directive,
        (*violations, *continuation_violations),
        max_cost_usd=None if max_cost is None else convert_dollars(max_cost),
    )
    return attach_body_user(order, service, parameters.user)
