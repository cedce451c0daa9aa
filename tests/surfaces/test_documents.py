"""What is written down is what the code does: the OpenAPI document, the reference, the README."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import validate

from app.main import create_app
from app.reference import reference
from app.settings import Settings
from app.surfaces.native.wire import GenerateRequest
from app.surfaces.problems import error_classes

if TYPE_CHECKING:
    from fastapi import FastAPI

ROOT = Path(__file__).parents[2]
ERROR_OF = {
    "v1": ("application/problem+json", "Problem"),
    "openai": ("application/json", "OpenAIError"),
}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(Settings())


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def test_the_committed_openapi_document_is_the_applications(document: dict[str, Any]) -> None:
    committed = json.loads((ROOT / "openapi" / "openapi.json").read_text())
    assert committed == document, "run: make openapi"
    validate(document)


def test_the_committed_reference_is_the_codes(app: FastAPI) -> None:
    assert (ROOT / "REFERENCE.md").read_text() == reference(app), "run: make reference"


def test_every_operation_has_a_name_a_description_and_typed_errors(document: dict[str, Any]) -> None:
    names = []
    for path, operations in document["paths"].items():
        for operation in operations.values():
            names.append(operation["operationId"])
            assert re.fullmatch(r"[a-z]+(_[a-z]+)+", operation["operationId"])
            assert operation["description"]
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and int(status) != 416:
                    media_type, name = ERROR_OF.get(path.split("/")[1], ERROR_OF["v1"])
                    schema = answer["content"][media_type]["schema"]
                    assert schema == {"$ref": f"#/components/schemas/{name}"}
    assert len(names) == len(set(names))


def test_every_property_has_a_description(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        for field, facts in schema.get("properties", {}).items():
            assert facts.get("description") or "$ref" in facts, f"{name}.{field}"


def test_error_codes_are_unique_to_a_status() -> None:
    statuses: dict[str, set[int]] = {}
    for error in error_classes():
        statuses.setdefault(error.code, set()).add(error.status)
    assert all(len(found) == 1 for found in statuses.values()), statuses


def test_the_readme_names_every_field_of_a_request() -> None:
    readme = (ROOT / "README.md").read_text()
    spelt = {"top_k", "candidate_count", "response_modalities", "output_compression_quality"}
    missing = [
        name for name in GenerateRequest.model_fields if f"`{name}`" not in readme and name not in spelt
    ]
    assert not missing


def test_links_between_the_documents_lead_somewhere() -> None:
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (ROOT / target).exists(), f"{page.name}: {target}"
