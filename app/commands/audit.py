"""``flashgate audit`` and ``purge``: what operators changed, and cached results that must go."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from app.commands.admin import add_url_option, format_json, format_rows, run_action
from app.commands.api import Refused

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from app.commands.api import GatewayApi


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of ``audit``."""
    parser.add_argument("--limit", type=int, default=50, help="most events; default: 50")
    parser.add_argument("--before", metavar="EVENT", help="only events before this one")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_url_option((parser,))
    parser.set_defaults(action="audit")


def add_purge_arguments(parser: ArgumentParser) -> None:
    """Add the options of ``purge``."""
    parser.add_argument("tenant", nargs="?", help="tenant whose cached results go")
    parser.add_argument("--fingerprint", help="only this result, `cache.key` of its response")
    parser.add_argument("--all", action="store_true", help="the results of all tenants")
    add_url_option((parser,))
    parser.set_defaults(action="purge")


def run(arguments: Namespace) -> int:
    """Run a command."""
    return run_action({"audit": _list_events, "purge": _purge}, arguments)


def _list_events(api: GatewayApi, arguments: Namespace) -> str:
    query = {"limit": arguments.limit}
    if arguments.before is not None:
        query["before"] = arguments.before
    answer = api.call("GET", f"/audit?{urlencode(query)}")
    if arguments.json:
        return format_json(answer)
    rows = [("TIME", "EVENT", "OPERATOR", "ACTION", "TENANT", "KEY")]
    for event in answer.json()["events"]:
        named = (event["operator"], event["action"], event["tenant"] or "", event["key"] or "")
        rows.append((event["at"], event["id"], *named))
    return format_rows(rows)


def _purge(api: GatewayApi, arguments: Namespace) -> str:
    if arguments.all == (arguments.tenant is not None):
        raise Refused("Give a tenant, or --all for the results of all tenants.")
    body = {"tenant": arguments.tenant, "fingerprint": arguments.fingerprint}
    members = {name: value for name, value in body.items() if value is not None}
    if arguments.all:
        members["all"] = True
    return format_json(api.call("POST", "/cache:purge", members))
