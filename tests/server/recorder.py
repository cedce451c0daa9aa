"""A server between a gateway and its upstream that writes down what passes."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tests.processes import HTTP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OF_THE_CONNECTION = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "date", "server", "content-encoding"}
)


@dataclass(frozen=True)
class Exchanged:
    """One call as it passed: the request's headers in lower case, and both bodies."""

    headers: Mapping[str, str]
    asked: bytes
    answered: bytes


@dataclass
class Recorder:
    """Where it listens, and what has passed so far."""

    url: str
    passed: list[Exchanged] = field(default_factory=list)


@contextmanager
def recording(upstream_url: str) -> Iterator[Recorder]:
    """A recorder in a thread of its own, in front of an upstream."""
    recorder = Recorder("")

    class Passing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            sent = {name: value for name, value in headers.items() if name not in _OF_THE_CONNECTION}
            answer = HTTP.post(f"{upstream_url}{self.path}", content=asked, headers=sent)
            recorder.passed.append(Exchanged(headers, asked, answer.content))
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() not in _OF_THE_CONNECTION:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Passing)
    recorder.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
