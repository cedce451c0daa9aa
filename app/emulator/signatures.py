"""Thought signatures: opaque to callers, recognisable to the emulator when they come back."""

from __future__ import annotations

from blake3 import blake3

_PREFIX = b"\x12\x82flashgate"
_LENGTH = 160
_CHECK = 16


def sign(subject: bytes) -> bytes:
    """The signature of a part, the same for the same subject."""
    body = _PREFIX + blake3(subject).digest(length=_LENGTH)
    return body + blake3(body).digest(length=_CHECK)


def is_signature(candidate: bytes) -> bool:
    """Whether the emulator made it, unchanged to the last byte."""
    body, check = candidate[:-_CHECK], candidate[-_CHECK:]
    return body.startswith(_PREFIX) and blake3(body).digest(length=_CHECK) == check
