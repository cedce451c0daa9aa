"""Bad input: the right status, every fault at once, what would be accepted; no call, no token."""

from __future__ import annotations

import base64
import io
import json
import socket
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from PIL import Image

from tests.fixtures import bomb, image_bytes
from tests.processes import HTTP
from tests.server.conftest import Client, Tenants, calls_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Running

Body = dict[str, Any] | bytes


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png(side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(file, "PNG")
    return file.getvalue()


def asking(**more: Any) -> dict[str, Any]:
    return {"prompt": "Bad input", **more}


def with_image(data: str, **more: Any) -> dict[str, Any]:
    return asking(images=[{"data": data, **more}])


PNG = encoded(png())
TOO_LARGE = encoded(png() + b"\x00" * 7_000_000)
BAD: list[tuple[str, Body, int, set[tuple[str, str]]]] = [
    ("not JSON", b"{prompt: 1}", 400, set()),
    ("not an object", b"[]", 400, set()),
    ("not UTF-8", b'{"prompt": "\xff\xfe"}', 400, set()),
    ("NaN", b'{"prompt": "x", "temperature": NaN}', 400, set()),
    ("deep", b'{"prompt":' + b"[" * 100_000, 400, set()),
    ("empty", b"", 400, set()),
    ("unknown field", asking(size="1K"), 422, {("/size", "unknown_field")}),
    ("no prompt", {}, 422, {("/prompt", "required")}),
    ("wrong type", asking(n="two"), 422, {("/n", "wrong_type")}),
    ("8K", asking(image_size="8K"), 422, {("/image_size", "unsupported_image_size")}),
    ("7:3", asking(aspect_ratio="7:3"), 422, {("/aspect_ratio", "unsupported_aspect_ratio")}),
    ("15 images", asking(images=[{"data": PNG}] * 15), 422, {("/images/14", "too_many_images")}),
    ("over 7 MB", with_image(TOO_LARGE), 422, {("/images/0", "image_too_large")}),
    ("a wrong character", with_image(PNG[:8] + "!" + PNG[9:]), 422, {("/images/0/data", "invalid_base64")}),
    ("too much padding", with_image("aGVsbG8=="), 422, {("/images/0/data", "invalid_base64")}),
    ("not canonical", with_image("aGl="), 422, {("/images/0/data", "invalid_base64")}),
    ("text", with_image(encoded(b"I am no picture."), mime_type="image/png"), 422, {("/images/0", "*")}),
    (
        "truncated",
        with_image(encoded(image_bytes("harbour-truncated.jpg"))),
        422,
        {("/images/0", "truncated_image")},
    ),
    ("bomb", with_image(encoded(bomb())), 422, {("/images/0", "too_many_pixels")}),
    ("two sources", with_image(PNG, uri="gs://a/b"), 422, {("/images/0", "one_source")}),
    ("no source", asking(images=[{}]), 422, {("/images/0", "one_source")}),
    (
        "unknown image",
        asking(images=[{"image_id": "img_" + "0" * 64}]),
        422,
        {("/images/0/image_id", "unknown_image")},
    ),
    ("unknown model", asking(model="dall-e"), 422, {("/model", "unknown_model")}),
    (
        "everything",
        asking(
            image_size="8K", aspect_ratio="7:3", n=0, temperature=3.0, colour="red", images=[{"data": "!"}]
        ),
        422,
        {
            ("/image_size", "unsupported_image_size"),
            ("/aspect_ratio", "unsupported_aspect_ratio"),
            ("/n", "*"),
            ("/temperature", "*"),
            ("/colour", "unknown_field"),
            ("/images/0/data", "invalid_base64"),
        },
    ),
]


@pytest.fixture
def client(gateway: Running, tenants: Tenants) -> Client:
    return Client(gateway.url, tenants.keys["badinput"])


@pytest.fixture
def nothing_spent(client: Client, emulator: Running) -> Iterator[None]:
    """Fails the test if a call was made or a token moved."""
    before = calls_of(emulator), client.budget()
    yield
    assert (calls_of(emulator), client.budget()) == before


def send(client: Client, body: Body, content_type: str = "application/json") -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"X-API-Key": client.key, "Content-Type": content_type}
    return HTTP.post(f"{client.url}/v1/images:generate", content=content, headers=headers, timeout=60)


@pytest.mark.usefixtures("nothing_spent")
@pytest.mark.parametrize(("body", "status", "faults"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_bad_input_is_named_and_costs_nothing(
    client: Client, body: Body, status: int, faults: set[tuple[str, str]]
) -> None:
    answer = send(client, body)
    problem = answer.json()
    assert answer.status_code == status, problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["retryable"] is False
    found = {(item["pointer"], item["code"]) for item in problem.get("violations", [])}
    pointers = {pointer for pointer, _ in found}
    assert pointers == {pointer for pointer, _ in faults}, problem
    assert {fault for fault in faults if fault[1] != "*"} <= found, problem
    assert all(item["detail"] for item in problem.get("violations", []))
    assert "ratelimit-policy" in answer.headers
    assert "ratelimit" in answer.headers


def test_what_would_be_accepted_is_listed(client: Client) -> None:
    problem = send(client, asking(image_size="8K", aspect_ratio="7:3")).json()
    allowed = {item["pointer"]: item["allowed"] for item in problem["violations"]}
    assert allowed["/image_size"] == ["512", "1K", "2K", "4K"]
    assert len(allowed["/aspect_ratio"]) == 15


@pytest.mark.usefixtures("nothing_spent")
def test_another_content_type_is_415(client: Client) -> None:
    answer = send(client, asking(), "text/plain")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.usefixtures("nothing_spent")
def test_a_body_over_the_limit_is_413_before_it_is_read(client: Client) -> None:
    address = httpx2.URL(client.url)
    head = (
        f"POST /v1/images:generate HTTP/1.1\r\nHost: {address.host}\r\nX-API-Key: {client.key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n"
    )
    with socket.create_connection((address.host, address.port or 80), timeout=10) as connection:
        connection.sendall(head.encode())
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "body_too_large"


@pytest.mark.usefixtures("nothing_spent")
def test_json_beside_the_images_is_bounded(client: Client) -> None:
    answer = send(client, asking(system_instruction="x" * 1_100_000))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("header", [{}, {"X-API-Key": "fg_test_x"}, {"Authorization": "Bearer nonsense"}])
def test_who_shows_no_valid_key_is_told_how_to(gateway: Running, header: dict[str, str]) -> None:
    answer = HTTP.post(f"{gateway.url}/v1/images:generate", json=asking(), headers=header)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_unknown_paths_and_methods_are_problems_too(gateway: Running) -> None:
    assert HTTP.get(f"{gateway.url}/nowhere").json()["code"] == "not_found"
    wrong = HTTP.delete(f"{gateway.url}/v1/models")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, HEAD"


def test_a_client_that_offers_http_2_is_served_in_http_1(client: Client) -> None:
    body = json.dumps(asking(aspect_ratio="7:3")).encode()
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAAB"}
    headers = {"X-API-Key": client.key, "Content-Type": "application/json", **offer}
    answer = HTTP.post(f"{client.url}/v1/images:generate", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
