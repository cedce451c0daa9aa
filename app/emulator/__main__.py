"""``python -m app.emulator``: the emulator alone, without loading the rest of the application."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.cards import load_catalogue
from app.domain.errors import ConfigurationError
from app.emulator.installed import check_installed
from app.emulator.latency import PACE_DEFAULT, PACE_REALISTIC, Latency
from app.emulator.options import EmulatorOptions
from app.emulator.rules import FaultRules, load_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

_PACE_MAX = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit status is returned."""
    parser = argparse.ArgumentParser("flashgate emulator", description="The Gemini REST API in miniature.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--fd", type=int, default=None, help="a listening socket that was inherited")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the starting process ends")
    parser.add_argument("--faults", type=Path, default=None, help="rules as YAML or JSON: who meets what")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--pace", type=_pace, default=PACE_DEFAULT, help="1: the model's own times; 0: none")
    pace.add_argument("--realistic", action="store_const", const=PACE_REALISTIC, dest="pace", help="--pace 1")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other times")
    arguments = parser.parse_args(argv)
    try:
        check_installed()
        rules = FaultRules() if arguments.faults is None else load_rules(arguments.faults)
    except ConfigurationError as error:
        sys.stderr.write(f"flashgate emulator: {error}\n")
        return 2
    # Only now, because it loads the packages that were just found to be installed.
    from app.emulator.server import serve_emulator  # noqa: PLC0415

    serve_emulator(
        load_catalogue(),
        EmulatorOptions(latency=Latency(arguments.pace, arguments.seed), faults=rules),
        host=arguments.host,
        port=arguments.port,
        fd=arguments.fd,
        die_with_parent=arguments.die_with_parent,
    )
    return 0


def _pace(text: str) -> float:
    pace = float(text)
    if not 0 <= pace <= _PACE_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to {_PACE_MAX:.0f}")
    return pace


if __name__ == "__main__":
    sys.exit(main())
