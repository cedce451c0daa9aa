"""Maps failed calls to the domain's errors.

Google's messages may repeat the caller's prompt, so none is passed on. Only words of a closed form are
kept: statuses, reasons, field paths, quota names and support codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import httpx2

from app.domain.errors import (
    DeadlineExceeded,
    ForeignSignature,
    InvalidHistory,
    MaxTokens,
    UpstreamError,
    UpstreamInvalidRequest,
    UpstreamNoImage,
    UpstreamQuota,
    UpstreamRejected,
    UpstreamSpendingCap,
    UpstreamUnavailable,
)
from app.media.lifting import SkeletonTooLarge
from app.resilience.diagnosis import Diagnosis, describe_cause
from app.upstream.google.redaction import redact
from app.upstream.google.transport import Exchange, PlaceholdersMissing, UnreadableAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.request import GenerationRequest, Input


@dataclass(frozen=True, slots=True)
class Meaning:
    """The error class for an HTTP status, and whether Google may have billed the call."""

    error: type[UpstreamError]
    billed: str = "no"


# The statuses are those of docs/model.md#errors. Requests that fail with 400 or 500 are not charged
# (docs/model.md#prices); a front end that gave up waiting (408, 499, 502, 504) does not know how the work
# behind it ended.
STATUSES: Final[Mapping[int, Meaning]] = {
    400: Meaning(UpstreamRejected),
    401: Meaning(UpstreamRejected),
    403: Meaning(UpstreamRejected),
    404: Meaning(UpstreamRejected),
    408: Meaning(UpstreamError, "maybe"),
    413: Meaning(UpstreamInvalidRequest),
    429: Meaning(UpstreamQuota),
    499: Meaning(UpstreamError, "maybe"),
    500: Meaning(UpstreamError),
    502: Meaning(UpstreamError, "maybe"),
    503: Meaning(UpstreamUnavailable),
    504: Meaning(DeadlineExceeded, "maybe"),
    529: Meaning(UpstreamUnavailable),
}
_BY_CLASS: Final[Mapping[int, Meaning]] = {
    3: Meaning(UpstreamRejected),
    4: Meaning(UpstreamRejected),
}
_ANYTHING_ELSE: Final = Meaning(UpstreamError, "maybe")

# Finish reasons of a response without an image that no filter removed (docs/model.md#refusals). For others,
# text means that the model declined.
WITHOUT_IMAGE: Final[Mapping[str, type[UpstreamError]]] = {
    "OTHER": UpstreamNoImage,
    "IMAGE_OTHER": UpstreamNoImage,
    "NO_IMAGE": UpstreamNoImage,
    "MAX_TOKENS": MaxTokens,
    "CONTINUATION": UpstreamNoImage,
    "MALFORMED_FUNCTION_CALL": UpstreamError,
    "UNEXPECTED_TOOL_CALL": UpstreamError,
    "TOO_MANY_TOOL_CALLS": UpstreamError,
    "MALFORMED_RESPONSE": UpstreamError,
    "MISSING_THOUGHT_SIGNATURE": InvalidHistory,
    "ESCALATION": UpstreamRejected,
    "PUP_LIMITED_DISABLED": UpstreamRejected,
}

_NETWORK: Final[tuple[tuple[type[BaseException], type[UpstreamError], str], ...]] = (
    (httpx2.ConnectTimeout, UpstreamUnavailable, "Connecting to the upstream timed out."),
    (httpx2.PoolTimeout, UpstreamUnavailable, "Every connection to the upstream is busy."),
    (httpx2.TimeoutException, DeadlineExceeded, "The upstream did not answer in time."),
    (TimeoutError, DeadlineExceeded, "The upstream did not answer in time."),
    (httpx2.ConnectError, UpstreamUnavailable, "The upstream cannot be reached."),
    (httpx2.ProxyError, UpstreamUnavailable, "The proxy in front of the upstream failed."),
    (httpx2.TransportError, UpstreamError, "The connection to the upstream broke."),
    (SkeletonTooLarge, UpstreamError, "The upstream's response is too large, even without its images."),
    (UnreadableAnswer, UpstreamError, "The upstream's response cannot be read."),
    (PlaceholdersMissing, UpstreamError, "The request could not be built."),
)

_REMEDIES: Final[tuple[tuple[type[UpstreamError], str], ...]] = (
    (UpstreamSpendingCap, "Raise the cap or add credit at Google."),
    (UpstreamQuota, "Ask Google for more quota, or add another project or back end."),
    (UpstreamRejected, "Check the credentials, and that the project may use the model."),
    (UpstreamUnavailable, "If it lasts, check the address, the network and Google's status."),
)

# Words of Google's message, and the sentence for them (docs/model.md#quotas).
_SPENDING_CAPS: Final[Mapping[str, str]] = {
    "project has exceeded its monthly spending cap": "The project's monthly cap at Google is reached.",
    "account has exceeded its monthly spending cap": "The account's monthly cap at Google is reached.",
    "prepayment credits are depleted": "The prepaid credit at Google is used up.",
}
# Google's words for a signature that this model did not make (docs/model.md#signatures).
_FOREIGN_SIGNATURE: Final = re.compile(r"(corrupted|invalid) thought.?signature", re.IGNORECASE)
_SPENDING_STATUSES: Final = frozenset({402, 429})
_SUPPORT_CODE: Final = re.compile(r"[Ss]upport codes?:?\s*((?:\d{6,12}[,;\s]*)+)")
_REASON: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_FIELD_PATH: Final = re.compile(r"[A-Za-z0-9_.\[\]]{1,100}")
_FIRST_PARTS: Final = re.compile(r"contents\[0\]\.parts\[(\d{1,3})\]")
_FILES_NAMED_MAX: Final = 20
_QUOTA: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_DURATION: Final = re.compile(r"(\d{1,9})(?:\.\d{1,9})?s")
_QUOTA_DAY_ZONE: Final = ZoneInfo("America/Los_Angeles")
_RETRY_AFTER_MAX_S: Final = 86_400


def parse_support_code(message: object) -> str | None:
    """The first support code in one of Google's messages, or None."""
    if not isinstance(message, str):
        return None
    match = _SUPPORT_CODE.search(message)
    if match is None:
        return None
    return re.split(r"\D+", match[1], maxsplit=1)[0]


def parse_reason(value: object) -> str:
    """A reason in Google's spelling; empty for a value of another form."""
    if isinstance(value, str) and _REASON.fullmatch(value):
        return value
    return ""


def build_failure(exchange: Exchange, raised: BaseException, now: datetime) -> UpstreamError:
    """The domain's error for a call that raised an exception.

    A response with an error status is judged by its status and body, not by the SDK's exception.
    """
    if exchange.status is not None and exchange.status != httpx2.codes.OK:
        return build_status_failure(exchange, now)
    billed = "no"
    if exchange.sent:
        billed = "maybe"
    if not exchange.sent and isinstance(raised, httpx2.NetworkError | httpx2.ProtocolError):
        # Kept-alive connections break when a server goes away. A request that was not sent completely
        # cannot have been billed.
        return UpstreamUnavailable("The upstream cannot be reached.", billed="no")
    for kind, error, sentence in _NETWORK:
        if isinstance(raised, kind):
            return error(sentence, upstream_status=exchange.status, billed=billed)
    sentence = f"The upstream could not be called: {type(raised).__name__}."
    return UpstreamError(sentence, upstream_status=exchange.status, billed=billed)


def build_status_failure(exchange: Exchange, now: datetime) -> UpstreamError:
    """The domain's error for a response with any status but 200."""
    status = exchange.status or 0
    error = _parse_error(exchange.body)
    details = [item for item in _get_list(error.get("details")) if isinstance(item, Mapping)]
    reason = next(_find_reasons(details), "") or parse_reason(error.get("status"))
    if (spent := _describe_spending_cap(status, error)) is not None:
        return UpstreamSpendingCap(spent, upstream_status=status, reason=reason or None, billed="no")
    meaning = STATUSES.get(status) or _BY_CLASS.get(status // 100, _ANYTHING_ELSE)
    quotas = [quota for quota in _find_quotas(details) if _QUOTA.fullmatch(quota)]
    paths = [path for path in _find_field_paths(details) if _FIELD_PATH.fullmatch(path)]
    named = []
    if paths:
        named.append(f"field {', '.join(paths)}")
    if quotas:
        named.append(f"quota {', '.join(quotas)}")
    sentence = f"The upstream answered {status} {reason}".rstrip()
    if named:
        sentence = f"{sentence}: {'; '.join(named)}"
    failure = meaning.error(
        f"{sentence}.",
        upstream_status=status,
        reason=reason or None,
        billed=meaning.billed,
        retry_after_s=_compute_retry_after(exchange.headers, details, quotas, now),
    )
    if isinstance(failure, UpstreamQuota):
        return failure.with_attributes(daily=any("PerDay" in quota for quota in quotas))
    return failure


def diagnose_failure(failure: UpstreamError, raised: BaseException, url: str) -> Diagnosis:
    """The diagnosis of a failed call for the log: the upstream's status and words, or the network's error.

    Args:
        failure: What ``build_failure`` made of it.
        raised: The exception that the call raised.
        url: Base URL of the back end.
    """
    cause = failure.detail
    if failure.upstream_status in {None, httpx2.codes.OK}:
        cause = f"{failure.detail.rstrip('.')}: {describe_cause(raised)}"
    remedy = next((sentence for kind, sentence in _REMEDIES if isinstance(failure, kind)), "")
    return Diagnosis(failure.reason or failure.code, httpx2.URL(url).netloc.decode(), cause, remedy)


def _describe_spending_cap(status: int, error: Mapping[str, Any]) -> str | None:
    """What is used up where Google refuses calls until somebody pays or raises a cap, else None."""
    message = str(error.get("message", "")).lower()
    known = (sentence for words, sentence in _SPENDING_CAPS.items() if words in message)
    return next(known, None) if status in _SPENDING_STATUSES else None


def attribute_to_request(
    failure: UpstreamError, exchange: Exchange, request: GenerationRequest, project: str | None = None
) -> UpstreamError:
    """Turn INVALID_ARGUMENT into an error of the request; return any other failure unchanged.

    An image that Google cannot open must not look like a refused API key, although both are 400
    (docs/model.md#errors). Google says only "contents" about a file that it cannot read, so the message names
    the files. The error carries Google's own message for the caller, whose words it may repeat; what it
    reveals about the deployment is redacted.
    """
    if failure.upstream_status != httpx2.codes.BAD_REQUEST or failure.reason != "INVALID_ARGUMENT":
        return failure
    kind = UpstreamInvalidRequest
    if _FOREIGN_SIGNATURE.search(str(_parse_error(exchange.body).get("message", ""))):
        kind = ForeignSignature
    return kind(
        f"{failure.detail}{_describe_files(request, exchange)}",
        upstream_status=failure.upstream_status,
        reason=failure.reason,
        billed=failure.billed,
    ).with_attributes(verbatim=redact(exchange.body.decode(errors="replace"), project))


def _describe_files(request: GenerationRequest, exchange: Exchange) -> str:
    """A sentence that names the files that Google points to, else all; empty if it is not about files."""
    details = _get_list(_parse_error(exchange.body).get("details"))
    paths = list(_find_field_paths([item for item in details if isinstance(item, Mapping)]))
    if not request.inputs or not all(path.startswith("contents") for path in paths):
        return ""
    pointed_to = []
    if request.verbatim is None and request.earlier is None:
        # In a body that the gateway wrote, the files come first, one a part.
        matches = (_FIRST_PARTS.match(path) for path in paths)
        indexes = [int(match[1]) for match in matches if match is not None]
        pointed_to = [request.inputs[index] for index in indexes if index < len(request.inputs)]
    named = pointed_to or request.inputs
    listed = ", ".join(_describe_file(item) for item in named[:_FILES_NAMED_MAX])
    more = ""
    if len(named) > _FILES_NAMED_MAX:
        more = f" and {len(named) - _FILES_NAMED_MAX} more"
    if pointed_to:
        return f" It points to {listed}."
    return f" The files were {listed}{more}."


def _describe_file(item: Input) -> str:
    size = ""
    if item.width and item.height:
        size = f", {item.width} x {item.height}"
    return f"{item.pointer} ({item.mime_type or item.declared_mime_type}{size})"


def _parse_error(body: bytes) -> Mapping[str, Any]:
    """The ``error`` object of an error body, alone or first in a list; empty for any other body."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(value, list) and value:
        value = value[0]
    error = None
    if isinstance(value, Mapping):
        error = value.get("error")
    if isinstance(error, Mapping):
        return error
    return {}


def _get_list(value: object) -> list[Any]:
    if isinstance(value, list):
        return value
    return []


def _filter_by_type(details: list[Mapping[str, Any]], name: str) -> Iterator[Mapping[str, Any]]:
    return (item for item in details if str(item.get("@type", "")).endswith(f"google.rpc.{name}"))


def _find_reasons(details: list[Mapping[str, Any]]) -> Iterator[str]:
    """Reasons of ErrorInfo, which are more precise than the status, such as ``API_KEY_INVALID``."""
    return filter(None, (parse_reason(item.get("reason")) for item in _filter_by_type(details, "ErrorInfo")))


def _find_field_paths(details: list[Mapping[str, Any]]) -> Iterator[str]:
    for item in _filter_by_type(details, "BadRequest"):
        for violation in _get_list(item.get("fieldViolations")):
            if isinstance(violation, Mapping):
                yield str(violation.get("field", ""))


def _find_quotas(details: list[Mapping[str, Any]]) -> Iterator[str]:
    for item in _filter_by_type(details, "QuotaFailure"):
        for violation in _get_list(item.get("violations")):
            if isinstance(violation, Mapping):
                yield str(violation.get("quotaId", ""))


def _compute_retry_after(
    headers: httpx2.Headers, details: list[Mapping[str, Any]], quotas: list[str], now: datetime
) -> int | None:
    """The longest wait that the response asks for, in whole seconds, at most a day, or None."""
    waits = [_parse_retry_after(headers.get("retry-after", ""), now)]
    for item in _filter_by_type(details, "RetryInfo"):
        match = _DURATION.fullmatch(str(item.get("retryDelay", "")))
        if match is not None:
            waits.append(int(match[1]) + 1)
    if any("PerDay" in quota for quota in quotas):
        waits.append(_compute_quota_reset(now))
    known = [wait for wait in waits if wait is not None]
    if not known:
        return None
    return min(max(known), _RETRY_AFTER_MAX_S)


def _parse_retry_after(value: str, now: datetime) -> int | None:
    """Seconds of a Retry-After header in either form (RFC 9110 section 10.2.3), or None."""
    if value.isascii() and value.isdigit():
        return int(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, round((moment - now).total_seconds()))


def _compute_quota_reset(now: datetime) -> int:
    """Seconds until midnight Pacific time, when Google's daily quotas reset."""
    local = now.astimezone(_QUOTA_DAY_ZONE)
    midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((midnight.astimezone(UTC) - now.astimezone(UTC)).total_seconds()) + 1
