"""Odd requests that a program would never send, and what is said on every answer."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.processes import HTTP
from tests.server.conftest import Client, Tenants, calls_of

if TYPE_CHECKING:
    from tests.processes import Running

DIGITS = "9" * 5000
MODEL = "gemini-3.1-flash-image"


@pytest.fixture
def client(gateway: Running, tenants: Tenants) -> Client:
    return Client(gateway.url, tenants.keys["badinput"])


@pytest.fixture
def picture(client: Client) -> str:
    """The path of a kept picture."""
    body = {"prompt": "To be read in parts", "image_size": "512", "delivery": "uri"}
    return f"/v1/images/{client.post(body).json()['images'][0]['id']}"


@pytest.mark.parametrize("sent", [f"bytes={DIGITS}-", f"bytes=-{DIGITS}", f"bytes=0-{DIGITS}"])
def test_a_range_of_thousands_of_digits_is_ignored(client: Client, picture: str, sent: str) -> None:
    assert client.get(picture, Range=sent).status_code == 200


def test_a_range_beyond_the_end_is_refused(client: Client, picture: str) -> None:
    assert client.get(picture, Range=f"bytes={'9' * 18}-").status_code == 416


@pytest.mark.parametrize("tier", [[], {}, [[]], {"a": 1}, 1.5, True])
@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent", "countTokens"])
def test_a_service_tier_of_a_wrong_type_is_named(client: Client, method: str, tier: object) -> None:
    body = {"contents": [{"parts": [{"text": "A tier"}]}], "serviceTier": tier}
    path = f"/gemini/v1beta/models/{MODEL}:{method}"
    answer = HTTP.post(client.url + path, json=body, headers={"X-API-Key": client.key})
    assert answer.status_code == 400
    assert "service_tier" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/images:edit", "/openai/v1/images/edits"])
@pytest.mark.parametrize(
    ("name", "text"), [("prompt", b"Caf\xe9"), ("labels", b'{"a": "\xff"}'), ("negative_prompt", b"\xc3\x28")]
)
def test_a_form_field_that_is_not_utf_8_is_named_and_costs_nothing(
    client: Client, emulator: Running, path: str, name: str, text: bytes
) -> None:
    before = calls_of(emulator)
    form = [("prompt", (None, b"A caf\xc3\xa9")), ("image", ("a.png", b"none"))]
    fields = [item for item in form if item[0] != name] + [(name, (None, text))]
    answer = HTTP.post(client.url + path, files=fields, headers={"X-API-Key": client.key})
    assert answer.status_code == 400
    told = answer.json().get("error", answer.json())
    assert f"'{name}' is not UTF-8" in (told.get("message") or told["detail"])
    assert calls_of(emulator) == before


@pytest.mark.parametrize("charset", ["undefined", "idna", "base64", "rot13", "latin-1", "\x7f", DIGITS])
def test_a_form_in_another_encoding_is_refused(client: Client, charset: str) -> None:
    headers = {
        "X-API-Key": client.key,
        "Content-Type": f'multipart/form-data; boundary=b; charset="{charset}"',
    }
    body = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n--b--\r\n'
    answer = HTTP.post(f"{client.url}/v1/images:edit", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_form_in_utf_8_is_read_as_that_whether_it_says_so_or_not(client: Client) -> None:
    for charset in ("", "; charset=UTF-8"):
        boundary = 'multipart/form-data; boundary="an odd; \\"boundary\\""'
        part = b'--an odd; "boundary"\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        body = part % (b"prompt", b"x") + part % ("größe".encode(), b"1K") + b'--an odd; "boundary"--\r\n'
        headers = {"X-API-Key": client.key, "Content-Type": boundary + charset}
        answer = HTTP.post(f"{client.url}/v1/images:edit", content=body, headers=headers)
        assert {item["pointer"] for item in answer.json()["violations"]} == {"/größe", "/image"}


@pytest.mark.parametrize(
    "path",
    ["/{}", "/v1/{}", "/v1/images/{}", "/v1/models/{}", "/openai/v1/{}", "/openai/v1/models/{}", "/gemini/{}",
     "/gemini/v1beta/models/{}", "/gemini/v1beta/models/{}:generateContent"],
)  # fmt: skip
def test_a_long_path_is_not_sent_back_whole(client: Client, path: str) -> None:
    long = "x" * 60_000
    for method in ("GET", "POST"):
        answer = HTTP.request(
            method, client.url + path.format(long), headers={"X-API-Key": client.key}, json={}
        )
        assert answer.status_code in {404, 405}
        assert len(answer.content) < 2000


def raw(url: str, request: bytes) -> tuple[bytes, dict[str, str], dict[str, Any]]:
    """Status line, headers and problem of the answer to these bytes."""
    address = httpx2.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        # The server closes without reading the rest, so what arrives after the answer resets the connection.
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = dict(line.decode().lower().split(": ", 1) for line in lines)
    return first, headers, json.loads(body)


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/models\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"POST /v1/images:generate HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/images:generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 66_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_no_http_request_is_answered_with_a_problem(gateway: Running, request_: bytes) -> None:
    first, headers, problem = raw(gateway.url, request_)
    assert first.startswith(b"HTTP/1.1 400 ")
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert (problem["code"], problem["request_id"]) == ("invalid_request", headers["x-request-id"])


@pytest.mark.parametrize(
    "path",
    ["/v1/usage", "/v1/models", "/v1/images/img_0", "/v1/admin/tenants", "/v1/admin/nothing", "/nowhere",
     "/openai/v1/models", "/gemini/v1beta/models", "/readyz", "/livez"],
)  # fmt: skip
def test_answers_are_not_stored_and_their_types_not_guessed(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


def test_a_part_of_a_picture_is_not_guessed_at_either(client: Client, picture: str) -> None:
    for asked, status in (({}, 200), ({"Range": "bytes=0-9"}, 206), ({"If-None-Match": "*"}, 304)):
        answer = client.get(picture, **asked)
        assert answer.status_code == status
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
