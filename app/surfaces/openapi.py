"""Completes the generated OpenAPI document for linters, documentation pages and client generators.

Each step is one function on the document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic.json_schema import models_json_schema

from app.surfaces.admin.wire import (
    CreditRequest,
    IdentityCreation,
    KeyCreation,
    KeyRotation,
    OverrideRequest,
    PurgeRequest,
    TenantPatch,
)
from app.surfaces.http.problems import PROBLEMS, Problem
from app.surfaces.native.wire import EditForm, GenerateRequest
from app.surfaces.openai.wire import OpenAIImageEdit, OpenAIImageEvent, OpenAIImageGeneration
from app.tenants.schema import TenantDocument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

Json: TypeAlias = dict[str, Any]

_SCHEMAS = "#/components/schemas/"
_EXTRA_MODELS = (
    GenerateRequest,
    EditForm,
    Problem,
    OpenAIImageGeneration,
    OpenAIImageEdit,
    OpenAIImageEvent,
    TenantDocument,
    TenantPatch,
    KeyCreation,
    IdentityCreation,
    KeyRotation,
    CreditRequest,
    OverrideRequest,
    PurgeRequest,
)
_FRAMEWORK_SCHEMAS = ("HTTPValidationError", "ValidationError")
_NAMES = {
    "Warning": "Notice",
    "ViolationFound": "EstimateViolation",
    # openapi-python-client generates broken code for a class with a field of its own name.
    "Keys": "KeyList",
    "Tenants": "TenantList",
}
_TAGS = {
    "native": "Pictures, models and budgets in the gateway's own dialect.",
    "openai": "OpenAI's Images API, for its SDKs with another base URL and key.",
    "admin": "Tenants, keys, budgets and usage, for keys with the scope `admin`.",
}
_SERVERS = (
    {"url": "/", "description": "The gateway that serves this document."},
    {"url": "http://127.0.0.1:8080", "description": "The gateway started by `make run`."},
)
_PARAMETERS = {
    "tenant_id": ("Tenant id.", "search"),
    "key_id": ("Key id, the part of the key after its environment.", "k1"),
    "tenant": ("Tenant id.", "search"),
    "before": ("Id of an event.", "1795348800000-0"),
    "If-Match": ("ETag of the tenant to change.", '"3"'),
}
"""Description, unless the route has one, and example of parameters by name."""

_COMMON_STATUSES = ("400", "401", "403", "431", "500", "503")
"""Errors of every operation: bad framing, keys, headers, internal errors, and draining."""

_ADMIN_STATUSES = ("409", "412", "428")
_IMPOSSIBLE_STATUSES = ("405",)
"""Operations in the document are always allowed methods."""

EXAMPLES: Json = {
    "GenerateRequest": {"prompt": "A lighthouse at dusk", "aspect_ratio": "16:9", "image_size": "1K"},
    "EditForm": {"prompt": "The same at night"},
    "OpenAIImageGeneration": {"prompt": "A lighthouse at dusk", "size": "1536x1024"},
    "OpenAIImageEdit": {"prompt": "The same at night"},
}
"""Example requests for documentation pages; examples of responses follow from their fields."""


def finish_document(generated: Json) -> Json:
    """Complete the document in place, and return it."""
    _introduce(generated)
    schemas = _add_extra_schemas(generated)
    for operation in _iterate_operations(generated):
        _correct_errors(operation)
        for parameter in operation.get("parameters", ()):
            _complete_parameter(parameter)
        for body in (operation.get("requestBody", {}), *operation["responses"].values()):
            _keep_json_only(body)
    _complete_errors(generated)
    for schema in schemas.values():
        _clean_schema(schema)
    for name in _form_names(generated):
        for field in schemas[name]["properties"].values():
            _remove_null(field)
    _describe_and_exemplify(schemas)
    _rename(generated)
    generated["components"]["schemas"] = dict(sorted(generated["components"]["schemas"].items()))
    return generated


def _introduce(document: Json) -> None:
    """Add contact, licence, servers, and the tags that are in use, in the order of the table."""
    document["info"]["contact"] = {"name": "The maintainers of flashgate"}
    document["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    document["servers"] = [dict(server) for server in _SERVERS]
    used_tags = {tag for operation in _iterate_operations(document) for tag in operation["tags"]}
    document["tags"] = [
        {"name": name, "description": description} for name, description in _TAGS.items() if name in used_tags
    ]


def _iterate_operations(document: Json) -> Iterator[Json]:
    for path in document["paths"].values():
        yield from path.values()


def _add_extra_schemas(document: Json) -> dict[str, Json]:
    """Add the schemas that no route's signature mentions, and return all schemas.

    The gateway reads request bodies itself, so that images never reach a model class. The framework therefore
    does not know their schemas.
    """
    schemas: dict[str, Json] = document.setdefault("components", {}).setdefault("schemas", {})
    _, extra = models_json_schema(
        [(model, "validation") for model in _EXTRA_MODELS], ref_template=_SCHEMAS + "{model}"
    )
    for name in schemas.keys() & extra["$defs"].keys():
        same = schemas[name].get("properties", {}).keys() == extra["$defs"][name].get("properties", {}).keys()
        assert same, f"two classes are called {name}"  # noqa: S101 - a fault of ours
    schemas.update(extra["$defs"])
    for name in _FRAMEWORK_SCHEMAS:
        schemas.pop(name, None)
    return schemas


def _correct_errors(operation: Json) -> None:
    """Remove errors that the operation cannot return."""
    responses = operation["responses"]
    unprocessable = responses.get("422", {}).get("content", {}).get("application/json", {})
    if unprocessable.get("schema", {}).get("$ref", "").endswith("HTTPValidationError"):
        del responses["422"]
    for status in (*_IMPOSSIBLE_STATUSES, *(() if "admin" in operation["tags"] else _ADMIN_STATUSES)):
        responses.pop(status, None)


def _complete_errors(document: Json) -> None:
    """Add the common errors to every operation, in the envelope of its surface."""
    errors_by_tag: dict[str, Json] = {}
    for operation in _iterate_operations(document):
        surface = errors_by_tag.setdefault(operation["tags"][0], {})
        surface.update({status: operation["responses"][status] for status in _COMMON_STATUSES
                        if status in operation["responses"]})  # fmt: skip
    problems = {str(status): problem for status, problem in PROBLEMS.items()}
    for operation in _iterate_operations(document):
        responses = {**problems, **errors_by_tag[operation["tags"][0]]}
        completed = {status: responses[status] for status in _COMMON_STATUSES} | operation["responses"]
        operation["responses"] = dict(sorted(completed.items()))


def _complete_parameter(parameter: Json) -> None:
    """Remove null from a parameter's schema, and add a description and an example."""
    schema = parameter["schema"]
    _clean_schema(schema)
    _remove_null(schema)
    description, example = _PARAMETERS.get(parameter["name"], ("", None))
    parameter.setdefault("description", description)
    schema.setdefault("examples", [_build_example(schema, {}) if example is None else example])


def _keep_json_only(body: Json) -> None:
    """Keep only JSON if there are several media types, because generated clients misread such bodies.

    The operation's description mentions the others, such as raw pictures or CSV.
    """
    content = body.get("content", {})
    if len(content) > 1 and "application/json" in content:
        body["content"] = {"application/json": content["application/json"]}


def _clean_schema(schema: Any) -> None:
    """Remove redundant parts that generators mishandle, at every depth.

    Titles of fields repeat their names, and generators derive colliding class names from them. An integer is
    already a number. Generators only recognize bytes by ``format``.
    """
    if isinstance(schema, list):
        for item in schema:
            _clean_schema(item)
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("title"), str):
        del schema["title"]
    choices = schema.get("anyOf")
    if choices and {"type": "number"} in choices:
        schema["anyOf"] = [item for item in choices if item != {"type": "integer"}]
    if schema.pop("contentMediaType", None) == "application/octet-stream":
        schema["format"] = "binary"
    for keyword, inner in schema.items():
        if keyword == "properties":
            _clean_schema(list(inner.values()))
        elif keyword not in {"examples", "default", "enum", "const"}:
            _clean_schema(inner)


def _form_names(document: Json) -> Iterator[str]:
    """Yield the schemas that are sent as multipart forms."""
    for operation in _iterate_operations(document):
        form = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data")
        if form:
            yield form["schema"]["$ref"].removeprefix(_SCHEMAS)


def _remove_null(field: Json) -> None:
    """Remove null and empty defaults: a form field cannot be null, and an empty list has no part."""
    if {"type": "null"} in field.get("anyOf", ()):
        types = [item for item in field.pop("anyOf") if item != {"type": "null"}]
        field.update(types[0] if len(types) == 1 else {"anyOf": types})
    if field.get("default", ...) in (None, [], {}):
        del field["default"]


def _describe_and_exemplify(schemas: dict[str, Json]) -> None:
    """Add descriptions and examples to fields that hold objects, from the object's schema."""
    for name, schema in schemas.items():
        for field in schema.get("properties", {}).values():
            if "description" not in field and "$ref" in field:
                field["description"] = _resolve_reference(field, schemas)["description"]
            if "examples" not in field and not _is_file(field):
                field["examples"] = [_build_example(field, schemas)]
        if name in EXAMPLES:
            schema["examples"] = [EXAMPLES[name]]


def _resolve_reference(schema: Json, schemas: dict[str, Json]) -> Json:
    return schemas[schema["$ref"].removeprefix(_SCHEMAS)]


def _is_file(field: Json) -> bool:
    return field.get("format") == "binary" or field.get("items", {}).get("format") == "binary"


_PLAIN_EXAMPLES = {
    "date": "2026-11-23",
    "date-time": "2026-11-23T00:00:00Z",
    "string": "search",
    "integer": 1,
    "number": 1.0,
    "boolean": True,
}


def _build_example(schema: Json, schemas: dict[str, Json]) -> Any:
    """Build a valid value of a schema from the examples of its parts."""
    default = schema.get("default")
    examples = schema.get("examples") or schema.get("enum") or (None if default is None else [default])
    if examples:
        return examples[0]
    inner = _resolve_reference(schema, schemas) if "$ref" in schema else schema.get("anyOf", [None])[0]
    if inner:
        return _build_example(inner, schemas)
    if schema.get("type") == "array":
        return [_build_example(schema["items"], schemas)]
    if "properties" not in schema:
        plain = _PLAIN_EXAMPLES.get(schema.get("format") or schema.get("type", ""), {})
        if "minimum" in schema:
            return max(plain, schema["minimum"])
        return plain
    required = schema.get("required", ())
    members = {name: _build_example(field, schemas) for name, field in schema["properties"].items()}
    return {name: value for name, value in members.items() if value is not None or name in required}


def _rename(document: Json) -> None:
    """Rename schemas for generated clients: ``ImageWire`` becomes ``Image``."""
    schemas = document["components"]["schemas"]
    names = {}
    for name in schemas:
        plain = name.removesuffix("Wire")
        names[name] = _NAMES.get(plain, plain)
    assert len(set(names.values())) == len(names), "two schemas would have one name"  # noqa: S101 - a fault of ours
    document["components"]["schemas"] = {names[name]: schema for name, schema in schemas.items()}
    _rename_references(document, {_SCHEMAS + old: _SCHEMAS + new for old, new in names.items()})


def _rename_references(node: Any, names: dict[str, str]) -> None:
    if isinstance(node, dict):
        members = list(node.items())
    elif isinstance(node, list):
        members = list(enumerate(node))
    else:
        return
    for key, value in members:
        if isinstance(value, str):
            node[key] = names.get(value, value)
        else:
            _rename_references(value, names)


def install(app: FastAPI) -> None:
    """Make the application serve and export the completed document."""
    plain = app.openapi

    def generate_once() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = finish_document(plain())
        return app.openapi_schema

    app.openapi = generate_once  # type: ignore[method-assign]
