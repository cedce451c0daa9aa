"""What is documented of tenants is what the file's models take: no field more, no field less."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.surfaces.admin import wire
from app.surfaces.admin.asked import expected_of, merged, tag_of
from app.tenants import budget_entries, file

if TYPE_CHECKING:
    from pydantic import BaseModel


@pytest.mark.parametrize(
    ("documented", "judged"),
    [
        (wire.TenantCreation, file.TenantEntry),
        (wire.DeclaredKeyWire, file.KeyEntry),
        (wire.CachePolicyWire, file.CacheEntry),
        (wire.BudgetLimitWire, budget_entries.BudgetEntry),
        (wire.BudgetOverrideWire, budget_entries.OverrideEntry),
        (wire.RateLimitWire, budget_entries.RateEntry),
        (wire.ProjectWire, budget_entries.ProjectEntry),
    ],
)
def test_the_documented_fields_are_those_that_are_judged(
    documented: type[BaseModel], judged: type[BaseModel]
) -> None:
    assert set(documented.model_fields) == set(judged.model_fields)


def test_a_new_key_may_have_all_that_the_gateway_does_not_make_itself() -> None:
    own = set(wire.KeyCreation.model_fields) - {"env"}
    assert own == set(file.KeyEntry.model_fields) - {"id", "hash", "retiring", "email", "subject"}
    identity = set(wire.IdentityCreation.model_fields)
    assert identity == set(file.KeyEntry.model_fields) - {"id", "hash", "retiring"}


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_patches_are_merged_as_the_rfc_says(
    target: dict[str, object], patch: dict[str, object], result: dict[str, object]
) -> None:
    assert merged(target, patch) == result


def test_an_etag_names_one_version_and_nothing_else_does() -> None:
    assert expected_of(tag_of(12)) == 12
    assert expected_of(None) is None
    assert expected_of("*") == "any"
    assert {expected_of(text) for text in ("12", 'W/"12"', '"x"', '""', '"1", "2"', '"-1"')} == {-1}
