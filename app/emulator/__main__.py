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
    """Serve until stopped, and return the exit status."""
    parser = argparse.ArgumentParser("flashgate emulator", description="An emulator of the Gemini REST API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument(
        "--fd", type=int, default=None, help="file descriptor of an inherited listening socket"
    )
    parser.add_argument("--die-with-parent", action="store_true", help="exit when the parent process exits")
    parser.add_argument("--faults", type=Path, default=None, help="file of fault rules in YAML or JSON")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--pace", type=_pace, default=PACE_DEFAULT, help="latency factor: 1 for the model's, 0 for none"
    )
    pace.add_argument("--realistic", action="store_const", const=PACE_REALISTIC, dest="pace", help="--pace 1")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random latencies")
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
