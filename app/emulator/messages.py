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
_PALM_HARMS = ("DEROGATORY", "TOXICITY", "VIOLENCE", "SEXUAL", "MEDICAL", "DANGEROUS")
_HARMS: Mapping[Dialect, tuple[str, ...]] = {
    "gemini": (
        *("UNSPECIFIED", *_PALM_HARMS, "HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT"),
        "CIVIC_INTEGRITY",
    ),
    "vertex": (
        *("UNSPECIFIED", "HATE_SPEECH", "DANGEROUS_CONTENT", "HARASSMENT", "SEXUALLY_EXPLICIT"),
        *("CIVIC_INTEGRITY", "IMAGE_HATE", "IMAGE_DANGEROUS_CONTENT", "IMAGE_HARASSMENT"),
        *("IMAGE_SEXUALLY_EXPLICIT", "JAILBREAK"),
    ),
}
_THRESHOLDS = (
    "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
    "BLOCK_LOW_AND_ABOVE",
    "BLOCK_MEDIUM_AND_ABOVE",
    "BLOCK_ONLY_HIGH",
    "BLOCK_NONE",
    "OFF",
)
_THINKING_LEVELS = ("THINKING_LEVEL_UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "MINIMAL", "XHIGH")
_MODALITIES = ("MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO", "VIDEO")
_MEDIA_RESOLUTIONS = tuple(
    f"MEDIA_RESOLUTION_{level}" for level in ("UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "ULTRA_HIGH")
)
_MEDIA_RESOLUTION = Enumeration("MediaResolution", _MEDIA_RESOLUTIONS[:-1])
_RATIOS = (
    *("UNSPECIFIED", "ONE_BY_ONE", "TWO_BY_THREE", "THREE_BY_TWO", "THREE_BY_FOUR", "FOUR_BY_THREE"),
    *("FOUR_BY_FIVE", "FIVE_BY_FOUR", "NINE_BY_SIXTEEN", "SIXTEEN_BY_NINE", "TWENTY_ONE_BY_NINE"),
    *("ONE_BY_EIGHT", "EIGHT_BY_ONE", "ONE_BY_FOUR", "FOUR_BY_ONE"),
)
_SIZES = ("UNSPECIFIED", "FIVE_TWELVE", "ONE_K", "TWO_K", "FOUR_K")


def _build_enumeration(title: str, prefix: str, words: tuple[str, ...]) -> Enumeration:
    return Enumeration(title, tuple(f"{prefix}_{word}" for word in words))


_BLOB = Message({"mimeType": STRING, "data": BYTES, "displayName": STRING})
_FILE = Message({"mimeType": STRING, "fileUri": STRING, "displayName": STRING})
_DATA: Mapping[str, Shape] = {
    "text": STRING,
    "inlineData": _BLOB,
    "fileData": _FILE,
    "functionCall": Message({"id": STRING, "name": STRING, "args": ANYTHING, "willContinue": BOOL}),
    "functionResponse": Message(
        {
            "id": STRING,
            "name": STRING,
            "response": ANYTHING,
            "parts": Repeated(Message({"inlineData": _BLOB, "fileData": _FILE})),
            "willContinue": BOOL,
            "scheduling": Enumeration(
                "Scheduling", ("SCHEDULING_UNSPECIFIED", "SILENT", "WHEN_IDLE", "INTERRUPT")
            ),
        }
    ),
    "executableCode": Message({"id": STRING, "language": STRING, "code": STRING}),
    "codeExecutionResult": Message({"id": STRING, "outcome": STRING, "output": STRING}),
}
_PART = Message(
    {
        **_DATA,
        "thought": BOOL,
        "thoughtSignature": BYTES,
        "mediaResolution": Message({"level": Enumeration("MediaResolution", _MEDIA_RESOLUTIONS)}),
        "videoMetadata": Message({"startOffset": STRING, "endOffset": STRING, "fps": FLOAT}),
        "partMetadata": ANYTHING,
    },
    one_of=frozenset(_DATA),
)
CONTENT = Message({"role": STRING, "parts": Repeated(_PART, lenient=True)})
# Tools that the model does not take, whatever they hold.
_OTHER_TOOLS = (
    *("functionDeclarations", "googleSearchRetrieval", "codeExecution", "urlContext", "googleMaps"),
    *("enterpriseWebSearch", "retrieval", "fileSearch", "computerUse", "mcpServers"),
)
_TOOL = Message(
    {
        "googleSearch": Message(
            {
                "searchTypes": Message({"webSearch": Message({}), "imageSearch": Message({})}),
                "timeRangeFilter": Message({"startTime": STRING, "endTime": STRING}),
                "blockingConfidence": STRING,
                "excludeDomains": Repeated(STRING),
            }
        ),
        **dict.fromkeys(_OTHER_TOOLS, ANYTHING),
    }
)
_TOOL_CONFIG = Message(
    {
        "functionCallingConfig": Message(
            {
                "mode": Enumeration("Mode", ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")),
                "allowedFunctionNames": Repeated(STRING),
                "streamFunctionCallArguments": BOOL,
            }
        ),
        "retrievalConfig": Message(
            {"latLng": Message({"latitude": FLOAT, "longitude": FLOAT}), "languageCode": STRING}
        ),
        "includeServerSideToolInvocations": BOOL,
    }
)


def _build_image_config(dialect: Dialect) -> Message:
    fields: dict[str, Shape] = {"aspectRatio": STRING, "imageSize": STRING}
    if dialect == "vertex":
        fields |= {
            "personGeneration": Enumeration(
                "PersonGeneration",
                ("PERSON_GENERATION_UNSPECIFIED", "ALLOW_ALL", "ALLOW_ADULT", "ALLOW_NONE"),
            ),
            "prominentPeople": Enumeration(
                "ProminentPeople",
                ("PROMINENT_PEOPLE_UNSPECIFIED", "ALLOW_PROMINENT_PEOPLE", "BLOCK_PROMINENT_PEOPLE"),
            ),
            "imageOutputOptions": Message({"mimeType": STRING, "compressionQuality": INT32}),
        }
    return Message(fields)


def _build_generation_config(dialect: Dialect) -> Message:
    package = _PACKAGES[dialect]
    levels = Enumeration(f"{package}.ThinkingConfig.ThinkingLevel", _THINKING_LEVELS)
    thinking: dict[str, Shape] = {"includeThoughts": BOOL, "thinkingBudget": INT32, "thinkingLevel": levels}
    title = f"{package}.ImageResponseFormat"
    image_format: dict[str, Shape] = {
        "aspectRatio": _build_enumeration(f"{title}.AspectRatio", "ASPECT_RATIO", _RATIOS),
        "imageSize": _build_enumeration(f"{title}.ImageSize", "IMAGE_SIZE", _SIZES),
        "delivery": Enumeration(f"{title}.Delivery", ("DELIVERY_UNSPECIFIED", "INLINE", "URI")),
        "mimeType": Enumeration(f"{title}.MimeType", ("MIME_TYPE_UNSPECIFIED", "IMAGE_JPEG")),
    }
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
        "imageConfig": _build_image_config(dialect),
        "thinkingConfig": Message(thinking),
        "mediaResolution": _MEDIA_RESOLUTION,
        "speechConfig": ANYTHING,
    }
    if dialect == "vertex":
        fields |= {"routingConfig": ANYTHING, "modelConfig": ANYTHING, "audioTimestamp": BOOL}
    else:
        fields["enableEnhancedCivicAnswers"] = BOOL
    return Message(fields)


def _build_generate_request(dialect: Dialect) -> Message:
    package = _PACKAGES[dialect]
    setting: dict[str, Shape] = {
        "category": _build_enumeration(f"{package}.HarmCategory", "HARM_CATEGORY", _HARMS[dialect]),
        "threshold": Enumeration(f"{package}.SafetySetting.HarmBlockThreshold", _THRESHOLDS),
    }
    if dialect == "vertex":
        setting["method"] = Enumeration(
            f"{package}.SafetySetting.HarmBlockMethod",
            ("HARM_BLOCK_METHOD_UNSPECIFIED", "SEVERITY", "PROBABILITY"),
        )
    fields: dict[str, Shape] = {
        "model": STRING,
        "contents": Repeated(CONTENT, lenient=True),
        "systemInstruction": CONTENT,
        "generationConfig": _build_generation_config(dialect),
        "safetySettings": Repeated(Message(setting)),
        "tools": Repeated(_TOOL),
        "toolConfig": _TOOL_CONFIG,
        "cachedContent": STRING,
        "labels": ANYTHING,
        "serviceTier": STRING,
        "continuationToken": STRING,
    }
    if dialect == "vertex":
        fields |= {
            "modelArmorConfig": Message({"promptTemplateName": STRING, "responseTemplateName": STRING}),
            "outputConfig": Message({"outputUriPrefix": STRING}),
        }
    else:
        fields["store"] = BOOL
    return Message(fields)


GENERATE_REQUESTS: Mapping[Dialect, Message] = {
    "gemini": _build_generate_request("gemini"),
    "vertex": _build_generate_request("vertex"),
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
            "generationConfig": _build_generation_config("vertex"),
            "model": STRING,
            "instances": ANYTHING,
        }
    ),
}
