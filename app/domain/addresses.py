"""Addresses of files in Cloud Storage, parsed once by a strict grammar.

The gateway never fetches an address; Google does. An address that passes is compared by its bucket and sent
unchanged (docs/reliability.md R64). The grammar is narrower than Cloud Storage's own:
object names outside ASCII, with blanks, percent signs or dot segments are refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SCHEME = "gs://"
ADDRESS_LENGTH_MAX = 1024

# Every character of a bucket's name is written out, so that no look-alike of another alphabet passes.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9_.-]{1,220}[a-z0-9]", re.ASCII)
_BUCKET_LABEL_MAX = 63
_DOTTED_NUMBERS = re.compile(r"[0-9.]+", re.ASCII)
_OBJECT = re.compile(r"[A-Za-z0-9._~!()+,=:@/-]+", re.ASCII)
_DOT_SEGMENTS = frozenset({"", ".", ".."})


class Address(NamedTuple):
    """A file in Cloud Storage."""

    bucket: str
    name: str


class InvalidAddress(ValueError):
    """The gateway does not send this address; the message says why."""


def _check_bucket(text: str) -> str:
    labels = text.split(".")
    if not _BUCKET.fullmatch(text) or not all(0 < len(label) <= _BUCKET_LABEL_MAX for label in labels):
        raise InvalidAddress("The address does not name a bucket of Cloud Storage.")
    if _DOTTED_NUMBERS.fullmatch(text):
        raise InvalidAddress("A bucket cannot be named like an IP address or a number.")
    return text


def parse(text: str) -> Address:
    """The parts of ``gs://bucket/name``. Raises InvalidAddress."""
    if len(text) > ADDRESS_LENGTH_MAX:
        raise InvalidAddress(f"The address is longer than {ADDRESS_LENGTH_MAX} characters.")
    if not text.startswith(SCHEME):
        raise InvalidAddress("Only addresses that begin with gs:// are read.")
    bucket, slash, name = text[len(SCHEME) :].partition("/")
    _check_bucket(bucket)
    if not slash or not name:
        raise InvalidAddress("The address names a bucket and no file in it.")
    if not _OBJECT.fullmatch(name):
        raise InvalidAddress("The file's name has characters that the gateway does not accept.")
    if not _DOT_SEGMENTS.isdisjoint(name.split("/")):
        raise InvalidAddress("The file's name has an empty or a dot segment.")
    return Address(bucket, name)
