"""Counts the pages of a PDF in a separate process with limited resources.

PDF readers have had more vulnerabilities than any image decoder, so no PDF is opened in the gateway's own
process. The child has limits on memory and CPU time, an empty environment, and cannot write files. Its work
is bounded by its CPU time (``pdf_pages.CPU_S``). A child that takes much longer, as on a busy machine, is
killed (docs/reliability.md R67).
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from app.media.pdf_pages import NO_LIBRARY
from app.resilience.deadlines import time_limit

_PROGRAM = Path(__file__).with_name("pdf_pages.py")
_ANSWER_BYTES_MAX = 100
_END = b"%%EOF"
_TAIL = 4096
WALL_S = 10.0
AT_ONCE = 2

_ENCRYPTED = ("encrypted_document", "The PDF is encrypted; the model cannot read it.")
_UNREADABLE = ("unreadable_document", "The PDF cannot be opened.")
_CUT = ("truncated_document", "The PDF cannot be opened, and its end (%%EOF) is missing.")
_EMPTY = ("unreadable_document", "The PDF has no page that can be found.")
_TOO_SLOW = ("unreadable_document", "The PDF takes too long to read.")


@dataclass(frozen=True, slots=True)
class Pages:
    """The result of counting: a number of pages, or a fault as (code, sentence)."""

    count: int | None = None
    fault: tuple[str, str] | None = None


class PageCounter:
    """Counts pages in child processes, a few at once.

    Args:
        wall_s: Most seconds for a child, including its start.
        at_once: Concurrent children; further callers wait.
    """

    def __init__(self, *, wall_s: float = WALL_S, at_once: int = AT_ONCE) -> None:
        self._wall_s = wall_s
        self._turns = asyncio.Semaphore(at_once)

    async def count(self, data: bytes) -> Pages:
        """Count the pages of a PDF.

        Raises:
            OSError: No process can be started, or the library is not installed.
        """
        async with self._turns:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(_PROGRAM),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},
                cwd="/",
            )
            try:
                async with time_limit(self._wall_s):
                    answer, _ = await child.communicate(data)
            except TimeoutError:
                return Pages(fault=_TOO_SLOW)
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()
        if child.returncode == NO_LIBRARY:
            raise FileNotFoundError("pypdfium2 is not installed, so no PDF can be counted")
        pages = _parse_reply(answer) if child.returncode == 0 else Pages(fault=_UNREADABLE)
        # Readers open PDFs without an end marker, so its absence only explains why one cannot be opened.
        if pages.fault == _UNREADABLE and _END not in data[-_TAIL:]:
            return Pages(fault=_CUT)
        return pages


def _parse_reply(answer: bytes) -> Pages:
    """Parse the child's reply. Even a compromised child can only report a number or a fault."""
    try:
        reply = json.loads(answer[:_ANSWER_BYTES_MAX])
        pages, fault = reply.get("pages"), reply.get("fault")
    except (ValueError, AttributeError):
        return Pages(fault=_UNREADABLE)
    if fault is not None or type(pages) is not int or pages < 0:
        return Pages(fault=_ENCRYPTED if fault == "encrypted" else _UNREADABLE)
    if pages:
        return Pages(pages)
    return Pages(fault=_EMPTY)
