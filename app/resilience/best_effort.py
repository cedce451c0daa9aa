"""Steps that may fail without the request failing with them: keeping, counting, learning."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


@contextmanager
def best_effort(stage: str) -> Iterator[None]:
    """Log whatever is raised inside and carry on after the block; a cancellation is not held back."""
    try:
        yield
    except Exception:
        log.exception("a step that the request can do without has failed", extra={"stage": stage})
