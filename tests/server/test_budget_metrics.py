"""What metrics say of budgets: what the store says, once for all replicas."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes import HTTP, running_gateway
from tests.server.conftest import PEPPER, Client, wait_for, write_tenants
from tests.server.operators import ADMIN_KEY, Admin
from tests.storeserver import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Running
    from tests.storeserver import ServerProcess

BUDGETS = [
    {"unit": "image_tokens", "window": "day", "limit": 100_000},
    {"unit": "images", "window": "minute", "limit": 100},
    {"unit": "usd", "window": "lifetime", "limit": 5},
]


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with tempfile.TemporaryDirectory(prefix="fg") as name, running_server(Path(name)) as process:
        yield process


def settings_of(folder: Path, server: ServerProcess, emulator: Running) -> tuple[dict[str, str], str]:
    """What both replicas are started with, and a key."""
    tenants = write_tenants(folder / "tenants.yaml", {"spender": BUDGETS})
    settings = {
        "tenants_file": str(tenants.path), "key_pepper": PEPPER, "redis_url": server.url,
        "upstream": "emulator", "emulator_base_url": emulator.url, "budget_metrics_s": "0.2",
    }  # fmt: skip
    return settings, tenants.keys["spender"]


def read_gauge(replica: Running, name: str, unit: str) -> float | None:
    """The value that a replica exports, or None."""
    text = HTTP.get(replica.metrics_url).text
    found = re.search(rf'^flashgate_budget_{name}{{.*unit="{unit}".*}} (\S+)$', text, re.MULTILINE)
    return None if found is None else float(found[1])


def test_one_replica_shows_what_all_have_spent_and_another_takes_over(
    tmp_path: Path, server: ServerProcess, emulator: Running
) -> None:
    settings, key = settings_of(tmp_path, server, emulator)
    with (
        running_gateway(tmp_path / "one", **settings) as one,
        running_gateway(tmp_path / "two", **settings) as two,
    ):

        def shown(name: str = "remaining", unit: str = "image_tokens") -> list[float]:
            values = [read_gauge(replica, name, unit) for replica in (one, two)]
            return [value for value in values if value is not None]

        wait_for(lambda: shown() == [100_000], "one of them shows it")
        for replica in (one, two, two):
            body = {"prompt": f"A fox for {replica.url}", "image_size": "512", "cache": "bypass"}
            assert Client(replica.url, key).post(body).status_code == 200
        wait_for(lambda: shown() == [100_000 - 3 * 747], "it shows what both have spent")
        budgets = {item["unit"]: item for item in Client(one.url, key).get("/v1/usage").json()["budgets"]}
        assert shown(unit="usd") == [round(budgets["usd"]["remaining"] * 1e9)]
        assert shown("window_end_timestamp_seconds", "usd") == [], "a lifetime has no end"
        assert len(shown("window_end_timestamp_seconds", "image_tokens")) == 1
        holder, other = (one, two) if read_gauge(one, "limit", "images") else (two, one)
        assert read_gauge(other, "limit", "images") is None
        holder.kill()
        wait_for(lambda: read_gauge(other, "limit", "images") == 100, "the other one shows it")


def test_nothing_is_shown_while_the_store_does_not_answer(
    tmp_path: Path, server: ServerProcess, emulator: Running
) -> None:
    settings, _ = settings_of(tmp_path, server, emulator)
    with running_gateway(tmp_path / "one", **settings) as replica:
        wait_for(lambda: read_gauge(replica, "limit", "images") == 100, "it is shown")
        server.kill()
        wait_for(lambda: read_gauge(replica, "limit", "images") is None, "an old number would be a lie")
        server.start()
        wait_for(lambda: read_gauge(replica, "limit", "images") == 100, "it is shown again")


def test_a_replica_that_stops_hands_over_at_once(
    tmp_path: Path, server: ServerProcess, emulator: Running
) -> None:
    settings, _ = settings_of(tmp_path, server, emulator)
    with running_gateway(tmp_path / "two", **{**settings, "budget_metrics_s": "60"}) as other:
        wait_for(lambda: read_gauge(other, "limit", "images") == 100, "it is shown")
    with running_gateway(tmp_path / "three", **{**settings, "budget_metrics_s": "3600"}) as third:
        wait_for(lambda: read_gauge(third, "limit", "images") == 100, "its first reading shows it")


def test_a_tenant_that_was_created_through_another_replica_is_shown(
    tmp_path: Path, server: ServerProcess, emulator: Running
) -> None:
    settings = {
        "admin_key": ADMIN_KEY, "key_pepper": PEPPER, "redis_url": server.url,
        "upstream": "emulator", "emulator_base_url": emulator.url,
    }  # fmt: skip
    with (
        running_gateway(tmp_path / "one", **settings, budget_metrics_s="0.2") as reader,
        running_gateway(tmp_path / "two", **settings, budget_metrics_s="0") as other,
    ):
        Admin(other.url).tenant("made-later", budgets=BUDGETS)
        wait_for(lambda: read_gauge(reader, "limit", "images") == 100, "who has never served it shows it")
