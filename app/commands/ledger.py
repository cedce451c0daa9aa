"""``flashgate ledger``: checks that ledgers balance, prints holds, and carries all to another store."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.domain.budget import UNITS
from app.domain.errors import StoreUnavailable
from app.ledger.transfer import (
    StoreInUse,
    UnusableFile,
    check_file,
    export_ledger,
    restore_ledger,
    summarize,
)
from app.ledger.verifying import list_ledger_tenants, read_events, read_snapshot
from app.settings.environment import load_settings
from app.wiring import open_store

if TYPE_CHECKING:
    import argparse

    from app.ledger.transfer import Summary
    from app.settings import Settings
    from app.store.client import StoreClients

SOURCE = "flashgate/store"
OPEN_TIMEOUT_S = 10.0
COLUMNS = (
    "time", "id", "tenant", "hold_id", "state", "flags", "began_ms", "fingerprint",
    *(f"estimated_{unit}" for unit in UNITS), *(f"settled_{unit}" for unit in UNITS),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``ledger verify``, ``events``, ``export`` and ``restore``."""
    actions = parser.add_subparsers(dest="action", required=True)
    verify = actions.add_parser(
        "verify", help="compare the sums of all holds with the windows; exit 1 if they differ"
    )
    events = actions.add_parser("events", help="print every hold that the store remembers, as it is now")
    events.add_argument("--format", choices=("csv", "cloudevents"), default="cloudevents")
    for each in (verify, events):
        each.add_argument("--tenant", help="only this tenant")
    export = actions.add_parser(
        "export", help="write counters, holds, credit, limits, keys, usage and stored tenants to a file"
    )
    restore = actions.add_parser("restore", help="fill an empty store from such a file, and compare both")
    for each in (export, restore):
        each.add_argument("file", type=Path)


def run(arguments: argparse.Namespace) -> int:
    """Run a command on the configured store; return 0 if all is well, 1 if not, 2 if it cannot be done."""
    try:
        return asyncio.run(_run(arguments, load_settings()))
    except (StoreUnavailable, StoreInUse, UnusableFile, OSError) as error:
        sys.stderr.write(f"flashgate: {error}\n")
        return 2


async def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    async with AsyncExitStack() as stack:
        clients = await open_store(settings, stack, OPEN_TIMEOUT_S)
        if arguments.action == "export":
            return await _export(clients, arguments.file)
        if arguments.action == "restore":
            return await _restore(clients, arguments.file)
        tenant_ids = [arguments.tenant] if arguments.tenant else await list_ledger_tenants(clients.ledger)
        if arguments.action == "verify":
            return await _verify(clients, tenant_ids)
        await _print_events(clients, tenant_ids, arguments.format)
        return 0


async def _export(clients: StoreClients, path: Path) -> int:
    # It holds hashes of secrets: nobody but its owner reads it. A file that is there stays.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        summary = await export_ledger(clients.ledger, file)
    sys.stdout.write(f"{path}: {_describe(summary)}.\n")
    return 0


async def _restore(clients: StoreClients, path: Path) -> int:
    with path.open(encoding="utf-8") as lines:
        summary = check_file(lines)
    with path.open(encoding="utf-8") as lines:
        await restore_ledger(clients.ledger, lines)
    restored = await summarize(clients.ledger)
    if restored != summary:
        sys.stdout.write(f"The store differs from the file: {_describe(restored)}; {_describe(summary)}.\n")
        return 1
    sys.stdout.write(f"The store holds what the file holds: {_describe(summary)}.\n")
    return 0


def _describe(summary: Summary) -> str:
    return f"{summary.tenants} tenants, {summary.holds} holds, sha256 {summary.digest}"


async def _verify(clients: StoreClients, tenant_ids: list[str]) -> int:
    differences = []
    holds = windows = 0
    for tenant_id in tenant_ids:
        snapshot = await read_snapshot(clients.ledger, tenant_id)
        holds, windows = holds + len(snapshot.holds), windows + len(snapshot.counters)
        differences += snapshot.find_differences()
    totals = f"{len(tenant_ids)} tenants, {windows} windows, {holds} holds"
    if not differences:
        sys.stdout.write(f"The ledger balances: {totals}.\n")
        return 0
    rows = [("tenant", "counter", "what", "stands at", "should be")]
    rows += [(*difference[:3], str(difference[3]), str(difference[4])) for difference in differences]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sys.stdout.write(f"The ledger differs in {len(differences)} places: {totals}.\n\n")
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(f"{line.rstrip()}\n")
    return 1


async def _print_events(clients: StoreClients, tenant_ids: list[str], form: str) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if form == "csv":
        writer.writerow(COLUMNS)
    for tenant_id in tenant_ids:
        async for event in read_events(clients.ledger, tenant_id, SOURCE):
            if form == "csv":
                writer.writerow(_build_row(event))
            else:
                sys.stdout.write(f"{json.dumps(event, separators=(',', ':'))}\n")


def _build_row(event: dict[str, Any]) -> list[str | int]:
    data = event["data"]
    actual = data["actual"] or {}
    return [
        event["time"],
        event["id"],
        event["subject"],
        data["hold_id"],
        event["type"].rpartition(".")[2],
        data["flags"],
        data["began_ms"],
        data["fingerprint"],
        *(data["estimate"][unit] for unit in UNITS),
        *(actual.get(unit, "") for unit in UNITS),
    ]
