"""Two gateways on one emulator: one with everything that a back end can do, one on the plainest back end."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import psutil
import pytest
import yaml

from app.domain.keys import ENTROPY_BYTES, hash_secret, mint
from app.domain.policy import Policy
from tests.changed_constants import environment_of
from tests.domain.validation_cases import BAD, GOOD
from tests.processes import Running, free_port, running, running_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

PEPPER = "another pepper of the tests, long enough"
TOKENS_A_DAY = 100_000_000
LOOP_CPU_MS_MAX = 100
"""What one request may hold up the event loop for, in processor time."""

GROWTH_A_BYTE, GROWTH_BYTES = 5, 64_000_000
"""What a request may make the process grow by at its peak: for each of its bytes, and in any case."""

ANSWER_BYTES_MAX = 200_000
"""No refusal is longer, whatever it answers."""

PIXELS_MAX_OF_THE_PLAIN_ONE = 100
Rights = tuple[frozenset[str], str | None, frozenset[str] | None]


def rights_of(policy: Policy) -> Rights:
    """The part of a policy that a tenant has."""
    return policy.models, policy.max_image_size, policy.preview


@dataclass(frozen=True)
class Caller:
    """A caller of one tenant; its connection is kept open."""

    gateway: Running
    emulator: Running
    http: httpx2.Client
    key: str

    def send(
        self, path: str, content: bytes, content_type: str = "application/json", **headers: str
    ) -> httpx2.Response:
        """POST any bytes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named |= {"X-API-Key": self.key, "Content-Type": content_type}
        return self.http.post(path, content=content, headers=named)

    def spent(self) -> Any:
        """What must not move where nothing is spent: the upstream's calls, and the caller's budgets."""
        calls = self.http.get(f"{self.emulator.url}/emulator/calls").json()["generate"]
        answer = self.http.get("/v1/usage", headers={"X-API-Key": self.key})
        assert answer.status_code == 200
        names = ("name", "settled", "held")
        return calls, [[window[name] for name in names] for window in answer.json()["budgets"]]


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process in bytes; Linux keeps the highest value, and can forget it."""

    process: psutil.Process

    def now(self) -> int:
        """What it has."""
        return int(self.process.memory_info().rss)

    def peak(self) -> int:
        """The most it has had since ``forget``."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024

    def forget(self) -> None:
        """Begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")


@dataclass(frozen=True)
class Tenants:
    """A tenants' file, and the key for each combination of rights in the cases."""

    path: Path
    keys: dict[Rights, str]


@pytest.fixture(scope="session")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    keys: dict[Rights, str] = {}
    entries = []
    policies = [case.policy for case in GOOD] + [case.policy for case in BAD]
    for index, rights in enumerate(dict.fromkeys(map(rights_of, policies))):
        key = mint("test", bytes([index + 1]) * ENTROPY_BYTES)
        hashed = hash_secret(PEPPER.encode(), key.secret)
        entries.append(
            {
                "id": f"tenant{index}",
                "time_zone": "UTC",
                "models": sorted(rights[0]),
                "max_image_size": rights[1],
                "preview": None if rights[2] is None else sorted(rights[2]),
                "budgets": [{"unit": "image_tokens", "window": "day", "limit": TOKENS_A_DAY}],
                "keys": [{"id": key.key_id, "hash": f"hmac-sha256:{hashed}", "scopes": ["images"]}],
            }
        )
        keys[rights] = key.text
    path = tmp_path_factory.mktemp("tenants") / "tenants.yaml"
    path.write_text(yaml.safe_dump({"tenants": entries}))
    return Tenants(path, keys)


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_emulator(tmp_path_factory.mktemp("emulator")) as process:
        yield process


@contextmanager
def _gateway(folder: Path, tenants: Tenants, emulator: Running, **settings: str) -> Iterator[Running]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings |= {
        "state_dir": str(folder / "state"),
        "tenants_file": str(tenants.path),
        "key_pepper": PEPPER,
        "emulator_base_url": emulator.url,
    }
    environment = environment_of(settings)
    log = folder / "gateway.log"
    served = running([], {**environment, "PORT": str(port)}, url, "/readyz", log, "tests.hostile.served")
    with served as process:
        yield process


@pytest.fixture(scope="session")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, tenants: Tenants, emulator: Running
) -> Iterator[Running]:
    """Offers formats and reads from Cloud Storage, as Vertex AI does."""
    folder = tmp_path_factory.mktemp("gateway")
    with _gateway(folder, tenants, emulator, upstream="emulator", gcs_buckets='["inputs"]') as process:
        yield process


@pytest.fixture(scope="session")
def plain_gateway(
    tmp_path_factory: pytest.TempPathFactory, tenants: Tenants, emulator: Running
) -> Iterator[Running]:
    """Offers neither, as the Gemini API does, and takes small pictures alone."""
    folder = tmp_path_factory.mktemp("plain")
    settings = {
        "upstream": "gemini",
        "gemini_api_key": "a-key",
        "gcs_buckets": '["inputs"]',
        "request.input_pixels_max": str(PIXELS_MAX_OF_THE_PLAIN_ONE),
    }
    with _gateway(folder, tenants, emulator, **settings) as process:
        yield process


@pytest.fixture(scope="session")
def http(gateway: Running) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=gateway.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def plain_http(plain_gateway: Running) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=plain_gateway.url, timeout=60) as client:
        yield client


@pytest.fixture
def caller(gateway: Running, emulator: Running, http: httpx2.Client, tenants: Tenants) -> Caller:
    """May do everything."""
    return Caller(gateway, emulator, http, tenants.keys[rights_of(Policy())])


@pytest.fixture
def memory(gateway: Running) -> Memory:
    return Memory(psutil.Process(gateway.process.pid))


@dataclass
class Watched:
    """A caller whose requests are watched: what they cost the process, and whether they cost the tenant."""

    caller: Caller
    sent_bytes: int = 0

    def send(
        self, path: str, content: bytes, content_type: str = "application/json", **headers: str
    ) -> httpx2.Response:
        """POST any bytes; whatever is wrong with them is no fault of the gateway."""
        self.sent_bytes += len(content)
        answer = self.caller.send(path, content, content_type, **headers)
        assert answer.status_code < 500, answer.text
        return answer

    def refused(
        self,
        content: bytes,
        content_type: str = "application/json",
        *,
        path: str = "/v1/images:generate",
        status: int = 422,
    ) -> dict[str, Any]:
        """The problem document of a request that is refused."""
        answer = self.send(path, content, content_type)
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        problem: dict[str, Any] = answer.json()
        assert (answer.status_code, problem["status"]) == (status, status), problem
        assert problem["request_id"] == answer.headers["x-request-id"]
        assert len(answer.content) < ANSWER_BYTES_MAX
        return problem

    def faults(
        self, content: bytes, content_type: str = "application/json", **how: Any
    ) -> set[tuple[str, str]]:
        """Code and place of every fault of a request that is refused as invalid."""
        problem = self.refused(content, content_type, **how)
        assert problem["code"] == "validation_failed"
        return {(item["code"], item["pointer"]) for item in problem["violations"]}

    def quoted(self, content: bytes) -> dict[str, Any]:
        """The quote of a request that can be read."""
        answer = self.send("/v1/images:estimate", content)
        assert answer.status_code == 200, answer.text
        assert len(answer.content) < ANSWER_BYTES_MAX
        quote: dict[str, Any] = answer.json()
        return quote


@pytest.fixture
def watched(caller: Caller, memory: Memory, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """Afterwards no token has moved, no call was made, the loop was free and the memory bounded."""
    watch = Watched(caller)
    spent = caller.spent()
    memory.forget()
    resident = memory.now()
    caller.http.get("/gauge")
    yield watch
    longest = caller.http.get("/gauge").json()
    growth = memory.peak() - resident
    request.node.user_properties += [("loop_cpu_ms", longest["cpu_ms"]), ("growth_bytes", growth)]
    assert caller.spent() == spent
    assert longest["cpu_ms"] < LOOP_CPU_MS_MAX
    assert growth < GROWTH_A_BYTE * watch.sent_bytes + GROWTH_BYTES
