"""``flashgate usage``: reports of usage, as a bill, and beside the provider's bill."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from app.commands import billing
from app.commands.admin import add_url_option, collect_options, format_json, run_action
from app.commands.api import Refused
from app.commands.bill_files import UnusableBill

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from app.commands.admin import Action
    from app.commands.api import GatewayApi


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of ``usage``."""
    parser.add_argument("--tenant", help="only this tenant")
    parser.add_argument("--since", help="first day, UTC, such as 2026-11-01; default: first of the month")
    parser.add_argument("--until", help="last day, UTC; default: today")
    parser.add_argument(
        "--by",
        default="tenant",
        help="dimensions, such as tenant,day or model,size or label,month or key_name, user, parameter",
    )
    parser.add_argument("--top", type=int, help="only so many lines, those that cost most, dearest first")
    parser.add_argument("--format", choices=("csv", "json"), default="csv")
    add_url_option((parser, *billing.add_billing_commands(parser)))
    parser.set_defaults(action="report")


def run(arguments: Namespace) -> int:
    """Run a command."""
    actions: dict[str, Action] = {
        "report": _report_usage,
        "export": _export_usage,
        "reconcile": _reconcile_bill,
    }
    return run_action(actions, arguments)


def _report_usage(api: GatewayApi, arguments: Namespace) -> str:
    query = collect_options(arguments, "tenant", "since", "until", "top", "format") | {
        "by": arguments.by.split(",")
    }
    response = api.call("GET", f"/usage:report?{urlencode(query, doseq=True)}")
    if arguments.format == "json":
        return format_json(response)
    return response.text


def _export_usage(api: GatewayApi, arguments: Namespace) -> str:
    return billing.export_usage(lambda path: api.call("GET", path).json(), arguments)


def _reconcile_bill(api: GatewayApi, arguments: Namespace) -> tuple[str, int]:
    try:
        return billing.reconcile_bill(lambda path: api.call("GET", path).json(), arguments)
    except UnusableBill as error:
        raise Refused(str(error)) from error
