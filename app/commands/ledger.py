"""``flashgate ledger``: checks that the ledgers in a store balance, and exports what happened in them."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from app.domain.budget import UNITS
from app.domain.errors import StoreUnavailable
from app.ledger.verifying import list_ledger_tenants, read_events, read_snapshot
from app.wiring import open_store

if TYPE_CHECKING:
    import argparse

    from app.settings import Settings
    from app.store.client import StoreClients

SOURCE = "flashgate/store"
OPEN_TIMEOUT_S = 10.0
COLUMNS = (
    "time", "id", "tenant", "hold_id", "state", "flags", "began_ms", "fingerprint",
    *(f"estimated_{unit}" for unit in UNITS), *(f"settled_{unit}" for unit in UNITS),
)  # fmt: skip


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add ``ledger verify`` and ``ledger export``."""
    actions = parser.add_subparsers(dest="action", required=True)
    verify = actions.add_parser(
        "verify", help="compare the sums of all holds with the windows; exit 1 if they differ"
    )
    export = actions.add_parser("export", help="print every hold that the store remembers, as it is now")
    export.add_argument("--format", choices=("csv", "cloudevents"), default="cloudevents")
    for each in (verify, export):
        each.add_argument("--tenant", help="only this tenant")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run a command on the configured store; return 0 if the ledger balances, 1 if not, 2 without a store."""
    try:
        return asyncio.run(_run(arguments, settings))
    except StoreUnavailable as error:
        sys.stderr.write(f"flashgate: {error}\n")
        return 2


async def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    async with AsyncExitStack() as stack:
        clients = await open_store(settings, stack, OPEN_TIMEOUT_S)
        tenant_ids = [arguments.tenant] if arguments.tenant else await list_ledger_tenants(clients.ledger)
        if arguments.action == "verify":
            return await _verify(clients, tenant_ids)
        await _export(clients, tenant_ids, arguments.format)
        return 0


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


async def _export(clients: StoreClients, tenant_ids: list[str], form: str) -> None:
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
