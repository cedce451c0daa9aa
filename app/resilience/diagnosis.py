"""Why a part of the deployment does not work, in words that logs and readiness may show as they are."""

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
    """What is wrong, where, and what to do about it. It holds no secret and nothing that a caller sent.

    Attributes:
        reason: A stable word for programs, such as ``permission_denied``.
        address: Where: ``host:port``, or the path of a socket or a folder.
        cause: What was seen: an error's class with its errno, or with the server's own words.
        remedy: What to do, as a sentence.
    """

    reason: str
    address: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.address}: {self.cause}. {self.remedy}"


def describe_system_error(error: OSError) -> str:
    """What the operating system says of an error, such as ``ENOSPC: No space left on device``.

    Only codes are translated: the error's own text and file names may be anybody's words. Empty where it has
    no code.
    """
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or "TLS"
        verdict = getattr(error, "verify_message", "")
        return f"{reason}: {verdict}" if verdict else str(reason)
    if isinstance(error, socket.gaierror):
        return _RESOLVING.get(error.errno or 0, f"name resolution failed with {error.errno}")
    number = get_errno(error)
    if number is None:
        return "timed out" if isinstance(error, TimeoutError) else ""
    return f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"


def get_errno(error: OSError) -> int | None:
    """The system's number of an error; of several, one for each address of a name, the first one's."""
    several = re.match(r"Multiple exceptions: \[Errno (\d+)\]", str(error))
    return error.errno if several is None else int(several[1])


def describe_cause(error: BaseException) -> str:
    """The class of a library's error, and what the system says of what it came from."""
    name = type(error).__qualname__
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and describe_system_error(link):
            return f"{name}: {describe_system_error(link)}"
        link = link.__cause__ or link.__context__
    return name


@singledispatch
def describe_for_log(error: BaseException) -> str | None:
    """What of an error's words a log may repeat; None where they may be anybody's.

    Whoever knows the words of a library registers them here.
    """
    return describe_system_error(error) if isinstance(error, OSError) else None


_RESOLVING = {
    socket.EAI_NONAME: "EAI_NONAME: Name or service not known",
    socket.EAI_AGAIN: "EAI_AGAIN: Temporary failure in name resolution",
    socket.EAI_NODATA: "EAI_NODATA: No address associated with hostname",
    socket.EAI_FAIL: "EAI_FAIL: Non-recoverable failure in name resolution",
}
