"""Pydantic AI, a framework that sits on both SDKs: its image generator and its agents against the gateway."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Literal

import pytest
from google import genai
from google.genai import types
from openai import AsyncOpenAI
from pydantic_ai import Agent, BinaryImage, ImageGenerator
from pydantic_ai.exceptions import ContentFilterError, ModelHTTPError, UsageLimitExceeded
from pydantic_ai.images.google import GoogleImageGenerationModel, GoogleImageGenerationSettings
from pydantic_ai.images.openai import OpenAIImageGenerationModel, OpenAIImageGenerationSettings
from pydantic_ai.messages import FilePart, ModelResponse
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

from app.domain.fingerprint import compute_digest
from tests.contract.test_google_genai import MODEL, NO_TLS
from tests.fixtures import image_bytes
from tests.server.conftest import Client, Tenants, calls_of, wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic_ai.images import ImageGenerationSettings

    from tests.contract.conftest import Gate
    from tests.processes import Running

    Sits = Literal["google", "openai"]

SMALL: dict[str, ImageGenerationSettings] = {
    "google": GoogleImageGenerationSettings(google_image_config={"image_size": "512"}),
    "openai": OpenAIImageGenerationSettings(openai_quality="low"),
}
SHARED: dict[str, ImageGenerationSettings] = {
    sits: {**settings, "extra_headers": {"Cache-Control": "max-age=3600"}} for sits, settings in SMALL.items()
}
"""Such requests may share a picture; without the directive each draws its own."""
INVALID: dict[str, ImageGenerationSettings] = {
    "google": GoogleImageGenerationSettings(google_image_config={"image_size": "9K"}),
    "openai": OpenAIImageGenerationSettings(openai_size="large"),
}
TOO_DEAR: dict[str, ImageGenerationSettings] = {
    "google": GoogleImageGenerationSettings(google_image_config={"image_size": "2K"}),
    "openai": OpenAIImageGenerationSettings(openai_quality="high"),
}


@pytest.fixture(params=["google", "openai"])
def sits(request: pytest.FixtureRequest) -> Sits:
    """The SDK that the generator sits on."""
    found: Sits = request.param
    return found


class Framework:
    """Generators and agents for one gateway; their clients are closed at the end."""

    def __init__(self, gateway: Running) -> None:
        self._gateway = gateway
        self._closing: list[Any] = []

    def google(self, key: str) -> GoogleProvider:
        """As documented, but for certificates, which plain HTTP does not need."""
        options = types.HttpOptions(
            base_url=f"{self._gateway.url}/gemini",
            client_args={"verify": NO_TLS},
            async_client_args={"verify": NO_TLS},
        )
        client = genai.Client(api_key=key, http_options=options)
        self._closing.append(client.aio.aclose)
        return GoogleProvider(client=client)

    def generator(self, sits: Sits, key: str) -> ImageGenerator:
        """A generator on this SDK."""
        if sits == "google":
            return ImageGenerator(GoogleImageGenerationModel(MODEL, provider=self.google(key)))
        client = AsyncOpenAI(base_url=f"{self._gateway.url}/openai/v1", api_key=key, max_retries=0)
        self._closing.append(client.close)
        provider = OpenAIProvider(openai_client=client)
        return ImageGenerator(OpenAIImageGenerationModel(MODEL, provider=provider))

    def agent(self, key: str) -> Agent[None, BinaryImage]:
        """An agent whose answer is a picture."""
        return Agent(GoogleModel(MODEL, provider=self.google(key)), output_type=BinaryImage)

    async def aclose(self) -> None:
        """Close every client."""
        for close in self._closing:
            await close()


@pytest.fixture
async def framework(gateway: Running) -> AsyncIterator[Framework]:
    found = Framework(gateway)
    yield found
    await found.aclose()


def fresh(prompt: str) -> str:
    """A prompt that nobody used before."""
    return f"{prompt} {secrets.token_hex(4)}"


async def test_a_generator_draws(framework: Framework, tenants: Tenants, sits: Sits) -> None:
    result = await framework.generator(sits, tenants.keys["gemini"]).generate(
        fresh("A crane"), settings=SMALL[sits]
    )
    assert result.image.media_type == "image/jpeg"
    assert len(result.images) == 1
    assert result.usage.output_tokens >= 747


async def test_a_generator_edits_two_references(framework: Framework, tenants: Tenants, sits: Sits) -> None:
    images = [
        BinaryImage(image_bytes("harbour.png"), media_type="image/png"),
        BinaryImage(image_bytes("orchard.webp"), media_type="image/webp"),
    ]
    generator = framework.generator(sits, tenants.keys["gemini"])
    result = await generator.generate(fresh("Both"), images=images, settings=SMALL[sits])
    assert result.usage.input_tokens > 2 * 1120


async def test_the_same_work_on_both_sdks_is_one_generation(
    framework: Framework, tenants: Tenants, emulator: Running
) -> None:
    prompt, calls = fresh("One crane for both"), calls_of(emulator)
    results = [
        await framework.generator(sits, tenants.keys["gemini"]).generate(prompt, settings=SHARED[sits])
        for sits in ("google", "openai")
    ]
    assert results[0].image.data == results[1].image.data
    assert calls_of(emulator) - calls == 1


async def test_an_agent_has_three_turns(framework: Framework, tenants: Tenants, emulator: Running) -> None:
    agent, calls = framework.agent(tenants.keys["gemini"]), calls_of(emulator)
    result = await agent.run(fresh("A cat"))
    seen = [compute_digest(result.output.data)]
    for turn in ("Make it blue", "Give it a hat"):
        result = await agent.run(turn, message_history=result.all_messages())
        seen.append(compute_digest(result.output.data))
    assert len(set(seen)) == 3
    assert calls_of(emulator) - calls == 3


async def test_an_agent_streams(framework: Framework, tenants: Tenants) -> None:
    agent = framework.agent(tenants.keys["gemini"])
    async with agent.run_stream(fresh("Streamed")) as stream:
        output = await stream.get_output()
    assert output.media_type == "image/jpeg"
    (answer,) = [message for message in stream.all_messages() if isinstance(message, ModelResponse)]
    assert [part.content.data for part in answer.parts if isinstance(part, FilePart)] == [output.data]


async def test_an_agent_counts_tokens_before_it_asks(
    framework: Framework, tenants: Tenants, emulator: Running
) -> None:
    agent, calls = framework.agent(tenants.keys["gemini"]), calls_of(emulator)
    limits = UsageLimits(input_tokens_limit=20, count_tokens_before_request=True)
    assert (await agent.run("A few words", usage_limits=limits)).output.data
    with pytest.raises(UsageLimitExceeded, match="input_tokens_limit of 20"):
        await agent.run("word " * 40, usage_limits=limits)
    assert calls_of(emulator) - calls == 1


async def test_an_invalid_size_is_the_frameworks_http_error(
    framework: Framework, tenants: Tenants, emulator: Running, sits: Sits
) -> None:
    generator, calls = framework.generator(sits, tenants.keys["gemini"]), calls_of(emulator)
    with pytest.raises(ModelHTTPError) as caught:
        await generator.generate(fresh("Too large"), settings=INVALID[sits])
    assert caught.value.status_code == 400
    assert "size" in str(caught.value.body)
    assert calls_of(emulator) == calls


async def test_a_blocked_prompt_is_the_frameworks_filter_error(
    framework: Framework, tenants: Tenants, sits: Sits
) -> None:
    generator = framework.generator(sits, tenants.keys["gemini"])
    with pytest.raises(ContentFilterError):
        await generator.generate(fresh("Bad [[emulate:blocked-prompt]]"), settings=SMALL[sits])


async def test_an_exhausted_budget_is_the_frameworks_http_error(
    framework: Framework, tenants: Tenants, emulator: Running, sits: Sits
) -> None:
    generator, calls = framework.generator(sits, tenants.keys["poor"]), calls_of(emulator)
    with pytest.raises(ModelHTTPError) as caught:
        await generator.generate(fresh("Too dear"), settings=TOO_DEAR[sits])
    assert caught.value.status_code == 429
    assert calls_of(emulator) == calls


async def test_four_at_once_are_four_pictures_and_asking_again_draws_a_fifth(
    framework: Framework, tenants: Tenants, gate: Gate, emulator: Running, sits: Sits
) -> None:
    generator = framework.generator(sits, tenants.keys["gemini"])
    prompt, calls = f"Together {gate.word}", calls_of(emulator)
    asked = [asyncio.create_task(generator.generate(prompt, settings=SMALL[sits])) for _ in range(4)]
    await asyncio.to_thread(gate.wait, 4)
    gate.open()
    results = [*await asyncio.gather(*asked), await generator.generate(prompt, settings=SMALL[sits])]
    assert len({result.image.data for result in results}) == 5
    assert calls_of(emulator) - calls == 5


async def test_a_cancelled_call_is_paid_once_and_found_later(
    framework: Framework, gateway: Running, tenants: Tenants, gate: Gate, emulator: Running, sits: Sits
) -> None:
    native = Client(gateway.url, tenants.keys["left"])
    calls, before = calls_of(emulator), native.budget()["settled"]
    generator, prompt = framework.generator(sits, native.key), f"Left by a framework {gate.word}"
    asked = asyncio.create_task(generator.generate(prompt, settings=SHARED[sits]))
    await asyncio.to_thread(gate.wait)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    gate.open()
    await asyncio.to_thread(
        wait_for, lambda: native.budget()["settled"] == before + 747, "the picture is paid"
    )
    assert (await generator.generate(prompt, settings=SHARED[sits])).images
    assert calls_of(emulator) - calls == 1
