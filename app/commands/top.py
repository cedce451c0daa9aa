"""``flashgate top``: what a running gateway is doing, and what its budgets have left, again and again."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

from app.commands.admin import add_url_option, format_rows, run_action

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from app.commands.api import GatewayApi

_CLEAR: Final = "\033[H\033[2J"
_BAR: Final = 20
_ROWS_MAX: Final = 20


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="pause; default: 2")
    parser.add_argument("--once", action="store_true", help="print once and end")
    parser.add_argument("--tenant", help="only this tenant")
    add_url_option((parser,))
    parser.set_defaults(action="top")


def run(arguments: Namespace) -> int:
    """Run the command until it is interrupted."""
    return run_action({"top": _watch}, arguments)


def _watch(api: GatewayApi, arguments: Namespace) -> str:
    while not arguments.once:
        page = _build_page(api, arguments.tenant)
        sys.stdout.write(_CLEAR + page)
        sys.stdout.flush()
        time.sleep(arguments.every)
    return _build_page(api, arguments.tenant)


def _build_page(api: GatewayApi, tenant: str | None) -> str:
    requests = [
        each for each in api.call("GET", "/requests").json()["requests"] if tenant in {None, each["tenant"]}
    ]
    windows = [
        each for each in api.call("GET", "/usage").json()["windows"] if tenant in {None, each["tenant"]}
    ]
    head = f"{len(requests)} under way in this instance\n\n"
    return f"{head}{_format_requests(requests)}\n{_format_windows(windows)}"


def _format_requests(requests: list[dict[str, Any]]) -> str:
    rows: list[tuple[str, ...]] = [
        ("TENANT", "KEY", "MODEL", "SIZE", "N", "STEP", "BACK END", "CALLS", "SECONDS")
    ]
    for each in requests[:_ROWS_MAX]:
        named = [each[name] or "" for name in ("tenant", "key", "model", "image_size")]
        step = [each["step"] or "", each["back_end"] or ""]
        rows.append((*named, str(each["images"] or ""), *step, str(each["attempts"]), f"{each['age_s']:.1f}"))
    return format_rows(rows)


def _format_windows(windows: list[dict[str, Any]]) -> str:
    """The budgets that are used up most."""
    rows = [("TENANT", "OWNER", "UNIT", "WINDOW", "USED", "", "LEFT")]
    for each in sorted(windows, key=_compute_share, reverse=True)[:_ROWS_MAX]:
        share = _compute_share(each)
        filled = round(min(share, 1) * _BAR)
        owner = each["key"] or each["project"] or each["user"] or "all"
        bar = "█" * filled + "·" * (_BAR - filled)
        left = f"{float(each['remaining']):,.6g}"
        rows.append((each["tenant"], owner, each["unit"], each["window"], f"{share:.0%}", bar, left))
    return format_rows(rows)


def _compute_share(window: dict[str, Any]) -> float:
    """The share of a limit that is settled, held or set aside."""
    used = sum(float(window[name]) for name in ("settled", "held", "unresolved"))
    limit = float(window["limit"])
    return used / limit if limit else 1.0
