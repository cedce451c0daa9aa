"""Stands where the gateway stands, and writes down what an SDK sends."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import HTTP as MIME
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent / "recorded"
PICTURE = FOLDER / "tiny.png"
KEY = "AIza-a-key-of-the-recorder"
BOUNDARY = "the-boundary"

_OF_THE_TRANSPORT = {
    "host", "content-length", "transfer-encoding", "connection", "accept-encoding", "accept-language",
    "sec-fetch-mode", "keep-alive",
}  # fmt: skip
_OF_THE_MACHINE = {"x-stainless-os", "x-stainless-arch", "x-stainless-runtime-version"}
_VERSIONS = re.compile(r"(gl-(?:python|node)/|Python/|Node\.js/)v?[0-9.]+")

_GOOGLE = {"candidates": [{"content": {"role": "model", "parts": [{"text": "x"}]}, "finishReason": "STOP"}]}
_OPENAI = {"created": 1, "data": [{"b64_json": "eA=="}]}
_OPENAI_EVENT = {"type": "image_generation.completed", "b64_json": "eA==", "created_at": 1}


def headers_of(sent: Any) -> dict[str, str]:
    """The headers that an SDK chooses, by name; what differs from machine to machine is a star."""
    found = {}
    for name, value in sorted((name.lower(), value) for name, value in sent.items()):
        if name in _OF_THE_TRANSPORT:
            continue
        said = "*" if name in _OF_THE_MACHINE else _VERSIONS.sub(r"\1*", value.replace(KEY, "KEY"))
        found[name] = re.sub(r"boundary=\S+", f"boundary={BOUNDARY}", said)
    return found


def form_of(content_type: str, body: bytes) -> list[dict[str, Any]]:
    """The parts of a form in order: what they are called and say; the recorder's picture by its name."""
    whole = message_from_bytes(b"content-type: " + content_type.encode() + b"\r\n\r\n" + body, policy=MIME)
    parts = []
    for part in whole.iter_parts():
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        told = {"file": PICTURE.name} if data == PICTURE.read_bytes() else {"text": data.decode()}
        parts.append(
            {
                "name": part.get_param("name", header="content-disposition"),
                "filename": (part.get_filename() or "").removeprefix(f"{FOLDER}/") or None,
                "type": part["content-type"],
                **told,
            }
        )
    return parts


def read_body(request: BaseHTTPRequestHandler) -> bytes:
    """The body of a request, whole or in chunks."""
    if request.headers["transfer-encoding"] != "chunked":
        return request.rfile.read(int(request.headers["content-length"]))
    pieces = []
    while length := int(request.rfile.readline(), 16):
        pieces.append(request.rfile.read(length))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(pieces)


class _Handler(BaseHTTPRequestHandler):
    """Answers as either original would, in few words."""

    protocol_version = "HTTP/1.1"
    seen: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = read_body(self)
        content_type = self.headers["content-type"]
        recorded: dict[str, Any] = {"path": self.path, "headers": headers_of(self.headers)}
        if content_type.startswith("multipart/"):
            recorded["form"] = form_of(content_type, body)
        else:
            recorded["body"] = json.loads(body)
        self.seen.append(recorded)
        openai = "/images/" in self.path
        streams = "alt=sse" in self.path or (openai and recorded.get("body", {}).get("stream"))
        answer: dict[str, Any] = (_OPENAI_EVENT if streams else _OPENAI) if openai else _GOOGLE
        if "countTokens" in self.path:
            answer = {"totalTokens": 1}
        text = json.dumps(answer)
        told = (f"data: {text}\r\n\r\n" if streams else text).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streams else "application/json")
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nobody reads it."""


@contextmanager
def recorder() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Its address, and what it has seen."""
    seen: list[dict[str, Any]] = []
    handler = type("Handler", (_Handler,), {"seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()
