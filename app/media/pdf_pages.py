"""Counts the pages of a PDF on its standard input; ``app/media/pdf.py`` runs it as a program behind a fence.

It is started by its path, imports nothing of the gateway, and puts limits on itself before it loads the
library or reads a byte. It writes one JSON object: ``{"pages": 3}`` or ``{"fault": "encrypted"}``.
"""

from __future__ import annotations

import importlib
import io
import json
import resource
import sys

CPU_S = 2
MEMORY_BYTES = 512 * 1024 * 1024
OPEN_FILES = 32
NO_LIBRARY = 3
"""Exit status where the library is not installed, which is no fault of the PDF."""


def fence() -> None:
    """Give up memory, time and every file that is not open yet but the library's own."""
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: CPU_S,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def main() -> None:
    """Fence, load, read, count, print."""
    fence()
    try:
        pikepdf = importlib.import_module("pikepdf")  # inside the fence, and only in this process
    except ImportError:
        sys.exit(NO_LIBRARY)
    found: dict[str, int | str]
    try:
        with pikepdf.open(io.BytesIO(sys.stdin.buffer.read()), suppress_warnings=True) as document:
            found = {"pages": len(document.pages)}
    except pikepdf.PasswordError:
        found = {"fault": "encrypted"}
    except (pikepdf.PdfError, ValueError, RuntimeError, MemoryError):
        # qpdf refuses loops and damage with these; anything else ends the process, which says as much.
        found = {"fault": "unreadable"}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
