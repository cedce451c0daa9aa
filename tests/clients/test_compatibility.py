"""The document against the last released one, and the check itself against every kind of break."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.compatibility import breaking_changes
from tests.clients.workshop import DOCUMENT, OPENAPI

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]
RELEASED = OPENAPI / "released.json"
"""The document of the last release; a release replaces it by a copy of today's."""


def example() -> Json:
    """A small document with everything that the check looks at."""
    request = {
        "type": "object",
        "required": ["prompt"],
        "properties": {
            "prompt": {"type": "string"},
            "n": {"type": "integer", "maximum": 8},
            "delivery": {"type": "string", "enum": ["inline", "uri"]},
            "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Part"}},
        },
    }
    answer = {
        "type": "object",
        "required": ["id", "status"],
        "properties": {
            "id": {"type": "string"},
            "text": {"type": "string"},
            "status": {"type": "string", "enum": ["hit", "miss"]},
            "cost": {"anyOf": [{"$ref": "#/components/schemas/Cost"}, {"type": "null"}]},
        },
    }
    part = {"type": "object", "properties": {"inner": {"$ref": "#/components/schemas/Part"}}}
    cost = {"type": "object", "required": ["usd"], "properties": {"usd": {"type": "number"}}}
    schemas = {"Request": request, "Answer": answer, "Part": part, "Cost": cost}
    operation = {
        "operationId": "draw",
        "parameters": [{"in": "header", "name": "Range", "schema": {"type": "string"}}],
        "requestBody": {"content": content_of("Request")},
        "responses": {"200": {"content": content_of("Answer")}, "404": {}},
    }
    return {"paths": {"/draw": {"post": operation}}, "components": {"schemas": schemas}}


def content_of(name: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def operation_of(document: Json) -> Json:
    found: Json = document["paths"]["/draw"]["post"]
    return found


def fields_of(document: Json, name: str) -> Json:
    found: Json = document["components"]["schemas"][name]["properties"]
    return found


BREAKS: dict[str, Callable[[Json], object]] = {
    "POST /draw is gone.": lambda new: new["paths"].clear(),
    "POST /draw is called paint, not draw as in clients.": lambda new: operation_of(new).update(
        operationId="paint"
    ),
    "POST /draw: the answer 404 is gone.": lambda new: operation_of(new)["responses"].pop("404"),
    "POST /draw: the header parameter Range is gone.": lambda new: operation_of(new)["parameters"].clear(),
    "POST /draw: the query parameter q is now required.": lambda new: operation_of(new)["parameters"].append(
        {"in": "query", "name": "q", "required": True, "schema": {"type": "string"}}
    ),
    "POST /draw: the request now needs a body.": lambda new: operation_of(new)["requestBody"].update(
        required=True
    ),
    "POST /draw: the answer 200 is no longer application/json.": lambda new: operation_of(new)["responses"][
        "200"
    ].update(content={"image/*": {"schema": {}}}),
    "POST /draw: the request: the field seed is gone.": lambda new: fields_of(new, "Request").pop("seed"),
    "POST /draw: the request: the field n is now required.": lambda new: new["components"]["schemas"][
        "Request"
    ].update(required=["prompt", "n"]),
    "POST /draw: the request, seed no longer takes null.": lambda new: fields_of(new, "Request").update(
        seed={"type": "integer"}
    ),
    "POST /draw: the request, delivery no longer takes uri.": lambda new: fields_of(new, "Request")[
        "delivery"
    ].update(enum=["inline"]),
    "POST /draw: the request, n is now bounded: maximum 4.": lambda new: fields_of(new, "Request")[
        "n"
    ].update(maximum=4),
    "POST /draw: the request, prompt must now match ^a.": lambda new: fields_of(new, "Request")[
        "prompt"
    ].update(pattern="^a"),
    "POST /draw: the request no longer takes other fields.": lambda new: new["components"]["schemas"][
        "Request"
    ].update(additionalProperties=False),
    "POST /draw: the request, parts, items: the field inner is gone.": lambda new: fields_of(
        new, "Part"
    ).clear(),
    "POST /draw: the answer 200: the field text is gone.": lambda new: fields_of(new, "Answer").pop("text"),
    "POST /draw: the answer 200: the field id may now be missing.": lambda new: new["components"]["schemas"][
        "Answer"
    ].update(required=["status"]),
    "POST /draw: the answer 200, text may now be null.": lambda new: fields_of(new, "Answer").update(
        text={"anyOf": [{"type": "string"}, {"type": "null"}]}
    ),
    "POST /draw: the answer 200, status may now be stale.": lambda new: fields_of(new, "Answer")[
        "status"
    ].update(enum=["hit", "miss", "stale"]),
    "POST /draw: the answer 200, cost, usd may now be string.": lambda new: fields_of(new, "Cost")[
        "usd"
    ].update(type=["number", "string"]),
}

FINE: dict[str, Callable[[Json], object]] = {
    "a new operation": lambda new: new["paths"]["/draw"].update(get={"responses": {}}),
    "a new optional field of a request": lambda new: fields_of(new, "Request").update(x={"type": "string"}),
    "a new field of an answer": lambda new: fields_of(new, "Answer").update(x={"type": "string"}),
    "a wider bound": lambda new: fields_of(new, "Request")["n"].update(maximum=16),
    "a new value in a request": lambda new: fields_of(new, "Request")["delivery"]["enum"].append("both"),
    "an answer that says fewer things": lambda new: fields_of(new, "Answer")["status"].update(enum=["hit"]),
    "a number where an integer was asked": lambda new: fields_of(new, "Request")["n"].update(type="number"),
    "an integer where a number was promised": lambda new: fields_of(new, "Cost")["usd"].update(
        type="integer"
    ),
}


@pytest.mark.parametrize("sentence", BREAKS)
def test_a_break_is_said_in_a_sentence(sentence: str) -> None:
    new = copy.deepcopy(example())
    BREAKS[sentence](new)
    assert sentence in breaking_changes(example(), new)


@pytest.mark.parametrize("change", FINE)
def test_what_no_caller_notices_is_no_break(change: str) -> None:
    new = copy.deepcopy(example())
    FINE[change](new)
    assert breaking_changes(example(), new) == []


def test_the_document_keeps_what_the_last_release_promised() -> None:
    broken = breaking_changes(json.loads(RELEASED.read_text()), json.loads(DOCUMENT.read_text()))
    assert not broken, "\n".join(broken)
