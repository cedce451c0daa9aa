"""Google's Python SDK in each of its ways of asking: what every client is tried with (MATRIX.md)."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import httpx2
import pytest
from google import genai
from google.genai import errors, types

from app.domain.fingerprint import compute_digest
from tests.contract.test_google_genai import MODEL, NO_TLS, PICTURE_ALONE, SEEDED, SMALL, pictures
from tests.fixtures import image_bytes
from tests.server.conftest import Client, Tenants, calls_of, wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.contract.conftest import Gate
    from tests.processes import Running

    Way = Literal["sync", "async", "stream", "chats"]

WITH_WORDS = types.GenerateContentConfig(image_config=SMALL)
TOO_LARGE = types.GenerateContentConfig(image_config=types.ImageConfig(image_size="9K"))
TOO_DEAR = types.GenerateContentConfig(image_config=types.ImageConfig(image_size="2K"))


@dataclass(frozen=True)
class Asking:
    """One way of asking."""

    client: genai.Client
    way: Way

    async def ask(
        self, contents: Any, config: types.GenerateContentConfig = PICTURE_ALONE
    ) -> list[types.GenerateContentResponse]:
        """The whole answer; a stream's in its pieces."""
        models, later = self.client.models, self.client.aio
        if self.way == "sync":
            return [
                await asyncio.to_thread(
                    models.generate_content, model=MODEL, contents=contents, config=config
                )
            ]
        if self.way == "async":
            return [await later.models.generate_content(model=MODEL, contents=contents, config=config)]
        if self.way == "chats":
            return [await later.chats.create(model=MODEL, config=config).send_message(contents)]
        stream = await later.models.generate_content_stream(model=MODEL, contents=contents, config=config)
        return [piece async for piece in stream]


class Impatient(httpx2.HTTPTransport):
    """Gives up soon. The SDK's own time-out is told to the server, which takes none below 10 s."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.extensions["timeout"] = {"connect": 5, "read": 0.5, "write": 5, "pool": 5}
        return super().handle_request(request)


@pytest.fixture(params=["sync", "async", "stream", "chats"])
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


def client_of(gateway: Running, key: str, **client_args: Any) -> genai.Client:
    """As anybody would make it; no certificates are loaded for plain HTTP, to be quick."""
    options = types.HttpOptions(
        base_url=f"{gateway.url}/gemini",
        client_args={"verify": NO_TLS, **client_args},
        async_client_args={"verify": NO_TLS},
    )
    return genai.Client(api_key=key, http_options=options)


@pytest.fixture
async def asking(gateway: Running, tenants: Tenants, way: Way) -> AsyncIterator[Asking]:
    client = client_of(gateway, tenants.keys["gemini"])
    yield Asking(client, way)
    client.close()
    await client.aio.aclose()


def fresh(prompt: str) -> str:
    """A prompt that nobody used before."""
    return f"{prompt} {secrets.token_hex(4)}"


def drawn(answer: list[types.GenerateContentResponse]) -> list[bytes]:
    """The pictures of an answer."""
    return [picture for piece in answer for picture in pictures(piece)]


async def test_a_prompt_becomes_a_picture(asking: Asking) -> None:
    answer = await asking.ask(fresh("A heron"))
    assert len(drawn(answer)) == 1
    usage = answer[-1].usage_metadata
    assert usage is not None
    assert usage.candidates_tokens_details is not None
    assert usage.candidates_tokens_details[0].token_count == 747


async def test_two_references_are_edited(asking: Asking) -> None:
    parts = [
        types.Part.from_bytes(data=image_bytes("harbour.png"), mime_type="image/png"),
        types.Part.from_bytes(data=image_bytes("orchard.webp"), mime_type="image/webp"),
        types.Part.from_text(text=fresh("The first in the second")),
    ]
    answer = await asking.ask(parts)
    assert len(drawn(answer)) == 1
    usage = answer[-1].usage_metadata
    assert usage is not None
    counted = {item.modality: item.token_count for item in usage.prompt_tokens_details or []}
    assert counted[types.MediaModality.IMAGE] == 2 * 1120


async def test_a_conversation_has_three_turns(asking: Asking, emulator: Running) -> None:
    """By a chat of the SDK, else by contents that a caller keeps."""
    turns, calls = (fresh("A cat"), "Make it blue", "Give it a hat"), calls_of(emulator)
    seen: list[bytes] = []
    if asking.way == "chats":
        chat = asking.client.aio.chats.create(model=MODEL, config=WITH_WORDS)
        for turn in turns:
            seen += pictures(await chat.send_message(turn))
        assert len(chat.get_history()) == 6
    else:
        contents: list[types.Content] = []
        for turn in turns:
            contents.append(types.Content(role="user", parts=[types.Part(text=turn)]))
            answer = await asking.ask(contents, WITH_WORDS)
            seen += drawn(answer)
            said = [part for piece in answer for part in piece.parts or []]
            contents.append(types.Content(role="model", parts=said))
    assert len({compute_digest(picture) for picture in seen}) == 3
    assert calls_of(emulator) - calls == 3


async def test_tokens_are_counted(gateway: Running, tenants: Tenants, emulator: Running) -> None:
    client, calls = client_of(gateway, tenants.keys["gemini"]), calls_of(emulator)
    counted = [
        await asyncio.to_thread(client.models.count_tokens, model=MODEL, contents="How many are these?"),
        await client.aio.models.count_tokens(model=MODEL, contents="How many are these?"),
    ]
    assert [answer.total_tokens for answer in counted] == [7, 7]
    assert calls_of(emulator) == calls
    client.close()
    await client.aio.aclose()


async def test_an_invalid_size_is_the_sdks_client_error(asking: Asking, emulator: Running) -> None:
    calls = calls_of(emulator)
    with pytest.raises(errors.ClientError) as caught:
        await asking.ask(fresh("Too large"), TOO_LARGE)
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    assert isinstance(caught.value.details, dict)
    (violation,) = caught.value.details["error"]["details"][0]["fieldViolations"]
    assert violation["field"] == "generation_config.image_config.image_size"
    assert calls_of(emulator) == calls


async def test_a_blocked_prompt_is_an_answer_with_feedback(asking: Asking) -> None:
    answer = await asking.ask(fresh("Bad [[emulate:blocked-prompt]]"))
    assert drawn(answer) == []
    feedback = answer[0].prompt_feedback
    assert feedback is not None
    assert feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT


async def test_an_exhausted_budget_is_the_sdks_client_error(
    gateway: Running, tenants: Tenants, emulator: Running, way: Way
) -> None:
    client, calls = client_of(gateway, tenants.keys["poor"]), calls_of(emulator)
    with pytest.raises(errors.ClientError) as caught:
        await Asking(client, way).ask(fresh("Too dear"), TOO_DEAR)
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert calls_of(emulator) == calls
    client.close()
    await client.aio.aclose()


async def test_four_at_once_are_four_pictures_and_asking_again_draws_a_fifth(
    asking: Asking, gate: Gate, emulator: Running
) -> None:
    contents, calls = f"Together {gate.word}", calls_of(emulator)
    asked = [asyncio.create_task(asking.ask(contents)) for _ in range(4)]
    await asyncio.to_thread(gate.wait, 4)
    gate.open()
    answers = [*await asyncio.gather(*asked), await asking.ask(contents)]
    assert len({picture for answer in answers for picture in drawn(answer)}) == 5
    assert calls_of(emulator) - calls == 5


async def test_a_cancelled_call_is_paid_once_and_found_later(
    gateway: Running, tenants: Tenants, gate: Gate, emulator: Running, way: Way
) -> None:
    """With a seed; a call that blocks its thread can be given up by a time-out alone."""
    native = Client(gateway.url, tenants.keys["left"])
    calls, before = calls_of(emulator), native.budget()["settled"]
    client = client_of(gateway, native.key, **({"transport": Impatient()} if way == "sync" else {}))
    asking, contents = Asking(client, way), f"Left {gate.word}"
    if way == "sync":
        with pytest.raises(httpx2.ReadTimeout):
            await asking.ask(contents, SEEDED)
    else:
        asked = asyncio.create_task(asking.ask(contents, SEEDED))
        await asyncio.to_thread(gate.wait)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    gate.open()
    await asyncio.to_thread(
        wait_for, lambda: native.budget()["settled"] == before + 747, "the picture is paid"
    )
    assert len(drawn(await asking.ask(contents, SEEDED))) == 1
    assert calls_of(emulator) - calls == 1
    assert native.budget()["settled"] == before + 747
    client.close()
    await client.aio.aclose()
