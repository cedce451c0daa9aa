"""Google's Python SDK against the gateway, with nothing changed but its base URL and its key."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from typing import TYPE_CHECKING, Any, Literal

import httpx2
import pytest
from google import genai
from google.genai import errors, types

from app.cards import load_catalogue
from app.domain.fingerprint import compute_digest
from app.media.inspection import inspect
from tests.fixtures import image_bytes
from tests.server.conftest import Client, Tenants, calls_of, wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.processes import Running

    Mode = Literal["gemini", "vertex"]

MODEL = "gemini-3.1-flash-image"
SMALL = types.ImageConfig(aspect_ratio="16:9", image_size="512")
PICTURE_ALONE = types.GenerateContentConfig(response_modalities=["IMAGE"], image_config=SMALL)
SEEDED = PICTURE_ALONE.model_copy(update={"seed": 7})
"""Equal requests with a seed are the same work; without one each is its own."""
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def sdk_of(url: str, key: str, mode: Mode, **options: Any) -> genai.Client:
    """A client as anybody would make it; no certificates are loaded for plain HTTP, to be quick."""
    return genai.Client(
        vertexai=mode == "vertex",
        api_key=key,
        http_options=types.HttpOptions(
            base_url=url, client_args={"verify": NO_TLS}, async_client_args={"verify": NO_TLS}, **options
        ),
    )


@pytest.fixture(params=["gemini", "vertex"])
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


@pytest.fixture
def sdk(gateway: Running, tenants: Tenants, mode: Mode) -> Iterator[genai.Client]:
    client = sdk_of(f"{gateway.url}/gemini", tenants.keys["gemini"], mode)
    yield client
    client.close()


@pytest.fixture
async def both(gateway: Running, emulator: Running, tenants: Tenants) -> AsyncIterator[list[genai.Client]]:
    """The same client through the gateway, and straight at what stands behind it."""
    clients = [
        sdk_of(f"{gateway.url}/gemini", tenants.keys["gemini"], "vertex"),
        sdk_of(emulator.url, "a-key", "vertex", api_version="v1beta1"),
    ]
    yield clients
    for client in clients:
        client.close()
        await client.aio.aclose()


@pytest.fixture
def native(gateway: Running, tenants: Tenants) -> Client:
    return Client(gateway.url, tenants.keys["gemini"])


def fresh(prompt: str) -> str:
    """A prompt that nobody used before."""
    return f"{prompt} {secrets.token_hex(4)}"


def pictures(answer: types.GenerateContentResponse) -> list[bytes]:
    """The bytes of the final pictures."""
    blobs = [part.inline_data for part in answer.parts or [] if part.inline_data and not part.thought]
    return [blob.data or b"" for blob in blobs]


def headers_of(answer: types.GenerateContentResponse) -> dict[str, str]:
    assert answer.sdk_http_response is not None
    return answer.sdk_http_response.headers or {}


def test_a_prompt_becomes_a_picture_of_the_size_asked_for(sdk: genai.Client) -> None:
    answer = sdk.models.generate_content(model=MODEL, contents=fresh("A fox"), config=PICTURE_ALONE)
    (data,) = pictures(answer)
    facts = inspect(data, pixels_max=1 << 30)
    assert (facts.width, facts.height) == (688, 384)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.candidates_tokens_details is not None
    assert answer.usage_metadata.candidates_tokens_details[0].token_count == 747
    assert answer.parts is not None
    assert answer.parts[0].thought_signature
    assert headers_of(answer)["x-flashgate-image-tokens"] == "747"


@pytest.mark.parametrize("thoughts", [False, True])
async def test_answers_are_those_of_the_upstream_but_for_the_headers(
    both: list[genai.Client], thoughts: bool
) -> None:
    """Equal to the last byte and signature; only what each call has of its own differs."""
    config = PICTURE_ALONE.model_copy(
        update={
            "temperature": 0.5,
            "seed": 11,
            "system_instruction": "Be calm",
            "thinking_config": types.ThinkingConfig(
                include_thoughts=True, thinking_level=types.ThinkingLevel.HIGH
            )
            if thoughts
            else None,
        }
    )
    contents: list[Any] = [
        types.Part.from_bytes(data=image_bytes("harbour.png"), mime_type="image/png"),
        types.Part.from_bytes(data=image_bytes("orchard.webp"), mime_type="image/webp"),
        "Put the first into the second",
    ]
    answers = [
        await client.aio.models.generate_content(model=MODEL, contents=contents, config=config)
        for client in both
    ]
    through, straight = [
        answer.model_dump(exclude={"sdk_http_response", "response_id", "create_time"}) for answer in answers
    ]
    assert through == straight
    assert pictures(answers[0])
    assert all(answer.response_id and answer.create_time for answer in answers)
    own = {name for name in headers_of(answers[0]) if name not in headers_of(answers[1])}
    assert headers_of(answers[0]).get("x-flashgate-notices") == (
        "normalised_thinking_level" if thoughts else None
    )
    assert own - {"x-flashgate-notices"} == {
        "age", "cache-control", "cache-status", "ratelimit", "ratelimit-policy", "server-timing",
        "x-content-type-options", "x-flashgate-back-end", "x-flashgate-image-tokens", "x-request-id",
    }  # fmt: skip


async def test_a_blocked_prompt_is_an_answer_and_its_tokens_are_settled(
    both: list[genai.Client], native: Client
) -> None:
    before = native.budget()["settled"]
    contents = fresh("Bad [[emulate:blocked-prompt]]")
    answers = [await client.aio.models.generate_content(model=MODEL, contents=contents) for client in both]
    through, straight = [
        answer.model_dump(exclude={"sdk_http_response", "response_id", "create_time"}) for answer in answers
    ]
    assert through == straight
    feedback = answers[0].prompt_feedback
    assert feedback is not None
    assert feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT
    after = native.budget()
    assert (after["settled"], after["held"]) == (before, 0)


@pytest.mark.parametrize(
    ("rehearsal", "reason"),
    [
        ("image-safety", "IMAGE_SAFETY"),
        ("image-prohibited", "IMAGE_PROHIBITED_CONTENT"),
        ("no-image", "NO_IMAGE"),
        ("max-tokens", "MAX_TOKENS"),
        ("text-only", "STOP"),
        ("unknown-no-image", "IMAGE_WITHHELD_2027"),
    ],
)
@pytest.mark.filterwarnings("ignore:IMAGE_WITHHELD_2027 is not a valid FinishReason")
def test_an_answer_without_a_picture_is_passed_on_and_never_kept(
    sdk: genai.Client, emulator: Running, rehearsal: str, reason: str
) -> None:
    contents = fresh(f"None [[emulate:{rehearsal}]]")
    calls = calls_of(emulator)
    for _ in range(2):
        answer = sdk.models.generate_content(model=MODEL, contents=contents)
        assert answer.candidates is not None
        assert answer.candidates[0].finish_reason == reason
        assert pictures(answer) == []
    assert calls_of(emulator) - calls == 2


def test_the_same_work_in_both_dialects_is_one_generation(
    sdk: genai.Client, native: Client, emulator: Running
) -> None:
    prompt = fresh("Shared")
    calls = calls_of(emulator)
    same = {"prompt": prompt, "image_size": "512", "aspect_ratio": "16:9", "seed": 7}
    made = native.post(same)
    answer = sdk.models.generate_content(model=MODEL, contents=prompt, config=SEEDED)
    again = native.post(same)
    assert calls_of(emulator) - calls == 1
    assert headers_of(answer)["cache-status"].startswith("flashgate; hit")
    assert [f"img_{digest}" for digest in map(compute_digest, pictures(answer))] == [
        image["id"] for image in made.json()["images"]
    ]
    assert again.json()["cache"]["status"] == "hit"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.candidates_token_count is not None


def test_two_references_are_the_same_work_as_in_the_native_form(
    sdk: genai.Client, native: Client, emulator: Running
) -> None:
    prompt = fresh("Side by side")
    names = ("harbour.png", "orchard.webp")
    files = [("image", (name, image_bytes(name))) for name in names]
    made = httpx2.post(
        f"{native.url}/v1/images:edit",
        data={"prompt": prompt, "image_size": "512", "aspect_ratio": "16:9", "seed": "7"},
        files=files,
        headers={"X-API-Key": native.key},
        timeout=60,
    )
    assert made.status_code == 200
    calls = calls_of(emulator)
    parts: list[Any] = [
        types.Part.from_bytes(data=image_bytes("harbour.png"), mime_type="image/png"),
        types.Part.from_bytes(data=image_bytes("orchard.webp"), mime_type="image/webp"),
        prompt,
    ]
    answer = sdk.models.generate_content(model=MODEL, contents=parts, config=SEEDED)
    assert calls_of(emulator) == calls
    assert [f"img_{compute_digest(data)}" for data in pictures(answer)] == [
        image["id"] for image in made.json()["images"]
    ]
    words_first = sdk.models.generate_content(model=MODEL, contents=parts[::-1], config=SEEDED)
    assert calls_of(emulator) == calls + 1, "another order of the parts is other work"
    assert pictures(words_first)


def test_a_conversation_of_three_turns_keeps_its_signatures(sdk: genai.Client, emulator: Running) -> None:
    config = types.GenerateContentConfig(image_config=SMALL, seed=7)
    chat = sdk.chats.create(model=MODEL, config=config)
    calls = calls_of(emulator)
    seen = [pictures(chat.send_message(words)) for words in (fresh("A cat"), "Make it blue", "Give it a hat")]
    assert all(len(each) == 1 for each in seen)
    assert len({each[0] for each in seen}) == 3
    assert calls_of(emulator) - calls == 3
    history = chat.get_history()
    assert len(history) == 6
    again = sdk.models.generate_content(
        model=MODEL,
        contents=[*history[:4], history[4]],
        config=config,
    )
    assert pictures(again) == seen[2], "the same conversation is the same work"
    assert calls_of(emulator) - calls == 3


@pytest.mark.parametrize("streamed", [False, True])
def test_a_lost_signature_is_refused_in_the_words_of_the_upstream(sdk: genai.Client, streamed: bool) -> None:
    first = sdk.models.generate_content(model=MODEL, contents=fresh("A dog"), config=PICTURE_ALONE)
    assert first.candidates is not None
    content = first.candidates[0].content
    assert content is not None
    assert content.parts is not None
    content.parts[0].thought_signature = None
    turn = types.Content(role="user", parts=[types.Part(text="Now in red")])

    def call() -> object:
        contents = [turn, content, turn]
        if streamed:
            return list(sdk.models.generate_content_stream(model=MODEL, contents=contents))
        return sdk.models.generate_content(model=MODEL, contents=contents)

    with pytest.raises(errors.ClientError) as caught:
        call()
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    assert "missing a thought_signature in content position 2, part position 1" in str(caught.value.message)


def test_a_stream_gives_the_answer_and_thoughts_of_it(sdk: genai.Client, emulator: Running) -> None:
    config = types.GenerateContentConfig(
        image_config=SMALL,
        seed=7,
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level=types.ThinkingLevel.HIGH),
    )
    prompt = fresh("Streamed")
    chunks = list(sdk.models.generate_content_stream(model=MODEL, contents=prompt, config=config))
    parts = [part for chunk in chunks for part in chunk.parts or []]
    assert [bool(part.thought) for part in parts] == [True, True, False, False]
    assert parts[1].inline_data is not None
    assert parts[3].inline_data is not None
    assert parts[3].thought_signature
    assert chunks[-1].usage_metadata is not None
    assert chunks[-1].usage_metadata.thoughts_token_count
    calls = calls_of(emulator)
    whole = sdk.models.generate_content(model=MODEL, contents=prompt, config=config)
    assert calls_of(emulator) == calls, "a stream and its whole answer are the same work"
    assert whole.parts == parts


async def test_an_asynchronous_stream_gives_the_same_picture(
    both: list[genai.Client], emulator: Running
) -> None:
    prompt = fresh("Streamed twice")
    seen = []
    for client in both:
        stream = await client.aio.models.generate_content_stream(model=MODEL, contents=prompt, config=SEEDED)
        seen.append([data async for chunk in stream for data in pictures(chunk)])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 1


def test_tokens_are_counted_and_nothing_is_spent(
    sdk: genai.Client, native: Client, emulator: Running
) -> None:
    before, calls = native.budget(), calls_of(emulator)
    part = types.Part.from_bytes(data=image_bytes("harbour.png"), mime_type="image/png")
    contents: list[Any] = [part, "How many?"]
    counted = sdk.models.count_tokens(model=MODEL, contents=contents)
    assert counted.total_tokens is not None
    assert 1120 < counted.total_tokens < 1140
    assert (native.budget()["settled"], calls_of(emulator)) == (before["settled"], calls)


def test_models_are_listed_and_found_by_any_name(sdk: genai.Client, mode: Mode) -> None:
    prefix = "publishers/google/models/" if mode == "vertex" else "models/"
    listed = {model.name for model in sdk.models.list(config={"page_size": 2})}
    assert listed == {prefix + card.id for card in load_catalogue()}
    assert sdk.models.get(model="nano-banana-2").name == prefix + MODEL
    with pytest.raises(errors.ClientError) as caught:
        sdk.models.get(model="gemini-9")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


def test_limits_and_sampling_of_a_model_are_its_cards(gateway: Running, tenants: Tenants) -> None:
    client = sdk_of(f"{gateway.url}/gemini", tenants.keys["gemini"], "gemini")
    model = client.models.get(model=MODEL)
    client.close()
    assert (model.input_token_limit, model.output_token_limit) == (131_072, 32_768)
    assert (model.temperature, model.max_temperature, model.top_p) == (1.0, 2.0, 0.95)
    assert model.supported_actions == ["generateContent", "countTokens"]


def test_every_fault_is_named_by_googles_field_and_nothing_is_sent(
    sdk: genai.Client, emulator: Running
) -> None:
    calls = calls_of(emulator)
    config = types.GenerateContentConfig(
        temperature=9,
        candidate_count=2,
        image_config=types.ImageConfig(aspect_ratio="7:3", image_size="9K"),
    )
    part = types.Part.from_bytes(data=b"no picture at all", mime_type="image/png")
    contents: list[Any] = ["Draw", part]
    with pytest.raises(errors.ClientError) as caught:
        sdk.models.generate_content(model=MODEL, contents=contents, config=config)
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    assert isinstance(caught.value.details, dict)
    bad_request = caught.value.details["error"]["details"][0]
    assert bad_request["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert list(dict.fromkeys(item["field"] for item in bad_request["fieldViolations"])) == [
        "generation_config.image_config.aspect_ratio",
        "generation_config.image_config.image_size",
        "generation_config.candidate_count",
        "generation_config.temperature",
        "contents[0].parts[1].inline_data",
    ]
    assert calls_of(emulator) == calls


def test_a_key_that_is_not_known_is_refused_as_the_original_refuses_it(gateway: Running, mode: Mode) -> None:
    client = sdk_of(f"{gateway.url}/gemini", "AIzaNotOurs", mode)
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model=MODEL, contents="A fox")
    client.close()
    expected = (400, "INVALID_ARGUMENT") if mode == "gemini" else (401, "UNAUTHENTICATED")
    assert (caught.value.code, caught.value.status) == expected
    if mode == "gemini":
        assert isinstance(caught.value.details, dict)
        (info,) = caught.value.details["error"]["details"]
        assert (info["reason"], info["domain"]) == ("API_KEY_INVALID", "googleapis.com")


def test_an_exhausted_budget_is_googles_quota(gateway: Running, tenants: Tenants, emulator: Running) -> None:
    client = sdk_of(f"{gateway.url}/gemini", tenants.keys["poor"], "gemini")
    config = types.GenerateContentConfig(image_config=types.ImageConfig(image_size="2K"))
    calls = calls_of(emulator)
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model=MODEL, contents=fresh("Too dear"), config=config)
    client.close()
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert isinstance(caught.value.details, dict)
    by_type = {item["@type"].rpartition(".")[2]: item for item in caught.value.details["error"]["details"]}
    assert by_type.keys() == {"QuotaFailure", "ErrorInfo"}, "no wait makes room for more than a whole day has"
    (violation,) = by_type["QuotaFailure"]["violations"]
    assert (violation["quotaId"], violation["quotaValue"]) == ("tenant-day-image_tokens", "1120")
    assert "whole budget for a day is 1,120" in violation["description"]
    assert calls_of(emulator) == calls


async def test_a_caller_who_leaves_still_pays_and_finds_the_seeds_picture_later(
    gateway: Running, emulator: Running, tenants: Tenants
) -> None:
    client = sdk_of(f"{gateway.url}/gemini", tenants.keys["gemini"], "gemini")
    gate = secrets.token_hex(4)
    contents = f"Held [[emulate:hold:{gate}]]"
    calling = asyncio.create_task(
        client.aio.models.generate_content(model=MODEL, contents=contents, config=SEEDED)
    )

    def held() -> bool:
        return bool(httpx2.get(f"{emulator.url}/emulator/held/{gate}").json()["held"])

    await asyncio.to_thread(wait_for, held, "the call reaches the emulator")
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    httpx2.post(f"{emulator.url}/emulator/release/{gate}")
    calls = calls_of(emulator)
    answer = await client.aio.models.generate_content(model=MODEL, contents=contents, config=SEEDED)
    assert pictures(answer)
    assert calls_of(emulator) == calls
    await client.aio.aclose()
    client.close()
