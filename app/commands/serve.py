"""``flashgate serve``: runs the gateway under uvicorn."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.commands.banner import NOT_READY, build_banner, build_log_fields, is_for_a_person
from app.commands.sockets import CannotListen, open_sockets
from app.domain.errors import ConfigurationError, InvalidRequest
from app.main import create_app
from app.observability.logs import configure
from app.resilience.tasks import OwnTasks
from app.settings.environment import load_settings
from app.surfaces.native.errors import build_problem_response
from app.upstream.google.client import LOADING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from fastapi import FastAPI

    from app.settings import Settings

log = logging.getLogger(__name__)

RETRY_S = 0.2
LOADING_S = 2.0
"""Seconds between checks of what is not ready, and until a person is told that the SDK is being loaded."""


class Protocol(H11Protocol):
    """HTTP/1.1 that answers malformed requests with a problem document."""

    def send_400_response(self, msg: str) -> None:
        """Send the response and close the connection."""
        request_id = secrets.token_hex(16)
        answer = build_problem_response(InvalidRequest(msg), request_id)
        headers = [*answer.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
        response = h11.Response(status_code=answer.status_code, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """Says what runs and how to generate the first picture, reloads on SIGHUP, and drains on shutdown."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._tasks = OwnTasks()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and log the addresses."""
        await super().startup(sockets)
        if not self.started:
            return
        for listener in (listener for server in self.servers for listener in server.sockets):
            _set_send_timeout(listener, self._settings.reader_timeout_s)
            host, port = listener.getsockname()[:2]
            log.info("the gateway listens", extra={"address": host, "port": port})
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._start_reload)
        self._tasks.begin(self._greet())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting connections, and drain while callers are connected, so that they get responses."""
        gateway = self._app.state.service.gateway
        draining = asyncio.create_task(gateway.aclose(self._settings.drain_s))
        await super().shutdown(sockets)
        await draining
        await self._tasks.aclose(0)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do not raise handled signals again, so that an orderly shutdown exits with 0."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    def _start_reload(self) -> None:
        self._tasks.begin(self._reload_tenants())

    async def _reload_tenants(self) -> None:
        """Reload the tenants' file; if it is invalid, the tenants stay unchanged."""
        try:
            count = await self._app.state.service.reload_tenants()
        except ConfigurationError:
            log.exception("the tenants' file is invalid; the tenants are unchanged")
        else:
            log.info("the tenants' file was read again", extra={"count": count})

    async def _greet(self) -> None:
        """Say what runs as soon as paid requests can be served; until then, say why not."""
        patience = time.monotonic() + LOADING_S
        shown = None
        while (fault := await self._find_fault()) is not None:
            if fault != shown and (LOADING not in fault or time.monotonic() > patience):
                _write_to_terminal(NOT_READY.format(fault=fault))
                shown = fault
            await asyncio.sleep(RETRY_S)
        self._announce()

    async def _find_fault(self) -> str | None:
        """Why no paid request can be served, or None."""
        for name, check in self._app.state.service.readiness.items():
            fault = await check()
            if fault is not None:
                return f"{name:<10} {fault}"
        return None

    def _announce(self) -> None:
        settings, service = self._settings, self._app.state.service
        log.info("the gateway is ready", extra=build_log_fields(settings, service))
        if settings.has_demo or is_for_a_person(settings):
            port = self.servers[0].sockets[0].getsockname()[1]
            _write_to_terminal(build_banner(settings, service, port))


def _write_to_terminal(text: str) -> None:
    """Write to the terminal, apart from the log."""
    sys.stderr.write(text)
    sys.stderr.flush()


def _set_send_timeout(listener: socket.socket, timeout_s: float) -> None:
    """Let the kernel close connections, including future ones, whose peer does not read for this long.

    Otherwise a caller who stops reading could keep a picture of many megabytes in memory indefinitely,
    because the server has no timer while it sends a response.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT") and listener.family != socket.AF_UNIX:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeout_s * 1000))


def add_arguments(parser: ArgumentParser) -> None:
    """Add what overrides a setting for one start."""
    parser.add_argument(
        "--port", type=int, help="port of the API, 0 for any that is free; default: PORT, 8080"
    )
    parser.add_argument("--host", help="address to listen on; default: FLASHGATE_HOST, 127.0.0.1")


def run(arguments: Namespace) -> int:
    """Run the gateway until SIGTERM or SIGINT; 0 after an orderly end."""
    options = {"port": arguments.port, "host": arguments.host}
    settings = load_settings(**{name: value for name, value in options.items() if value is not None})
    configure(settings.log_level, settings.log_format, settings.trace_project or settings.vertex.project)
    try:
        sockets = open_sockets(settings.host, settings.ports)
    except CannotListen as fault:
        log.error("the gateway cannot listen", extra={"diagnosis": fault.diagnosis})  # noqa: TRY400 - the diagnosis is enough
        return _report_failure(str(fault))
    app = create_app(settings)
    server = Server(build_server_config(app, settings), app, settings)
    with suppress(SystemExit):  # raised if the start failed, which is reported below
        server.run(sockets)
    if server.started:
        return 0
    return _report_failure(getattr(app.state, "start_fault", "see the log"))


def _report_failure(why: str) -> int:
    sys.stderr.write(f"flashgate cannot start: {why}\n")
    return 3


def build_server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Build uvicorn's configuration, apart from the sockets."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # h11 limits headers while it reads them, and serves requests that offer an upgrade to HTTP/2, as
        # Java's client does; the faster parser fails on those.
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=int(settings.drain_s) + 2,
    )
