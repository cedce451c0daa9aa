"""A tenant has one shape: what judges it is what is documented, answered and kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.cards import load_catalogue
from app.domain.budget import UNITS, WINDOWS
from app.surfaces.admin import wire
from app.surfaces.admin.request import format_etag, merge_patch, parse_if_match
from app.tenants.documents import decode_tenant, encode_tenant, parse_tenant
from app.tenants.schema import KeyDocument, TenantDocument
from tests.environments import ROOT

HASH = "hmac-sha256:" + "0" * 64
MOMENT = "2026-12-01T00:00:00Z"
DAY = {"unit": "images", "window": "day", "limit": 12, "mode": "enforce"}
MONTH = {
    "unit": "usd", "window": "month", "limit": 0.5, "mode": "shadow",
    "override": {"limit": 0.123456789, "until": MOMENT},
}  # fmt: skip
RATE = {"requests_per_minute": 60, "burst": 5, "concurrent": 2}
EVERYTHING: dict[str, Any] = {
    "id": "search",
    "time_zone": "Europe/Berlin",
    "models": ["gemini-3.1-flash-image"],
    "max_image_size": "2K",
    "preview": ["video"],
    "budgets": [DAY, MONTH],
    "cache": {"mode": "refresh", "ttl_s": 60, "quota_mb": 5, "dialects": "share"},
    "projects": [{"id": "website", "budgets": [DAY]}],
    "rate": RATE,
    "strict": True,
    "priority": "batch",
    "aliases": {"gemini-3.1-flash-image": {"to": "gemini-nano-banana-2.1", "share": 0.25}},
    "keys": [
        {
            "id": "k1",
            "hash": HASH,
            "scopes": ["admin", "images"],
            "project": "website",
            "budgets": [MONTH],
            "rate": RATE,
            "models": ["gemini-3.1-flash-image"],
            "max_image_size": "1K",
            "preview": [],
            "priority": "critical",
            "not_before": MOMENT,
            "expires_at": "2027-12-01T00:00:00Z",
            "retiring": {"hash": HASH, "not_after": MOMENT},
        },
        {"id": "k2", "email": "a@example.org", "scopes": ["images"], "budgets": [], "models": []},
    ],
}


ENV = {"env"}
MADE_BY_THE_GATEWAY = {"id", "hash", "retiring"}
SECRETS = {"hash", "retiring"}


def test_requests_and_answers_have_the_fields_of_the_documents() -> None:
    key, tenant = set(KeyDocument.model_fields), set(TenantDocument.model_fields)
    assert set(wire.KeyCreation.model_fields) - ENV == key - MADE_BY_THE_GATEWAY - {"email", "subject"}
    assert set(wire.IdentityCreation.model_fields) == key - MADE_BY_THE_GATEWAY
    assert set(wire.KeyWire.model_fields) - {"retiring_until", "last_used_at"} == key - SECRETS
    assert set(wire.TenantPatch.model_fields) == tenant - {"id", "keys"}
    assert set(wire.TenantWire.model_fields) - {"source"} == tenant


def test_a_document_of_everything_comes_back_as_it_was() -> None:
    catalogue = load_catalogue()
    tenant = parse_tenant(EVERYTHING, catalogue)
    text = encode_tenant(tenant, catalogue)
    assert decode_tenant(text, catalogue) == tenant
    assert json.loads(text) == EVERYTHING


@pytest.mark.parametrize(
    ("schema", "field", "wanted"),
    [
        ("BudgetLimitDocument", "unit", {"enum": list(UNITS)}),
        ("BudgetLimitDocument", "window", {"enum": list(WINDOWS)}),
        ("BudgetLimitDocument", "mode", {"enum": ["enforce", "shadow"]}),
        ("CachePolicyDocument", "mode", {"enum": ["use", "refresh", "bypass"]}),
        ("CachePolicyDocument", "ttl_s", {"minimum": 1, "maximum": 31_622_400}),
        ("TenantDocument", "priority", {"enum": ["critical", "interactive", "batch"]}),
        ("TenantDocument", "id", {"pattern": "^[a-z0-9][a-z0-9-]{0,62}$"}),
    ],
)
def test_the_openapi_document_has_the_words_and_bounds_that_are_judged(
    schema: str, field: str, wanted: dict[str, object]
) -> None:
    document = json.loads((ROOT / "openapi/openapi.json").read_text())
    found = document["components"]["schemas"][schema]["properties"][field]
    assert {name: found[name] for name in wanted} == wanted


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
    assert merge_patch(target, patch) == result


def test_an_etag_names_one_version_and_nothing_else_does() -> None:
    assert parse_if_match(format_etag(12)) == 12
    assert parse_if_match(None) is None
    assert parse_if_match("*") == "any"
    assert {parse_if_match(text) for text in ("12", 'W/"12"', '"x"', '""', '"1", "2"', '"-1"')} == {-1}
