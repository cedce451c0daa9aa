"""GoogleImageModel: the ImageModel port over google-genai, for the emulator, Gemini and Vertex AI."""

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

from app.domain.errors import GatewayError, InternalError, UpstreamError, UpstreamRejected
from app.domain.estimate import price_answer
from app.domain.fingerprint import compute_digest
from app.resilience.deadlines import time_limit
from app.resilience.resources import Resource
from app.resilience.tasks import BackgroundTasks, run_in_thread
from app.upstream.google.backend import ANSWER_BYTES_MAX
from app.upstream.google.failures import attribute_to_request, build_failure, diagnose_failure
from app.upstream.google.response import GoogleResponse
from app.upstream.google.transport import Exchange, LiftingTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from app.cards import Catalogue
    from app.domain.card import Card
    from app.domain.generation import ModelAnswer
    from app.domain.request import GenerationRequest
    from app.generation.ports import Call
    from app.upstream.google.backend import BackEnd

log = logging.getLogger(__name__)

LIGHT_BYTES_MAX: Final = 16 * 1024 * 1024  # thought signatures stay in it, and may be large
KEEPALIVE_S: Final = 30.0
READY_WAIT_S: Final = 1.0
TENANT_HEADER: Final = "X-Flashgate-Tenant"
LOADING: Final = "The SDK is still being loaded."
_REMEDIES: Final = {
    "vertex": "Set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account, or run `gcloud auth "
    "application-default login`."
}
_HASHED_IN_A_THREAD_BYTES: Final = 1_000_000


class GoogleImageModel(Resource):
    """Makes single calls. Image bytes never pass through the SDK.

    An asynchronous context manager. Entering it returns at once and opens the SDK in the background, because
    its import alone takes over a second. Calls made before it is open wait for it within their timeout.

    Args:
        back_end: Address and credentials.
        catalogue: Cards, to estimate the usage of responses that report none.
        connections_max: Concurrent connections; each call uses one.
        headers_of: Returns headers of the current request that its calls forward, such as its trace.
        answer_bytes_max: Largest response in bytes, before and after decompression.
        light_bytes_max: Largest response in bytes without its images.
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
        """Optional features that the back end offers, for validation."""
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
        """Tell the emulator the tenant, so that fault rules can match it. Google is not told."""
        if self._back_end.kind != "emulator":
            return {}
        return {TENANT_HEADER: call.tenant_id}

    async def _add_request_headers(self, request: httpx2.Request) -> None:
        request.headers.update(self._headers_of())

    def _build_transport(self) -> LiftingTransport:
        """Build the transport. It may block for half a second to load certificates; plain HTTP needs none."""
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
        """Import the SDK and open a client, both in a thread, because they block.

        Raises:
            UpstreamRejected: No call can be made until an operator fixes the configuration.
        """
        try:
            sdk = await asyncio.to_thread(importlib.import_module, "app.upstream.google.sdk")
            opened = sdk, await asyncio.to_thread(sdk.open_client, self._back_end, http)
        except GatewayError:
            raise
        except Exception as raised:
            # The SDK checks its arguments, files and environment with exceptions of every kind.
            log.exception("the SDK cannot be opened")
            raise UpstreamRejected(f"The SDK cannot be opened: {type(raised).__name__}.") from None
        # The import has left hundreds of thousands of objects that live as long as the process. A full
        # collection that walks them blocks the event loop for 60 to 100 ms, so they are exempt from now on.
        gc.collect()
        gc.freeze()
        return opened

    async def _get_sdk(self) -> tuple[Any, Any]:
        """The result of ``_open_sdk``. If it failed, the next caller tries again."""
        if self._http is None:
            raise InternalError("The upstream was called before it was opened.")
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = self._tasks.begin(self._open_sdk(self._http), "google-sdk")
        return await asyncio.shield(self._opening)

    async def find_fault(self) -> str | None:
        """Why no call can be made: the SDK is not open with its credentials, or no emulator listens."""
        address = httpx2.URL(self._back_end.url).netloc.decode()
        try:
            async with time_limit(READY_WAIT_S):
                await self._get_sdk()
                if self._back_end.kind != "emulator" or await self._is_listening():
                    return None
        except UpstreamRejected as error:
            return f"{error.detail} {_REMEDIES.get(self._back_end.kind, '')}".rstrip()
        except GatewayError as error:
            return error.detail
        except TimeoutError:
            return LOADING
        return f"No emulator listens at {address}."

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
        """Generate one candidate.

        Args:
            request: Valid and normalised; its ``n`` is ignored.
            seed: Replaces the request's own seed.
            call: Its ``timeout_s`` bounds the whole call and is sent to the upstream.

        Raises:
            ContentBlocked: Google's filters refused; ``usage`` is set if it was reported.
            ModelRefused: The model answered with text instead of an image.
            UpstreamError: Any other failure; ``billed`` says whether it may have been charged.
        """
        card = self._catalogue.resolve(request.model)
        if card is None:
            raise InternalError("The request names a model without a card.")
        named = replace(request, model=card.model_ids.get(self._back_end.kind, request.model))
        if request.is_usual_jpeg and "output_mime_type" not in self._back_end.capabilities:
            named = replace(named, output_mime_type=None)
        exchange = Exchange(extra_headers=self._build_tenant_header(call))
        try:
            async with time_limit(call.timeout_s):
                sdk, opened = await self._get_sdk()
                skeleton: bytes = await sdk.generate(opened, named, seed, call, exchange)
        except GatewayError:
            raise
        except Exception as raised:  # noqa: BLE001 - the SDK raises what any of its parts raises; see outcomes
            failure = build_failure(exchange, raised, datetime.now(UTC))
            failure = attribute_to_request(failure, exchange, request, self._back_end.project)
            diagnosis = diagnose_failure(failure, raised, self._back_end.url)
            facts = {"back_end": self._back_end.kind, "model": card.id, "billed": failure.billed}
            known = {"upstream_status": failure.upstream_status, "retry_after_s": failure.retry_after_s}
            level = logging.ERROR if isinstance(failure, UpstreamRejected) else logging.INFO
            log.log(level, "a call of the model failed", extra={"diagnosis": diagnosis, **facts, **known})
            # The cause is dropped, because its text may repeat the prompt.
            raise failure from None
        answer = GoogleResponse(
            skeleton, exchange.take_lifted(), exchange.headers.get("x-gemini-service-tier", "")
        )
        cards = self._list_answering(answer, card)
        answer.set_prices(cards, request.service_tier)
        parts = answer.pictures
        if not parts:
            raise answer.build_error(bounded=request.bounded)
        ids = {name: await _compute_image_id(lifted.data) for name, lifted in answer.blobs.items()}
        try:
            built = answer.build_answer(parts, ids, request, card)
        except UpstreamError as damaged:
            if damaged.usage is None:
                raise
            priced = price_answer(damaged.usage, cards, request.service_tier)
            raise damaged.with_attributes(usage=priced) from None
        return replace(
            built,
            back_end=self._back_end.full_name,
            usage=price_answer(built.usage, cards, request.service_tier),
            answered_by=_name_answering(cards, card),
        )

    def _list_answering(self, answer: GoogleResponse, requested: Card) -> tuple[Card, ...]:
        """The card of the model that answered; all cards if it has none, because any price is possible."""
        if not answer.model_version:
            return (requested,)
        answering = self._catalogue.find_answering(answer.model_version)
        return tuple(self._catalogue) if answering is None else (answering,)


def _name_answering(cards: tuple[Card, ...], requested: Card) -> str | None:
    """The id of another card that answered, empty for an unknown model, None for the requested one."""
    if cards == (requested,):
        return None
    return cards[0].id if len(cards) == 1 else ""


async def _compute_image_id(data: bytes) -> str:
    """``img_`` and the hash. Large images are hashed in a thread, so that the event loop is not blocked."""
    if len(data) > _HASHED_IN_A_THREAD_BYTES:
        return "img_" + await run_in_thread(compute_digest, data)
    return "img_" + compute_digest(data)
