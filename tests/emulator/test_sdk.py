"""The real google-genai SDK against the emulator, in both of its modes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import httpx2
import pytest
from google import genai
from google.genai import errors, types
from PIL import Image

from tests.emulator.conftest import MODEL, NO_TLS
from tests.fixtures import image_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SMALL = types.ImageConfig(aspect_ratio="16:9", image_size="512")
CONFIG = types.GenerateContentConfig(response_modalities=["IMAGE"], image_config=SMALL)


@pytest.fixture(params=["gemini", "vertex"])
async def sdk(request: pytest.FixtureRequest, emulator: str) -> AsyncIterator[genai.Client]:
    async with httpx2.AsyncClient(timeout=30, verify=NO_TLS) as http:
        options = types.HttpOptions(base_url=emulator, httpx_async_client=http)
        if request.param == "vertex":
            options.api_version = "v1beta1"
        client = genai.Client(vertexai=request.param == "vertex", api_key="a-key", http_options=options)
        yield client
        client.close()


def picture_of(answer: types.GenerateContentResponse) -> Image.Image:
    blobs = [part.inline_data for part in answer.parts or [] if part.inline_data and not part.thought]
    assert blobs[0].data is not None
    return Image.open(io.BytesIO(blobs[0].data))


async def test_a_prompt_becomes_a_picture(sdk: genai.Client) -> None:
    answer = await sdk.aio.models.generate_content(model=MODEL, contents="A fox", config=CONFIG)
    assert picture_of(answer).size == (688, 384)
    usage = answer.usage_metadata
    assert usage is not None
    assert usage.candidates_tokens_details is not None
    assert usage.candidates_tokens_details[0].token_count == 747


async def test_inputs_thoughts_and_searches_go_through(sdk: genai.Client) -> None:
    config = CONFIG.model_copy(
        update={
            "thinking_config": types.ThinkingConfig(
                include_thoughts=True, thinking_level=types.ThinkingLevel.HIGH
            ),
            "tools": [
                types.Tool(google_search=types.GoogleSearch(search_types=types.SearchTypes(web_search={})))
            ],
            "system_instruction": "Be calm",
            "safety_settings": [
                types.SafetySetting(
                    category=types.HarmCategory.HARM_CATEGORY_HARASSMENT,
                    threshold=types.HarmBlockThreshold.BLOCK_ONLY_HIGH,
                )
            ],
            "seed": 7,
        }
    )
    picture = types.Part.from_bytes(data=image_bytes("orchard.heic"), mime_type="image/heic")
    contents = types.Content(role="user", parts=[types.Part(text="Edit it"), picture])
    answer = await sdk.aio.models.generate_content(model=MODEL, contents=contents, config=config)
    assert picture_of(answer).size == (688, 384)
    assert any(part.thought for part in answer.parts or [])
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.thoughts_token_count


async def test_a_chat_sends_its_signatures_back(sdk: genai.Client) -> None:
    chat = sdk.aio.chats.create(model=MODEL, config=CONFIG)
    first = picture_of(await chat.send_message("A fox"))
    second = picture_of(await chat.send_message("Now in snow"))
    assert first.tobytes() != second.tobytes()


async def test_a_stream_ends_with_its_reason(sdk: genai.Client) -> None:
    chunks = [
        chunk
        async for chunk in await sdk.aio.models.generate_content_stream(
            model=MODEL, contents="A fox", config=CONFIG
        )
    ]
    assert picture_of(chunks[0]).size == (688, 384)
    candidates = chunks[-1].candidates
    assert candidates is not None
    assert candidates[0].finish_reason == types.FinishReason.STOP


async def test_tokens_are_counted(sdk: genai.Client) -> None:
    assert (await sdk.aio.models.count_tokens(model=MODEL, contents="12345678")).total_tokens == 2


async def test_models_are_listed_and_found(sdk: genai.Client) -> None:
    names = [model.name or "" async for model in await sdk.aio.models.list(config={"page_size": 1})]
    assert any(name.endswith(MODEL) for name in names)
    assert ((await sdk.aio.models.get(model=MODEL)).name or "").endswith(MODEL)


@pytest.mark.parametrize(
    ("name", "code"), [("quota", 429), ("not-found", 404), ("unavailable", 503), ("bad-gateway", 502)]
)
async def test_an_error_is_raised_with_its_code(sdk: genai.Client, name: str, code: int) -> None:
    with pytest.raises(errors.APIError) as raised:
        await sdk.aio.models.generate_content(model=MODEL, contents=f"[[emulate:{name}]]", config=CONFIG)
    assert raised.value.code == code


async def test_an_invalid_ratio_is_the_servers_to_refuse(sdk: genai.Client) -> None:
    config = types.GenerateContentConfig(image_config=types.ImageConfig(aspect_ratio="7:3"))
    with pytest.raises(errors.ClientError, match="aspect_ratio"):
        await sdk.aio.models.generate_content(model=MODEL, contents="A fox", config=config)
