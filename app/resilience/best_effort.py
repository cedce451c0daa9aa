"""Optional steps, whose failure must not fail the request: storing, counting, learning."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


@contextmanager
def best_effort(stage: str) -> Iterator[None]:
    """Log any exception of the block and continue after it. Cancellation passes through."""
    try:
        yield
    except Exception:
        log.exception("an optional step has failed", extra={"stage": stage})
