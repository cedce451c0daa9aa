"""Counts the pages of a PDF on its standard input; ``app/media/pdf.py`` runs it as a child process.

It is started by its path, imports nothing of the gateway, and limits its own resources before it loads the
library or reads a byte. It writes one JSON object: ``{"pages": 3}`` or ``{"fault": "encrypted"}``.

PDFium is used because it opens what people's own readers open (it is Chrome's reader), and loads in a few
hundredths of a second. It trusts the page counts that a page tree states, so they are blanked out first,
which makes it walk the tree. If they are compressed, the claimed number is verified by looking for the last
page.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
from typing import Any

CPU_S = 2
MEMORY_BYTES = 512 * 1024 * 1024
OPEN_FILES = 32
NO_LIBRARY = 3
"""Exit status if the library is not installed."""

_NEEDS_PASSWORD = frozenset({4, 5})  # FPDF_ERR_PASSWORD and FPDF_ERR_SECURITY in fpdfview.h


def set_limits() -> None:
    """Limit memory, CPU time and open files, and forbid writing files and core dumps."""
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: CPU_S,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def _count_real_pages(pdfium: Any, document: Any, claimed: int) -> int:
    """The number of pages that exist of those claimed, by binary search if the last one is missing."""
    size = pdfium.FS_SIZEF()

    def has_page(index: int) -> bool:
        return bool(pdfium.FPDF_GetPageSizeByIndexF(document, index, size))

    if claimed < 1 or has_page(claimed - 1):
        return claimed
    existing, missing = 0, claimed - 1
    while existing < missing:
        middle = (existing + missing) // 2
        if has_page(middle):
            existing = middle + 1
        else:
            missing = middle
    return existing


def count_pages(pdfium: Any, data: bytes) -> dict[str, int | str]:
    """The number of pages, or the fault."""
    walked = data.replace(b"/Count", b"/Kount")  # the same length, so that all offsets stay valid
    for each in (walked, data):
        document = pdfium.FPDF_LoadMemDocument64(each, len(each), None)
        if document:
            pages = _count_real_pages(pdfium, document, pdfium.FPDF_GetPageCount(document))
            if pages or each is data:
                return {"pages": pages}
    return {"fault": "encrypted" if pdfium.FPDF_GetLastError() in _NEEDS_PASSWORD else "unreadable"}


def main() -> None:
    """Set the limits, load the library, count the pages of standard input, and print the result."""
    set_limits()
    try:
        pdfium = importlib.import_module("pypdfium2_raw")  # after the limits, and only in this process
    except ImportError:
        sys.exit(NO_LIBRARY)
    pdfium.FPDF_InitLibrary()
    sys.stdout.write(json.dumps(count_pages(pdfium, sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
