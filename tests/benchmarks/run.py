"""``python -m tests.benchmarks.run``: every table, on one page, in about a minute."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.admissions import admissions, many_keys, tenants
from tests.benchmarks.pictures import pictures
from tests.benchmarks.requests import requests
from tests.benchmarks.table import Table
from tests.storeserver import running_server

LOOKUPS = 2000
TENANTS = (1, 1000, 100_000)


def lookups(counts: tuple[int, ...], rounds: int) -> Table:
    """Knowing a key among those of so many tenants."""
    rows = {}
    for count in counts:
        directory, key = many_keys(count)
        found = []
        for _ in range(rounds):
            began = time.process_time()
            for _ in range(LOOKUPS):
                assert directory.authenticate(key) is not None
            found.append((time.process_time() - began) * 1e6 / LOOKUPS)
        rows[f"{count} tenants"] = tuple(found)
    return Table("Knowing a key", "µs of CPU", rows)


def main() -> None:
    """Print the tables; times are this machine's, ratios are what they are for."""
    with tempfile.TemporaryDirectory(prefix="fg") as name:
        folder = Path(name)
        with running_server(folder / "s", "--appendonly", "no") as server:
            for table in asyncio.run(admissions(server.url, (1, 100, 10_000), 7)):
                sys.stdout.write(f"{table}\n\n")
        with ExitStack() as stack:
            options = ("--appendonly", "no", "--maxmemory", "1gb")
            servers = {
                count: stack.enter_context(running_server(folder / f"{count}", *options)) for count in TENANTS
            }
            urls = {count: server.url for count, server in servers.items()}
            sys.stdout.write(f"{asyncio.run(tenants(urls, 9))}\n\n")
        sys.stdout.write(f"{lookups(TENANTS, 7)}\n\n")
        sys.stdout.write(f"{requests(folder, 6, 80)}\n\n")
        for table in pictures(folder / "pictures", 3, 8):
            sys.stdout.write(f"{table}\n\n")


if __name__ == "__main__":
    main()
