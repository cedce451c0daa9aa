"""``flashgate usage export`` and ``reconcile``: the ledger as a bill, and beside the provider's bill."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from app.cards import load_catalogue
from app.commands.bill_files import UnusableBill, read_bill
from app.domain.budget import NANO_PER_USD
from app.domain.focus import COLUMNS, build_focus_row, format_decimal
from app.domain.line_items import list_line_items
from app.domain.reconciliation import FREE_QUERIES, REASONS, reconcile
from app.domain.report import Row, Spent

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator

    from app.cards import Catalogue
    from app.domain.line_items import LineItem
    from app.domain.reconciliation import Comparison, Reconciliation

    Get = Callable[[str], Any]
    """Calls the Admin API with a path, and returns the answer's JSON."""

_BY: Final = ("day", "tenant", "project", "key", "model", "size", "tier")
_HEADINGS: Final = (
    *("day", "sku", "booked_quantity", "billed_quantity", "booked_usd", "billed_usd", "difference_usd"),
    *REASONS, "unexplained_usd",
)  # fmt: skip


def add_billing_commands(parser: ArgumentParser) -> tuple[ArgumentParser, ArgumentParser]:
    """Add ``export`` and ``reconcile`` below ``usage``, which without either of them reports."""
    actions = parser.add_subparsers(dest="action")
    export = actions.add_parser("export", help="write rows of FOCUS 1.2 as CSV")
    export.add_argument("--tenant", help="only this tenant")
    export.add_argument("--billing-account", default="unknown", help="id of the billing account at Google")
    reconciling = actions.add_parser(
        "reconcile", help="compare a bill with the ledger; exit 1 if too much is unexplained"
    )
    reconciling.add_argument("bill", type=Path, help="CSV in the form of Google's billing export, or FOCUS")
    reconciling.add_argument(
        "--project", dest="projects", action="append", default=[],
        help="project at Google that the gateway uses; others are other traffic; repeatable; default: all",
    )  # fmt: skip
    reconciling.add_argument(
        "--free-searches", type=int, default=FREE_QUERIES, metavar="QUERIES",
        help=f"queries a month that Google does not bill; default: {FREE_QUERIES}",
    )  # fmt: skip
    reconciling.add_argument(
        "--tolerance", type=parse_percent, default=Decimal("0.1"), metavar="PERCENT",
        help="largest unexplained part of the bill in percent; default: 0.1",
    )  # fmt: skip
    reconciling.add_argument("--format", choices=("text", "csv"), default="text")
    for each in (export, reconciling):
        each.add_argument("--since", help="first day, UTC; default: first of the month, or of the bill")
        each.add_argument("--until", help="last day, UTC; default: today, or the last day of the bill")
    return export, reconciling


def parse_percent(text: str) -> Decimal:
    """A percentage from 0 to 100. Raises ValueError for anything else."""
    try:
        percent = Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None
    if not 0 <= percent <= 100:
        raise ValueError(text)
    return percent


def export_usage(get: Get, arguments: Namespace) -> str:
    """The ledger's usage as CSV with the columns of FOCUS."""
    query = {name: getattr(arguments, name) for name in ("tenant", "since", "until")}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for item in read_line_items(
        get, {name: value for name, value in query.items() if value}, load_catalogue()
    ):
        writer.writerow(build_focus_row(item, arguments.billing_account))
    return text.getvalue()


def reconcile_bill(get: Get, arguments: Namespace) -> tuple[str, int]:
    """The comparison of a bill with the ledger, and the exit status. Raises UnusableBill."""
    catalogue = load_catalogue()
    bill = list(read_bill(arguments.bill, tuple(catalogue), arguments.projects))
    if not bill:
        raise UnusableBill(f"{arguments.bill} has no lines.")
    since = arguments.since or min(line.day for line in bill).isoformat()
    until = arguments.until or max(line.day for line in bill).isoformat()
    days = {"since": since, "until": until}
    bill = [line for line in bill if since <= line.day.isoformat() <= until]
    result = reconcile(bill, read_line_items(get, days, catalogue), arguments.free_searches)
    within = result.is_within(arguments.tolerance)
    if arguments.format == "csv":
        return _format_csv(result), int(not within)
    return _format_table(result, arguments.tolerance, within=within), int(not within)


def read_line_items(get: Get, query: dict[str, str], catalogue: Catalogue) -> Iterator[LineItem]:
    """The line items of the rows that a gateway reports."""
    report = get(f"/usage:report?{urlencode(query | {'by': _BY}, doseq=True)}")
    for line in report["lines"]:
        row = parse_row(line)
        yield from list_line_items(row, (row.model and catalogue.resolve(row.model)) or None)


def parse_row(line: dict[str, Any]) -> Row:
    """A row of usage from a line of a report by day and other dimensions; dollars are billionths again."""
    sums = {name: line[name] for name in Spent._fields if name in line}
    sums["usd"] = round(line["cost_usd"] * NANO_PER_USD)
    sums["saved_usd"] = round(line["saved_usd"] * NANO_PER_USD)
    parameters = line["parameters"]
    return Row(
        tenant_id=line["tenant"],
        day=date.fromisoformat(line["day"]),
        spent=Spent(**sums),
        key_id=line["key"],
        model=line["model"],
        size=line["size"],
        tier=line["tier"],
        project_id=line["project"],
        parameters=None if parameters is None else tuple(parameters.split(";")),
    )


def _format_cells(each: Comparison) -> list[str]:
    amounts = [each.booked, each.invoiced, each.difference]
    amounts += [each.reasons.get(reason, Decimal(0)) for reason in REASONS]
    return [
        each.day.isoformat(),
        each.sku.text,
        str(each.booked_quantity),
        format_decimal(each.invoiced_quantity),
        *(format_decimal(amount) for amount in amounts),
        format_decimal(each.unexplained),
    ]


def _format_csv(result: Reconciliation) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADINGS)
    writer.writerows(_format_cells(each) for each in result.comparisons)
    return text.getvalue()


def _format_table(result: Reconciliation, tolerance: Decimal, *, within: bool) -> str:
    """Days and SKUs in columns, then the bill's other lines, then the verdict."""
    rows = [("DAY", "SKU", "BOOKED", "BILLED", "DIFFERENCE", "UNEXPLAINED", "REASONS")]
    for each in result.comparisons:
        reasons = ", ".join(f"{name} {amount:+.6f}" for name, amount in each.reasons.items())
        amounts = [
            f"{amount:.6f}" for amount in (each.booked, each.invoiced, each.difference, each.unexplained)
        ]
        rows.append((each.day.isoformat(), each.sku.text, *amounts, reasons))  # type: ignore[arg-type]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[6]]).rstrip()
        for row in rows
    ]
    if result.others:
        lines += ["", "Other traffic, which the gateway does not buy:"]
        lines += [f"  {json.dumps(name)} {cost:.6f}" for name, cost in sorted(result.others.items())]
    verdict = "within" if within else "above"
    lines += [
        "",
        f"{result.unexplained:.6f} of {result.invoiced:.6f} USD are unexplained, {verdict} {tolerance} %.",
    ]
    return "\n".join(lines) + "\n"
