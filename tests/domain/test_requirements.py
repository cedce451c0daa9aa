"""Whatever fault pydantic finds, a caller reads what would have been accepted, in words of JSON."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from pydantic_core.core_schema import ErrorType

from app.domain.requirements import classify_kind, describe_requirement, list_choices

KINDS = get_args(ErrorType)
CONTEXT = {"class_name": "GroundingWire", "error": "", "expected": "", "pattern": "^[a-z]{1,16}$", "le": 3}
OF_PYTHON = re.compile(
    r"dictionary|dict\b|instance|Input|\bbool|boolean|integer|float\b|tuple|iterab|hashable|parse|parsing|"
    r"pydantic|None|True|False|class|Wire|object to extract|datetime|timedelta|frozenset",
)
CODES = {"required", "unknown_field", "wrong_value", "out_of_range", "invalid_value", "wrong_type"}


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_fault_is_told_in_words_of_python(kind: str) -> None:
    for context in (CONTEXT, {}, None):
        phrase = describe_requirement(kind, context)
        assert re.match(r"must |is ", phrase)
        assert not OF_PYTHON.search(phrase)
        assert not phrase.endswith(".")
        assert classify_kind(kind) in CODES


@pytest.mark.parametrize(
    ("kind", "context", "phrase"),
    [
        ("list_type", None, "must be a list"),
        ("model_type", {"class_name": "GroundingWire"}, "must be a JSON object"),
        ("less_than_equal", {"le": 3}, "must be 3 or less"),
        ("greater_than_equal", {"ge": 0.5}, "must be 0.5 or more"),
        (
            "too_long",
            {"max_length": 4, "field_type": "List", "actual_length": 9},
            "must have at most 4 items",
        ),
        ("literal_error", {"expected": "'use'"}, "must be use"),
        ("literal_error", {"expected": "'inline' or 'uri'"}, "must be inline or uri"),
        ("literal_error", {"expected": "'use', 'refresh' or 'bypass'"}, "must be use, refresh or bypass"),
        ("value_error", {"error": ValueError("there are two of it")}, "there are two of it"),
        ("never_heard_of", {"a": "{b}"}, "is not accepted"),
    ],
)
def test_a_fault_is_told_as_what_would_be_accepted(
    kind: str, context: dict[str, Any] | None, phrase: str
) -> None:
    assert describe_requirement(kind, context) == phrase


def test_what_is_accepted_is_listed_for_programs_too() -> None:
    expected = {"expected": "'use', 'refresh' or 'bypass'"}
    assert list_choices("literal_error", expected) == ("use", "refresh", "bypass")
    assert list_choices("string_type", {"expected": "'use'"}) is None


def test_a_sentence_that_repeats_what_was_sent_is_bounded() -> None:
    assert len(describe_requirement("value_error", {"error": ValueError("x" * 100_000)})) < 400
