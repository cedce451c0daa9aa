"""Callers who hang up before their request is whole: their doing, not a fault of the gateway."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.server.conftest import Tenants, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Running

FORM = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nHalf a pro'
JSON = b'{"prompt": "Half a pro'
GENERATE = "/v1beta/models/gemini-3.1-flash-image:generateContent"


def log_of(gateway: Running) -> Path:
    return Path(f"/proc/{gateway.process.pid}/fd/1").readlink()


@contextmanager
def connected(gateway: Running) -> Iterator[socket.socket]:
    address = httpx2.URL(gateway.url)
    with socket.create_connection((address.host, address.port or 80), timeout=30) as connection:
        yield connection


def lines_since(gateway: Running, before: int) -> list[dict[str, Any]]:
    """The whole lines of the log that were written since it had so many bytes."""
    text = log_of(gateway).read_bytes()[before:].decode()
    lines = text.splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


@pytest.mark.parametrize("ending", ["closed", "reset"])
@pytest.mark.parametrize(
    ("path", "content_type", "body", "framing"),
    [
        ("/v1/images:generate", "application/json", JSON, "Content-Length: 1000"),
        ("/v1/images:generate", "application/json", b"16\r\n" + JSON, "Transfer-Encoding: chunked"),
        ("/v1/images:estimate", "application/json", JSON, "Content-Length: 1000"),
        ("/v1/images:edit", "multipart/form-data; boundary=b", FORM, "Content-Length: 1000"),
        ("/openai/v1/images/generations", "application/json", JSON, "Content-Length: 1000"),
        ("/openai/v1/images/edits", "multipart/form-data; boundary=b", FORM, "Content-Length: 1000"),
        (f"/gemini{GENERATE}", "application/json", JSON, "Content-Length: 1000"),
    ],
)
def test_who_hangs_up_while_sending_is_counted_apart_and_no_fault_is_logged(
    gateway: Running, tenants: Tenants, path: str, content_type: str, body: bytes, framing: str, ending: str
) -> None:
    before = log_of(gateway).stat().st_size
    head = (
        f"POST {path} HTTP/1.1\r\nHost: gateway\r\nX-API-Key: {tenants.keys['leaver']}\r\n"
        f"Content-Type: {content_type}\r\n{framing}\r\nExpect: 100-continue\r\n\r\n"
    )
    with connected(gateway) as connection:
        connection.sendall(head.encode())
        # The gateway asks for the body when it begins to read it.
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        if ending == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def told() -> list[dict[str, Any]]:
        return [line for line in lines_since(gateway, before) if line.get("message") == "request"]

    wait_for(lambda: bool(told()), "the request is logged")
    assert [(line["outcome"], line["httpRequest"]["status"]) for line in told()] == [
        ("client_closed_request", 499)
    ]
    assert {line["severity"] for line in lines_since(gateway, before)} == {"INFO"}
