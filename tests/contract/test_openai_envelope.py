"""Whatever goes wrong below /openai is answered in OpenAI's envelope, also what never reaches a route."""

from __future__ import annotations

import base64
import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.fixtures import image_bytes

if TYPE_CHECKING:
    from tests.processes import Running
    from tests.server.conftest import Tenants

GENERATIONS = "/openai/v1/images/generations"
EDITS = "/openai/v1/images/edits"


def ask(
    gateway: Running, key: str, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, http.client.HTTPMessage, dict[str, Any]]:
    """Send exactly this, lengths included; the error that comes back."""
    connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=30)
    connection.putrequest(method, path)
    for name, value in {"Authorization": f"Bearer {key}", **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    error = json.loads(response.read())["error"]
    connection.close()
    return response.status, response.headers, error


JSON = "application/json"


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "answer"),
    [
        ("POST", "/openai/v1/images/variations", {}, b"", (404, "not_found")),
        ("GET", "/openai", {}, b"", (404, "not_found")),
        ("GET", GENERATIONS, {}, b"", (405, "method_not_allowed")),
        ("POST", GENERATIONS, {"Content-Length": "2"}, b"{}", (415, "unsupported_media_type")),
        (
            "POST",
            EDITS,
            {"Content-Type": JSON, "Content-Length": "2"},
            b"{}",
            (415, "unsupported_media_type"),
        ),
        ("POST", GENERATIONS, {"Content-Type": JSON, "Content-Length": "1"}, b"{", (400, "invalid_request")),
        (
            "POST",
            GENERATIONS,
            {"Content-Type": JSON, "Content-Length": "9" * 12},
            b"",
            (413, "body_too_large"),
        ),
        ("POST", GENERATIONS, {"X-Long": "x" * 40_000}, b"", (431, "headers_too_large")),
        (
            "POST",
            EDITS,
            {"Content-Type": "multipart/form-data", "Content-Length": "1"},
            b"x",
            (400, "invalid_request"),
        ),
        (
            "POST",
            GENERATIONS,
            {"Authorization": "Bearer x", "Content-Length": "0"},
            b"",
            (401, "invalid_api_key"),
        ),
        ("GET", "/openai/v1/models", {"Authorization": "Basic x"}, b"", (401, "invalid_api_key")),
    ],
)
def test_what_no_route_answers_is_in_the_envelope(
    gateway: Running,
    tenants: Tenants,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    answer: tuple[int, str],
) -> None:
    got, answered, error = ask(gateway, tenants.keys["openai"], method, path, headers, body)
    assert (got, error["code"]) == answer
    assert error["type"] == "invalid_request_error"
    assert answered["content-type"] == JSON
    assert answered["x-should-retry"] == "false"
    assert answered["x-request-id"]


def test_the_key_may_come_in_any_header(gateway: Running, tenants: Tenants) -> None:
    for name in ("X-API-Key", "x-goog-api-key"):
        answer = httpx2.get(f"{gateway.url}/openai/v1/models", headers={name: tenants.keys["openai"]})
        assert answer.json()["object"] == "list"


def test_inputs_of_the_native_surface_may_stand_in_json(gateway: Running, tenants: Tenants) -> None:
    headers = {"Authorization": f"Bearer {tenants.keys['openai']}"}
    body: dict[str, Any] = {"prompt": "x", "images": [{"data": "AAAA"}, {"data": "*"}], "n": 0}
    answer = httpx2.post(f"{gateway.url}{GENERATIONS}", json=body, headers=headers)
    found = {item["pointer"] for item in answer.json()["error"]["violations"]}
    assert (answer.status_code, found) == (400, {"/images/0", "/images/1/data", "/n"})
    png = base64.b64encode(image_bytes("harbour.png")).decode()
    body = {"prompt": "x", "quality": "low", "images": [{"data": png}]}
    answer = httpx2.post(f"{gateway.url}{GENERATIONS}", json=body, headers=headers, timeout=60)
    assert answer.json()["usage"]["input_tokens_details"]["image_tokens"] == 1120
