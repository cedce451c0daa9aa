"""Whatever a body in Google's dialect holds: reading it never fails, and it is sent as it was judged."""

from __future__ import annotations

import asyncio
import copy
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from app.domain.errors import InvalidRequest
from app.domain.estimate import estimate
from app.domain.fingerprint import compute_fingerprint
from app.domain.validation import normalize_request
from app.generation.job import judge
from app.media.splicing import splice
from tests.surfaces.test_gemini_request import CARD, CATALOGUE, PLAIN, PNG, POLICY, inline, ordered, turn

if TYPE_CHECKING:
    from app.generation.job import Judged

NAMES = st.sampled_from(
    [
        "contents", "parts", "role", "text", "inlineData", "inline_data", "data", "mimeType", "fileData",
        "fileUri", "thoughtSignature", "generationConfig", "generation_config", "imageConfig", "image_config",
        "aspectRatio", "imageSize", "image_size", "responseFormat", "image", "thinkingConfig",
        "thinkingLevel", "includeThoughts", "tools", "googleSearch", "searchTypes", "webSearch",
        "safetySettings", "category",
        "functionCall", "functionResponse", "args", "response", "name", "thought", "mediaResolution", "level",
        "videoMetadata", "fps", "toolConfig", "functionDeclarations", "thinkingBudget", "delivery",
        "labels", "model", "systemInstruction", "seed", "temperature", "candidateCount", "anything",
    ]
)  # fmt: skip
WORDS = st.sampled_from(
    [
        "user",
        "model",
        "512",
        "4K",
        "2k",
        "16:9",
        "IMAGE",
        "HIGH",
        "7",
        "gs://b/o",
        "AAAA",
        "-_",
        "image/png",
        "",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | WORDS | st.text(max_size=5)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
TINY = inline(PNG)
BASES = [
    {**PLAIN, "contents": [turn(TINY, "Draw")]},
    {
        "contents": [
            turn("One"),
            turn({**TINY, "thoughtSignature": "AAAA"}, role="model"),
            turn("Two"),
        ]
    },
    {
        "contents": [
            turn({"functionCall": {"name": "f", "args": {"a_b": 1}}}, role="model"),
            turn({"functionResponse": {"name": "f", "response": {}, "parts": [TINY]}}, role="function"),
            turn({**TINY, "mediaResolution": {"level": 2}}, {"text": "Draw"}),
        ],
        "generationConfig": {"responseFormat": {"image": {"imageSize": 2}}},
    },
    {"contents": [turn("Draw", "it")], "tools": [{"googleSearch": {}}], "labels": {"a": "b"}},
]
MORE = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def paths(value: Any, at: tuple[int | str, ...] = ()) -> list[tuple[int | str, ...]]:
    """Every place in a JSON value, the root left out."""
    steps = _steps(value)
    return [(*at, step) for step, _ in steps] + [
        path for step, item in steps for path in paths(item, (*at, step))
    ]


def _steps(value: Any) -> list[tuple[int | str, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def changed(body: dict[str, Any], draw: st.DrawFn) -> dict[str, Any]:
    """A copy of a body with one place replaced, taken out, or added to."""
    body = copy.deepcopy(body)
    path = draw(st.sampled_from(paths(body) or [("contents",)]))
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    change = draw(st.sampled_from(["replace", "remove", "add"]))
    if change == "add" and isinstance(place, dict):
        place[draw(NAMES)] = draw(JSON)
    elif change == "remove" and isinstance(place, dict):
        place.pop(path[-1], None)
    elif path[-1] in place if isinstance(place, dict) else True:
        place[path[-1]] = draw(JSON)
    return body


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A good body with up to three changes, whatever becomes of it."""
    body: dict[str, Any] = draw(st.sampled_from(BASES))
    for _ in range(draw(st.integers(0, 3))):
        body = changed(body, draw)
    return body


@st.composite
def accepted_bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A good body with those of up to five changes that leave it one that is served.

    Changes that would have it refused are left out one by one, because nearly every one would, and a test
    that throws whole bodies away sees few that say anything.
    """
    body: dict[str, Any] = draw(st.sampled_from(BASES))
    for _ in range(draw(st.integers(1, 5))):
        attempt = changed(body, draw)
        if served(attempt) is not None:
            body = attempt
    return body


def served(body: dict[str, Any]) -> Judged | None:
    """The body as judged, or None where it is refused."""
    with suppress(InvalidRequest):
        judged = judge(asyncio.run(ordered(json.dumps(body))), CATALOGUE, POLICY)
        return None if judged.violations else judged
    return None


@MORE
@given(bodies() | st.dictionaries(NAMES, JSON, max_size=5))
def test_no_body_is_a_fault_of_the_gateway(body: dict[str, Any]) -> None:
    with suppress(InvalidRequest):
        judge(asyncio.run(ordered(json.dumps(body))), CATALOGUE, POLICY)


@MORE
@given(accepted_bodies())
def test_what_is_sent_reads_as_what_was_judged(body: dict[str, Any]) -> None:
    """No spelling exists that the gateway reads one way and would read another way behind itself."""
    judged = served(body)
    assert judged is not None
    verbatim = judged.request.verbatim
    event("in the gateway's own words" if verbatim is None else "in the caller's words")
    if verbatim is None:
        return
    sent = b"".join(splice(verbatim.skeleton, verbatim.blobs)).decode()
    again = judge(asyncio.run(ordered(sent)), CATALOGUE, POLICY)
    assert again.violations == ()
    first, second = (normalize_request(each.request, CARD) for each in (judged, again))
    assert compute_fingerprint(first, CARD, "t") == compute_fingerprint(second, CARD, "t")
    assert estimate(first, CARD) == estimate(second, CARD)
