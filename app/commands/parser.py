"""All subcommands: each is a module here with ``add_arguments`` and ``run``.

A module is loaded only for its own command, so that a command takes no longer than it must: the gateway
itself takes a second to load, and a command that asks a running one takes a tenth of that.
"""

from __future__ import annotations

import argparse
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Command(NamedTuple):
    """A subcommand: its help text, its module, and the function there that adds its arguments."""

    help: str
    module: str
    adder: str = "add_arguments"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Load the module, and let it add its arguments and what runs it."""
        module: Any = import_module(f"app.commands.{self.module}")
        getattr(module, self.adder)(parser)
        run: Callable[[argparse.Namespace], int] = module.run
        parser.set_defaults(run=run)


COMMANDS: Final = {
    "serve": Command("run the gateway; settings come from FLASHGATE_… variables", "serve"),
    "generate": Command("generate pictures, and write them to files", "images", "add_generate_arguments"),
    "edit": Command("generate pictures from a prompt and files", "images", "add_edit_arguments"),
    "estimate": Command(
        "print what a request would cost; spends nothing", "images", "add_estimate_arguments"
    ),
    "budgets": Command("show what budgets have left, add credit, override limits", "budgets"),
    "usage": Command("report usage of a running gateway", "usage"),
    "top": Command("watch requests and budgets of a running gateway", "top"),
    "tenants": Command("manage the tenants of a running gateway, or check their file", "tenants"),
    "keys": Command("manage gateway keys", "keys"),
    "audit": Command("list what operators changed", "audit"),
    "purge": Command("purge cached results", "audit", "add_purge_arguments"),
    "cards": Command("show the models' cards, or check them", "cards"),
    "migrate": Command("plan a migration to another model", "migrate"),
    "ledger": Command("check that the ledger balances, or export it", "ledger"),
    "emulator": Command("run the emulator of the Gemini API alone", "emulator"),
    "openapi": Command("print the OpenAPI document", "reference", "add_openapi_arguments"),
    "reference": Command("print the tables of routes, errors, settings and metrics", "reference"),
    "completion": Command("print a script that completes commands in a shell", "completion"),
}


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; with ``only``, the arguments of the others are left out."""
    parser = argparse.ArgumentParser(
        "flashgate", description="The gateway in front of Gemini 3.1 Flash Image."
    )
    parser.add_argument("--version", action="version", version=f"flashgate {metadata.version('flashgate')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        # The emulator parses its own arguments.
        below = commands.add_parser(name, help=command.help, add_help=name != "emulator")
        if only in {None, name}:
            command.add_arguments(below)
    return parser
