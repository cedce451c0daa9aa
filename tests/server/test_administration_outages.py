"""What administration is worth when something fails: the store, the file, a start without a store."""

from __future__ import annotations

import itertools
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.changed_constants import environment_of
from tests.processes import HTTP, Running, free_port, running, running_gateway
from tests.server.conftest import PEPPER, Client, tokens_a_day, wait_for, write_tenants
from tests.server.operators import ADMIN_KEY, Admin, status_of
from tests.storeserver import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("s")) as server:
        yield server


@contextmanager
def stopped(store: ServerProcess) -> Iterator[None]:
    """The store answers nothing, and its connections stay open: the worst way to be down."""
    store.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        store.signal(signal.SIGCONT)


def operated(settings: dict[str, str], store: ServerProcess) -> dict[str, str]:
    """Settings of a gateway whose tenants are all made by operators."""
    own = {**settings, "admin_key": ADMIN_KEY, "key_pepper": PEPPER, "redis_url": store.url}
    del own["tenants_file"]
    return own


@contextmanager
def started_without_store(folder: Path, settings: dict[str, str]) -> Iterator[Running]:
    """A gateway that is waited for until it lives, since it will not be ready."""
    folder.mkdir()
    port = free_port()
    environment = environment_of(settings)
    environment |= {"FLASHGATE_STATE_DIR": str(folder / "state"), "PORT": str(port)}
    url = f"http://127.0.0.1:{port}"
    with running(
        ["serve"], environment, url, "/livez", folder / "gateway.log", "tests.changed_constants"
    ) as gateway:
        yield gateway


def test_stored_keys_are_known_while_the_store_is_down(
    tmp_path: Path, settings: dict[str, str], store: ServerProcess
) -> None:
    with running_gateway(tmp_path, **operated(settings, store)) as gateway:
        admin = Admin(gateway.url)
        admin.tenant("lasting")
        key = admin.key_of("lasting")["key"]
        with stopped(store):
            for _ in range(3):
                refused = Client(gateway.url, key).post({"prompt": "Nobody can count this"})
                assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
            assert status_of(gateway.url, key) == 200, "what needs no store is served"
            assert status_of(gateway.url, key[:-9] + "000000000") == 401
            began = time.monotonic()
            answer = admin.post("/tenants", {"id": "too-late"})
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
            assert time.monotonic() - began < 5
        wait_for(lambda: admin.get("/tenants").status_code == 200, "the store is back")
        paid = Client(gateway.url, key)
        wait_for(lambda: paid.post({"prompt": "Now they can"}).status_code == 200, "the ledger is back")


def test_a_replica_that_never_saw_the_store_refuses_nobody_and_learns_the_keys_when_it_is_there(
    tmp_path: Path, settings: dict[str, str], store: ServerProcess
) -> None:
    own = operated(settings, store)
    with running_gateway(tmp_path / "one", **own) as first:
        admin = Admin(first.url)
        admin.tenant("early")
        key = admin.key_of("early")["key"]
        with stopped(store), started_without_store(tmp_path / "two", own) as second:
            assert status_of(second.url, key) == 503, "it cannot know, so it must not say 401"
            assert status_of(second.url, "no key at all") == 401
            store.signal(signal.SIGCONT)
            wait_for(lambda: status_of(second.url, key) == 200, "the replica knows the key")


def test_the_file_is_read_again_on_sighup_and_a_bad_one_changes_nothing(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    path = tmp_path / "tenants.yaml"
    tenants = write_tenants(path, {"before": tokens_a_day(1120)})
    own = {**settings, "tenants_file": str(path), "admin_key": ADMIN_KEY}
    with running_gateway(tmp_path, **own) as gateway:
        log = next(tmp_path.glob("gateway-*.log"))

        def reload(told: str) -> None:
            count = log.read_text().count(told)
            os.kill(gateway.process.pid, signal.SIGHUP)
            wait_for(lambda: log.read_text().count(told) > count, told)

        budget = "{unit: output_tokens, window: day, limit: 1}"
        path.write_text(f"{path.read_text()}- {{id: Bad Id, budgets: [{budget}]}}\nsurprise: 1\n")
        reload("the tenants are unchanged")
        assert status_of(gateway.url, tenants.keys["before"]) == 200
        assert "tenants[1].id" in log.read_text(), "the operator is told every fault with its place"
        assert "surprise: is not a known field" in log.read_text()
        assert "output_tokens is no unit; image_tokens counts" in log.read_text()

        after = write_tenants(path, {"another": tokens_a_day(1), "after": tokens_a_day(2240)})
        reload("the tenants' file was read again")
        assert status_of(gateway.url, after.keys["after"]) == 200
        assert Client(gateway.url, after.keys["after"]).budget()["limit"] == 2240
        assert {item["id"] for item in Admin(gateway.url).get("/tenants").json()["tenants"]} == {
            "another",
            "after",
        }

        path.unlink()
        reload("the tenants are unchanged")
        assert status_of(gateway.url, after.keys["after"]) == 200


def test_a_gateway_serves_on_while_it_reads_a_long_file_again(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    path = tmp_path / "tenants.yaml"

    def write(*limits: int) -> None:
        entries = [
            f"- id: tenant-{number}\n  budgets: [{{unit: images, window: day, limit: {limit}}}]\n"
            for number, limit in enumerate(limits)
        ]
        path.write_text("tenants:\n" + "".join(entries))

    write(*range(1000))
    with running_gateway(tmp_path, **{**settings, "tenants_file": str(path)}) as gateway:
        log = next(tmp_path.glob("gateway-*.log"))

        def reload(judged: int) -> int:
            """How many requests were answered meanwhile."""
            told = f'"the tenants\' file was read again", "logger": "app.commands.serve", "count": {judged}}}'
            os.kill(gateway.process.pid, signal.SIGHUP)
            for answered in itertools.count():
                if told in log.read_text():
                    return answered
                assert HTTP.get(f"{gateway.url}/livez").status_code == 200
            raise AssertionError

        write(*range(1000, 2000))
        assert reload(1000) >= 10
        write(*range(1000, 1999), 0)
        reload(1)
        reload(0)


def test_a_tenant_of_the_file_hides_a_stored_one_until_the_file_lets_it_go(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    path = tmp_path / "tenants.yaml"
    write_tenants(path, {"unrelated": tokens_a_day(1)})
    own = {**settings, "tenants_file": str(path), "admin_key": ADMIN_KEY}
    with running_gateway(tmp_path, **own) as gateway:
        admin = Admin(gateway.url)
        admin.tenant("both-places")
        stored = admin.key_of("both-places")["key"]
        declared = write_tenants(path, {"zero": tokens_a_day(1), "both-places": tokens_a_day(1)})
        os.kill(gateway.process.pid, signal.SIGHUP)
        wait_for(lambda: status_of(gateway.url, declared.keys["both-places"]) == 200, "the file's key opens")
        assert status_of(gateway.url, stored) == 401
        assert admin.get("/tenants/both-places").json()["source"] == "file"
        write_tenants(path, {"unrelated": tokens_a_day(1)})
        os.kill(gateway.process.pid, signal.SIGHUP)
        wait_for(lambda: status_of(gateway.url, stored) == 200, "the stored tenant is in force again")


def test_without_a_file_and_with_an_operators_key_there_is_no_demo(
    tmp_path: Path, settings: dict[str, str], store: ServerProcess
) -> None:
    with running_gateway(tmp_path, **operated(settings, store)) as gateway:
        assert Admin(gateway.url).get("/tenants").json() == {"tenants": []}
        assert not (tmp_path / "state" / "demo-key").exists()
        assert HTTP.get(f"{gateway.url}/v1/models").status_code == 401


def test_a_key_of_operators_that_is_too_short_is_refused_at_the_start(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with (
        pytest.raises(AssertionError, match=r"ended with 2[\s\S]*FLASHGATE_ADMIN_KEY[\s\S]*at least 32"),
        running_gateway(tmp_path, **{**settings, "admin_key": "short"}),
    ):
        raise httpx2.InvalidURL("it must not start")
