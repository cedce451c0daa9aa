"""GoogleImageModel: the ImageModel port over google-genai, for the emulator, Gemini and Vertex AI alike."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import httpx2

from app.domain.errors import GatewayError, InternalError, UpstreamRejected
from app.domain.fingerprint import compute_digest
from app.resilience.deadlines import time_limit
from app.resilience.resources import Resource
from app.resilience.tasks import BackgroundTasks, run_in_thread
from app.upstream.google.failures import attribute_to_request, build_failure
from app.upstream.google.response import GoogleResponse
from app.upstream.google.transport import Exchange, LiftingTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from app.cards import Catalogue
    from app.domain.generation import ModelAnswer
    from app.domain.request import GenerationRequest
    from app.generation.ports import Call
    from app.upstream.google.backend import BackEnd

log = logging.getLogger(__name__)

ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
LIGHT_BYTES_MAX: Final = 16 * 1024 * 1024  # thought signatures stay in it, and may be large
KEEPALIVE_S: Final = 30.0
READY_WAIT_S: Final = 1.0
TENANT_HEADER: Final = "X-Flashgate-Tenant"
_HASHED_IN_A_THREAD_BYTES: Final = 1_000_000


class GoogleImageModel(Resource):
    """Makes one call, and repeats none that may have been billed; image bytes never pass through the SDK.

    An asynchronous context manager. Entering returns at once and opens the SDK in the background: its
    import alone takes over a second, which the start of the gateway does not wait for. Calls made before
    it is open wait for it within their time.

    Args:
        back_end: Where, and as whom.
        catalogue: Cards, for the tokens of answers that report none.
        connections_max: Connections at once; each call uses one.
        headers_of: Headers that a call takes along from the request it is made for, such as its trace.
        answer_bytes_max: Bytes of an answer as it arrives, and after decompression.
        light_bytes_max: Bytes of an answer beside its pictures.
    """

    def __init__(
        self,
        back_end: BackEnd,
        catalogue: Catalogue,
        *,
        connections_max: int = 100,
        headers_of: Callable[[], Mapping[str, str]] = dict,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
        light_bytes_max: int = LIGHT_BYTES_MAX,
    ) -> None:
        self._headers_of = headers_of
        self._back_end = back_end
        self._catalogue = catalogue
        self._limits = httpx2.Limits(
            max_connections=connections_max,
            max_keepalive_connections=connections_max,
            keepalive_expiry=KEEPALIVE_S,
        )
        self._answer_bytes_max = answer_bytes_max
        self._light_bytes_max = light_bytes_max
        self._http: httpx2.AsyncClient | None = None
        self._tasks = BackgroundTasks()
        self._opening: asyncio.Task[tuple[Any, Any]] | None = None

    @property
    def capabilities(self) -> frozenset[str]:
        """What the back end can do beyond the common ground, for validation."""
        return self._back_end.capabilities

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        transport = await asyncio.to_thread(self._build_transport)
        self._http = httpx2.AsyncClient(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            event_hooks={"request": [self._add_request_headers]},
        )
        async with self._http, self._tasks:
            self._opening = self._tasks.begin(self._open_sdk(self._http), "google-sdk")
            yield

    def _build_tenant_header(self, call: Call) -> dict[str, str]:
        """The emulator is told whose call it is, so that one tenant has its bad day; Google is not."""
        return {TENANT_HEADER: call.tenant_id} if self._back_end.kind == "emulator" else {}

    async def _add_request_headers(self, request: httpx2.Request) -> None:
        request.headers.update(self._headers_of())

    def _build_transport(self) -> LiftingTransport:
        """Made in a thread: loading certificates takes up to half a second. Plain HTTP needs none."""
        network = httpx2.AsyncHTTPTransport(
            verify=self._back_end.url.startswith("https:"),
            trust_env=self._back_end.trust_env,
            limits=self._limits,
            proxy=self._back_end.proxy,
            retries=0,
        )
        return LiftingTransport(
            network,
            answer_bytes_max=self._answer_bytes_max,
            light_bytes_max=self._light_bytes_max,
        )

    async def _open_sdk(self, http: httpx2.AsyncClient) -> tuple[Any, Any]:
        """The SDK's module and a client of it. Both are made in a thread: they import, read and dial.

        Raises:
            UpstreamRejected: No call can be made until an operator has acted.
        """
        try:
            sdk = await asyncio.to_thread(importlib.import_module, "app.upstream.google.sdk")
            opened = sdk, await asyncio.to_thread(sdk.open_client, self._back_end, http)
        except GatewayError:
            raise
        except Exception as raised:
            # The SDK checks its arguments, files and environment with exceptions of every kind.
            log.exception("the SDK does not open")
            raise UpstreamRejected(f"The SDK does not open: {type(raised).__name__}.") from None
        # The start is over, and hundreds of thousands of objects will live as long as the process. A full
        # collection that walked them all held up the event loop for 60 to 100 ms, in somebody's request.
        gc.collect()
        gc.freeze()
        return opened

    async def _get_sdk(self) -> tuple[Any, Any]:
        """What ``_open_sdk`` made; a failed opening is tried again by the next caller."""
        if self._http is None:
            raise InternalError("The upstream was called before it was opened.")
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = self._tasks.begin(self._open_sdk(self._http), "google-sdk")
        return await asyncio.shield(self._opening)

    async def is_ready(self) -> bool:
        """Whether calls can be made: the SDK is open with its credentials, and the emulator listens."""
        try:
            async with time_limit(READY_WAIT_S):
                await self._get_sdk()
                return self._back_end.kind != "emulator" or await self._is_listening()
        except (GatewayError, TimeoutError):
            return False

    async def _is_listening(self) -> bool:
        url = httpx2.URL(self._back_end.url)
        with suppress(OSError):
            _, writer = await asyncio.open_connection(url.host, url.port or 80)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            return True
        return False

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        """One candidate.

        Args:
            request: Valid and normalised; its ``n`` is not looked at.
            seed: In place of the request's own.
            call: Its ``timeout_s`` is the longest that all of it may take; the upstream is told as well.

        Raises:
            ContentBlocked: Google's filters refused; usage is set where it was reported.
            ModelRefused: Words instead of a picture.
            UpstreamError: Anything else, with ``billed`` saying whether it may have been charged.
        """
        card = self._catalogue.resolve(request.model)
        if card is None:
            raise InternalError("The request names a model without a card.")
        named = replace(request, model=card.model_ids.get(self._back_end.kind, request.model))
        exchange = Exchange(extra_headers=self._build_tenant_header(call))
        try:
            async with time_limit(call.timeout_s):
                sdk, opened = await self._get_sdk()
                skeleton: bytes = await sdk.generate(opened, named, seed, call.timeout_s, exchange)
        except GatewayError:
            raise
        except Exception as raised:  # noqa: BLE001 - the SDK raises what any of its parts raises; see outcomes
            failure = build_failure(exchange, raised, datetime.now(UTC))
            failure = attribute_to_request(failure, exchange, request, self._back_end.project)
            log.info("upstream call failed: %s", failure.detail, extra={"billed": failure.billed})
            # Without its cause, whose text may repeat the prompt.
            raise failure from None
        answer = GoogleResponse(
            skeleton, exchange.take_lifted(), exchange.headers.get("x-gemini-service-tier", "")
        )
        parts = answer.pictures
        if not parts:
            raise answer.build_error()
        ids = {name: await _compute_image_id(lifted.data) for name, lifted in answer.blobs.items()}
        return replace(answer.build_answer(parts, ids, request, card), back_end=self._back_end.kind)


async def _compute_image_id(data: bytes) -> str:
    """``img_`` and the hash; of a large picture in a thread, where it holds up nobody."""
    if len(data) > _HASHED_IN_A_THREAD_BYTES:
        return "img_" + await run_in_thread(compute_digest, data)
    return "img_" + compute_digest(data)
