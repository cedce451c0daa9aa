"""The ``flashgate`` command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from app.commands.emulator import become_emulator
from app.commands.parser import COMMANDS, build_parser
from app.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    only = words[0] if words and words[0] in COMMANDS else None
    if only == "emulator":
        become_emulator(words[1:])
    arguments = build_parser(only).parse_args(words)
    try:
        status: int = arguments.run(arguments)
    except ConfigurationError as error:
        sys.stderr.write(f"flashgate: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
