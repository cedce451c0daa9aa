"""Commands for operators, which call the Admin API of a running gateway.

Results go to stdout for scripts. Errors go to stderr in the gateway's words, with exit status 1.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx2

from app.commands.api import TIMEOUT_S, GatewayApi, Refused, Unconfigured, find_admin_key, find_url

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Action = Callable[[GatewayApi, Namespace], str | tuple[str, int]]
    """Does what a command says, and returns what to print, with an exit status other than 0."""


def run_action(actions: Mapping[str, Action], arguments: Namespace) -> int:
    """Run the action that was chosen, and return the exit status: 1 if refused, 2 if unconfigured."""
    try:
        with httpx2.Client(timeout=TIMEOUT_S) as http:
            api = GatewayApi(http, find_url(arguments.url, admin=True), find_admin_key(), "/v1/admin")
            result = actions[arguments.action](api, arguments)
    except Unconfigured as error:
        sys.stderr.write(f"flashgate: {error}\n")
        return 2
    except Refused as refused:
        sys.stderr.write(f"flashgate: {refused}\n")
        return 1
    if isinstance(result, str):
        result = result, 0
    sys.stdout.write(result[0])
    return result[1]


def add_url_option(parsers: Iterable[ArgumentParser]) -> None:
    """Add the address of the gateway."""
    for parser in parsers:
        parser.add_argument(
            "--url", help="base URL of the gateway; default: FLASHGATE_URL, else this machine at its port"
        )


def build_path(*steps: str) -> str:
    """The path of a tenant, or of something below it."""
    return "/tenants" + "".join("/" + quote(step, safe="") for step in steps)


def collect_options(arguments: Namespace, *names: str) -> dict[str, Any]:
    """Return the options that were given, by name."""
    options = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in options.items() if value is not None}


def format_json(answer: httpx2.Response) -> str:
    """An answer for people and programs."""
    return json.dumps(answer.json(), indent=2, ensure_ascii=False) + "\n"


def format_rows(rows: Sequence[tuple[str, ...]]) -> str:
    """A table with a heading, its columns aligned; the last one is as long as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines) + "\n"
