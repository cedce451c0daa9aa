"""Stands between a gateway and the emulator, and keeps the bodies and headers that reach the upstream."""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.contract.recorder import read_body
from tests.processes import HTTP

if TYPE_CHECKING:
    from collections.abc import Iterator

_OF_A_CONNECTION = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}


class Call(NamedTuple):
    """One call of a method: its body, and its headers by lower-case name."""

    body: dict[str, Any]
    headers: dict[str, str]


class Tap(NamedTuple):
    """Its address, and the calls so far."""

    url: str
    calls: list[Call]


def _build_handler(upstream: str, calls: list[Call]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._forward(b"")

        def do_POST(self) -> None:
            content = read_body(self)
            headers = {name.lower(): value for name, value in self.headers.items()}
            calls.append(Call(json.loads(content or b"{}"), headers))
            self._forward(content)

        def _forward(self, content: bytes) -> None:
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in _OF_A_CONNECTION
            }
            answer = HTTP.request(self.command, upstream + self.path, content=content, headers=headers)
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers["content-type"])
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Nobody reads it."""

    return Handler


@contextmanager
def tapped(upstream: str) -> Iterator[Tap]:
    """Forward to an upstream at this address until the block ends."""
    calls: list[Call] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _build_handler(upstream, calls)) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Tap(f"http://127.0.0.1:{server.server_address[1]}", calls)
        finally:
            server.shutdown()
            thread.join()
