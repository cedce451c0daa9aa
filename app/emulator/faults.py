"""The rehearsals: everything that a prompt or a rule can ask the emulator to do, as a table.

Each changes how one answer behaves. Some take an argument, which is either a number of ``times`` (it hits
only the first so many calls of that very request, so that retries can be seen to succeed) or fills one field
of the behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from app.emulator.behaviour import PLAIN, Behaviour, ErrorAnswer
from app.emulator.errors import PROJECT_CAP, QUOTA_WORDS, FieldFault, build_quota_details, error_info
from app.emulator.errors import invalid_argument as _invalid_argument

if TYPE_CHECKING:
    from collections.abc import Mapping

Argument = Literal["none", "times", "seconds", "name", "reason", "code", "count", "queries", "megabytes"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One rehearsal.

    Attributes:
        summary: What it is for.
        behaviour: What it changes.
        argument: What its argument means: ``none`` takes none; ``times`` and ``count`` may be left out.
        fills: The field of the behaviour that the argument becomes, or empty.
    """

    summary: str
    behaviour: Behaviour = PLAIN
    argument: Argument = "none"
    fills: str = ""


def _error(summary: str, code: int, status: str, message: str, *details: Mapping[str, Any]) -> Fault:
    return Fault(summary, Behaviour(error=ErrorAnswer(code, status, message, details)), "times")


def _no_picture(summary: str, reason: str, support_code: str | None = None) -> Fault:
    return Fault(summary, Behaviour(finish_reason=reason, support_code=support_code, pictures=0))


_ACCOUNT_CAP = (
    "Your billing account has exceeded its monthly spending cap. Please go to AI Studio at"
    " https://ai.studio/billing to manage your billing. Learn more at"
    " https://ai.google.dev/gemini-api/docs/billing#tier-spend-caps. "
)
_NO_CREDIT = (
    "Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects to manage"
    " your project and billing."
)
_OVERLOADED = "The model is overloaded. Please try again later."
_LATE = "Deadline expired before operation could complete."
_INTERNAL = (
    "An internal error has occurred. Please retry or report in"
    " https://developers.generativeai.google/guide/troubleshooting"
)
_REFUSAL = "I can't create that picture. Would you like to try another idea?"
_LEAKED = "Your API key was reported as leaked. Please use another API key."
_MODEL_RETIRED = "This model models/gemini-3.1-flash-image is no longer available."
_BAD_KEY = "API key not valid. Please pass a valid API key."
_KEY_INFO = error_info("API_KEY_INVALID", service="generativelanguage.googleapis.com")
_DISABLED_INFO = error_info("SERVICE_DISABLED", service="generativelanguage.googleapis.com")

FAULTS: Mapping[str, Fault] = {
    # The safety layers (docs/model.md#refusals).
    "blocked-prompt": Fault("the prompt filter", Behaviour(block_reason="PROHIBITED_CONTENT")),
    "blocked-safety": Fault("the prompt filter, as SAFETY", Behaviour(block_reason="SAFETY")),
    "text-only": Fault("the model refuses in words", Behaviour(pictures=0, words=_REFUSAL)),
    "image-safety": _no_picture("the output filter", "IMAGE_SAFETY", "63429089"),
    "image-prohibited": _no_picture("the output filter", "IMAGE_PROHIBITED_CONTENT", "11030041"),
    "image-recitation": _no_picture("too like an existing work", "IMAGE_RECITATION", "29578790"),
    "image-other": _no_picture("no picture, no reason", "IMAGE_OTHER", "42876398"),
    "no-image": _no_picture("no picture was made", "NO_IMAGE"),
    "safety": _no_picture("the text filter on the answer", "SAFETY"),
    "other": _no_picture("ended for no stated reason", "OTHER"),
    "max-tokens": _no_picture("ran out of output tokens", "MAX_TOKENS"),
    "finish": Fault("no picture, and this finish reason", Behaviour(pictures=0), "reason", "finish_reason"),
    "block": Fault("the prompt filter, with this block reason", argument="reason", fills="block_reason"),
    "support-code": Fault("Google's number for a refusal", argument="code", fills="support_code"),
    # Answers of unusual shape (docs/model.md#unusual-answers).
    "unknown-finish-reason": Fault(
        "a picture with a new word", Behaviour(finish_reason="IMAGE_FINISHED_2027")
    ),
    "unknown-no-image": _no_picture("a new word and no picture", "IMAGE_WITHHELD_2027"),
    "no-usage": Fault("usageMetadata is missing", Behaviour(usage=False)),
    "two-images": Fault("two pictures in one candidate", Behaviour(pictures=2)),
    "greedy": Fault("as much as the bound on output allows", Behaviour(appetite="greedy")),
    "over": Fault("more than the bound on output allows", Behaviour(appetite="over")),
    "thought-only-image": Fault("the picture is only in a thought", Behaviour(only_thought=True)),
    "wrong-size": Fault("imageSize is ignored", Behaviour(other_size=True)),
    "thoughts": Fault("thoughts and interim pictures, unasked", Behaviour(thoughts=1), "count", "thoughts"),
    "cached": Fault("half of the prompt from Google's cache", Behaviour(cached=True)),
    "searches": Fault("so many queries, if searches are allowed", argument="queries", fills="queries"),
    "png": Fault("PNG, whatever was asked for", Behaviour(mime_type="image/png")),
    "webp": Fault("WebP, whatever was asked for", Behaviour(mime_type="image/webp")),
    "mislabelled": Fault("a WebP that is called a PNG", Behaviour(mime_type="image/webp", label="image/png")),
    "damaged": Fault("bytes that are no picture", Behaviour(damaged=True)),
    "huge": Fault("so many MiB behind each picture", argument="megabytes", fills="ballast_mib"),
    "answered-by": Fault("another model answers", argument="name", fills="model_version"),
    "model-deprecated": Fault("modelStatus says so", Behaviour(model_stage="DEPRECATED")),
    "escaped-padding": Fault("= as an escape in base64", Behaviour(escaped_padding=True)),
    "url-safe": Fault("base64 in its other alphabet", Behaviour(url_safe=True)),
    "pretty": Fault("JSON over many lines", Behaviour(pretty=True)),
    # Errors (docs/model.md#errors).
    "invalid": Fault(
        "refused as invalid",
        Behaviour(
            error=ErrorAnswer(
                400,
                "INVALID_ARGUMENT",
                "Request contains an invalid argument.",
                _invalid_argument(FieldFault("contents", "Request contains an invalid argument.")).details,
            )
        ),
        "times",
    ),
    "bad-key": _error("the key is not valid", 400, "INVALID_ARGUMENT", _BAD_KEY, _KEY_INFO),
    "precondition": _error(
        "billing is off", 400, "FAILED_PRECONDITION", "User location is not supported for the API use."
    ),
    "unauthenticated": _error(
        "the token has expired", 401, "UNAUTHENTICATED", "Request had invalid authentication credentials."
    ),
    "permission-denied": _error("the key is blocked", 403, "PERMISSION_DENIED", _LEAKED, _DISABLED_INFO),
    "not-found": _error("the model is gone", 404, "NOT_FOUND", _MODEL_RETIRED),
    "too-large": _error("the front end's limit", 413, "", "Your client issued a request that was too large."),
    "quota": _error(
        "a minute's quota is used up",
        429,
        "RESOURCE_EXHAUSTED",
        QUOTA_WORDS,
        *build_quota_details("GenerateRequestsPerMinutePerProjectPerModel", "1000", "34.07s"),
    ),
    "quota-day": _error(
        "a day's quota is used up",
        429,
        "RESOURCE_EXHAUSTED",
        QUOTA_WORDS,
        *build_quota_details("GenerateRequestsPerDayPerProjectPerModel", "250", "41.5s"),
    ),
    "quota-zero": _error(
        "the free tier has none",
        429,
        "RESOURCE_EXHAUSTED",
        QUOTA_WORDS,
        *build_quota_details("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "0", "34.074824224s"),
    ),
    "spending-cap": _error("the project's cap", 429, "RESOURCE_EXHAUSTED", PROJECT_CAP),
    "spending-cap-account": _error("the account's cap", 429, "RESOURCE_EXHAUSTED", _ACCOUNT_CAP),
    "credits-depleted": _error("prepaid credit is gone", 429, "RESOURCE_EXHAUSTED", _NO_CREDIT),
    "exhausted": _error(
        "shared capacity", 429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."
    ),
    "internal": _error("a transient fault", 500, "INTERNAL", _INTERNAL),
    "timeout": _error("a front end gave up waiting", 408, "", "The request took too long."),
    "cancelled": _error(
        "the caller is thought to have gone", 499, "CANCELLED", "The operation was cancelled."
    ),
    "bad-gateway": _error("a front end's page", 502, "", "The server encountered a temporary error."),
    "unavailable": _error("the model is overloaded", 503, "UNAVAILABLE", _OVERLOADED),
    "deadline": _error("too slow for Google itself", 504, "DEADLINE_EXCEEDED", _LATE),
    "overloaded-proxy": _error("a status outside the standard", 529, "", "Overloaded."),
    # The wire.
    "dropped": Fault("the connection ends before a byte", Behaviour(delivery="dropped"), "times"),
    "reset": Fault("the connection is reset mid-body", Behaviour(delivery="reset"), "times"),
    "truncated": Fault("the connection ends mid-body", Behaviour(delivery="truncated"), "times"),
    "broken-json": Fault("200 with half a document", Behaviour(delivery="broken"), "times"),
    "trickled": Fault("the body comes in small pieces", Behaviour(delivery="trickled")),
    "stream-error": Fault("an error inside the stream", Behaviour(delivery="stream-error"), "times"),
    "stream-cut": Fault("the stream ends early", Behaviour(delivery="stream-cut"), "times"),
    # Time.
    "slow": Fault("the answer takes so many seconds", argument="seconds", fills="delay_s"),
    "hold": Fault("the answer waits for POST /emulator/release/NAME", argument="name", fills="gate"),
}
