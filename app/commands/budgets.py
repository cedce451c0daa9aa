"""``flashgate budgets``: what is left, credit, and other limits for a time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from app.commands import images
from app.commands.admin import (
    add_url_option,
    build_path,
    collect_options,
    format_json,
    format_rows,
    run_action,
)
from app.domain.budget import UNITS

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from app.commands.api import GatewayApi


def add_arguments(parser: ArgumentParser) -> None:
    """Add ``credit`` and ``override``; without either, the budgets are shown."""
    parser.add_argument("--tenant", help="the budgets of a tenant, for operators; default: those of your key")
    actions = parser.add_subparsers(dest="action")
    credit = actions.add_parser("credit", help="add prepaid credit to a lifetime budget, or take some back")
    override = actions.add_parser("override", help="override the limit of a budget for a time")
    for each in (credit, override):
        each.add_argument("tenant")
        each.add_argument("--unit", required=True, help=", ".join(UNITS))
        each.add_argument("--project", help="project id, for a project's budget")
        each.add_argument("--key", help="key id, for a key's budget")
        each.add_argument("--user", help="name or id of an end user, for that user's budget")
    credit.add_argument(
        "--amount", required=True, help="in the unit (dollars for usd); negative to take credit back"
    )
    credit.add_argument("--id", dest="credit_id", required=True, help="id of the credit; repeats are ignored")
    override.add_argument("--window", required=True, help="minute, hour, day, week, month or lifetime")
    override.add_argument("--limit", required=True, help="in the unit (dollars for usd)")
    override.add_argument(
        "--until", required=True, help="end, such as 2026-12-01T00:00:00Z; a past time ends it now"
    )
    add_url_option((parser, credit, override))
    parser.set_defaults(action="show")


def run(arguments: Namespace) -> int:
    """Run a command."""
    if arguments.action == "show" and arguments.tenant is None:
        return images.run(arguments)
    actions = {"show": _show_budgets, "credit": _credit_budget, "override": _override_budget}
    return run_action(actions, arguments)


def _show_budgets(api: GatewayApi, arguments: Namespace) -> str:
    windows = api.call("GET", f"/usage?{urlencode({'tenant': arguments.tenant})}").json()["windows"]
    rows = [("OWNER", "UNIT", "WINDOW", "SETTLED", "HELD", "LEFT", "LIMIT")]
    for window in windows:
        owner = window["key"] or window["project"] or "tenant"
        amounts = [f"{float(window[name]):,.6g}" for name in ("settled", "held", "remaining", "limit")]
        rows.append((owner, window["unit"], window["window"], *amounts))
    if not windows:
        return f"No budget limits {arguments.tenant}.\n"
    return format_rows(rows)


def _credit_budget(api: GatewayApi, arguments: Namespace) -> str:
    body = collect_options(arguments, "unit", "project", "key", "user", "amount", "credit_id")
    return format_json(api.call("POST", f"{build_path(arguments.tenant)}/budgets:credit", body))


def _override_budget(api: GatewayApi, arguments: Namespace) -> str:
    body = collect_options(arguments, "unit", "project", "key", "user", "window", "limit", "until")
    return format_json(api.call("POST", f"{build_path(arguments.tenant)}/budgets:override", body))
