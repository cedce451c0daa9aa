"""``flashgate completion``: a script for a shell, made from the parser by shtab."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import shtab

from app.commands.parser import build_parser

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

SHELLS: Final = ("bash", "zsh", "tcsh")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the shell."""
    parser.add_argument("shell", choices=SHELLS, help='then: eval "$(flashgate completion bash)"')


def run(arguments: Namespace) -> int:
    """Print the script."""
    sys.stdout.write(shtab.complete(build_parser(), arguments.shell) + "\n")
    return 0
