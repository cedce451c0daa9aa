"""Commands for operators, which call the Admin API of a running gateway.

Results go to stdout for scripts. Errors go to stderr in the gateway's words, with exit status 1.
"""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import httpx2
import yaml

from app.commands import billing, migrate
from app.commands.bill_files import UnusableBill
from app.domain.budget import UNITS

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable

TIMEOUT_S: Final = 15.0
_BUDGET = re.compile(
    r"(?P<user>user:)?(?P<unit>[a-z_]+)/(?P<window>[a-z]+)=(?P<limit>\d+(\.\d+)?)(?P<shadow>:shadow)?",
    re.ASCII,
)


class Refused(Exception):
    """The gateway did not perform a command; the message says why."""


class AdminApi:
    """The Admin API of one gateway, over an open client."""

    def __init__(self, http: httpx2.Client, url: str, key: str) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._key = key

    def call(self, method: str, path: str, body: Any = None, if_match: str | None = None) -> httpx2.Response:
        """Make a call. Raises Refused unless it succeeds."""
        headers = {"X-API-Key": self._key} | ({} if if_match is None else {"If-Match": if_match})
        try:
            answer = self._http.request(method, f"{self._url}/v1/admin{path}", json=body, headers=headers)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise Refused(f"Cannot connect to {self._url}: {error}") from error
        if answer.is_success:
            return answer
        raise Refused(_format_problem(answer))


def _format_problem(answer: httpx2.Response) -> str:
    """Format a problem document, with one violation per line."""
    try:
        problem = answer.json()
        lines = [f"{problem['detail']} ({answer.status_code} {problem['code']})"]
        lines += [f"  - {item['pointer']}: {item['detail']}" for item in problem.get("violations", ())]
    except (ValueError, KeyError, TypeError):
        return f"The response is not from a gateway: {answer.status_code}."
    return "\n".join(lines)


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


def add_tenant_commands(parser: ArgumentParser) -> None:
    """Add ``list``, ``create``, ``show`` and ``delete``."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="list all tenants, one per line")
    creation = actions.add_parser("create", help="create a tenant")
    creation.add_argument("tenant", nargs="?", help="tenant id")
    creation.add_argument("--time-zone", help="IANA time zone, such as Europe/Berlin")
    creation.add_argument(
        "--budget", dest="budgets", type=parse_budget, action="append",
        metavar="[user:]UNIT/WINDOW=LIMIT[:shadow]",
        help="a limit, such as image_tokens/day=41440, or user:images/day=5 for each end user; repeatable",
    )  # fmt: skip
    creation.add_argument(
        "--file", help="tenant as YAML or JSON, in the format of the tenants' file; - for stdin"
    )
    showing = actions.add_parser("show", help="print a tenant as JSON")
    showing.add_argument("tenant")
    deletion = actions.add_parser("delete", help="delete a tenant and its keys")
    deletion.add_argument("tenant")
    deletion.add_argument("--yes", action="store_true", help="confirm the deletion")
    _add_url_option((listing, creation, showing, deletion))


def add_key_commands(actions: Any) -> None:
    """Add ``create``, ``rotate`` and ``revoke`` beside ``keys new``."""
    creation = actions.add_parser("create", help="create a key at a running gateway and print it once")
    creation.add_argument("tenant")
    creation.add_argument("--scope", dest="scopes", action="append", choices=("images", "admin"))
    account = creation.add_mutually_exclusive_group()
    account.add_argument("--email", help="e-mail address of a Google account whose ID tokens the key accepts")
    account.add_argument("--subject", help="subject of such an account")
    creation.add_argument(
        "--not-before", help="start of validity, such as 2026-12-01T00:00:00Z; default: now"
    )
    creation.add_argument("--expires-at", help="end of validity, such as 2027-01-01T00:00:00Z; default: none")
    rotation = actions.add_parser(
        "rotate", help="rotate the secret of a key; the previous one stays valid for a time"
    )
    revocation = actions.add_parser("revoke", help="revoke a key")
    for parser in (rotation, revocation):
        parser.add_argument("tenant")
        parser.add_argument("key", help="key id")
    rotation.add_argument(
        "--grace-s", type=int, help="seconds for which the previous secret stays valid; default: a day"
    )
    for parser in (creation, rotation):
        parser.add_argument("--env", help="environment name in the key; default: live")
    _add_url_option((creation, rotation, revocation))


def add_usage_command(parser: ArgumentParser) -> None:
    """Add the options of ``usage``."""
    parser.add_argument("--tenant", help="only this tenant")
    parser.add_argument("--since", help="first day, UTC, such as 2026-11-01; default: first of the month")
    parser.add_argument("--until", help="last day, UTC; default: today")
    parser.add_argument(
        "--by",
        default="tenant",
        help="dimensions, such as tenant,day or model,size or label,month or user or parameter",
    )
    parser.add_argument("--top", type=int, help="only so many lines, those that cost most, dearest first")
    parser.add_argument("--format", choices=("csv", "json"), default="csv")
    _add_url_option((parser, *billing.add_billing_commands(parser)))
    parser.set_defaults(action="report")


def add_migration_command(parser: ArgumentParser) -> None:
    """Add ``plan``."""
    _add_url_option((migrate.add_commands(parser),))


def add_budget_commands(parser: ArgumentParser) -> None:
    """Add ``credit`` and ``override``."""
    actions = parser.add_subparsers(dest="action", required=True)
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
    _add_url_option((credit, override))


def _add_url_option(parsers: Iterable[ArgumentParser]) -> None:
    for parser in parsers:
        parser.add_argument("--url", help="base URL of the gateway; default: this machine at its port")


def run(arguments: Namespace, own_url: str, admin_key: str | None) -> int:
    """Run a command at ``--url`` or ``own_url``, and return the exit status."""
    if admin_key is None:
        sys.stderr.write("flashgate: set FLASHGATE_ADMIN_KEY to an operator's key\n")
        return 2
    commands: dict[tuple[str, str], Callable[[AdminApi, Namespace], str | tuple[str, int]]] = {
        ("tenants", "list"): _list_tenants,
        ("tenants", "create"): _create_tenant,
        ("tenants", "show"): _show_tenant,
        ("tenants", "delete"): _delete_tenant,
        ("keys", "create"): _create_key,
        ("keys", "rotate"): _rotate_key,
        ("keys", "revoke"): _revoke_key,
        ("migrate", "plan"): _plan_migration,
        ("usage", "report"): _report_usage,
        ("usage", "export"): _export_usage,
        ("usage", "reconcile"): _reconcile_bill,
        ("budgets", "credit"): _credit_budget,
        ("budgets", "override"): _override_budget,
    }
    try:
        with httpx2.Client(timeout=TIMEOUT_S) as http:
            api = AdminApi(http, arguments.url or own_url, admin_key)
            result = commands[arguments.command, arguments.action](api, arguments)
    except (Refused, UnusableBill, migrate.UnknownModel) as refused:
        sys.stderr.write(f"flashgate: {refused}\n")
        return 1
    if isinstance(result, str):
        result = result, 0
    sys.stdout.write(result[0])
    return result[1]


def _build_path(*steps: str) -> str:
    return "/tenants" + "".join("/" + quote(step, safe="") for step in steps)


def _collect_options(arguments: Namespace, *names: str) -> dict[str, Any]:
    """Return the options that were given, by name."""
    options = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in options.items() if value is not None}


def _list_tenants(api: AdminApi, _arguments: Namespace) -> str:
    rows = [("TENANT", "SOURCE", "KEYS", "BUDGETS")]
    for tenant in api.call("GET", "/tenants").json()["tenants"]:
        budgets = ", ".join(_format_budget(item) for item in tenant["budgets"])
        rows.append((tenant["id"], tenant["source"], str(len(tenant["keys"])), budgets or "none"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) + "\n"
        for row in rows
    )


def _format_budget(item: dict[str, Any]) -> str:
    """Format a budget in the form that ``parse_budget`` takes."""
    limit = str(item["limit"]).removesuffix(".0")
    owner = "user:" if item["scope"] == "user" else ""
    mode = ":shadow" if item["mode"] == "shadow" else ""
    return f"{owner}{item['unit']}/{item['window']}={limit}{mode}"


def _create_tenant(api: AdminApi, arguments: Namespace) -> str:
    body = {}
    if arguments.file:
        body = _read(arguments.file)
    body |= _collect_options(arguments, "time_zone", "budgets")
    if arguments.tenant is not None:
        body["id"] = arguments.tenant
    return _format_json(api.call("POST", "/tenants", body))


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


def _show_tenant(api: AdminApi, arguments: Namespace) -> str:
    return _format_json(api.call("GET", _build_path(arguments.tenant)))


def _format_json(answer: httpx2.Response) -> str:
    return json.dumps(answer.json(), indent=2, ensure_ascii=False) + "\n"


def _delete_tenant(api: AdminApi, arguments: Namespace) -> str:
    response = api.call("GET", _build_path(arguments.tenant))
    keys = len(response.json()["keys"])
    if not arguments.yes:
        raise Refused(f"{arguments.tenant} has {keys} keys, which would be revoked: add --yes.")
    api.call("DELETE", _build_path(arguments.tenant), if_match=response.headers["etag"])
    return f"Deleted {arguments.tenant} and its {keys} keys.\n"


def _create_key(api: AdminApi, arguments: Namespace) -> str:
    body = _collect_options(arguments, "scopes", "not_before", "expires_at")
    account = _collect_options(arguments, "email", "subject")
    if account:
        created = api.call("POST", _build_path(arguments.tenant, "identities"), body | account).json()
        sys.stderr.write("This key has no secret; it accepts the ID tokens of the account.\n")
        return f"{created['id']}\n"
    body |= _collect_options(arguments, "env")
    return _format_issued_key(api.call("POST", _build_path(arguments.tenant, "keys"), body))


def _rotate_key(api: AdminApi, arguments: Namespace) -> str:
    path = _build_path(arguments.tenant, "keys", arguments.key)
    return _format_issued_key(
        api.call("POST", f"{path}:rotate", _collect_options(arguments, "grace_s", "env"))
    )


def _format_issued_key(answer: httpx2.Response) -> str:
    """Return only the key for stdout; print the rest to stderr."""
    issued = answer.json()
    until = issued.get("retiring_until")
    sys.stderr.write(f"key {issued['id']}; it is shown only once.\n")
    if until:
        sys.stderr.write(f"The previous secret is valid until {until}.\n")
    return f"{issued['key']}\n"


def _revoke_key(api: AdminApi, arguments: Namespace) -> str:
    api.call("POST", f"{_build_path(arguments.tenant, 'keys', arguments.key)}:revoke")
    return f"Revoked {arguments.key}.\n"


def _report_usage(api: AdminApi, arguments: Namespace) -> str:
    query = _collect_options(arguments, "tenant", "since", "until", "top", "format") | {
        "by": arguments.by.split(",")
    }
    response = api.call("GET", f"/usage:report?{urlencode(query, doseq=True)}")
    if arguments.format == "json":
        return _format_json(response)
    return response.text


def _export_usage(api: AdminApi, arguments: Namespace) -> str:
    return billing.export_usage(lambda path: api.call("GET", path).json(), arguments)


def _reconcile_bill(api: AdminApi, arguments: Namespace) -> tuple[str, int]:
    return billing.reconcile_bill(lambda path: api.call("GET", path).json(), arguments)


def _plan_migration(api: AdminApi, arguments: Namespace) -> tuple[str, int]:
    return migrate.plan(lambda path: api.call("GET", path).json(), arguments)


def _credit_budget(api: AdminApi, arguments: Namespace) -> str:
    body = _collect_options(arguments, "unit", "project", "key", "user", "amount", "credit_id")
    return _format_json(api.call("POST", f"{_build_path(arguments.tenant)}/budgets:credit", body))


def _override_budget(api: AdminApi, arguments: Namespace) -> str:
    body = _collect_options(arguments, "unit", "project", "key", "user", "window", "limit", "until")
    return _format_json(api.call("POST", f"{_build_path(arguments.tenant)}/budgets:override", body))
