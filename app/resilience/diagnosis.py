"""Diagnoses of failures in the deployment, in words that logs and readiness checks may show."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from dataclasses import dataclass
from functools import singledispatch


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A failure and its remedy. It holds no secret and nothing that a caller sent.

    Attributes:
        reason: A stable word for programs, such as ``permission_denied``.
        address: The place: ``host:port``, or the path of a socket or a folder.
        cause: An error's class with its errno, or with the server's own message.
        remedy: What to do, as a sentence.
    """

    reason: str
    address: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.address}: {self.cause}. {self.remedy}"


def describe_system_error(error: OSError) -> str:
    """The operating system's description of an error, such as ``ENOSPC: No space left on device``.

    It is derived from the error's number only, because its text and file names may hold callers' data. Empty
    for an error without a number.
    """
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or "TLS"
        verdict = getattr(error, "verify_message", "")
        if verdict:
            return f"{reason}: {verdict}"
        return str(reason)
    if isinstance(error, socket.gaierror):
        return _RESOLVING.get(error.errno or 0, f"name resolution failed with {error.errno}")
    number = get_errno(error)
    if number is None:
        if isinstance(error, TimeoutError):
            return "timed out"
        return ""
    return f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"


def get_errno(error: OSError) -> int | None:
    """The errno of an error. If a name has several addresses, it is that of the first connection error."""
    several = re.match(r"Multiple exceptions: \[Errno (\d+)\]", str(error))
    if several is None:
        return error.errno
    return int(several[1])


def describe_cause(error: BaseException) -> str:
    """The class of a library's error, and the system's description of the error that caused it."""
    name = type(error).__qualname__
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and describe_system_error(link):
            return f"{name}: {describe_system_error(link)}"
        link = link.__cause__ or link.__context__
    return name


@singledispatch
def describe_for_log(error: BaseException) -> str | None:
    """The part of an error's message that a log may show; None if it may hold callers' data.

    Modules that know the messages of a library register a function here.
    """
    if not isinstance(error, OSError):
        return None
    return describe_system_error(error)


_RESOLVING = {
    socket.EAI_NONAME: "EAI_NONAME: Name or service not known",
    socket.EAI_AGAIN: "EAI_AGAIN: Temporary failure in name resolution",
    socket.EAI_NODATA: "EAI_NODATA: No address associated with hostname",
    socket.EAI_FAIL: "EAI_FAIL: Non-recoverable failure in name resolution",
}
