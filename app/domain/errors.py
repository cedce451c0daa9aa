"""The gateway's errors.

An error has a code, a status and whether a retry can help. It knows nothing of JSON envelopes, which belong
to the surfaces. The codes are part of the HTTP contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from app.domain.refusals import find_category

if TYPE_CHECKING:
    from app.domain.budget import WindowState
    from app.domain.estimate import WouldFit
    from app.domain.generation import Usage
    from app.domain.rate import RateState
    from app.domain.refusals import Side


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing in a request that breaks a rule.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the caller's own request, such as ``/images/3/data``.
        code: A stable code for programs, such as ``unsupported_aspect_ratio``.
        detail: A sentence for people.
        allowed: The accepted values, where they can be listed, else None.
    """

    pointer: str
    code: str
    detail: str
    allowed: tuple[str | int | float, ...] | None = None


class GatewayError(Exception):
    """An unexpected error of the gateway; also the base class of all errors that callers get.

    Args:
        detail: A sentence about this occurrence. It never holds a prompt, a key or image bytes.
        retry_after_s: Whole seconds after which a retry can succeed, or None.
        usage: The tokens that the failed attempt cost, or None where nothing was spent.

    ``windows`` and ``rates`` hold the caller's budget windows and rates, for the headers, where they are
    known. ``replayed`` is true for the stored failure of an idempotency key. ``verbatim`` is the upstream's
    own answer, if any, for callers of its dialect; it may repeat the caller's text, so it is never logged.

    An error is never changed: ``with_attributes`` returns another one.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "The gateway failed"
    status: ClassVar[int] = 500
    retryable: bool = False

    def __init__(
        self, detail: str = "", *, retry_after_s: int | None = None, usage: Usage | None = None
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after_s = retry_after_s
        self.usage = usage
        self.windows: tuple[WindowState, ...] = ()
        self.rates: tuple[RateState, ...] = ()
        self.replayed = False
        self.verbatim = ""

    def with_attributes(self, **attributes: Any) -> Self:
        """A copy of the error, with its traceback, in which these attributes have other values."""
        if unknown := attributes.keys() - {*vars(self), "retryable", "daily"}:
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        error = type(self).__new__(type(self), attributes.get("detail", self.detail))
        vars(error).update(vars(self) | attributes)
        error.__cause__ = self.__cause__
        return error.with_traceback(self.__traceback__)


class InternalError(GatewayError):
    """An error in the gateway itself; the details are only in its log."""


class InvalidRequest(GatewayError):
    """The bytes cannot be read as a request: invalid JSON, bad framing, or an unreadable form."""

    code, title, status = "invalid_request", "The request cannot be read", 400


class HeadersTooLarge(GatewayError):
    """More header fields, or longer ones, than the gateway reads (RFC 6585 section 5)."""

    code, title, status = "headers_too_large", "The request headers are too large", 431


class Unauthenticated(GatewayError):
    """The request has no key or ID token, or an unknown one."""

    code, title, status = "unauthenticated", "A valid key is required", 401


class PermissionDenied(GatewayError):
    """The caller is known but lacks the permission that the route requires."""

    code, title, status = "permission_denied", "This key may not do that", 403


class NotFound(GatewayError):
    """There is no such route or object, or it belongs to another tenant; the answer is the same."""

    code, title, status = "not_found", "Not found", 404


class MethodNotAllowed(GatewayError):
    """The route exists, but not for this method."""

    code, title, status = "method_not_allowed", "This method is not allowed here", 405


class Conflict(GatewayError):
    """The current state does not allow the change: an id is taken, or a file defines the tenant."""

    code, title, status = "conflict", "This conflicts with what is there", 409


class OperationCancelled(GatewayError):
    """The operation was cancelled before anything was sent; nothing was spent."""

    code, title, status = "operation_cancelled", "The operation was cancelled", 409


class PreconditionFailed(GatewayError):
    """The object has changed since the caller read it (RFC 9110 section 13.1.1)."""

    code, title, status = "precondition_failed", "It was changed in between", 412


class PreconditionRequired(GatewayError):
    """The change lacks an `If-Match` with the version to change (RFC 6585 section 3)."""

    code, title, status = "precondition_required", "Send If-Match with the ETag that you read", 428


class BodyTooLarge(GatewayError):
    """The body exceeded its limit while it was being read."""

    code, title, status = "body_too_large", "The body is too large", 413


class UnsupportedMediaType(GatewayError):
    """The route does not read this content type."""

    code, title, status = "unsupported_media_type", "The content type is not supported", 415


VIOLATIONS_MAX = 100
"""The most violations in one answer: more than an honest request has, few enough to cost nothing."""


class UnsupportedContentEncoding(UnsupportedMediaType):
    """The body has a `Content-Encoding` that is not read; `Accept-Encoding` lists the others (RFC 7694)."""

    code, title = "unsupported_content_encoding", "The content encoding is not supported"


class ValidationFailed(GatewayError):
    """The request breaks the wire schema or the model card; every violation is listed."""

    code, title, status = "validation_failed", "The request is not valid", 422

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        count = len(violations)
        if count == 1:
            detail = "One violation was found."
        elif count <= VIOLATIONS_MAX:
            detail = f"{count} violations were found."
        else:
            detail = (
                f"More than {VIOLATIONS_MAX} violations were found; the first {VIOLATIONS_MAX} are listed."
            )
        super().__init__(detail)
        self.violations = violations[:VIOLATIONS_MAX]


class BudgetExceeded(GatewayError):
    """A budget window has too little left; nothing was reserved in any window.

    Args:
        detail: What the request needs, what is left in each window, and when it resets.
        refused_by: The windows that refused.
        retry_after_s: Seconds until the last of them resets; None where waiting does not help.
        would_fit: What would be admitted now, or None where that was not computed.
        sentences: The part of the detail about each window.
    """

    code, title, status, retryable = "budget_exceeded", "The budget is used up", 429, True

    def __init__(
        self,
        detail: str,
        refused_by: tuple[WindowState, ...],
        retry_after_s: int | None,
        would_fit: WouldFit | None = None,
        sentences: tuple[str, ...] = (),
    ) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self.sentences = sentences
        self.refused_by = refused_by
        self.would_fit = would_fit
        self.retryable = not any(window.never_fits for window in refused_by)


class MaxCostExceeded(GatewayError):
    """The request can cost more than its caller allows; nothing was sent.

    Args:
        detail: What it can cost, and what is allowed.
        expected_usd: What it is expected to cost, in billionths of a dollar.
        most_usd: What it can cost at most.
        would_fit: What could cost no more than is allowed.
    """

    code, title, status = "max_cost_exceeded", "It can cost more than is allowed", 402

    def __init__(
        self, detail: str, expected_usd: int = 0, most_usd: int = 0, would_fit: WouldFit | None = None
    ) -> None:
        super().__init__(detail)
        self.expected_usd = expected_usd
        self.most_usd = most_usd
        self.would_fit = would_fit


class RateLimited(GatewayError):
    """Too many requests a minute, or too many at once; nothing was counted or reserved.

    Args:
        detail: The limit that refused, and its value.
        refused_by: The rates that refused.
        retry_after_s: Seconds until a request would be admitted.
    """

    code, title, status, retryable = "rate_limited", "Too many requests", 429, True

    def __init__(self, detail: str, refused_by: tuple[RateState, ...], retry_after_s: int) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self.refused_by = refused_by


class TooManyUsers(GatewayError):
    """The tenant has its largest number of active end users, and this one is new; nothing was reserved."""

    code, title, status, retryable = "too_many_users", "Too many end users", 429, True


class NotCached(GatewayError):
    """The request said ``only-if-cached`` and nothing is cached (RFC 9111 section 5.2.1.7)."""

    code, title, status = "not_cached", "There is no cached result", 504


class ContentBlocked(GatewayError):
    """Google's filters refused the prompt or the picture.

    Args:
        detail: The upstream's reason, with its support code.
        reason: The block or finish reason as Google spells it.
        support_code: Google's number for the rule, or None.
        side: Whether the prompt or the picture was refused.
        usage: The tokens that the refusal cost, or None.
    """

    code, title, status = "content_blocked", "The content was blocked", 422

    def __init__(
        self,
        detail: str,
        *,
        reason: str,
        support_code: str | None = None,
        side: Side = "picture",
        usage: Usage | None = None,
    ) -> None:
        super().__init__(detail, usage=usage)
        self.reason = reason
        self.support_code = support_code
        self.side = side

    @property
    def category(self) -> str:
        """The category of the refusal, such as ``child`` or ``violence``."""
        return find_category(self.reason, self.support_code)


class ModelRefused(ContentBlocked):
    """The model answered with text instead of a picture."""

    code, title, status = "model_refused", "The model declined to draw", 422

    @property
    def category(self) -> str:
        """Always ``refusal``: the model gives no reason that a program could read."""
        return "refusal"


class UpstreamError(GatewayError):
    """The upstream failed.

    Args:
        detail: What is known, without upstream text that may repeat user content.
        upstream_status: The upstream's HTTP status, or None without an answer.
        reason: The upstream's own code (``RESOURCE_EXHAUSTED``, a finish reason), or None.
        billed: ``no`` where Google cannot have charged, ``maybe`` where the outcome is unknown,
            ``yes`` where usage was reported.
        retry_after_s: Seconds that the upstream asked callers to wait, or None.
        usage: The tokens that were reported, or None.
    """

    code, title, status, retryable = "upstream_error", "The upstream failed", 502, True

    def __init__(
        self,
        detail: str,
        *,
        upstream_status: int | None = None,
        reason: str | None = None,
        billed: str = "no",
        retry_after_s: int | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(detail, retry_after_s=retry_after_s, usage=usage)
        self.upstream_status = upstream_status
        self.reason = reason
        self.billed = billed


class UpstreamNoImage(UpstreamError):
    """The upstream finished without a picture and without a refusal."""

    code, title = "upstream_no_image", "The upstream answered without an image"


class MaxTokens(UpstreamNoImage):
    """The output tokens ran out before there was a picture; a retry would end the same way."""

    code, title, status, retryable = "max_tokens", "The model ran out of output tokens", 422, False


class AnswerCut(UpstreamNoImage):
    """The gateway's own bound cut off the output before the picture was complete; the next bound is wider."""

    code, title = "answer_cut", "The answer was cut off"


class InvalidHistory(UpstreamNoImage):
    """An earlier turn of the conversation lacks the signature that the model gave with it."""

    code, title, status, retryable = "invalid_history", "The conversation lacks a signature", 400, False


class UpstreamRejected(UpstreamError):
    """The upstream refuses the gateway's credentials or the model; an operator must act."""

    code, title, retryable = "upstream_rejected", "The upstream refuses the gateway", False


class UpstreamInvalidRequest(UpstreamError):
    """The upstream refused the request, although no rule of the card did."""

    code, title, status = "upstream_invalid_request", "The upstream does not take this request", 400
    retryable = False


class ForeignSignature(UpstreamInvalidRequest):
    """An earlier turn has a signature of another model, project or back end, or a damaged one."""

    code, title = "foreign_signature", "The conversation belongs to another model"


class UpstreamQuota(UpstreamError):
    """Google's quota is used up.

    ``daily`` is true for a quota by day, for which a pause of seconds does not help.
    """

    code, title, status = "upstream_quota", "The upstream's quota is used up", 429
    daily = False


class UpstreamSpendingCap(UpstreamQuota):
    """Google's cap on the spending of the project or the account is reached; an operator must act."""

    code, title, status = "upstream_spending_cap", "The upstream's spending cap is reached", 503
    retryable = False


class UpstreamUnavailable(UpstreamError):
    """The upstream is down or overloaded."""

    code, title, status = "upstream_unavailable", "The upstream is unavailable", 503


class DeadlineExceeded(UpstreamError):
    """There was no answer in time; ``billed`` says whether tokens may have been spent."""

    code, title, status = "deadline_exceeded", "The deadline passed", 504


class Draining(GatewayError):
    """The process is shutting down and takes no new work."""

    code, title, status, retryable = "draining", "The gateway is going down", 503, True


class OperationLost(GatewayError):
    """The process that ran the operation died; a call that it had sent may be billed."""

    code, title, status, retryable = "operation_lost", "The operation was lost", 503, True


class StoreUnavailable(GatewayError):
    """The store does not answer, so nothing can be reserved: budgets fail closed."""

    code, title, status, retryable = "store_unavailable", "The store does not answer", 503, True


class IdentityUnavailable(GatewayError):
    """Google's signing keys cannot be fetched, so no ID token is accepted."""

    code, title, status, retryable = "identity_unavailable", "ID tokens cannot be checked", 503, True


class Overloaded(GatewayError):
    """More work arrived than the gateway takes at once."""

    code, title, status, retryable = "overloaded", "The gateway is overloaded", 503, True


class ConfigurationError(Exception):
    """The configuration is wrong. Callers never see this; operators always do.

    Args:
        source: The name of the file or other source.
        faults: A sentence for each fault, which begins with its place. They never hold a secret.
    """

    def __init__(self, source: str, faults: tuple[str, ...]) -> None:
        count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__("\n".join((f"{source}: {count}", *(f"  - {fault}" for fault in faults))))
        self.source = source
        self.faults = faults
