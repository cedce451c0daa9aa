"""The store's user of the compose file can do all that the gateway asks of it, and nothing else."""

from __future__ import annotations

import re
import socket
import subprocess
from typing import TYPE_CHECKING

import httpx2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.store.embedded import find_server_binary
from tests.deploy.files import DEPLOY, ROOT, yaml_of
from tests.processes import free_port, running_emulator, running_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "of-this-machine"
# Whom only these tests let in, to ask the server what it would allow.
ADMIN = ("--user", "admin", "on", "nopass", "+@all")
SCRIPTS = ROOT / "app/ledger/scripts"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server with the configuration and the users of the compose file."""
    folder = tmp_path_factory.mktemp("store")
    port = free_port()
    command = [
        re.sub(r"\$\{STORE_PASSWORD:-([^}]+)\}", r"\1", word)
        for word in yaml_of("docker-compose.yml")["services"]["store"]["command"]
    ]
    assert command[:2] == ["valkey-server", "/etc/valkey/valkey.conf"]
    process = subprocess.Popen(
        [str(find_server_binary()), str(DEPLOY / "valkey/valkey.conf"), "--port", str(port),
         "--dir", str(folder),
         "--bind", "127.0.0.1", *command[2:], *ADMIN],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while True:
            assert process.poll() is None, "the server takes neither the configuration nor the users"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield port
    finally:
        process.terminate()
        process.wait(10)


def client(port: int, user: str | None = "flashgate", password: str | None = PASSWORD) -> redis.Redis:
    return redis.Redis(
        port=port,
        username=user,
        password=password,
        protocol=2,
        driver_info=None,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
    )


def refused(port: int, *command: str) -> bool:
    with client(port) as connection:
        try:
            connection.execute_command(*command)
        except redis.exceptions.NoPermissionError:
            return True
    return False


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",), ("CONFIG", "GET", "dir"), ("KEYS", "*"), ("ACL", "LIST"),
        ("SHUTDOWN", "NOSAVE"), ("REPLICAOF", "127.0.0.1", "1"), ("MODULE", "LIST"), ("FUNCTION", "LIST"),
        ("GET", "another:key"), ("SET", "another:key", "1"), ("PUBLISH", "another", "1"), ("MONITOR",),
        ("EVAL", "return redis.call('GET', 'another:key')", "0"), ("SCRIPT", "FLUSH"),
        ("CLIENT", "KILL", "TYPE", "normal"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_gateways_user_can_do_nothing_that_the_gateway_does_not(
    store: int, command: tuple[str, ...]
) -> None:
    if command[0] == "EVAL":
        with client(store) as connection, pytest.raises(redis.exceptions.ResponseError, match="permission"):
            connection.execute_command(*command)
    else:
        assert refused(store, *command)


def test_the_user_may_run_every_command_of_the_scripts(store: int) -> None:
    scripts = " ".join(path.read_text(encoding="utf-8") for path in SCRIPTS.glob("*.lua"))
    called = {name.lower() for name in re.findall(r"redis\.p?call\(\s*['\"](\w+)['\"]", scripts)}
    assert called
    with client(store, "admin", "") as admin:
        verdicts = {name: dry_run(admin, name) for name in called}
    assert [name for name, verdict in verdicts.items() if "permission" in verdict] == []


def dry_run(admin: redis.Redis, command: str) -> str:
    """What the server would say to the gateway's user; a wrong number of arguments is no matter here."""
    try:
        return str(admin.acl_dryrun("flashgate", command, *["fg:{a}:b"] * 3))
    except redis.exceptions.ResponseError as error:
        return str(error)


def test_nobody_else_gets_in(store: int) -> None:
    with client(store, None, None) as anonymous, pytest.raises(redis.exceptions.AuthenticationError):
        anonymous.ping()
    with client(store, "flashgate", "wrong") as guess, pytest.raises(redis.exceptions.AuthenticationError):
        guess.ping()


def test_gateways_serve_and_share_pictures_as_that_user(store: int, tmp_path: Path) -> None:
    url = f"redis://flashgate:{PASSWORD}@127.0.0.1:{store}"
    with running_emulator(tmp_path / "emulator") as emulator:
        settings = {
            "redis_url": url,
            "upstream": "emulator",
            "emulator_base_url": emulator.url,
            "state_dir": str(tmp_path / "state"),
        }
        with (
            running_gateway(tmp_path / "first", **settings) as first,
            running_gateway(tmp_path / "second", **settings) as second,
        ):
            key = (tmp_path / "state" / "demo-key").read_text().strip()
            statuses = [ask(gateway, key) for gateway in (first.url, second.url)]
            assert ["fwd=miss" in statuses[0], "hit" in statuses[1]] == [True, True]
            budgets = httpx2.get(f"{first.url}/v1/usage", headers={"X-API-Key": key}).json()["budgets"]
            assert {budget["settled"] for budget in budgets} == {747}
    assert denials(tmp_path) == []


def ask(url: str, key: str) -> str:
    """Ask for the one picture; what the cache did."""
    answer = httpx2.post(
        f"{url}/v1/images:generate",
        headers={"X-API-Key": key},
        json={"prompt": "A lighthouse", "image_size": "512", "delivery": "uri"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    (image,) = answer.json()["images"]
    got = httpx2.get(f"{url}/v1/images/{image['id']}", headers={"X-API-Key": key})
    assert got.status_code == 200
    return answer.headers["cache-status"]


def denials(folder: Path) -> list[str]:
    """Lines of the gateways' logs that speak of the store's refusals."""
    logs = [log.read_text() for log in folder.glob("*/gateway-*.log")]
    return [
        line for log in logs for line in log.splitlines() if "NOPERM" in line or "StoreUnavailable" in line
    ]
