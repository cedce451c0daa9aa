"""A managed store: TLS with a certificate that is checked, and tokens in place of a password."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as StoreConnectionError

from app.domain.errors import StoreUnavailable
from app.store.access import RENEW_S, Access, AccessTokens
from app.store.client import open_clients, translate_store_errors
from tests.processes import HTTP, running_gateway
from tests.store.conftest import PATIENCE_S
from tests.store.managed import Authority, Encrypted, Metadata, encrypted, metadata_server
from tests.storeserver import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    with metadata_server() as found:
        yield found


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server whose password tests change."""
    with running_server(tmp_path) as server:
        yield server


async def take_password(server: ServerProcess, password: str, present: str | None = None) -> None:
    async with Redis(unix_socket_path=str(server.socket), password=present) as operator:
        await operator.config_set("requirepass", password)


async def answers(port: int, access: Access, host: str = HERE) -> bool:
    async with open_clients(f"rediss://{host}:{port}", ledger_timeout_s=PATIENCE_S, access=access) as clients:
        try:
            async with translate_store_errors(PATIENCE_S):
                return bool(await clients.ledger.ping())
        except StoreUnavailable:
            return False


async def test_a_server_is_trusted_by_its_authority_and_its_host(
    server: ServerProcess, authority: Authority, tmp_path: Path
) -> None:
    async with encrypted(server.socket, authority.server(HERE)) as front:
        assert await answers(front.port, Access(authority.file))
        assert not await answers(front.port, Access(Authority(tmp_path, "another").file))
        assert not await answers(front.port, Access())
        assert not await answers(front.port, Access(authority.file), "localhost")
    async with encrypted(server.socket, authority.server("elsewhere.example")) as front:
        assert not await answers(front.port, Access(authority.file))


async def test_a_certificate_without_identifiers_is_trusted_where_python_is_strict(
    server: ServerProcess, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Memorystore's are, and as Python 3.13 is."""
    default = ssl.create_default_context

    def strict(**given: Any) -> ssl.SSLContext:
        context = default(**given)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    async with encrypted(server.socket, authority.server(HERE)) as front:
        assert await answers(front.port, Access(authority.file))


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis://store:6379", "FLASHGATE_REDIS_IAM needs an address with TLS"),
        ("unix:///run/store.sock", "FLASHGATE_REDIS_IAM needs an address with TLS"),
        ("redis+cluster://store:6379", "FLASHGATE_REDIS_IAM needs an address with TLS"),
        ("rediss://me:hidden@store:6379", "and a user or password in the address"),
        ("rediss+sentinel://me:hidden@store:26379/books", "and a user or password in the address"),
    ],
)
async def test_tokens_go_to_encrypted_addresses_without_a_password_alone(
    metadata: Metadata, url: str, fault: str
) -> None:
    async with AccessTokens(metadata.url) as tokens:
        with pytest.raises(ValueError, match=fault) as refused:
            async with open_clients(url, access=Access(None, tokens)):
                pass
    assert "hidden" not in str(refused.value)
    assert metadata.asked == 0


async def test_a_file_of_authorities_is_read_before_anything_connects(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for file in (empty, tmp_path / "missing.pem"):
        with pytest.raises(ValueError, match="FLASHGATE_REDIS_CA_FILE"):
            Access(file).build_options("rediss://store:6379")
    with pytest.raises(ValueError, match="needs an address with TLS"):
        Access(empty).build_options("redis://store:6379")


async def test_one_token_serves_every_connection_until_shortly_before_its_end(metadata: Metadata) -> None:
    now = [0.0]
    async with AccessTokens(metadata.url, lambda: now[0]) as tokens:
        found = await asyncio.gather(*(tokens.get_credentials_async() for _ in range(50)))
        assert set(found) == {("default", "token-1")}
        now[0] = 3600 - RENEW_S - 1
        assert await tokens.get_credentials_async() == ("default", "token-1")
        assert metadata.asked == 1
        metadata.token = "token-2"
        now[0] = 3600 - RENEW_S + 1
        # The present one holds while the next is fetched.
        assert await tokens.get_credentials_async() == ("default", "token-1")
        assert tokens._asking is not None
        await tokens._asking
        assert await tokens.get_credentials_async() == ("default", "token-2")
        assert metadata.asked == 2


async def test_a_token_outlives_the_metadata_server_until_its_end(metadata: Metadata) -> None:
    now = [0.0]
    async with AccessTokens(metadata.url, lambda: now[0]) as tokens:
        await tokens.get_credentials_async()
        metadata.status = 503
        now[0] = 3599.0
        assert await tokens.get_credentials_async() == ("default", "token-1")
        assert tokens._asking is not None
        await tokens._asking
        now[0] = 3600.5
        for _ in range(20):
            with pytest.raises(StoreConnectionError):
                await tokens.get_credentials_async()
        assert metadata.asked <= 3
        metadata.status = 200
        now[0] = 3602.0
        assert await tokens.get_credentials_async() == ("default", "token-1")


@asynccontextmanager
async def managed(
    locked: ServerProcess, authority: Authority, metadata: Metadata
) -> AsyncIterator[Encrypted]:
    await take_password(locked, metadata.token)
    async with encrypted(locked.socket, authority.server(HERE)) as front:
        yield front


async def test_every_new_connection_shows_the_token_of_that_moment(
    locked: ServerProcess, authority: Authority, metadata: Metadata
) -> None:
    metadata.expires_in = RENEW_S + 0.5
    now = [0.0]
    async with (
        managed(locked, authority, metadata) as front,
        AccessTokens(metadata.url, lambda: now[0]) as tokens,
        open_clients(
            f"rediss://{HERE}:{front.port}",
            ledger_timeout_s=PATIENCE_S,
            access=Access(authority.file, tokens),
        ) as clients,
    ):
        assert await clients.ledger.ping()
        assert await clients.blobs.ping()
        await take_password(locked, "token-2", "token-1")
        metadata.token = "token-2"
        assert await clients.ledger.ping()  # a connection that is open stays open
        front.cut()
        now[0] = 1000.0  # the old token is over
        assert await clients.ledger.ping()
        assert front.accepted == 3


async def test_a_whole_gateway_keeps_its_books_on_a_managed_store(
    locked: ServerProcess, authority: Authority, metadata: Metadata, tmp_path: Path
) -> None:
    def ask(url: str) -> int:
        key = (tmp_path / "gateway" / "state" / "demo-key").read_text().strip()
        body = {"prompt": "A lighthouse", "image_size": "512", "cache": "bypass"}
        return HTTP.post(f"{url}/v1/images:generate", json=body, headers={"X-API-Key": key}).status_code

    async with managed(locked, authority, metadata) as front:
        gateway = running_gateway(
            tmp_path / "gateway",
            redis_url=f"rediss://{HERE}:{front.port}",
            redis_ca_file=str(authority.file),
            redis_iam="true",
            **{"redis.metadata_url": json.dumps(metadata.url)},
        )
        process = await asyncio.to_thread(gateway.__enter__)
        try:
            assert await asyncio.to_thread(ask, process.url) == 200
        finally:
            await asyncio.to_thread(gateway.__exit__, None, None, None)
    async with Redis(unix_socket_path=str(locked.socket), password="token-1") as operator:
        assert await operator.hgetall("fg:{demo}:win")
    (log,) = await asyncio.to_thread(lambda: list((tmp_path / "gateway").glob("*.log")))
    assert "token-1" not in await asyncio.to_thread(log.read_text)
