"""Calls of a running gateway, for commands: its address, a key, and problems as lines for a terminal.

It reads the few variables that it needs by itself: loading all settings would take longer than most commands.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S: Final = 15.0


class Refused(Exception):
    """The gateway did not perform a command; the message says why."""


class Unconfigured(Exception):
    """A command lacks a setting; the message names it."""


class GatewayApi:
    """The API of one gateway with one key, over an open client.

    Args:
        http: The client.
        url: Base URL of the gateway.
        key: A gateway key, or an operator's.
        base: What all paths begin with, such as ``/v1/admin``.
    """

    def __init__(self, http: httpx2.Client, url: str, key: str, base: str) -> None:
        self._http = http
        self._url = url.rstrip("/") + base
        self._key = key

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        if_match: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        form: tuple[Mapping[str, str], list[tuple[str, tuple[str, bytes]]]] | None = None,
    ) -> httpx2.Response:
        """Make a call with a JSON body, or a form's fields and files. Raises Refused unless it succeeds."""
        named = {"X-API-Key": self._key, **(headers or {})}
        if if_match is not None:
            named["If-Match"] = if_match
        fields, files = form or (None, None)
        try:
            answer = self._http.request(
                method, self._url + path, json=body, data=fields, files=files, headers=named
            )
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise Refused(f"Cannot connect to {self._url}: {error}") from error
        if answer.is_success:
            return answer
        raise Refused(format_problem(answer))


def format_problem(answer: httpx2.Response) -> str:
    """Format a problem document, with one violation per line."""
    try:
        problem = answer.json()
        lines = [f"{problem['detail']} ({answer.status_code} {problem['code']})"]
        lines += [f"  - {item['pointer']}: {item['detail']}" for item in problem.get("violations", ())]
    except (ValueError, KeyError, TypeError):
        return f"The response is not from a gateway: {answer.status_code}."
    return "\n".join(lines)


def find_url(option: str | None, *, admin: bool = False) -> str:
    """The gateway's base URL: as given, else ``FLASHGATE_URL``, else this machine at its port."""
    port = _read("PORT") or "8080"
    if admin:
        port = _read("FLASHGATE_ADMIN_PORT") or port
    return option or _read("FLASHGATE_URL") or f"http://127.0.0.1:{port}"


def find_key() -> str:
    """The caller's key: ``FLASHGATE_API_KEY``, else the one of this machine's demo.

    Raises:
        Unconfigured: There is neither.
    """
    key = _read("FLASHGATE_API_KEY")
    file = Path(_read("FLASHGATE_STATE_DIR") or ".flashgate") / "demo-key"
    if key is None and file.is_file():
        key = file.read_text(encoding="utf-8").strip()
    if not key:
        raise Unconfigured("set FLASHGATE_API_KEY to a gateway key")
    return key


def find_admin_key() -> str:
    """The operator's key. Raises Unconfigured if it is not set."""
    key = _read("FLASHGATE_ADMIN_KEY")
    if key is None:
        raise Unconfigured("set FLASHGATE_ADMIN_KEY to an operator's key")
    return key


def _read(name: str) -> str | None:
    # environment: all settings take half a second to load, which is the time that a whole command may take
    return os.environ.get(name) or None
