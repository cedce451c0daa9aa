"""One validation, many dialects: what one surface refuses, the others refuse by the same code and place."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.policy import PIXELS_MAX
from app.domain.validation import RULES
from app.media.inspection import inspect
from tests.hostile.served import VARIATIONS
from tests.hostile.test_the_card_is_law import AT_THE_DOOR, NAMED, body_of, callers, file_of

if TYPE_CHECKING:
    from app.domain.request import GenerationRequest, Input
    from tests.domain.validation_cases import Bad

__all__ = ["callers"]

LIGHT_BYTES = 20_000
"""Heavier cases are sent in the native dialect alone: they cost time, and meet the same reader and rule."""

NOT_GOOGLES = {
    "count": "Google's dialect asks for one picture",
    "variant": "the gateway's own field",
    "labels": "what Google takes for a label is Google's to say",
    "documents": "a part is what its type says, so nothing is offered as what it is not",
    "videos": "the same",
    "top_k": "it is accepted there without effect, as by Google",
}
OTHERWISE = {
    "unsupported_safety_category": "a category that is not known passes to Google",
    "mime_type_required": "a file without a type is none in Google's dialect, which says so of the field",
    "model_not_allowed": "404, as for a model that is not there",
}


GOOGLES_FIELDS = {
    "unsupported_aspect_ratio": "generation_config.image_config.aspect_ratio",
    "unsupported_image_size": "generation_config.image_config.image_size",
    "output_tokens_over_limit": "generation_config.image_config.image_size",
    "unsupported_response_modalities": "generation_config.response_modalities",
    "temperature_out_of_range": "generation_config.temperature",
    "top_p_out_of_range": "generation_config.top_p",
    "seed_out_of_range": "generation_config.seed",
    "unsupported_candidate_count": "generation_config.candidate_count",
    "max_output_tokens_out_of_range": "generation_config.max_output_tokens",
    "unsupported_thinking_level": "generation_config.thinking_config.thinking_level",
}


def _part(item: Input) -> dict[str, Any]:
    if item.uri is not None:
        claim = {"mimeType": item.declared_mime_type} if item.declared_mime_type else {}
        return {"fileData": {**claim, "fileUri": item.uri}}
    data = file_of(item)
    mime_type = item.declared_mime_type or inspect(data, pixels_max=PIXELS_MAX).mime_type or "image/png"
    return {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(data).decode()}}


def googles_body_of(asked: GenerationRequest) -> bytes:
    """The request in Google's dialect."""
    search = asked.grounding
    wanted = {"webSearch": search.web_search, "imageSearch": search.image_search}
    kinds: dict[str, Any] = {name: {} for name, on in wanted.items() if on}
    output = {"mimeType": asked.output_mime_type, "compressionQuality": asked.output_compression_quality}
    image = {
        "aspectRatio": asked.aspect_ratio,
        "imageSize": asked.image_size,
        "imageOutputOptions": {name: value for name, value in output.items() if value is not None} or None,
    }
    document: dict[str, Any] = {
        "contents": [{"parts": [*map(_part, asked.inputs), {"text": asked.prompt}]}],
        "systemInstruction": asked.system_instruction and {"parts": [{"text": asked.system_instruction}]},
        "safetySettings": [
            {"category": item.category, "threshold": item.threshold} for item in asked.safety_settings
        ],
        "tools": [{"googleSearch": {"searchTypes": kinds}}] if kinds else [],
        "generationConfig": {
            "temperature": asked.temperature,
            "topP": asked.top_p,
            "topK": asked.top_k,
            "candidateCount": asked.candidate_count,
            "seed": asked.seed,
            "maxOutputTokens": asked.max_output_tokens,
            "responseModalities": list(asked.response_modalities),
            "thinkingConfig": {"thinkingLevel": asked.thinking_level},
            "imageConfig": {name: value for name, value in image.items() if value is not None},
        },
    }
    if asked.service_tier is not None:
        document["serviceTier"] = asked.service_tier
    return json.dumps(document).encode()


def _is_light(case: Bad) -> bool:
    asked = case.request
    return len(asked.prompt) + sum(item.length for item in asked.inputs) < LIGHT_BYTES


def _is_googles(case: Bad) -> bool:
    """Whether Google's dialect can say it, and says no less by it."""
    asked = case.request
    # Its enumerations are words in any case, and "unspecified" or an empty text is what is not said.
    nothing = (
        "" in (asked.aspect_ratio, asked.image_size)
        or asked.response_modalities in ((), ("image",))
        or (asked.thinking_level == "THINKING_LEVEL_UNSPECIFIED")
    )
    no_image = any(item.mime_type in {"application/pdf", "text/plain"} for item in asked.images)
    no_type = any("/" not in (item.declared_mime_type or "/") for item in asked.images)
    return case.rule not in NOT_GOOGLES and not (nothing or no_image or no_type)


LIGHT = [case for case in NAMED if _is_light(case) and case.code not in OTHERWISE]
BY_RULE = {
    rule: [case for case in LIGHT if case.rule == rule] for rule in dict.fromkeys(c.rule for c in LIGHT)
}
IN_GOOGLES = {
    rule: found for rule, cases in BY_RULE.items() if (found := [case for case in cases if _is_googles(case)])
}


@pytest.mark.parametrize("rule", BY_RULE)
def test_what_the_card_forbids_is_named_in_openais_dialect(callers: Any, rule: str) -> None:
    for case in BY_RULE[rule]:
        caller = callers(case)
        answer = caller.send("/openai/v1/images/generations", body_of(case.request, case.card))
        error = answer.json()["error"]
        assert answer.status_code == 400, (case.code, error)
        expected = AT_THE_DOOR.get(case.code, (case.code, case.pointer))
        assert [(item["code"], item["pointer"]) for item in error["violations"]] == [expected]


@pytest.mark.parametrize("rule", IN_GOOGLES)
def test_what_the_card_forbids_is_named_in_googles_dialect(callers: Any, rule: str) -> None:
    for case in IN_GOOGLES[rule]:
        model = next((name for name, varied in VARIATIONS.items() if varied is case.card), case.card.id)
        path = f"/gemini/v1beta/models/{model}:generateContent"
        answer = callers(case).send(path, googles_body_of(case.request))
        assert answer.status_code == 400, (case.code, answer.text[:300])
        found = answer.json()["error"]["details"][0]["fieldViolations"]
        assert [item["reason"].lower() for item in found] == [case.code]
        if case.code in GOOGLES_FIELDS:
            assert found[0]["field"] == GOOGLES_FIELDS[case.code]


def test_nearly_every_rule_is_met_in_every_dialect() -> None:
    elsewhere = {"conversation", "earlier_addresses", "prices"}
    names = {rule.__name__.removeprefix("check_") for rule in RULES} - elsewhere
    assert names == BY_RULE.keys()
    assert names - IN_GOOGLES.keys() == NOT_GOOGLES.keys()
    assert sum(map(len, IN_GOOGLES.values())) > 60
