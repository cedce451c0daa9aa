"""``GenerateContentRequest`` and ``CountTokensRequest`` in the two forms that Google offers them in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from app.emulator.schema import (
    ANYTHING,
    BOOL,
    BYTES,
    FLOAT,
    INT32,
    STRING,
    Enumeration,
    Message,
    Repeated,
    Shape,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

Dialect = Literal["gemini", "vertex"]

_PACKAGES: Mapping[Dialect, str] = {
    "gemini": "type.googleapis.com/google.ai.generativelanguage.v1beta",
    "vertex": "type.googleapis.com/google.cloud.aiplatform.v1beta1",
}
_HARMS = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT", "CIVIC_INTEGRITY")
_VERTEX_HARMS = (
    *("IMAGE_HATE", "IMAGE_DANGEROUS_CONTENT", "IMAGE_HARASSMENT", "IMAGE_SEXUALLY_EXPLICIT"),
    "JAILBREAK",
)
_THRESHOLDS = frozenset(
    [
        "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
        "BLOCK_LOW_AND_ABOVE",
        "BLOCK_MEDIUM_AND_ABOVE",
        "BLOCK_ONLY_HIGH",
        "BLOCK_NONE",
        "OFF",
    ]
)
_THINKING_LEVELS = frozenset(["THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"])
_MODALITIES = frozenset(["MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO", "VIDEO"])
_MEDIA_RESOLUTIONS = frozenset(
    f"MEDIA_RESOLUTION_{level}" for level in ("UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "ULTRA_HIGH")
)
_MEDIA_RESOLUTION = Enumeration("MediaResolution", _MEDIA_RESOLUTIONS)

_PART = Message(
    {
        "text": STRING,
        "inlineData": Message({"mimeType": STRING, "data": BYTES, "displayName": STRING}),
        "fileData": Message({"mimeType": STRING, "fileUri": STRING, "displayName": STRING}),
        "functionCall": ANYTHING,
        "functionResponse": ANYTHING,
        "executableCode": ANYTHING,
        "codeExecutionResult": ANYTHING,
        "thought": BOOL,
        "thoughtSignature": BYTES,
        "mediaResolution": Message({"level": _MEDIA_RESOLUTION, "numTokens": INT32}),
        "videoMetadata": ANYTHING,
    },
    one_of=frozenset({"text", "inlineData", "fileData", "functionCall", "functionResponse"}),
)
CONTENT = Message({"role": STRING, "parts": Repeated(_PART, lenient=True)})
_TOOL = Message(
    {
        "googleSearch": Message(
            {
                "searchTypes": Message({"webSearch": ANYTHING, "imageSearch": ANYTHING}),
                "timeRangeFilter": ANYTHING,
                "blockingConfidence": STRING,
                "excludeDomains": ANYTHING,
            }
        ),
        "functionDeclarations": ANYTHING,
        "googleSearchRetrieval": ANYTHING,
        "codeExecution": ANYTHING,
        "urlContext": ANYTHING,
    }
)


def _image_config(dialect: Dialect) -> Message:
    fields: dict[str, Shape] = {"aspectRatio": STRING, "imageSize": STRING}
    if dialect == "vertex":
        fields |= {
            "personGeneration": Enumeration(
                "PersonGeneration", frozenset({"ALLOW_ALL", "ALLOW_ADULT", "ALLOW_NONE"})
            ),
            "prominentPeople": STRING,
            "imageOutputOptions": Message({"mimeType": STRING, "compressionQuality": INT32}),
        }
    return Message(fields)


def _generation_config(dialect: Dialect) -> Message:
    package = _PACKAGES[dialect]
    levels = Enumeration(f"{package}.ThinkingConfig.ThinkingLevel", _THINKING_LEVELS)
    thinking: dict[str, Shape] = {"includeThoughts": BOOL, "thinkingBudget": INT32, "thinkingLevel": levels}
    image_format = {"aspectRatio": STRING, "imageSize": STRING, "delivery": STRING, "mimeType": STRING}
    fields: dict[str, Shape] = {
        "temperature": FLOAT,
        "topP": FLOAT,
        "topK": FLOAT,
        "candidateCount": INT32,
        "maxOutputTokens": INT32,
        "stopSequences": Repeated(STRING),
        "presencePenalty": FLOAT,
        "frequencyPenalty": FLOAT,
        "responseLogprobs": BOOL,
        "logprobs": INT32,
        "seed": INT32,
        "responseMimeType": STRING,
        "responseSchema": ANYTHING,
        "responseJsonSchema": ANYTHING,
        "responseModalities": Repeated(
            Enumeration(f"{package}.GenerationConfig.Modality", _MODALITIES), lenient=True
        ),
        "responseFormat": Repeated(
            Message({"image": Message(image_format), "text": ANYTHING, "audio": ANYTHING}), lenient=True
        ),
        "imageConfig": _image_config(dialect),
        "thinkingConfig": Message(thinking),
        "mediaResolution": _MEDIA_RESOLUTION,
        "speechConfig": ANYTHING,
    }
    if dialect == "vertex":
        fields |= {"routingConfig": ANYTHING, "modelConfig": ANYTHING, "audioTimestamp": BOOL}
    else:
        fields["enableEnhancedCivicAnswers"] = BOOL
    return Message(fields)


def _generate_request(dialect: Dialect) -> Message:
    package = _PACKAGES[dialect]
    harms = (*_HARMS, *(_VERTEX_HARMS if dialect == "vertex" else ()), "UNSPECIFIED")
    setting: dict[str, Shape] = {
        "category": Enumeration(
            f"{package}.HarmCategory", frozenset(f"HARM_CATEGORY_{harm}" for harm in harms)
        ),
        "threshold": Enumeration(f"{package}.SafetySetting.HarmBlockThreshold", _THRESHOLDS),
    }
    if dialect == "vertex":
        setting["method"] = STRING
    fields: dict[str, Shape] = {
        "model": STRING,
        "contents": Repeated(CONTENT, lenient=True),
        "systemInstruction": CONTENT,
        "generationConfig": _generation_config(dialect),
        "safetySettings": Repeated(Message(setting)),
        "tools": Repeated(_TOOL),
        "toolConfig": ANYTHING,
        "cachedContent": STRING,
        "labels": ANYTHING,
        "serviceTier": STRING,
        "continuationToken": STRING,
    }
    if dialect == "vertex":
        fields |= {"modelArmorConfig": ANYTHING, "outputConfig": ANYTHING}
    else:
        fields["store"] = BOOL
    return Message(fields)


GENERATE_REQUESTS: Mapping[Dialect, Message] = {
    "gemini": _generate_request("gemini"),
    "vertex": _generate_request("vertex"),
}
COUNT_REQUESTS: Mapping[Dialect, Message] = {
    "gemini": Message(
        {
            "contents": Repeated(CONTENT, lenient=True),
            "generateContentRequest": GENERATE_REQUESTS["gemini"],
            "model": STRING,
        }
    ),
    "vertex": Message(
        {
            "contents": Repeated(CONTENT, lenient=True),
            "systemInstruction": CONTENT,
            "tools": Repeated(_TOOL),
            "generationConfig": ANYTHING,
            "model": STRING,
            "instances": ANYTHING,
        }
    ),
}
