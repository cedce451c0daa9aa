"""The upstream breaks after a stream has begun: its last piece is the dialect's own error, settled."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types

from tests.contract.test_google_genai import MODEL
from tests.server.conftest import Client, Tenants, calls_of

if TYPE_CHECKING:
    from tests.contract.conftest import Gate
    from tests.processes import Running

GEMINI = f"/gemini/v1beta/models/{MODEL}:streamGenerateContent"
PICTURE_TOKENS = 747


@dataclass(frozen=True)
class Streaming:
    """A dialect's way to ask for a stream, and to find the error in it."""

    path: str
    before_the_error: str

    def body(self, prompt: str) -> dict[str, Any]:
        """A small picture."""
        if self.path.startswith("/openai"):
            return {"prompt": prompt, "quality": "low", "stream": True}
        config = {"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "512"}}
        return {"contents": [{"parts": [{"text": prompt}]}], "generationConfig": config}

    def error_of(self, text: str) -> dict[str, Any]:
        """The error that the last piece tells."""
        document = json.loads(text.strip().rpartition(self.before_the_error)[2])
        found: dict[str, Any] = (document[0] if isinstance(document, list) else document)["error"]
        return found


DIALECTS = {
    "gemini-sse": Streaming(f"{GEMINI}?alt=sse", "data: "),
    "gemini-array": Streaming(GEMINI, "\n\r"),
    "openai": Streaming("/openai/v1/images/generations", "event: error\ndata: "),
}
SAID: dict[str, dict[str, Any]] = {
    "gemini-sse": {"code": 500, "status": "INTERNAL"},
    "gemini-array": {"code": 500, "status": "INTERNAL"},
    "openai": {"type": "server_error", "code": "upstream_error"},
}


class Begun(httpx2.HTTPTransport):
    """Opens a gate when the stream's status is there."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = super().handle_request(request)
        assert answer.status_code == 200
        self._gate.wait()
        self._gate.open()
        return answer


@pytest.fixture
def native(gateway: Running, tenants: Tenants) -> Client:
    return Client(gateway.url, tenants.keys["streams"])


def piece_by_piece(client: Client, streaming: Streaming, prompt: str, gate: Gate) -> tuple[bytes, str]:
    """The first piece, which comes while the picture is held, and all that comes after it."""
    headers = {"X-API-Key": client.key}
    body = streaming.body(prompt)
    with httpx2.stream("POST", client.url + streaming.path, json=body, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw()
        first = next(pieces)
        gate.wait()
        gate.open()
        return first, b"".join(pieces).decode()


@pytest.mark.parametrize(
    ("dialect", "broken"),
    [("gemini-sse", "reset"), ("gemini-array", "truncated"), ("openai", "reset"), ("openai", "broken-json")],
)
def test_the_last_piece_is_an_error_and_what_may_be_billed_is_booked(
    native: Client, emulator: Running, gate: Gate, dialect: str, broken: str
) -> None:
    streaming, before, calls = DIALECTS[dialect], native.budget()["settled"], calls_of(emulator)
    prompt = f"Broken {gate.word} [[emulate:{broken}]]"
    first, rest = piece_by_piece(native, streaming, prompt, gate)
    assert b"error" not in first
    error = streaming.error_of(rest)
    assert error.items() >= SAID[dialect].items()
    window = native.budget()
    assert (window["settled"] - before, window["held"]) == (PICTURE_TOKENS, 0), "nobody knows what was billed"
    assert calls_of(emulator) - calls == 1


@pytest.mark.parametrize("dialect", ["gemini-sse", "openai"])
def test_what_cannot_have_been_billed_is_given_back(
    native: Client, emulator: Running, gate: Gate, dialect: str
) -> None:
    streaming, before = DIALECTS[dialect], native.budget()["settled"]
    prompt = f"Away {secrets.token_hex(4)} {gate.word} [[emulate:quota-day]]"
    _, rest = piece_by_piece(native, streaming, prompt, gate)
    assert streaming.error_of(rest)["code"] in {429, "rate_limit_exceeded", "upstream_quota"}
    window = native.budget()
    assert (window["settled"] - before, window["held"]) == (0, 0)


def test_the_sdk_raises_its_own_exception_in_the_middle_of_a_stream(
    gateway: Running, tenants: Tenants, gate: Gate
) -> None:
    options = types.HttpOptions(base_url=f"{gateway.url}/gemini", client_args={"transport": Begun(gate)})
    client = genai.Client(api_key=tenants.keys["streams"], http_options=options)
    config = types.GenerateContentConfig(image_config=types.ImageConfig(image_size="512"))
    contents = f"Broken for the SDK {gate.word} [[emulate:reset]]"
    with pytest.raises(errors.ServerError) as caught:
        list(client.models.generate_content_stream(model=MODEL, contents=contents, config=config))
    assert (caught.value.code, caught.value.status) == (500, "INTERNAL")
    client.close()
