"""``flashgate serve``: runs the gateway under uvicorn."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.commands.sockets import CannotListen, open_sockets
from app.domain.errors import ConfigurationError, InvalidRequest
from app.main import create_app
from app.observability.logs import configure
from app.resilience.tasks import OwnTasks
from app.surfaces.native.errors import build_problem_response
from app.tenants.directory import DEMO_KEY_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from app.settings import Settings

log = logging.getLogger(__name__)

BANNER = """
flashgate is ready
  URL      {url}
  tenant   demo
  key      {shown}
  upstream {upstream}

Generate a picture:

  curl -sS {url}/v1/images:generate \\
    -H "X-API-Key: {key}" \\
    -H 'Content-Type: application/json' -H 'Accept: image/*' \\
    -d '{{"prompt": "A lighthouse at dusk", "aspect_ratio": "16:9", "output_mime_type": "image/png"}}' \\
    -o lighthouse.png
"""


NOT_READY = """
flashgate is not ready: its store is not usable, and no paid request is served until it is
  store    {fault}
"""

STORE_RETRY_S = 1.0
"""Seconds between checks of an unusable store for the person at the terminal."""


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
    """Prints how to generate the first picture, reloads on SIGHUP, and drains on shutdown."""

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
        if self._settings.has_demo:
            await self._greet()

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
        """Print how to generate the first picture; while the store is unusable, print why."""
        check_store = self._app.state.service.readiness["store"]
        fault = await check_store()
        if fault is None:
            _write_to_terminal(self._build_banner())
            return
        _write_to_terminal(NOT_READY.format(fault=fault))

        async def greet_later() -> None:
            current_fault = fault
            while current_fault is not None:
                await asyncio.sleep(STORE_RETRY_S)
                current_fault = await check_store()
            _write_to_terminal(self._build_banner())

        self._tasks.begin(greet_later())

    def _build_banner(self) -> str:
        host = "127.0.0.1" if self._settings.host in {"0.0.0.0", "::"} else self._settings.host  # noqa: S104
        port = self.servers[0].sockets[0].getsockname()[1]
        file = self._settings.state_dir / DEMO_KEY_FILE
        # Logs are stored and shipped, so the key itself is only shown to a person.
        for_a_person = self._settings.log_format == "text" or sys.stderr.isatty()
        key = file.read_text().strip() if for_a_person else f"$(cat {file})"
        return BANNER.format(
            url=f"http://{host}:{port}",
            shown=key if for_a_person else f"in {file}",
            key=key,
            upstream=", ".join(self._settings.back_ends),
        )


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


def run(settings: Settings) -> int:
    """Run the gateway until SIGTERM or SIGINT; 0 after an orderly end."""
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
