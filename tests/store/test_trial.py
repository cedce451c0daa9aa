"""A store that refuses its gateway is told by name: what was seen, where, and what to do."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.ledger import trial
from app.ledger.notifications import Notifications
from app.ledger.trial import Trial
from app.observability.logs import JsonFormatter
from app.store.client import open_clients
from tests.store.books import until
from tests.store.refusing import PASSWORD, REFUSALS, server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.resilience.diagnosis import Diagnosis
    from app.store.client import StoreClients

SCRIPTS = sorted(Path(trial.__file__).parents[1].rglob("*.lua"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="fg") as name:
        yield Path(name)


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_store_that_refuses_is_told_by_name(
    name: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = REFUSALS[name]
    with refusal.opened(folder) as url:
        async with open_clients(url) as clients, Notifications(clients.ledger) as notifications:
            tried = Trial(clients, notifications)

            async def refused() -> Diagnosis | None:
                found = await tried()  # on a busy machine a time-out may come first
                return found if found is not None and found.reason == refusal.reason else None

            found = await until(refused, 20)
        assert found is not None
        assert refusal.cause in found.cause, found
        assert refusal.remedy in found.remedy
        assert found.address.removeprefix("books at ") == place_in(url)
    own = [record for record in caplog.records if record.name.startswith("app.")]
    lines = [json.loads(JsonFormatter().format(record)) for record in own]
    line = [line for line in lines if line["message"].startswith("the store cannot be used")][-1]
    assert (line["severity"], line["reason"], line["cause"]) == ("ERROR", found.reason, found.cause)
    assert (line["address"], line["remedy"]) == (found.address, found.remedy)
    for secret in (PASSWORD, "a prompt", "(withheld)"):
        assert secret not in str(lines), "in none of them"


def place_in(url: str) -> str:
    """An address without its scheme, user, password, and what stands behind host and port."""
    scheme, _, rest = url.partition("://")
    return rest if scheme == "unix" else rest.rpartition("@")[2].partition("/")[0]


async def test_a_store_that_lets_everything_pass_is_left_as_it_was(clients: StoreClients) -> None:
    async with Notifications(clients.ledger) as notifications:
        before = await clients.ledger.dbsize()
        assert await Trial(clients, notifications)() is None
        assert await clients.ledger.dbsize() == before


async def test_what_is_wrong_is_logged_once_and_so_is_its_end(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with server(folder) as (process, port):
        async with (
            open_clients(f"redis://127.0.0.1:{port}") as clients,
            Notifications(clients.ledger) as notifications,
        ):
            tried = Trial(clients, notifications)
            assert await tried() is None
            process.kill()

            async def refused() -> bool:
                found = await tried()
                return found is not None and found.reason == "connection_refused"

            await until(refused, 10)  # at first by connections that were open
            caplog.clear()
            for _ in range(3):
                assert await refused()
            process.start()
            for _ in range(2):
                assert await tried() is None
            process.kill()
            await until(refused, 10)
    own = [record.getMessage() for record in caplog.records if record.name == trial.__name__]
    assert own[:2] == [
        "the store can be used again",
        "the store cannot be used: nothing that costs is served",
    ]


def test_the_trial_runs_every_command_of_the_other_scripts() -> None:
    called = {path.stem: commands_of(path) for path in SCRIPTS}
    mine = called.pop("trial")
    assert mine == set().union(*called.values())


def commands_of(path: Path) -> set[str]:
    return set(re.findall(r"redis\.p?call\(\s*['\"](\w+)['\"]", path.read_text(encoding="utf-8")))
