"""The ``flashgate`` command."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands import cards, cli, ledger, serve
from app.commands.keys import print_new_key
from app.commands.reference import print_openapi, print_reference
from app.domain.errors import ConfigurationError
from app.settings.environment import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.settings import Settings


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        "flashgate", description="The gateway in front of Gemini 3.1 Flash Image."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="run the gateway; settings come from FLASHGATE_… variables")
    commands.add_parser("emulator", help="run the emulator of the Gemini API alone", add_help=False)
    commands.add_parser("openapi", help="print the OpenAPI document")
    reference = commands.add_parser(
        "reference", help="print the tables of routes, errors, settings and metrics"
    )
    reference.add_argument("--readme", type=Path, help="update the table of rules in this file instead")
    cli.add_tenant_commands(commands.add_parser("tenants", help="manage the tenants of a running gateway"))
    keys = commands.add_parser("keys", help="manage gateway keys").add_subparsers(
        dest="action", required=True
    )
    new = keys.add_parser("new", help="print a new key and its line for the tenants' file")
    new.add_argument("--env", default="live", help="environment name in the key")
    cli.add_key_commands(keys)
    cli.add_usage_command(commands.add_parser("usage", help="report usage of a running gateway"))
    cli.add_budget_commands(commands.add_parser("budgets", help="add credit and override limits"))
    cli.add_migration_command(commands.add_parser("migrate", help="plan a migration to another model"))
    cards.add_commands(commands.add_parser("cards", help="show the models' cards, or check them"))
    ledger.add_commands(commands.add_parser("ledger", help="check that the ledger balances, or export it"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    argv_list = list(sys.argv[1:] if argv is None else argv)
    if argv_list[:1] == ["emulator"]:
        # A separate program, because drawing and serving need different packages.
        os.execv(sys.executable, [sys.executable, "-m", "app.emulator", *argv_list[1:]])  # noqa: S606 - this very interpreter
    parser = build_parser()
    arguments = parser.parse_args(argv_list)
    try:
        settings = load_settings()
        renewed = partial(print_reference, readme=getattr(arguments, "readme", None), parser=parser)
        printing: dict[str, Callable[[Settings], int]] = {"openapi": print_openapi, "reference": renewed}
        printed = printing.get(arguments.command)
        if printed is not None:
            return printed(settings)
        if arguments.command == "keys" and arguments.action == "new":
            return print_new_key(settings, arguments.env)
        if arguments.command in {"keys", "tenants", "usage", "budgets", "migrate"}:
            admin_key = None if settings.admin_key is None else settings.admin_key.get_secret_value()
            return cli.run(arguments, f"http://127.0.0.1:{settings.admin_port or settings.port}", admin_key)
        running = {"cards": cards.run, "ledger": ledger.run}.get(arguments.command)
        if running is not None:
            return running(arguments, settings)
        return serve.run(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"flashgate: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
