"""``flashgate tenants``: the tenants of a running gateway."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from app.commands.admin import (
    add_url_option,
    build_path,
    collect_options,
    format_json,
    format_rows,
    run_action,
)
from app.commands.api import Refused

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from app.commands.api import GatewayApi

_BUDGET = re.compile(
    r"(?P<user>user:)?(?P<unit>[a-z_]+)/(?P<window>[a-z]+)=(?P<limit>\d+(\.\d+)?)(?P<shadow>:shadow)?",
    re.ASCII,
)


def parse_budget(text: str) -> dict[str, Any]:
    """Parse a budget such as ``image_tokens/day=41440``.

    The prefix ``user:`` gives it to each end user; the suffix ``:shadow`` only counts.
    """
    match = _BUDGET.fullmatch(text)
    if match is None:
        raise ArgumentTypeError(
            f"{text!r} is not like image_tokens/day=41440, user:images/day=5 or usd/month=500:shadow"
        )
    mode = "enforce"
    if match["shadow"]:
        mode = "shadow"
    budget = {"unit": match["unit"], "window": match["window"], "limit": match["limit"], "mode": mode}
    if match["user"]:
        budget["scope"] = "user"
    return budget


def add_arguments(parser: ArgumentParser) -> None:
    """Add ``list``, ``create``, ``show``, ``change``, ``delete``, ``check`` and ``schema``."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="list all tenants, one per line")
    creation = actions.add_parser("create", help="create a tenant")
    creation.add_argument("tenant", nargs="?", help="tenant id")
    creation.add_argument(
        "--file", help="tenant as YAML or JSON, in the format of the tenants' file; - for stdin"
    )
    showing = actions.add_parser("show", help="print a tenant as JSON")
    showing.add_argument("tenant")
    change = actions.add_parser("change", help="change some fields of a tenant")
    change.add_argument("tenant")
    change.add_argument("--file", help="fields as YAML or JSON; null resets one; - for stdin")
    for each in (creation, change):
        each.add_argument("--time-zone", help="IANA time zone, such as Europe/Berlin")
        each.add_argument(
            "--budget", dest="budgets", type=parse_budget, action="append",
            metavar="[user:]UNIT/WINDOW=LIMIT[:shadow]",
            help="a limit, such as image_tokens/day=41440, or user:images/day=5 for each end user; "
            "repeatable; all budgets that there were are replaced",
        )  # fmt: skip
    checking = actions.add_parser("check", help="check a tenants' file; exit 1 if it has faults")
    checking.add_argument("file", type=Path)
    actions.add_parser("schema", help="print the JSON Schema of the tenants' file, for editors")
    deletion = actions.add_parser("delete", help="delete a tenant and its keys")
    deletion.add_argument("tenant")
    deletion.add_argument("--yes", action="store_true", help="confirm the deletion")
    add_url_option((listing, creation, showing, change, deletion))


def run(arguments: Namespace) -> int:
    """Run a command."""
    if arguments.action in {"check", "schema"}:
        # They need the models of the file, which take longer to load than the other commands take.
        from app.commands.tenants_file import check_tenants, print_schema  # noqa: PLC0415

        return print_schema() if arguments.action == "schema" else check_tenants(arguments.file)
    actions = {
        "change": _change_tenant,
        "list": _list_tenants,
        "create": _create_tenant,
        "show": _show_tenant,
        "delete": _delete_tenant,
    }
    return run_action(actions, arguments)


def _list_tenants(api: GatewayApi, _arguments: Namespace) -> str:
    rows = [("TENANT", "SOURCE", "KEYS", "BUDGETS")]
    for tenant in api.call("GET", "/tenants").json()["tenants"]:
        budgets = ", ".join(_format_budget(item) for item in tenant["budgets"])
        rows.append((tenant["id"], tenant["source"], str(len(tenant["keys"])), budgets or "none"))
    return format_rows(rows)


def _format_budget(item: dict[str, Any]) -> str:
    """Format a budget in the form that ``parse_budget`` takes."""
    limit = str(item["limit"]).removesuffix(".0")
    owner = "user:" if item["scope"] == "user" else ""
    mode = ":shadow" if item["mode"] == "shadow" else ""
    return f"{owner}{item['unit']}/{item['window']}={limit}{mode}"


def _create_tenant(api: GatewayApi, arguments: Namespace) -> str:
    body = {}
    if arguments.file:
        body = _read(arguments.file)
    body |= collect_options(arguments, "time_zone", "budgets")
    if arguments.tenant is not None:
        body["id"] = arguments.tenant
    return format_json(api.call("POST", "/tenants", body))


def _change_tenant(api: GatewayApi, arguments: Namespace) -> str:
    body = {}
    if arguments.file:
        body = _read(arguments.file)
    body |= collect_options(arguments, "time_zone", "budgets")
    if not body:
        raise Refused("Nothing to change: give --time-zone, --budget or --file.")
    path = build_path(arguments.tenant)
    version = api.call("GET", path).headers["etag"]
    return format_json(api.call("PATCH", path, body, if_match=version))


def _read(name: str) -> dict[str, Any]:
    """Read a tenant from a file."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        document = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Refused(f"{name} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise Refused(f"{name} does not contain a tenant.")
    return document


def _show_tenant(api: GatewayApi, arguments: Namespace) -> str:
    return format_json(api.call("GET", build_path(arguments.tenant)))


def _delete_tenant(api: GatewayApi, arguments: Namespace) -> str:
    response = api.call("GET", build_path(arguments.tenant))
    keys = len(response.json()["keys"])
    if not arguments.yes:
        raise Refused(f"{arguments.tenant} has {keys} keys, which would be revoked: add --yes.")
    api.call("DELETE", build_path(arguments.tenant), if_match=response.headers["etag"])
    return f"Deleted {arguments.tenant} and its {keys} keys.\n"
