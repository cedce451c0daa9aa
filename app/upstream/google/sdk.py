"""Opens google-genai's client and makes the gateway's calls with it.

The SDK provides credentials, the addresses of both APIs, and the shape of requests. It is imported by
``app/upstream/google/client.py`` in a thread after start-up, because importing it takes more than a second.
"""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx2
from google import genai
from google.auth import exceptions as auth_errors
from google.genai import errors, types
from google.genai.client import DebugConfig

from app.domain.errors import UpstreamRejected, UpstreamUnavailable
from app.media.lifting import generate_placeholders
from app.upstream.google.credentials import RenewedCredentials, load_credentials
from app.upstream.google.options import (
    build_headers,
    build_response_format,
    knows_labels,
    place_labels,
    place_tier,
    uses_response_format,
)
from app.upstream.google.transport import Exchange, bind_exchange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.domain.request import GenerationRequest, Grounding, Input
    from app.generation.ports import Call
    from app.upstream.google.backend import BackEnd

_TOKEN_SERVICE_DOWN: Final = "Google's token service cannot be reached."  # noqa: S105 - a sentence
_ONE_ATTEMPT: Final = types.HttpRetryOptions(attempts=1)


class SdkClient(NamedTuple):
    """The SDK's client, its back end, and its credentials, or None if it uses an API key."""

    client: genai.Client
    back_end: BackEnd
    credentials: RenewedCredentials | None


def open_client(back_end: BackEnd, http: httpx2.AsyncClient) -> SdkClient:
    """Open a client that ignores the SDK's own environment variables. It may block on the network.

    Raises:
        UpstreamRejected: There are no application default credentials.
        UpstreamUnavailable: The token service cannot be reached.
    """
    api_key, credentials, project, location = back_end.api_key, None, None, None
    if back_end.kind == "emulator":
        api_key = back_end.api_key or "emulator"
    if back_end.kind == "vertex" and back_end.project:
        api_key, project, location = None, back_end.project, back_end.location
        try:
            credentials = load_credentials(project, back_end.key_file)
        except auth_errors.TransportError:
            raise UpstreamUnavailable(_TOKEN_SERVICE_DOWN) from None
        except auth_errors.GoogleAuthError:
            raise UpstreamRejected("There are no application default credentials.") from None
    client = genai.Client(
        vertexai=back_end.kind != "gemini",
        api_key=api_key,
        credentials=credentials,
        project=project,
        location=location,
        debug_config=DebugConfig(client_mode=None, replays_directory=None, replay_id=None),
        http_options=types.HttpOptions(
            base_url=back_end.url,
            api_version=back_end.version,
            retry_options=_ONE_ATTEMPT,
            httpx_client=httpx2.Client(transport=httpx2.MockTransport(_refuse)),
            httpx_async_client=http,
            # For the SDK's web sockets, which are never used: an empty context loads and trusts nothing.
            async_client_args={"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
        ),
    )
    return SdkClient(client, back_end, credentials)


def _refuse(request: httpx2.Request) -> httpx2.Response:
    """Replace the SDK's synchronous client, which is never used and would load certificates of its own."""
    raise httpx2.UnsupportedProtocol("Only asynchronous calls are made.", request=request)


async def generate(
    opened: SdkClient, request: GenerationRequest, seed: int | None, call: Call, exchange: Exchange
) -> bytes:
    """Make one call and return the skeleton of its response; image bytes travel in the exchange.

    If Google refuses the token, it is renewed and the call is made once more, because a refused call is not
    processed and not billed.

    Raises:
        UpstreamRejected: The credentials are refused before the call.
        UpstreamUnavailable: The credentials could not be renewed.
        Exception: Anything that the SDK and the HTTP client raise.
    """
    credentials = opened.credentials
    try:
        if credentials is None:
            return await _attempt(opened, request, seed, call, exchange)
        await credentials.renew()
        used = credentials.token
        try:
            return await _attempt(opened, request, seed, call, exchange)
        except errors.ClientError:
            if exchange.status != httpx2.codes.UNAUTHORIZED:
                raise
        await credentials.renew(refused=used)
        exchange.reset()
        return await _attempt(opened, request, seed, call, exchange)
    except auth_errors.TransportError:
        raise UpstreamUnavailable(_TOKEN_SERVICE_DOWN) from None
    except auth_errors.GoogleAuthError:
        raise UpstreamRejected("Google refuses the gateway's credentials.") from None


async def _attempt(
    opened: SdkClient, request: GenerationRequest, seed: int | None, call: Call, exchange: Exchange
) -> bytes:
    labels = call.bill_labels if knows_labels(opened.back_end) else {}
    if request.verbatim is None:
        blobs: dict[str, bytes] = {}
        contents = types.Content(role="user", parts=list(_build_parts(request, blobs)))
        exchange.blobs = blobs
        if request.earlier is not None:
            exchange.blobs = {**blobs, **request.earlier.blobs}
            exchange.earlier_turns = request.earlier.conversation.contents.encode()
    else:
        # The SDK still builds the address, the credentials and the headers; its body is never sent.
        contents = types.Content(role="user", parts=[types.Part(text=request.prompt)])
        skeleton = request.verbatim.skeleton
        if request.service_tier is not None:
            skeleton = place_tier(opened.back_end, skeleton, request.service_tier)
        if labels:
            skeleton = place_labels(skeleton, labels)
        exchange.blobs, exchange.body_override = request.verbatim.blobs, skeleton
    with bind_exchange(exchange):
        response = await opened.client.aio.models.generate_content(
            model=request.model,
            contents=contents,
            config=_build_config(opened.back_end, request, seed, call.timeout_s, labels),
        )
    if response.sdk_http_response is None:
        return b""
    return (response.sdk_http_response.body or "").encode()


def _build_parts(request: GenerationRequest, blobs: dict[str, bytes]) -> Iterator[types.Part]:
    """Images, documents and videos in the caller's order, then the prompt.

    Vertex AI's guidance puts media before the text about them. The order is part of the fingerprint.
    """
    names = generate_placeholders()
    for item in request.inputs:
        yield _build_part(item, next(names), blobs)
    yield types.Part(text=request.prompt)


def _build_part(item: Input, placeholder: str, blobs: dict[str, bytes]) -> types.Part:
    mime_type = item.mime_type or item.declared_mime_type
    if item.data is None:
        return types.Part(file_data=types.FileData(file_uri=item.uri, mime_type=mime_type))
    # The SDK encodes these 24 bytes back to the placeholder, where the transport splices the real bytes in.
    blobs[placeholder] = item.data
    token = base64.b64decode(placeholder)
    return types.Part(inline_data=types.Blob(data=token, mime_type=mime_type))


def _build_config(
    back_end: BackEnd,
    request: GenerationRequest,
    seed: int | None,
    timeout_s: float,
    labels: Mapping[str, str],
) -> types.GenerateContentConfig:
    extra_body, image_config = None, None
    if uses_response_format(back_end, request):
        extra_body = build_response_format(back_end, request)
    else:
        image_config = _build_image_config(request)
    service_tier = None
    if back_end.kind == "gemini" and request.service_tier:
        service_tier = types.ServiceTier(request.service_tier)
    thinking_config = None
    if request.thinking_level:
        level = types.ThinkingLevel(request.thinking_level.upper())
        thinking_config = types.ThinkingConfig(thinking_level=level)
    return types.GenerateContentConfig(
        http_options=types.HttpOptions(
            timeout=max(1, round(timeout_s * 1000)),
            retry_options=_ONE_ATTEMPT,
            headers=build_headers(back_end, request) or None,
            extra_body=extra_body,
        ),
        should_return_http_response=True,  # app/upstream/google/response.py reads the skeleton body itself
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        automatic_continuation=False,
        system_instruction=request.system_instruction,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=seed,
        max_output_tokens=request.max_output_tokens,
        response_modalities=list(request.response_modalities),
        image_config=image_config,
        service_tier=service_tier,
        labels=dict(labels) or None,
        thinking_config=thinking_config,
        safety_settings=[
            types.SafetySetting(
                category=types.HarmCategory(item.category), threshold=types.HarmBlockThreshold(item.threshold)
            )
            for item in request.safety_settings
        ]
        or None,
        tools=_build_tools(request.grounding),
    )


def _build_tools(grounding: Grounding) -> list[types.Tool] | None:
    search = types.SearchTypes()
    if grounding.web_search:
        search.web_search = types.WebSearch()
    if grounding.image_search:
        search.image_search = types.ImageSearch()
    if search.web_search is None and search.image_search is None:
        return None
    return [types.Tool(google_search=types.GoogleSearch(search_types=search))]


def _build_image_config(request: GenerationRequest) -> types.ImageConfig | None:
    chosen = types.ImageConfig(
        aspect_ratio=request.aspect_ratio,
        image_size=request.image_size,
        output_mime_type=request.output_mime_type,
        output_compression_quality=request.output_compression_quality,
    )
    if not chosen.model_dump(exclude_none=True):
        return None
    return chosen
