"""What a back end says about a model: its description, counts of tokens, and what comes of a call.

``flashgate cards check`` asks with the gateway's own address and credentials, one question at a time.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx2
from google.auth import exceptions as auth_errors
from google.genai import errors

from app.domain.card_probes import Drawn
from app.domain.errors import GatewayError, UpstreamUnavailable
from app.domain.generation import Picture
from app.generation.ports import Call
from app.media.inspection import inspect
from app.upstream.google import sdk
from app.upstream.google.backend import ANSWER_BYTES_MAX
from app.upstream.google.response import GoogleResponse
from app.upstream.google.transport import Exchange, LiftingTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from app.domain.card import Card
    from app.domain.request import GenerationRequest
    from app.upstream.google.backend import BackEnd
    from app.upstream.google.sdk import SdkClient

TIMEOUT_S: Final = 60.0
DRAWING_TIMEOUT_S: Final = 300.0
_LIGHT_BYTES_MAX: Final = 16 * 1024 * 1024
_PIXELS_MAX: Final = 1_000_000_000
_PASSING: Final = frozenset({httpx2.codes.REQUEST_TIMEOUT, httpx2.codes.TOO_MANY_REQUESTS})
_Answer = TypeVar("_Answer")


class BackEndQuestions:
    """Questions to one back end.

    Each of them raises UpstreamUnavailable if there is no answer: without credentials, without a network, or
    because Google is overloaded. Its text says why.
    """

    def __init__(self, opened: SdkClient, descriptions: list[bytes]) -> None:
        self._opened = opened
        self._descriptions = descriptions

    async def list_models(self) -> list[str]:
        """The ids of all models that the back end lists."""

        async def collect() -> list[str]:
            pager = await self._opened.client.aio.models.list(config={"page_size": 1000})
            return [(model.name or "").rpartition("/")[2] async for model in pager]

        return await self._ask_simply(collect)

    async def describe(self, card: Card) -> dict[str, Any] | None:
        """Google's own description of a model, or None where the back end does not know it."""
        name = self._name(card)
        try:
            await self._ask(lambda: self._opened.client.aio.models.get(model=name))
        except _Refused as refused:
            if refused.status == httpx2.codes.NOT_FOUND:
                return None
            raise UpstreamUnavailable(str(refused)) from None
        return dict(json.loads(self._descriptions[-1]))

    async def count_tokens(self, card: Card, part: dict[str, Any], resolution: str | None) -> int:
        """Tokens of one part, as Google counts them.

        Args:
            card: The model's.
            part: ``{"text": …}``, or ``{"inline_data": {"mime_type": …, "data": bytes}}``.
            resolution: How closely to look at it, in the card's words; None for the usual.
        """
        if resolution is not None:
            part = {**part, "media_resolution": {"level": f"MEDIA_RESOLUTION_{resolution.upper()}"}}
        contents: Any = [{"role": "user", "parts": [part]}]
        name = self._name(card)
        counted = await self._ask_simply(
            lambda: self._opened.client.aio.models.count_tokens(model=name, contents=contents)
        )
        return counted.total_tokens or 0

    async def draw(self, card: Card, request: GenerationRequest) -> Drawn | None:
        """What comes of a call, which may be billed; None where it was refused for its arguments."""
        exchange = Exchange()

        async def generate() -> bytes:
            named = replace(request, model=self._name(card))
            return await sdk.generate(self._opened, named, None, Call("", DRAWING_TIMEOUT_S), exchange)

        try:
            skeleton = await self._ask(generate)
        except _Refused as refused:
            if refused.status == httpx2.codes.BAD_REQUEST and b"API_KEY" not in exchange.body:
                return None
            raise UpstreamUnavailable(str(refused)) from None
        tier = exchange.headers.get("x-gemini-service-tier", "")
        answer = GoogleResponse(skeleton, exchange.take_lifted(), tier)
        tokens = answer.usage.image_output if answer.usage is not None else 0
        served = answer.usage.tier if answer.usage is not None else tier
        picture = next((_describe_picture(part.lifted.data) for part in answer.pictures), None)
        return Drawn(tokens, picture, answer.model_version, served)

    def _name(self, card: Card) -> str:
        return card.model_ids.get(self._opened.back_end.kind, card.id)

    async def _ask_simply(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Ask what has no wrong answer. Raises UpstreamUnavailable where it is refused, too."""
        try:
            return await self._ask(call)
        except _Refused as refused:
            raise UpstreamUnavailable(str(refused)) from None

    async def _ask(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Make a call. Raises _Refused for a status of 4xx but 429, UpstreamUnavailable for all else."""
        credentials = self._opened.credentials
        try:
            if credentials is not None:
                await credentials.renew()
            return await call()
        except errors.APIError as error:
            if error.code in _PASSING or error.code >= httpx2.codes.INTERNAL_SERVER_ERROR:
                raise UpstreamUnavailable(f"It answers {error.code} {error.status}.") from None
            raise _Refused(error.code, f"It answers {error.code} {error.status}.") from None
        except GatewayError as error:
            raise UpstreamUnavailable(error.detail) from None
        except auth_errors.GoogleAuthError:
            raise UpstreamUnavailable("Google refuses the gateway's credentials.") from None
        except (httpx2.HTTPError, ValueError) as error:
            raise UpstreamUnavailable(f"There is no answer: {type(error).__name__}.") from None


class _Refused(Exception):
    """A status that says no, and a sentence without Google's own words."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def _describe_picture(data: bytes) -> Picture:
    facts = inspect(data, pixels_max=_PIXELS_MAX)
    return Picture("", facts.mime_type or "", facts.width or 0, facts.height or 0, data)


@asynccontextmanager
async def open_questions(back_end: BackEnd) -> AsyncIterator[BackEndQuestions]:
    """Open a back end for questions.

    Raises:
        UpstreamRejected: There are no credentials.
        UpstreamUnavailable: The token service cannot be reached.
    """
    descriptions: list[bytes] = []

    async def remember(response: httpx2.Response) -> None:
        # The SDK keeps a part of a description only. Whatever was lifted is read already.
        if response.request.method == "GET":
            descriptions[:] = [await response.aread()]

    network = httpx2.AsyncHTTPTransport(
        verify=back_end.url.startswith("https:"), trust_env=back_end.trust_env, proxy=back_end.proxy
    )
    transport = LiftingTransport(network, answer_bytes_max=ANSWER_BYTES_MAX, light_bytes_max=_LIGHT_BYTES_MAX)
    async with httpx2.AsyncClient(
        transport=transport, trust_env=False, timeout=TIMEOUT_S, event_hooks={"response": [remember]}
    ) as http:
        yield BackEndQuestions(await asyncio.to_thread(sdk.open_client, back_end, http), descriptions)
