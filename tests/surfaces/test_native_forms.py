"""Form fields as the JSON members that they stand for."""

from __future__ import annotations

import pytest

from app.surfaces.native.request import parse_fields

HATE = '{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_ONLY_HIGH"}'
HARM = '{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}'


@pytest.mark.parametrize("fields", [[f"[{HATE}, {HARM}]"], [HATE, HARM], [f"[{HATE}]", HARM]])
def test_a_list_may_come_whole_or_item_by_item_as_generated_clients_send_it(fields: list[str]) -> None:
    members, violations = parse_fields({"safety_settings": fields})
    assert [item["threshold"] for item in members["safety_settings"]] == ["BLOCK_ONLY_HIGH", "BLOCK_NONE"]
    assert not violations


def test_a_list_with_an_item_that_is_no_json_is_a_fault() -> None:
    _, violations = parse_fields({"safety_settings": [HATE, "{"]})
    assert [item.code for item in violations] == ["invalid_json"]


@pytest.mark.parametrize("name", ["image_size", "seed", "labels", "safety_settings", "response_modalities"])
def test_an_empty_field_is_one_that_nobody_filled_in(name: str) -> None:
    assert parse_fields({"prompt": ["x"], name: [""]}) == ({"prompt": "x"}, [])
    assert parse_fields({"prompt": [""]}) == ({"prompt": ""}, [])


def test_other_fields_come_once() -> None:
    _, violations = parse_fields({"labels": ["{}", "{}"], "prompt": ["a", "b"]})
    assert [(item.pointer, item.code) for item in violations] == [
        ("/labels", "repeated_field"),
        ("/prompt", "repeated_field"),
    ]
