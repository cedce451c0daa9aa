"""Whatever a body in Google's dialect holds: reading it never fails, and it is sent as it was judged."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from app.domain.errors import InvalidRequest
from app.domain.estimate import estimate
from app.domain.fingerprint import compute_fingerprint
from app.domain.validation import normalize_request
from app.emulator.counting import count_tokens
from app.emulator.errors import GoogleError
from app.emulator.messages import GENERATE_REQUESTS
from app.emulator.requests import parse
from app.generation.job import judge
from app.media.pdf import Pages
from app.media.splicing import splice
from tests.media.files import video
from tests.media.pdf_files import padded
from tests.surfaces.test_gemini_request import (
    CARD,
    CATALOGUE,
    LIMITS,
    PLAIN,
    PNG,
    POLICY,
    inline,
    ordered,
    turn,
)

if TYPE_CHECKING:
    from app.emulator.messages import Dialect
    from app.generation.job import Judged
    from app.surfaces.http.context import Service

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
        judged = judge(asyncio.run(ordered(json.dumps(body), service=COUNTING)), CATALOGUE, POLICY)
        return None if judged.violations else judged
    return None


FILM = inline(base64.b64encode(video(3)).decode(), "video/mp4")
PAGES = inline(base64.b64encode(padded(3, 2000)).decode(), "application/pdf")
TEXT = inline(base64.b64encode("狐".encode() * 40).decode(), "text/plain")
LEVELS = st.sampled_from([f"MEDIA_RESOLUTION_{level}" for level in ("LOW", "MEDIUM", "HIGH", "ULTRA_HIGH")])


class ThreePages:
    """Any PDF has three pages; counting them for real takes a process each."""

    async def count(self, _data: bytes) -> Pages:
        return Pages(3)


COUNTING = cast("Service", SimpleNamespace(limits=LIMITS, page_counter=ThreePages()))


@st.composite
def heavy_bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A body with files and words in every role and place, at every resolution."""

    def part(role: str) -> dict[str, Any]:
        words, file = draw(st.text(min_size=1, max_size=40)), draw(st.sampled_from([TINY, FILM, PAGES, TEXT]))
        seen: dict[str, Any] = {"mediaResolution": {"level": draw(LEVELS)}} if draw(st.booleans()) else {}
        if file is FILM and draw(st.booleans()):
            seen["videoMetadata"] = {"fps": draw(st.floats(0.5, 24)), "endOffset": "1s"}
        answer = {"functionResponse": {"name": words, "response": {words: words}, "parts": [file]}}
        signed = {"thoughtSignature": "A" * 400} if role == "model" else {}
        kinds: list[dict[str, Any]] = [{"text": words}, {**file, **seen}, answer]
        kinds += [{"functionCall": {"name": words, "args": {words: [words]}}}]
        return {**draw(st.sampled_from(kinds)), **signed}

    def content(role: str) -> dict[str, Any]:
        return turn(*(part(role) for _ in range(draw(st.integers(1, 3)))), role=role)

    body: dict[str, Any] = {"contents": [content("user"), content("model"), turn("Draw")]}
    if draw(st.booleans()):
        body["systemInstruction"] = content("user")
    if draw(st.booleans()):
        body["generationConfig"] = {"mediaResolution": draw(LEVELS)}
    return body


@MORE
@given(accepted_bodies() | heavy_bodies())
def test_a_strict_hold_is_never_below_what_the_emulator_counts(body: dict[str, Any]) -> None:
    judged = served(body)
    event("served" if judged is not None else "refused")
    if judged is None:
        return
    dialects: tuple[Dialect, ...] = ("gemini", "vertex")
    for dialect in dialects:
        with suppress(GoogleError):  # it refuses more than the gateway, and what it refuses costs nothing
            read = parse(json.dumps(body).encode(), GENERATE_REQUESTS[dialect])
            level = read.get("generationConfig", {}).get("mediaResolution", "")
            contents, system = read.get("contents", []), read.get("systemInstruction")
            counted = sum(count for _, count in count_tokens(contents, system, CARD, dialect, level))
            strict = estimate(normalize_request(judged.request, CARD), CARD, strict=True)
            assert strict.input_tokens >= min(counted, CARD.tokens.input_max)


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
