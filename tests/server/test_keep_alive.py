"""An idle connection outlives those of every usual front end, so that no request meets its close."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import httpx2
from fastapi import FastAPI

from app.commands.serve import build_server_config
from app.settings import Settings
from tests.processes import running_gateway

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_FRONT_END_S = 600  # Google Cloud's application load balancers; nginx and AWS keep theirs for 60
KEEP_ALIVE_S = 1


def test_by_default_an_idle_connection_outlives_those_of_front_ends() -> None:
    assert build_server_config(FastAPI(), Settings()).timeout_keep_alive > LONGEST_FRONT_END_S


def test_an_idle_connection_is_closed_after_the_time_that_is_set(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with running_gateway(tmp_path, **settings, keep_alive_s=str(KEEP_ALIVE_S)) as gateway:
        address = httpx2.URL(gateway.url)
        with socket.create_connection((address.host, address.port or 80), timeout=30) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n")
            answer = b""
            while b'{"status":"alive"}' not in answer:
                answer += connection.recv(65536)
            answered = time.monotonic()
            assert connection.recv(65536) == b""
            assert time.monotonic() - answered >= KEEP_ALIVE_S * 0.9
