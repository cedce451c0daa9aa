"""Queries of searches, as Google lists them in an answer, are part of its usage."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.upstream.google.response import GoogleResponse


@pytest.mark.parametrize(
    ("grounding", "queries"),
    [
        (None, 0),
        ({}, 0),
        ({"webSearchQueries": ["a", "b"]}, 2),
        ({"webSearchQueries": ["a"], "imageSearchQueries": ["b", "c"]}, 3),
        ({"webSearchQueries": "a", "imageSearchQueries": None}, 0),
    ],
)
def test_each_query_is_counted(grounding: Any, queries: int) -> None:
    candidate = {"content": {"parts": [{"text": "A"}]}, "groundingMetadata": grounding}
    body = {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 5}}
    usage = GoogleResponse(json.dumps(body).encode(), {}).usage
    assert usage is not None
    assert usage.search_queries == queries
