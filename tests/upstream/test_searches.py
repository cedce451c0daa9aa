"""Queries of searches, as Google lists them in an answer, are part of its usage."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain.generation import SearchResults, SearchSource
from app.upstream.google.response import GoogleResponse, parse_searches


@pytest.mark.parametrize(
    ("grounding", "queries"),
    [
        (None, 0),
        ({}, 0),
        ({"webSearchQueries": ["a", "b"]}, 2),
        ({"webSearchQueries": ["a"], "imageSearchQueries": ["b", "c"]}, 3),
        ({"webSearchQueries": "a", "imageSearchQueries": None}, 0),
        ({"webSearchQueries": ["", "a", " "]}, 1),
    ],
)
def test_each_query_is_counted(grounding: Any, queries: int) -> None:
    candidate = {"content": {"parts": [{"text": "A"}]}, "groundingMetadata": grounding}
    body = {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 5}}
    usage = GoogleResponse(json.dumps(body).encode(), {}).usage
    assert usage is not None
    assert usage.search_queries == queries


def test_sources_are_pages_and_those_of_pictures() -> None:
    chunks = [
        {"web": {"uri": "https://a.example/", "title": "A \ud800"}},
        {"image": {"sourceUri": "https://b.example/", "imageUri": "https://b.example/1.png", "title": "B"}},
        {"retrievedContext": {"text": "C"}},
        {"web": {"title": "without an address"}},
        "no chunk",
    ]
    found = parse_searches({"searchEntryPoint": {"renderedContent": "<b>x</b>"}, "groundingChunks": chunks})
    assert found == SearchResults(
        (),
        "<b>x</b>",
        (
            SearchSource("A ?", "https://a.example/"),
            SearchSource("B", "https://b.example/", "https://b.example/1.png"),
        ),
    )
