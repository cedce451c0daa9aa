"""Thought signatures: opaque to callers, recognisable to the emulator when they come back."""

from __future__ import annotations

from typing import Final

import pybase64
from blake3 import blake3

_PREFIX = b"\x12\x82flashgate"
_LENGTH = 160
_CHECK = 16
_SENTINELS: Final = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_ACCEPTED: Final = frozenset(
    {
        *(text.encode() for text in _SENTINELS),
        *(pybase64.b64decode(text, altchars=b"-_") for text in _SENTINELS),
    }
)
"""What Google accepts in place of a signature, as bytes and as base64 (docs/model.md#signatures)."""


def sign(subject: bytes, model: str, project: str = "") -> bytes:
    """The signature of a part, the same for the same subject, model and project."""
    body = _PREFIX + blake3(subject).digest(length=_LENGTH)
    return body + _compute_check(body, model, project)


def is_signature(candidate: bytes, model: str, project: str = "") -> bool:
    """Whether the model made it in this project, or Google accepts it in place of a signature."""
    if candidate in _ACCEPTED:
        return True
    body, check = candidate[:-_CHECK], candidate[-_CHECK:]
    return body.startswith(_PREFIX) and _compute_check(body, model, project) == check


def _compute_check(body: bytes, model: str, project: str) -> bytes:
    return blake3(body + f"{project}/{model}".encode()).digest(length=_CHECK)
