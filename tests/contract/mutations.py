"""Requests to every route that are right but for one thing, or for several that a seed chooses."""

from __future__ import annotations

import copy
import http.client
import json
import socket
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote_from_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

MODEL = "gemini-3.1-flash-image"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8/x8AAwMCAO+ip1sAAAAASUVORK5CYII="
DIGITS = "9" * 5000
BOUNDARY = "a-boundary"
SILENT_S = 20.0

Place = tuple[str | int, ...]

VALUES = (
    "[]", "{}", "[[]]", "[null]", '[1, "a", {}]', '{"a": 1}', '{"": null}', "[" * 60 + "]" * 60, "null",
    "true", "false", "0", "1", "-1", "1.5", "-0.0", "2147483648", "-2147483649", "9007199254740993", DIGITS,
    f"-{DIGITS}", "1e308", "1e400", "-1e400", "NaN", "Infinity", "1e-400", '""', '"x"', '" "', '"5"',
    '"1.5"', '"NaN"', '"sNaN"', '"-Infinity"', '"1E+999999"', '"1e-999999"', f'"{DIGITS}"', '"\\u0000"',
    '"\\ud800"', '"/~\\u2028"', f'"{"x" * 300}"', '"2026-13-45T99:99:99Z"', '"9999-12-31T23:59:59Z"',
    '"0001-01-01T00:00:00Z"', '"0001-01-01T00:00:00+23:59"', '"9999-12-31T23:59:59-23:59"',
)  # fmt: skip
"""JSON texts that hardly any field takes."""

TEXTS = (
    b"", b" ", b"0", b"-1", b"+1", b"1.5", b"1e400", b"NaN", b"inf", b"x", b"*", b",", b";", b"=", b'"',
    b'""', b"'", b"%", b"1,2", b"0x10", b"1_000", b" 7 ", DIGITS.encode(), b"-" + DIGITS.encode(), b"9" * 19,
    b"\xff\xfe", b"\xc3\xa9", b"\xd9\xa3", b"\xb2", b"a\x7fb", b"x" * 5000, b"{}", b"[]", b"null", b"../..",
    b"a/b", b"9999-12-31", b"0001-01-01", b"2026-02-30",
)  # fmt: skip
"""Texts that hardly any header, query parameter, form field or part of a path takes."""

HEADERS = {
    "Range": (b"bytes=@-", b"bytes=-@", b"bytes=0-@", b"bytes=@-@", b"bytes=@", b"@"),
    "Content-Length": (b"@",),
    "X-Request-Timeout": (b"@", b"@.@"),
    "grpc-timeout": (b"@", b"@S", b"@n"),
    "X-Server-Timeout": (b"@", b"@.0"),
    "Prefer": (b"respond-async, wait=@", b"wait=@", b"@"),
    "Cache-Control": (b"max-age=@", b'max-age="@"', b"@"),
    "Idempotency-Key": (b"@", b'"@"', b'"\\@"'),
    "If-None-Match": (b"@", b'W/"@"', b'"@", *'),
    "If-Match": (b"@", b'"@"'),
    "If-Range": (b"@", b'"@"'),
    "Accept": (b"@", b"image/*;q=@", b"image/png;q=@, application/json;q=@"),
    "Content-Type": (b"@", b"multipart/form-data; boundary=@", b"application/json; charset=@"),
    "Authorization": (b"@", b"Bearer @", b"Bearer @.@.@"),
    "X-API-Key": (b"@",),
    "X-Request-ID": (b"@",),
    "traceparent": (b"@", b"00-@-@-01"),
    "X-Cloud-Trace-Context": (b"@", b"@/@;o=@"),
    "x-stainless-retry-count": (b"@",),
    "x-stainless-read-timeout": (b"@",),
    "Host": (b"@", b"gateway:@"),
}
"""Headers in which a number, a list or a token is looked for, and the shapes in which they come."""


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        odd: What is odd about it.
        body: JSON, in which ``values`` replaces strings by JSON texts.
        form: Fields of a multipart form in place of JSON.
    """

    method: str
    path: str
    body: Any = None
    form: tuple[tuple[str, bytes], ...] = ()
    query: tuple[tuple[str, bytes], ...] = ()
    headers: tuple[tuple[str, bytes], ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    odd: str = ""

    def with_value(self, place: Place, text: str) -> Case:
        """The same with a JSON text at a place of its body."""
        mark = f"mark-{len(self.values)}"
        body = _replaced(self.body, place, mark)
        odd = f"{self.odd} {'/'.join(map(str, place))}={text[:40]}"
        return replace(self, body=body, values=(*self.values, (mark, text)), odd=odd)

    def with_header(self, name: str, value: bytes) -> Case:
        """The same with another header, or another value of one."""
        kept = tuple(item for item in self.headers if item[0].lower() != name.lower())
        return replace(self, headers=(*kept, (name, value)), odd=f"{self.odd} {name}: {value[:40]!r}")

    def content(self) -> tuple[bytes, bytes] | None:
        """The body and its type."""
        if self.form:
            parts = [_part(name, value) for name, value in self.form]
            body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
            return body, f"multipart/form-data; boundary={BOUNDARY}".encode()
        if self.body is None:
            return None
        text = json.dumps(self.body)
        for mark, value in self.values:
            text = text.replace(json.dumps(mark), value)
        return text.encode(), b"application/json"


def _part(name: str, value: bytes) -> bytes:
    file = b'; filename="a.png"\r\nContent-Type: image/png' if value.startswith(b"\x89PNG") else b""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
    return head + file + b"\r\n\r\n" + value + b"\r\n"


def _replaced(body: Any, place: Place, value: str) -> Any:
    copied = copy.deepcopy(body)
    inner = copied
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return copied


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every place in a JSON value but the whole of it."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*at, step)
        yield from places(inner, (*at, step))


def odd_cases(base: Case) -> Iterator[Case]:
    """A right request with one odd thing in it: each value in each place, each text in each field."""
    if base.body is not None:
        for place in places(base.body):
            yield from (base.with_value(place, text) for text in VALUES)
    for name, _ in (*base.form, *base.query):
        for text in TEXTS:
            form = tuple((each, text if each == name else value) for each, value in base.form)
            query = tuple((each, text if each == name else value) for each, value in base.query)
            yield replace(base, form=form, query=query, odd=f"{name}={text[:40]!r}")
    for at, step in enumerate(steps := base.path.split("/")):
        if step.startswith("@"):
            _, colon, verb = step.partition(":")
            for text in TEXTS:
                path = "/".join((*steps[:at], quote_from_bytes(text, "") + colon + verb, *steps[at + 1 :]))
                yield replace(base, path=path, odd=f"{step}={text[:40]!r}")
    for name, shapes in HEADERS.items():
        for shape in shapes:
            yield from (base.with_header(name, shape.replace(b"@", text)) for text in TEXTS)


def combined(bases: list[Case], random: Random) -> Case:
    """A request with some odd things at once."""
    case = random.choice(bases)
    for _ in range(random.randint(1, 4)):
        if case.body is not None and random.random() < 0.7:
            found = list(places(case.body))
            case = case.with_value(random.choice(found), random.choice(VALUES)) if found else case
        else:
            name = random.choice(list(HEADERS))
            shape = random.choice(HEADERS[name])
            case = case.with_header(name, shape.replace(b"@", random.choice(TEXTS)))
    return case


class Asker:
    """One connection to the gateway, made anew where an answer closes it."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=SILENT_S)
        self._key = key.encode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, case: Case) -> tuple[int, bytes]:
        """Status and body of the answer; 0 where the server only hung up."""
        query = "&".join(f"{name}={quote_from_bytes(value, '')}" for name, value in case.query)
        path = case.path.replace("@", "") + (f"?{query}" if query else "")
        content = case.content()
        headers = {b"host": b"gateway", b"x-api-key": self._key}
        if content is not None:
            headers |= {b"content-type": content[1], b"content-length": str(len(content[0])).encode()}
        headers |= {name.lower().encode(): value for name, value in case.headers}
        lines = [f"{case.method} {path} HTTP/1.1".encode(), *(b": ".join(item) for item in headers.items())]
        whole = b"\r\n".join(lines) + b"\r\n\r\n" + (content[0] if content else b"")
        half_closed = any(name.lower() == "content-length" for name, _ in case.headers)
        return self._exchanged(whole, half_closed=half_closed)

    def _exchanged(self, whole: bytes, *, half_closed: bool) -> tuple[int, bytes]:
        connection = self._connection
        for attempt in range(2):
            reused = connection.sock is not None
            try:
                if not reused:
                    connection.connect()
                plug: socket.socket = connection.sock
                plug.sendall(whole)
                if half_closed:
                    plug.shutdown(socket.SHUT_WR)
                with closing(http.client.HTTPResponse(plug)) as answer:
                    answer.begin()
                    body = answer.read()
                    if answer.will_close or half_closed:
                        connection.close()
                    return answer.status, body
            except (ConnectionError, http.client.HTTPException):
                connection.close()
                if not reused or attempt:
                    break
        return 0, b""
