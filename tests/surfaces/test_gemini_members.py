"""Every member that Google's SDK can put into a body: those that pass, and those that are refused by name.

The walk goes through the SDK's own types, so that a member of a new release turns a test red until somebody
has decided about it. What is tried is the body that the SDK really sends.
"""

from __future__ import annotations

import base64
import copy
import enum
import inspect
import json
from contextlib import suppress
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin

import httpx2
import pytest
from google import genai
from google.genai import types
from pydantic import BaseModel

from app.domain.estimate import estimate
from app.generation.job import judge
from app.surfaces.gemini.refused_members import REFUSED as REASON_BY_NAME
from tests.surfaces.test_gemini_request import CARD, CATALOGUE, POLICY, ordered

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSES, REFUSED, ABSENT = "passes", "refused", "never in a body"

PARTS = {
    PASSES: "text inline_data file_data thought thought_signature media_resolution video_metadata"
    " function_call function_response executable_code code_execution_result part_metadata",
    # Tools of the server, of which none passes; media that the model does not read; work of unknown cost.
    REFUSED: "tool_call tool_response audio_transcription speech_metadata media_processing document_metadata"
    " spreadsheet_metadata audio_metadata",
}
VERDICTS: dict[type[BaseModel], dict[str, str]] = {
    types.GenerateContentConfig: {
        PASSES: "system_instruction temperature top_p top_k candidate_count max_output_tokens stop_sequences"
        " response_logprobs logprobs presence_penalty frequency_penalty seed response_mime_type"
        " response_schema response_json_schema safety_settings tools tool_config labels response_modalities"
        " media_resolution"
        " thinking_config image_config enable_enhanced_civic_answers service_tier",
        # The deployment's cache, policy, bucket and log; another model; a context that nobody sees; sound.
        REFUSED: "cached_content model_armor_config generation_output_config store routing_config"
        " model_selection_config continuation_token speech_config audio_timestamp audio_transcription_config",
        ABSENT: "http_options should_return_http_response automatic_function_calling automatic_continuation",
    },
    types.GenerationConfig: {
        PASSES: "temperature top_p top_k candidate_count max_output_tokens stop_sequences response_logprobs"
        " logprobs presence_penalty frequency_penalty seed response_mime_type response_schema"
        " response_json_schema response_modalities media_resolution thinking_config response_format",
        REFUSED: "routing_config model_selection_config speech_config audio_timestamp"
        " audio_transcription_config enable_affective_dialog translation_config",
        # The SDK has this class for countTokens of Vertex AI, which lacks the member.
        ABSENT: "enable_enhanced_civic_answers",
    },
    types.Content: {PASSES: "role parts"},
    types.Part: PARTS,
    types.Blob: {PASSES: "data mime_type display_name"},
    types.FileData: {PASSES: "file_uri mime_type display_name"},
    types.PartMediaResolution: {PASSES: "level", REFUSED: "num_tokens"},
    types.VideoMetadata: {PASSES: "start_offset end_offset fps", REFUSED: "content_layers"},
    types.FunctionCall: {PASSES: "id name args", REFUSED: "partial_args will_continue"},
    types.FunctionResponse: {PASSES: "id name response parts will_continue scheduling"},
    types.FunctionResponsePart: {
        PASSES: "inline_data file_data",
        REFUSED: "media_processing media_resolution video_metadata document_metadata spreadsheet_metadata"
        " audio_metadata",
    },
    types.FunctionResponseBlob: {PASSES: "data mime_type display_name"},
    types.FunctionResponseFileData: {PASSES: "file_uri mime_type display_name"},
    types.ExecutableCode: {PASSES: "id language code"},
    types.CodeExecutionResult: {PASSES: "id outcome output"},
    types.SafetySetting: {PASSES: "category threshold method"},
    types.Tool: {
        PASSES: "google_search function_declarations",
        # They read or act elsewhere, with the gateway's rights, and what that costs nobody knows before.
        REFUSED: "retrieval computer_use file_search google_maps code_execution enterprise_web_search"
        " google_search_retrieval parallel_ai_search url_context mcp_servers exa_ai_search",
    },
    types.GoogleSearch: {PASSES: "search_types blocking_confidence exclude_domains time_range_filter"},
    types.SearchTypes: {PASSES: "web_search image_search"},
    types.WebSearch: {},
    types.ImageSearch: {},
    types.Interval: {PASSES: "start_time end_time"},
    types.FunctionDeclaration: {
        PASSES: "name description parameters parameters_json_schema response response_json_schema behavior"
    },
    types.ToolConfig: {
        PASSES: "function_calling_config retrieval_config",
        REFUSED: "include_server_side_tool_invocations",
    },
    types.FunctionCallingConfig: {
        PASSES: "mode allowed_function_names",
        REFUSED: "stream_function_call_arguments",
    },
    types.RetrievalConfig: {PASSES: "lat_lng language_code"},
    types.LatLng: {PASSES: "latitude longitude"},
    types.ThinkingConfig: {PASSES: "include_thoughts thinking_budget thinking_level"},
    types.ImageConfig: {
        PASSES: "aspect_ratio image_size person_generation prominent_people output_mime_type"
        " output_compression_quality image_output_options"
    },
    types.ImageConfigImageOutputOptions: {PASSES: "mime_type compression_quality"},
    types.ResponseFormat: {PASSES: "image text", REFUSED: "audio video"},
    types.ImageResponseFormat: {PASSES: "aspect_ratio image_size delivery mime_type"},
    types.TextResponseFormat: {PASSES: "mime_type jsonSchema"},
}
REASONS = frozenset(REASON_BY_NAME.values())
FREE_FORM = {types.Schema}
"""Words to the model, whatever their members: they are counted as they are."""

ROOTS: dict[str, type[BaseModel]] = {
    "contents": types.Content,
    "config": types.GenerateContentConfig,
    "tools": types.Tool,
    "generation_config": types.GenerationConfig,
}


Path: TypeAlias = tuple[int | str, ...]


class Member(NamedTuple):
    """One member: the steps that lead to it from a root, and what is expected of it."""

    steps: tuple[str, ...]
    verdict: str


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The SDK's class that a field holds, one or many of them; of several, the one that this table knows."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    found = [model for model in map(model_in, get_args(annotation)) if model is not None]
    return next((model for model in found if model in VERDICTS), found[0] if found else None)


def verdict_of(model: type[BaseModel], name: str) -> str:
    return next((verdict for verdict, names in VERDICTS[model].items() if name in names.split()), "undecided")


def members(model: type[BaseModel], steps: tuple[str, ...]) -> Iterator[Member]:
    """Every member below a model; below what does not pass, nothing more is to be said."""
    for name, field in model.model_fields.items():
        verdict = verdict_of(model, name)
        if name == "tools":
            continue  # its annotation cannot be resolved, and it is a root of its own
        inner = model_in(field.annotation) if verdict == PASSES else None
        if inner is None or inner in FREE_FORM or not inner.model_fields:
            yield Member((*steps, name), verdict)
        else:
            yield from members(inner, (*steps, name))


ALL = [member for root, model in ROOTS.items() for member in members(model, (root,))]


def sample(annotation: Any, steps: tuple[str, ...]) -> Any:  # noqa: PLR0911 - one a kind of type
    """A value of a field in which the member at the end of the steps is set, and nothing else."""
    origin, arguments = (
        get_origin(annotation),
        [each for each in get_args(annotation) if each is not type(None)],
    )
    if origin in {list, tuple}:
        return [sample(arguments[0], steps)]
    if origin in {Union, UnionType}:
        model = model_in(annotation)
        chosen = [each for each in arguments if model is not None and model_in(each) is model] or arguments
        return sample(chosen[0], steps)
    if origin is dict or annotation is dict:
        return {"a": "b"}
    if origin is Literal:
        return arguments[0]
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return list(annotation)[-1]
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        if not steps:
            return annotation(**({"type": "STRING"} if annotation is types.Schema else {}))
        name, *rest = steps
        return annotation(**{name: sample(annotation.model_fields[name].annotation, tuple(rest))})
    known = {str: "x", int: 1, float: 1.0, bool: True, bytes: b"x"}
    return known.get(annotation, "2026-01-01T00:00:00Z" if "datetime" in str(annotation) else "x")


@cache
def sent_by(*, vertex: bool) -> tuple[genai.Client, list[dict[str, Any]]]:
    """A client of either service, and the bodies that it has sent."""
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        bodies.append(json.loads(request.content))
        return httpx2.Response(200, json={"totalTokens": 1})

    options = types.HttpOptions(httpx_client=httpx2.Client(transport=httpx2.MockTransport(answer)))
    return genai.Client(api_key="k", vertexai=vertex, http_options=options), bodies


def send(client: genai.Client, root: str, value: Any) -> None:
    """Send a request with this in it. The SDK raises ValueError where the service has no such member."""
    if root == "contents":
        client.models.generate_content(model="m", contents=[value])
        return
    if root == "generation_config":
        counting = types.CountTokensConfig(generation_config=value)
        client.models.count_tokens(model="m", contents="A fox", config=counting)
        return
    config = value if root == "config" else types.GenerateContentConfig(tools=[value])
    config.automatic_function_calling = types.AutomaticFunctionCallingConfig(disable=True)
    client.models.generate_content(model="m", contents="A fox", config=config)


def bodies_with(member: Member) -> list[dict[str, Any]]:
    """The bodies in which the SDK sends a member to the two services, or to the one that has it."""
    root, *steps = member.steps
    found = []
    for vertex in (True, False):
        client, bodies = sent_by(vertex=vertex)
        with suppress(ValueError):
            send(client, root, sample(ROOTS[root], tuple(steps)))
            found.append(bodies[-1])
    return found


DECIDE = (
    "The SDK has members that nobody has decided about. For each, decide whether it passes: then say in"
    " app/surfaces/gemini/members.py how it is counted. Or it is refused: then give the reason in"
    " app/surfaces/gemini/refused_members.py. Write the verdict into VERDICTS above."
)


def test_every_member_of_the_sdk_is_decided() -> None:
    undecided = [".".join(member.steps) for member in ALL if member.verdict == "undecided"]
    assert undecided == [], DECIDE
    gone = [
        f"{model.__name__}.{name}"
        for model, verdicts in VERDICTS.items()
        for names in verdicts.values()
        for name in names.split()
        if name not in model.model_fields
    ]
    assert gone == []


@pytest.mark.parametrize("member", ALL, ids=lambda member: ".".join(member.steps))
async def test_a_member_passes_or_is_refused_by_name(member: Member) -> None:
    if member.verdict == ABSENT:
        return
    bodies = bodies_with(member)
    assert bodies, "the SDK sends it to neither service"
    for body in bodies:
        refused = [item for item in (await ordered(body)).violations if item.code == "unknown_field"]
        assert len(refused) == (member.verdict == REFUSED), refused
        for item in refused:
            assert any(reason in item.detail for reason in REASONS), DECIDE


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """The place of every value that holds no other."""
    if isinstance(value, dict | list) and value:
        steps = value.items() if isinstance(value, dict) else enumerate(value)
        for step, inner in steps:
            yield from leaves(inner, (*path, step))
    else:
        yield path


def exchange(body: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """The body with another value at a place."""
    copied = copy.deepcopy(body)
    place: Any = copied
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return copied


BYTES = 6000
LONG: tuple[Any, ...] = (
    "狐" * (BYTES // 3),
    {"狐" * (BYTES // 3): 1},
    ["a" * BYTES],
    base64.b64encode(bytes(BYTES)).decode(),
)


@pytest.mark.parametrize(
    "member", [item for item in ALL if item.verdict == PASSES], ids=lambda member: ".".join(member.steps)
)
async def test_whatever_a_member_holds_is_counted_or_refused(member: Member) -> None:
    """Each byte as a token where holds are strict; else a third of them, and none of signatures."""
    for body in bodies_with(member):
        for path in leaves(body):
            for value in LONG:
                order = await ordered(exchange(body, path, value))
                judged = judge(order, CATALOGUE, POLICY)
                if judged.violations or path[-1] in {"model", "labels"}:
                    continue
                strict = estimate(judged.request, CARD, strict=True).input_tokens
                assert strict >= BYTES, (path, value)
                usual = estimate(judged.request, CARD).input_tokens
                assert usual >= BYTES // 3 or "thoughtSignature" in path, (path, value)
