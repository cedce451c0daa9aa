"""JSON pointers (RFC 6901) to places in a request."""

from __future__ import annotations

from typing import Final

STEP_LENGTH_MAX: Final = 63
"""Longer names are cut, so that a caller's long name does not fill the answer."""


def build_pointer(*steps: str | int) -> str:
    """The pointer through these steps, safe to send; pydantic's ``loc`` is a tuple of steps."""
    return "".join("/" + _escape_step(str(step)) for step in steps)


def split_pointer(text: str) -> list[str]:
    """The steps of a pointer; empty for the whole document."""
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _escape_step(step: str) -> str:
    sendable = step[:STEP_LENGTH_MAX].encode(errors="replace").decode()
    return sendable.replace("~", "~0").replace("/", "~1")
