"""What Google refuses, and how it says so."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.conftest import EXPRESS, GENERATE, MODEL, VERTEX, asking
from tests.fixtures import image_bytes
from tests.media.files import MDAT, ftyp
from tests.media.films import audio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

PATH = "generation_config.image_config"
PNG = ("image/png", image_bytes("harbour-alpha.png"))


def configured(**config: Any) -> dict[str, Any]:
    return asking("A fox", **config)


def image(**config: Any) -> dict[str, Any]:
    return asking("A fox", imageConfig=config)


def parts(*items: dict[str, Any]) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": list(items)}]}


def blob(data: str, mime_type: str = "image/png") -> dict[str, Any]:
    return parts({"text": "x"}, {"inlineData": {"mimeType": mime_type, "data": data}})


SOUND = base64.b64encode(audio(2)).decode()
CUT = base64.b64encode(ftyp(b"qt  ") + MDAT).decode()
TOO_LONG = base64.b64encode(bytes(7_000_001)).decode()
INVALID: dict[str, tuple[dict[str, Any], str, str]] = {
    # A name: (the request, the field at fault, words of the sentence)
    "nothing": ({}, "contents", "contents is not specified"),
    "no contents": ({"contents": []}, "contents", "contents is not specified"),
    "no parts": ({"contents": [{"role": "user"}]}, "contents[0].parts", "must not be empty"),
    "another role": (
        {"contents": [{"role": "system", "parts": [{"text": "x"}]}]},
        "contents[0].role",
        "valid role: user, model",
    ),
    "unknown field": (asking("x") | {"prompt": "y"}, "", 'Unknown name "prompt": Cannot find field.'),
    "unknown nested field": (
        image(quality="high"),
        PATH,
        f"Unknown name \"quality\" at '{PATH}': Cannot find",
    ),
    "unknown in a call": (
        parts({"text": "x"}, {"functionCall": {"name": "f", "wish": 1}}),
        "contents[0].parts[1].function_call",
        "Unknown name \"wish\" at 'contents[0].parts[1].function_call': Cannot find field.",
    ),
    "unknown in what a function returned": (
        parts({"text": "x"}, {"functionResponse": {"parts": [{"text": "x"}]}}),
        "contents[0].parts[1].function_response.parts[0]",
        'Unknown name "text"',
    ),
    "unknown of a video": (
        parts({"text": "x", "videoMetadata": {"speed": 2}}),
        "contents[0].parts[0].video_metadata",
        'Unknown name "speed"',
    ),
    "unknown in a search": (
        asking("x") | {"tools": [{"googleSearch": {"searchTypes": {"webSearch": {"depth": 1}}}}]},
        "tools[0].google_search.search_types.web_search",
        'Unknown name "depth"',
    ),
    "unknown tool": (asking("x") | {"tools": [{"telescope": {}}]}, "tools[0]", 'Unknown name "telescope"'),
    "unknown of tools": (
        asking("x") | {"toolConfig": {"functionCallingConfig": {"retries": 1}}},
        "tool_config.function_calling_config",
        'Unknown name "retries"',
    ),
    "the older words in the newer place": (
        configured(responseFormat={"image": {"aspectRatio": "3:2"}}),
        "generation_config.response_format[0].image.aspect_ratio",
        'v1beta.ImageResponseFormat.AspectRatio), "3:2"',
    ),
    "a number that no word has": (
        configured(responseModalities=[2, 9]),
        "generation_config.response_modalities[1]",
        "GenerationConfig.Modality), 9",
    ),
    "output options": (image(imageOutputOptions={}), PATH, 'Unknown name "imageOutputOptions"'),
    "person generation": (image(person_generation="ALLOW_ALL"), PATH, 'Unknown name "person_generation"'),
    "ratio": (image(aspectRatio="7:3"), f"{PATH}.aspect_ratio", f"Invalid value at '{PATH}.aspect_ratio'"),
    "pixel size": (image(imageSize="512px"), f"{PATH}.image_size", '"512px"'),
    "lower case size": (image(imageSize="2k"), f"{PATH}.image_size", '"2k"'),
    "candidates": (
        configured(candidateCount=2),
        "generation_config.candidate_count",
        "Multiple candidates is not",
    ),
    "temperature": (configured(temperature=2.1), "generation_config.temperature", "in the range [0.0, 2.0]"),
    "top p": (configured(topP=-0.1), "generation_config.top_p", "in the range [0.0, 1.0]"),
    "output tokens": (configured(maxOutputTokens=32769), "generation_config.max_output_tokens", "32768"),
    "seed": (configured(seed=2**31), "generation_config.seed", "(TYPE_INT32), 2147483648"),
    "wrong type": (configured(temperature="hot"), "generation_config.temperature", '(TYPE_FLOAT), "hot"'),
    "modality": (
        configured(responseModalities=["AUDIO"]),
        "generation_config.response_modalities",
        "* TEXT, IMAGE",
    ),
    "no such modality": (
        configured(responseModalities=["SMELL"]),
        "generation_config.response_modalities[0]",
        "GenerationConfig.Modality",
    ),
    "thinking level": (
        configured(thinkingConfig={"thinkingLevel": "LOW"}),
        "generation_config.thinking_config.thinking_level",
        "LOW is not supported",
    ),
    "safety": (
        asking("x") | {"safetySettings": [{"category": "HARM_CATEGORY_BOREDOM", "threshold": "OFF"}]},
        "safety_settings[0].category",
        "HarmCategory",
    ),
    "functions": (asking("x") | {"tools": [{"functionDeclarations": []}]}, "tools[0]", "Function calling"),
    "base64": (blob("%%%"), "contents[0].parts[1].inline_data.data", "Base64 decoding failed"),
    "two contents in a part": (
        parts({"text": "x", "inlineData": {"mimeType": "image/png", "data": ""}}),
        "contents[0].parts[0]",
        "(oneof)",
    ),
    "type": (blob("AAAA", "image/gif"), "contents[0].parts[1].inline_data.mime_type", "MIME type: image/gif"),
    "type of a video": (
        blob("AAAA", "video/x-matroska"),
        "contents[0].parts[1].inline_data.mime_type",
        "video/x-matroska",
    ),
    "video of sound alone": (blob(SOUND, "video/mp4"), "contents", "Unable to process input video"),
    "video that was cut": (blob(CUT, "video/mov"), "contents", "Unable to process input video"),
    "length": (blob(TOO_LONG), "contents[0].parts[1].inline_data.data", "limit of 7000000 bytes"),
    "prompt": (
        asking("word " * 110_000),
        "contents",
        "(137500) exceeds the maximum number of tokens allowed (131072)",
    ),
    "null in a list": ({"contents": [None]}, "contents[0]", "Invalid value at 'contents[0]' (a value), null"),
    "fifteen images": (asking("x", *[PNG] * 15), "contents", "fewer than 15 images"),
    "no image": (blob("AAAA"), "contents", "Unable to process input image"),
    "half an image": (
        asking("x", ("image/jpeg", image_bytes("harbour-truncated.jpg"))),
        "contents",
        "Unable to process input image",
    ),
    "text as an image": (
        asking("x", ("image/png", image_bytes("text-not.png"))),
        "contents",
        "Unable to process",
    ),
    "cloud storage address": (
        parts({"fileData": {"mimeType": "image/png", "fileUri": "gs://b/o.png"}}),
        "contents[0].parts[0].file_data.file_uri",
        "gs://b/o.png",
    ),
    "misspelt rehearsal": (asking("[[emulate:nonsense]]"), "contents", "no rehearsal called nonsense"),
}


@pytest.mark.parametrize("case", INVALID)
async def test_what_google_refuses_is_refused_with_the_field_at_fault(
    client: httpx2.AsyncClient, case: str
) -> None:
    body, field, words = INVALID[case]
    response = await client.post(GENERATE, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert words in error["message"]
    (detail,) = error["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert [violation.get("field", "") for violation in detail["fieldViolations"]] == [field]


async def test_all_faults_are_named_at_once(client: httpx2.AsyncClient) -> None:
    body = configured(temperature=3, candidateCount=2, imageConfig={"aspectRatio": "2:1"})
    error = (await client.post(GENERATE, json=body)).json()["error"]
    assert len(error["details"][0]["fieldViolations"]) == 3


async def test_what_is_not_json_is_refused(client: httpx2.AsyncClient) -> None:
    for content in (b"{", b"[1]", b'"x"', b"\xff"):
        response = await client.post(GENERATE, content=content)
        assert response.status_code == 400
        assert response.json()["error"]["status"] == "INVALID_ARGUMENT"


async def test_vertex_takes_the_options_that_gemini_does_not_know(client: httpx2.AsyncClient) -> None:
    options = {
        "imageSize": "512",
        "personGeneration": "ALLOW_ADULT",
        "image_output_options": {"mime_type": "image/png", "compressionQuality": 80},
    }
    body = asking("A fox", imageConfig=options)
    statuses = [(await client.post(path, json=body)).status_code for path in (VERTEX, EXPRESS, GENERATE)]
    assert statuses == [200, 200, 400]


async def test_fourteen_images_and_seven_megabytes_are_accepted(client: httpx2.AsyncClient) -> None:
    padded = image_bytes("harbour.png") + bytes(7_000_000 - len(image_bytes("harbour.png")))
    body = asking("x", ("image/png", padded), *[PNG] * 13, imageConfig={"imageSize": "512"})
    assert (await client.post(GENERATE, json=body)).status_code == 200


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "/v1beta/models/gemini-9:generateContent",
            "models/gemini-9 is not found for API version v1beta, or",
        ),
        ("/v1/models/nano-banana-2:generateContent", "models/nano-banana-2 is not found for API version v1"),
        (
            EXPRESS.replace(MODEL, "gemini-9"),
            "Publisher Model `publishers/google/models/gemini-9` was not found",
        ),
        (VERTEX.replace("global", "europe-west4"), "locations/europe-west4/publishers/google/models"),
    ],
)
async def test_an_unknown_model_is_not_found(client: httpx2.AsyncClient, path: str, words: str) -> None:
    response = await client.post(path, json=asking("A fox"))
    error = response.json()["error"]
    assert (response.status_code, error["status"]) == (404, "NOT_FOUND")
    assert words in error["message"]


@pytest.mark.parametrize(
    "path", ["/", "/v2/models", "/v1alpha/models", f"/v1beta/models/{MODEL}:draw", "/v1beta1/models"]
)
async def test_an_unknown_address_is_a_page_of_html(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.request("POST" if ":" in path else "GET", path)
    assert (response.status_code, response.headers["content-type"]) == (404, "text/html; charset=utf-8")


async def test_without_credentials_nothing_is_answered(emulator: str, client: httpx2.AsyncClient) -> None:
    client.headers.pop("x-goog-api-key")
    for path, status, word in ((GENERATE, 403, "PERMISSION_DENIED"), (VERTEX, 401, "UNAUTHENTICATED")):
        error = (await client.post(path, json=asking("A fox"))).json()["error"]
        assert (error["code"], error["status"]) == (status, word)


@pytest.mark.parametrize(
    ("headers", "query"),
    [({"x-goog-api-key": "k"}, {}), ({"authorization": "Bearer t"}, {}), ({}, {"key": "k"})],
)
async def test_a_key_may_come_in_three_places(
    client: httpx2.AsyncClient, headers: dict[str, str], query: dict[str, str]
) -> None:
    client.headers.pop("x-goog-api-key")
    assert (await client.get("/v1beta/models", headers=headers, params=query)).status_code == 200


async def test_an_invalid_key_is_an_invalid_argument_with_a_reason(client: httpx2.AsyncClient) -> None:
    response = await client.post(GENERATE, headers={"x-goog-api-key": "invalid"}, json=asking("A fox"))
    error = response.json()["error"]
    assert (response.status_code, error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["details"][0]["reason"] == "API_KEY_INVALID"


@pytest.mark.parametrize(("seconds", "status"), [("9", 400), ("10", 200), ("300", 200)])
async def test_a_deadline_below_ten_seconds_is_refused(
    client: httpx2.AsyncClient, seconds: str, status: int
) -> None:
    body = asking("A fox", imageConfig={"imageSize": "512"})
    response = await client.post(GENERATE, headers={"X-Server-Timeout": seconds}, json=body)
    assert response.status_code == status
    assert ("Minimum allowed deadline is 10s" in response.text) == (status == 400)


async def test_a_request_above_a_hundred_megabytes_is_refused(client: httpx2.AsyncClient) -> None:
    async def piecemeal() -> AsyncIterator[bytes]:
        for _ in range(101):
            yield bytes(1 << 20)

    response = await client.post(GENERATE, content=piecemeal())
    assert response.status_code == 400
    assert "exceeds the limit: 104857600 bytes" in response.text


@pytest.mark.parametrize("path", [GENERATE, EXPRESS])
async def test_an_unknown_query_parameter_is_refused_and_system_parameters_are_not(
    client: httpx2.AsyncClient, path: str
) -> None:
    answer = await client.post(path, params={"imageSize": "4K"}, json=asking("A fox"))
    error = answer.json()["error"]
    assert (answer.status_code, error["details"][0]["fieldViolations"][0]["field"]) == (400, "imageSize")
    assert 'Unknown name "imageSize": Cannot bind query parameter.' in error["message"]
    system = {"$alt": "json", "prettyPrint": "true", "$.xgafv": "2"}
    assert (await client.post(path, params=system, json=asking("A fox"))).status_code == 200
