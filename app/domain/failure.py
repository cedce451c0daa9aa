"""A leader's failure as its followers learn it, and the error that it becomes again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.domain.errors import (
    ContentBlocked,
    DeadlineExceeded,
    GatewayError,
    ModelRefused,
    UpstreamError,
    UpstreamInvalidRequest,
    UpstreamNoImage,
    UpstreamQuota,
    UpstreamRejected,
    UpstreamUnavailable,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Enough to raise the same error again.

    Attributes:
        code: The error's code.
        detail: Its sentence.
        reason: The upstream's word for it, or empty.
        final: True where the same request would fail again (a refusal), so followers must not repeat it.
        verbatim: The upstream's own answer, or empty.
    """

    code: str
    detail: str
    reason: str = ""
    support_code: str | None = None
    final: bool = False
    verbatim: str = ""


_REFUSALS: Final = {error.code: error for error in (ContentBlocked, ModelRefused)}
_UPSTREAM: Final = {
    error.code: error
    for error in (
        DeadlineExceeded,
        UpstreamError,
        UpstreamInvalidRequest,
        UpstreamNoImage,
        UpstreamQuota,
        UpstreamRejected,
        UpstreamUnavailable,
    )
}


def failure_of(error: GatewayError) -> Failure:
    """What followers are told of an error."""
    if isinstance(error, ContentBlocked):
        return Failure(
            error.code, error.detail, error.reason, error.support_code, final=True, verbatim=error.verbatim
        )
    reason = error.reason or "" if isinstance(error, UpstreamError) else ""
    final = isinstance(error, UpstreamInvalidRequest)
    return Failure(error.code, error.detail, reason, final=final, verbatim=error.verbatim)


def raised_again(failure: Failure) -> GatewayError:
    """The leader's error for a follower, which itself has spent nothing."""
    error = _again(failure)
    error.verbatim = failure.verbatim
    return error


def _again(failure: Failure) -> GatewayError:
    if failure.code in _REFUSALS:
        refusal = _REFUSALS[failure.code]
        return refusal(failure.detail, reason=failure.reason, support_code=failure.support_code)
    return _UPSTREAM.get(failure.code, UpstreamError)(failure.detail, reason=failure.reason or None)
