"""What a picture leaves in the store of the budgets, all told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis

from tests.processes import running_gateway
from tests.server.conftest import PEPPER, Client, tokens_a_day, write_tenants
from tests.storeserver import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Running

BYTES_MAX = 3000
"""Books, cached result, stored generation and index together; the picture itself is in a folder."""

PICTURES = 60


def test_a_picture_leaves_less_than_three_kilobytes_in_the_store(tmp_path: Path, emulator: Running) -> None:
    tenants = write_tenants(tmp_path / "tenants.yaml", {"counted": tokens_a_day(10_000_000)})
    settings = {
        "tenants_file": str(tenants.path), "key_pepper": PEPPER, "upstream": "emulator",
        "emulator_base_url": emulator.url, "pictures_url": f"file://{tmp_path}/pictures",
        "budget_metrics_s": "0",
    }  # fmt: skip
    with (
        running_server(tmp_path / "s") as server,
        redis.Redis(unix_socket_path=str(server.socket)) as client,
        running_gateway(tmp_path / "g", **settings, redis_url=server.url) as gateway,
    ):
        caller = Client(gateway.url, tenants.keys["counted"])

        def draw(count: int, first: int) -> int:
            """The memory of all keys after some more pictures, of which each has a prompt of its own."""
            for number in range(first, first + count):
                body = {
                    "prompt": f"A fox number {number}",
                    "image_size": "512",
                    "delivery": "uri",
                    "cache": "use",
                }
                assert caller.post(body).status_code == 200
            return sum(client.memory_usage(name, samples=0) or 0 for name in client.scan_iter("*"))

        before = draw(PICTURES, 0)
        grown = draw(PICTURES, PICTURES) - before
    assert grown / PICTURES < BYTES_MAX
