"""A leader's failure as its followers learn it, and the error that it becomes again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.domain.errors import (
    ContentBlocked,
    DeadlineExceeded,
    GatewayError,
    InvalidHistory,
    MaxTokens,
    ModelRefused,
    UpstreamError,
    UpstreamInvalidRequest,
    UpstreamNoImage,
    UpstreamQuota,
    UpstreamRejected,
    UpstreamUnavailable,
)
from app.domain.refusals import Side  # noqa: TC001 - records of failures are read by their types


@dataclass(frozen=True, slots=True)
class Failure:
    """Enough to raise the same error again.

    Attributes:
        code: The error's code.
        detail: Its sentence.
        reason: The upstream's word for it, or empty.
        support_code: The upstream's number for a refusal.
        side: What a refusal found fault with.
        final: True where the same request would fail again (a refusal), so followers must not repeat it.
        verbatim: The upstream's own answer, or empty.
    """

    code: str
    detail: str
    reason: str = ""
    support_code: str | None = None
    side: Side = "picture"
    final: bool = False
    verbatim: str = ""


_REFUSALS: Final = {error.code: error for error in (ContentBlocked, ModelRefused)}
_UPSTREAM: Final = {
    error.code: error
    for error in (
        DeadlineExceeded,
        InvalidHistory,
        MaxTokens,
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
            error.code,
            error.detail,
            error.reason,
            error.support_code,
            error.side,
            final=True,
            verbatim=error.verbatim,
        )
    reason = error.reason or "" if isinstance(error, UpstreamError) else ""
    final = isinstance(error, UpstreamInvalidRequest | MaxTokens | InvalidHistory)
    return Failure(error.code, error.detail, reason, final=final, verbatim=error.verbatim)


def raised_again(failure: Failure) -> GatewayError:
    """The leader's error for a follower, which itself has spent nothing."""
    error = _again(failure)
    error.verbatim = failure.verbatim
    return error


def _again(failure: Failure) -> GatewayError:
    if failure.code in _REFUSALS:
        refusal = _REFUSALS[failure.code]
        return refusal(
            failure.detail, reason=failure.reason, support_code=failure.support_code, side=failure.side
        )
    return _UPSTREAM.get(failure.code, UpstreamError)(failure.detail, reason=failure.reason or None)
