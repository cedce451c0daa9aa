"""What is written down is what the code does: the OpenAPI document, the reference, the README."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from app.commands.parser import build_parser
from app.commands.reference import render_reference, update_readme
from app.domain.failure import list_error_classes
from app.main import create_app
from app.settings import Settings
from app.surfaces.native.wire import GenerateRequest

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
    assert (ROOT / "REFERENCE.md").read_text() == render_reference(app, build_parser()), "run: make reference"


def test_the_readmes_table_of_what_is_refused_is_the_rules() -> None:
    readme = (ROOT / "README.md").read_text()
    assert readme == update_readme(readme, Settings().surface.default_model), "run: make reference"
    with pytest.raises(ValueError, match="does not hold"):
        update_readme("# flashgate", Settings().surface.default_model)


def operations_of(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every operation with its path."""
    return [
        (path, operation) for path, methods in document["paths"].items() for operation in methods.values()
    ]


def faults_of(document: dict[str, Any], component: str, value: Any) -> list[str]:
    """Why a component's schema does not take a value."""
    registry: Registry[Any] = Registry().with_resource("urn:document", DRAFT202012.create_resource(document))
    validator = Draft202012Validator({"$ref": f"urn:document#/components/{component}"}, registry=registry)
    return [error.message for error in validator.iter_errors(value)]


def test_every_operation_has_a_name_a_description_and_typed_errors(document: dict[str, Any]) -> None:
    names = []
    for path, operation in operations_of(document):
        names.append(operation["operationId"])
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", operation["operationId"])
        assert operation["description"]
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and int(status) != 416:
                media_type, name = ERROR_OF.get(path.split("/")[1], ERROR_OF["v1"])
                schema = answer["content"][media_type]["schema"]
                assert schema == {"$ref": f"#/components/schemas/{name}"}
    assert len(names) == len(set(names))


def test_every_operation_tells_what_any_request_can_meet(document: dict[str, Any]) -> None:
    for path, operation in operations_of(document):
        assert set(operation["responses"]) >= {"400", "401", "403", "431", "500", "503"}, path
        assert operation["security"], path
        assert len(operation["tags"]) == 1, path


def test_tags_are_those_in_use(document: dict[str, Any]) -> None:
    used = {operation["tags"][0] for _, operation in operations_of(document)}
    assert {tag["name"] for tag in document["tags"]} == used


def test_an_answer_has_one_media_type_and_no_parameter_is_one_that_clients_set_themselves(
    document: dict[str, Any],
) -> None:
    for path, operation in operations_of(document):
        for status, answer in operation["responses"].items():
            contents = answer.get("content", {})
            assert len(contents) <= 1, f"{path} {status}"
            assert all("schema" in content and "itemSchema" not in content for content in contents.values())
        for parameter in operation.get("parameters", ()):
            assert parameter["description"]
            assert parameter["schema"]["examples"]
            for example in parameter["schema"]["examples"]:
                validator = Draft202012Validator(
                    parameter["schema"], format_checker=Draft202012Validator.FORMAT_CHECKER
                )
                assert [fault.message for fault in validator.iter_errors(example)] == [], parameter["name"]
            assert parameter["name"].lower() not in {"accept", "content-type", "authorization"}


def test_every_field_has_a_description_and_an_example_that_it_takes(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        for field, facts in schema["properties"].items():
            assert facts["description"], f"{name}.{field}"
            if "binary" in {facts.get("format"), facts.get("items", {}).get("format")}:
                continue
            assert facts["examples"], f"{name}.{field}"
            for example in facts["examples"]:
                assert not faults_of(document, f"schemas/{name}/properties/{field}", example)


def test_a_code_in_an_example_is_one_that_is_answered(document: dict[str, Any]) -> None:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "app").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    shown = {
        id(constant)
        for node in nodes
        if isinstance(node, ast.keyword) and node.arg == "examples"
        for constant in ast.walk(node)
    }
    literals = {node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in shown}
    formats = [node.values[0] for node in nodes if isinstance(node, ast.JoinedStr) and len(node.values) == 2]
    stems = {stem.value for stem in formats if isinstance(stem, ast.Constant)}
    for name, schema in document["components"]["schemas"].items():
        for example in schema["properties"].get("code", {}).get("examples", ()):
            stem, _, _rest = example.partition("_")
            assert example in literals or f"{stem}_" in stems, f"{name}: nothing answers with {example}"


def test_every_schema_is_used_but_the_event_of_streams(document: dict[str, Any]) -> None:
    referenced = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert set(document["components"]["schemas"]) - referenced == {"OpenAIImageEvent"}


def test_a_schema_is_a_good_name_of_a_class(document: dict[str, Any]) -> None:
    taken_in_java = {"Class", "Error", "Exception", "Integer", "List", "Map", "Object", "Override", "String"}
    for name, schema in document["components"]["schemas"].items():
        assert re.fullmatch(r"[A-Z][A-Za-z]+", name), "classes of two surfaces have one name"
        assert name not in taken_in_java
        assert name.lower() not in schema["properties"], "openapi-python-client makes a broken class of it"


def test_form_fields_cannot_be_null_and_files_are_binary(document: dict[str, Any]) -> None:
    for name in ("EditForm", "OpenAIImageEdit"):
        fields = document["components"]["schemas"][name]["properties"]
        assert not [field for field, facts in fields.items() if {"type": "null"} in facts.get("anyOf", ())]
        assert all(
            fields[field]["items"] == {"type": "string", "format": "binary"}
            for field in ("image", "document", "video")
        )
    assert "contentMediaType" not in json.dumps(document)


@pytest.mark.parametrize("name", ["GenerateRequest", "OpenAIImageGeneration"])
def test_the_example_of_a_whole_request_fits_its_schema(document: dict[str, Any], name: str) -> None:
    [example] = document["components"]["schemas"][name]["examples"]
    assert not faults_of(document, f"schemas/{name}", example)


def test_error_codes_are_unique_to_a_status() -> None:
    statuses: dict[str, set[int]] = {}
    for error in list_error_classes():
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
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
