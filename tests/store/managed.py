"""Stands in for Memorystore: a real server behind real TLS, and a metadata server that gives out tokens."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.store.access import TOKEN_PATH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

NOW = dt.datetime.now(dt.UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


class Authority:
    """An authority of its own, whose certificate is a file."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.file = folder / f"{name}.pem"
        made = self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def _signed(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - dt.timedelta(hours=1))
            .not_valid_after(NOW + dt.timedelta(days=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def server(self, host: str) -> ssl.SSLContext:
        """What a server of this host shows: an address or a name."""
        try:
            named: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            named = x509.DNSName(host)
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._signed(_name(host), key, x509.SubjectAlternativeName([named]))
        file = self._folder / f"server-{host}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + made.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@dataclass
class Encrypted:
    """TLS in front of a server. ``cut`` ends every connection, as a server does whose patience is over."""

    port: int = 0
    accepted: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """End every connection."""
        for writer in tuple(self._open):
            writer.transport.abort()


@asynccontextmanager
async def encrypted(socket: Path, context: ssl.SSLContext) -> AsyncIterator[Encrypted]:
    """What stands before the server on this socket."""
    state = Encrypted()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.accepted += 1
        state._open.add(writer)
        behind, before = await asyncio.open_unix_connection(socket)
        await asyncio.gather(carry(reader, before), carry(behind, writer))
        state._open.discard(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        state.cut()
        server.close()


@dataclass
class Metadata:
    """The metadata server: the token that it gives, how long it holds, and how often it was asked."""

    url: str = ""
    token: str = "token-1"
    expires_in: float = 3600
    status: int = 200
    asked: int = 0


@contextmanager
def metadata_server() -> Iterator[Metadata]:
    """On a port of its own; it answers nobody who does not say ``Metadata-Flavor: Google``, as Google's."""
    state = Metadata()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            good = self.path == TOKEN_PATH and self.headers["Metadata-Flavor"] == "Google"
            said = {"access_token": state.token, "expires_in": state.expires_in, "token_type": "Bearer"}
            body = json.dumps(said).encode() if good else b"{}"
            self.send_response(state.status if good else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            yield state
        finally:
            server.shutdown()
            serving.join()
