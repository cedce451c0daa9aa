"""The gateway behind a front end that limits requests and answers as Cloud Run does."""

from __future__ import annotations

import base64
import socket
from typing import TYPE_CHECKING

import httpx2
import pytest

from app.settings import Settings
from app.surfaces.http.context import SurfaceConfig
from tests.processes import running_gateway
from tests.server.conftest import Client, Tenants
from tests.server.front_end import LIMIT_BYTES, front_end_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Running

SCALE = 64
"""Answers are tested at a 64th of the real limits, because eight pictures of 4K take long to draw."""

PICTURES = {"prompt": "Four pictures", "image_size": "1K", "n": 4, "output_mime_type": "image/png"}
KEEPS = SurfaceConfig().chunked_above_bytes


def port_of(url: str) -> int:
    port = httpx2.URL(url).port
    assert port is not None
    return port


def refusal_of(url: str, length: int) -> tuple[bytes, bytes]:
    """Head and body of the answer to a request that only declares so many bytes and sends none."""
    head = (
        "POST /v1/images:generate HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port_of(url)), timeout=30) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    found, _, body = answer.partition(b"\r\n\r\n")
    return found, body


@pytest.fixture(scope="module")
def scaled(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway whose bound for answers with a declared length is as much smaller as the front end's."""
    folder = tmp_path_factory.mktemp("scaled")
    with running_gateway(
        folder, **settings, **{"surface.chunked_above_bytes": str(KEEPS // SCALE)}
    ) as process:
        yield process


def test_an_answer_over_the_limit_of_the_front_end_arrives_whole_in_chunks(
    scaled: Running, tenants: Tenants
) -> None:
    limit = LIMIT_BYTES // SCALE
    with front_end_of(port_of(scaled.url), limit) as url:
        answer = Client(url, tenants.keys["pictures"]).post(PICTURES)
    assert answer.status_code == 200, answer.text[:300]
    assert len(answer.content) > limit
    assert "content-length" not in answer.headers
    images = answer.json()["images"]
    assert len(images) == 4
    direct = Client(scaled.url, tenants.keys["pictures"])
    for image in images:
        kept = direct.get(f"/v1/images/{image['id']}").content
        assert base64.b64decode(image["data"], validate=True) == kept
        assert len(kept) == image["bytes"]


def test_the_same_answer_with_its_length_declared_would_not(gateway: Running, tenants: Tenants) -> None:
    with front_end_of(port_of(gateway.url), LIMIT_BYTES // SCALE) as url:
        answer = Client(url, tenants.keys["pictures"]).post(PICTURES)
    assert (answer.status_code, answer.headers["server"]) == (500, "front end")


def test_the_default_bound_is_below_the_limit_of_cloud_run() -> None:
    assert KEEPS < LIMIT_BYTES


def test_a_request_over_the_limit_of_the_front_end_is_refused_by_it(gateway: Running) -> None:
    with front_end_of(port_of(gateway.url)) as url:
        head, _ = refusal_of(url, LIMIT_BYTES + 1)
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"Server: front end" in head


def test_a_request_over_the_gateways_limit_is_refused_in_its_own_words(
    gateway: Running,
) -> None:
    limit = Settings().body_bytes_max
    with front_end_of(port_of(gateway.url), limit_bytes=2 * limit) as url:
        head, body = refusal_of(url, limit + 1)
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in head
    assert b"body_too_large" in body
    assert str(limit).encode() in body
