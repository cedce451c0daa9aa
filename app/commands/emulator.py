"""``flashgate emulator``: a separate program, because drawing and serving need different packages."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(_parser: ArgumentParser) -> None:
    """The emulator has a parser of its own."""


def run(_arguments: Namespace) -> NoReturn:
    """Become the emulator, with the arguments of this process."""
    become_emulator(sys.argv[2:])


def become_emulator(arguments: list[str]) -> NoReturn:
    """Replace this process by the emulator."""
    os.execv(sys.executable, [sys.executable, "-m", "app.emulator", *arguments])  # noqa: S606 - this very interpreter
