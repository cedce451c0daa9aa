"""The finishing step that makes the generated OpenAPI document true for every consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from app.surfaces.native.wire import EditForm, GenerateRequest
from app.surfaces.openai.wire import OpenAIImageEdit, OpenAIImageEvent, OpenAIImageGeneration
from app.surfaces.problems import Problem

if TYPE_CHECKING:
    from fastapi import FastAPI

_REF = "#/components/schemas/{model}"
_BESIDE_ROUTES = (
    GenerateRequest,
    EditForm,
    Problem,
    OpenAIImageGeneration,
    OpenAIImageEdit,
    OpenAIImageEvent,
)
_OF_THE_FRAMEWORK = ("HTTPValidationError", "ValidationError")


def finished(generated: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas that no route signature mentions, and take out what the framework adds unasked.

    Request bodies are read by the gateway itself, so that images never reach a model class; their
    schemas are therefore not found by the framework.
    """
    generated["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    generated["servers"] = [{"url": "/", "description": "This gateway."}]
    generated["tags"] = [
        {"name": "native", "description": "Pictures, models and budgets in the gateway's own dialect."},
        {
            "name": "openai",
            "description": "OpenAI's Images API: its SDKs work with another base URL and key.",
        },
    ]
    schemas = generated.setdefault("components", {}).setdefault("schemas", {})
    _, extra = models_json_schema([(model, "validation") for model in _BESIDE_ROUTES], ref_template=_REF)
    schemas.update(extra["$defs"])
    for name in _OF_THE_FRAMEWORK:
        schemas.pop(name, None)
    for path in generated["paths"].values():
        for operation in path.values():
            _without_framework_errors(operation)
    generated["components"]["schemas"] = dict(sorted(schemas.items()))
    return generated


def _without_framework_errors(operation: dict[str, Any]) -> None:
    unprocessable = operation["responses"].get("422", {}).get("content", {}).get("application/json", {})
    if unprocessable.get("schema", {}).get("$ref", "").endswith("HTTPValidationError"):
        del operation["responses"]["422"]


def install(app: FastAPI) -> None:
    """Serve and export the finished document."""
    plain = app.openapi

    def finished_once() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = finished(plain())
        return app.openapi_schema

    app.openapi = finished_once  # type: ignore[method-assign]
