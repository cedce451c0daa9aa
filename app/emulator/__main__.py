"""``python -m app.emulator``: the emulator alone, without loading the rest of the application."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from app.cards import load_catalogue
from app.emulator.options import EmulatorOptions
from app.emulator.server import serve_emulator

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit status is returned."""
    parser = argparse.ArgumentParser("flashgate emulator", description="The Gemini REST API in miniature.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--fd", type=int, default=None, help="a listening socket that was inherited")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the starting process ends")
    arguments = parser.parse_args(argv)
    serve_emulator(
        load_catalogue(),
        EmulatorOptions(),
        host=arguments.host,
        port=arguments.port,
        fd=arguments.fd,
        die_with_parent=arguments.die_with_parent,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
