"""What a prompt can ask the emulator to rehearse, as data.

It is asked for by ``[[emulate:NAME]]`` or ``[[emulate:NAME:ARGUMENT]]`` inside the prompt. Several may
stand in one prompt; they are not drawn. Faults that take a number of ``times`` hit only the first so many
calls of that very request, so that retries can be seen to succeed.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from app.emulator.errors import HELP, QUOTA_FAILURE, RETRY_INFO, FieldFault, GoogleError, error_info
from app.emulator.errors import invalid_argument as _invalid_argument

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIRECTIVE = re.compile(r"\[\[emulate:([a-z0-9-]+)(?::([^\]\s]{1,64}))?\]\]")
_DELAY_S_MAX = 600.0
Argument = Literal["none", "times", "seconds", "name"]
Delivery = Literal["whole", "truncated", "reset", "broken", "trickled", "stream-error", "stream-cut"]


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An HTTP error in place of a generation. An empty ``status`` is a front end's HTML page."""

    code: int
    status: str
    message: str
    details: tuple[Mapping[str, Any], ...] = ()

    def raised(self) -> GoogleError:
        """The exception that produces it."""
        return GoogleError(self.code, self.status, self.message, tuple(dict(item) for item in self.details))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one answer departs from the plain one; the defaults are the plain one.

    Attributes:
        error: Answered instead of generating.
        block_reason: The prompt was blocked: no candidates at all.
        finish_reason: Of the one candidate.
        finish_message: Beside it, where Google explains itself.
        words: The text instead of a picture, or None.
        pictures: How many are delivered.
        only_thought: The picture is delivered as a thought and not again.
        other_size: The size asked for is ignored.
        usage: Whether the answer reports any.
        model_stage: Reported as ``modelStatus``, or None.
        delivery: How the bytes leave.
        pretty: JSON with line breaks and two spaces.
        escaped_padding: ``=`` in base64 is written as its escape.
        delay_s: Seconds before the answer.
        gate: The answer is held until this gate is released.
    """

    error: ErrorAnswer | None = None
    block_reason: str | None = None
    finish_reason: str = "STOP"
    finish_message: str | None = None
    words: str | None = None
    pictures: int = 1
    only_thought: bool = False
    other_size: bool = False
    usage: bool = True
    model_stage: str | None = None
    delivery: Delivery = "whole"
    pretty: bool = False
    escaped_padding: bool = False
    delay_s: float = 0.0
    gate: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """One rehearsal: what it is for, what it changes, and what its argument means."""

    summary: str
    behaviour: Behaviour = Behaviour()
    argument: Argument = "none"


def _error(summary: str, code: int, status: str, message: str, *details: Mapping[str, Any]) -> Fault:
    return Fault(summary, Behaviour(error=ErrorAnswer(code, status, message, details)), "times")


def _no_picture(summary: str, reason: str, message: str | None = None) -> Fault:
    return Fault(summary, Behaviour(finish_reason=reason, finish_message=message, pictures=0))


def _filtered(support_code: str) -> str:
    return (
        "Unable to show the generated image. The image was filtered out because it violated Google's"
        " Responsible AI practices. Try rephrasing the prompt. If you think this was an error, send feedback."
        f" Support code: {support_code}."
    )


def _quota(quota_id: str, value: str, retry_delay: str) -> tuple[dict[str, Any], ...]:
    return (
        {
            "@type": QUOTA_FAILURE,
            "violations": [
                {
                    "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
                    "quotaId": quota_id,
                    "quotaDimensions": {"location": "global", "model": "gemini-3.1-flash-image"},
                    "quotaValue": value,
                }
            ],
        },
        {
            "@type": HELP,
            "links": [
                {
                    "description": "Learn more about Gemini API quotas",
                    "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
                }
            ],
        },
        {"@type": RETRY_INFO, "retryDelay": retry_delay},
    )


_QUOTA_WORDS = "You exceeded your current quota, please check your plan and billing details."
_OVERLOADED = "The model is overloaded. Please try again later."
_LATE = "Deadline expired before operation could complete."
_INTERNAL = (
    "An internal error has occurred. Please retry or report in"
    " https://developers.generativeai.google/guide/troubleshooting"
)
_REFUSAL = "I can't create that picture. Would you like to try another idea?"
_LEAKED = "Your API key was reported as leaked. Please use another API key."
_GONE = "This model models/gemini-3.1-flash-image is no longer available."
_BAD_KEY = "API key not valid. Please pass a valid API key."
_KEY_INFO = error_info("API_KEY_INVALID", service="generativelanguage.googleapis.com")
_DISABLED_INFO = error_info("SERVICE_DISABLED", service="generativelanguage.googleapis.com")

FAULTS: Mapping[str, Fault] = {
    # The safety layers (model.md B3).
    "blocked-prompt": Fault("the prompt filter", Behaviour(block_reason="PROHIBITED_CONTENT")),
    "blocked-safety": Fault("the prompt filter, as SAFETY", Behaviour(block_reason="SAFETY")),
    "text-only": Fault("the model refuses in words", Behaviour(pictures=0, words=_REFUSAL)),
    "image-safety": _no_picture("the output filter", "IMAGE_SAFETY", _filtered("63429089")),
    "image-prohibited": _no_picture("the output filter", "IMAGE_PROHIBITED_CONTENT", _filtered("11030041")),
    "image-recitation": _no_picture("too like an existing work", "IMAGE_RECITATION", _filtered("29578790")),
    "image-other": _no_picture("no picture, no reason", "IMAGE_OTHER", _filtered("42876398")),
    "no-image": _no_picture("no picture was made", "NO_IMAGE"),
    "safety": _no_picture("the text filter on the answer", "SAFETY"),
    "other": _no_picture("ended for no stated reason", "OTHER"),
    "max-tokens": _no_picture("ran out of output tokens", "MAX_TOKENS"),
    # Answers of unusual shape (model.md B7, B8).
    "unknown-finish-reason": Fault(
        "a picture with a new word", Behaviour(finish_reason="IMAGE_FINISHED_2027")
    ),
    "unknown-no-image": _no_picture("a new word and no picture", "IMAGE_WITHHELD_2027"),
    "no-usage": Fault("usageMetadata is missing", Behaviour(usage=False)),
    "two-images": Fault("two pictures in one candidate", Behaviour(pictures=2)),
    "thought-only-image": Fault("the picture is only in a thought", Behaviour(only_thought=True)),
    "wrong-size": Fault("imageSize is ignored", Behaviour(other_size=True)),
    "model-deprecated": Fault("modelStatus says so", Behaviour(model_stage="DEPRECATED")),
    "escaped-padding": Fault("= as an escape in base64", Behaviour(escaped_padding=True)),
    "pretty": Fault("JSON over many lines", Behaviour(pretty=True)),
    # Errors (model.md A4).
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
    "not-found": _error("the model is gone", 404, "NOT_FOUND", _GONE),
    "too-large": _error("the front end's limit", 413, "", "Your client issued a request that was too large."),
    "quota": _error(
        "a minute's quota is used up",
        429,
        "RESOURCE_EXHAUSTED",
        _QUOTA_WORDS,
        *_quota("GenerateRequestsPerMinutePerProjectPerModel", "1000", "34.07s"),
    ),
    "quota-day": _error(
        "a day's quota is used up",
        429,
        "RESOURCE_EXHAUSTED",
        _QUOTA_WORDS,
        *_quota("GenerateRequestsPerDayPerProjectPerModel", "250", "41.5s"),
    ),
    "quota-zero": _error(
        "the free tier has none",
        429,
        "RESOURCE_EXHAUSTED",
        _QUOTA_WORDS,
        *_quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "0", "34.074824224s"),
    ),
    "exhausted": _error(
        "shared capacity", 429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."
    ),
    "internal": _error("a transient fault", 500, "INTERNAL", _INTERNAL),
    "bad-gateway": _error("a front end's page", 502, "", "The server encountered a temporary error."),
    "unavailable": _error("the model is overloaded", 503, "UNAVAILABLE", _OVERLOADED),
    "deadline": _error("too slow for Google itself", 504, "DEADLINE_EXCEEDED", _LATE),
    "overloaded-proxy": _error("a status outside the standard", 529, "", "Overloaded."),
    # The wire.
    "reset": Fault("the connection is reset mid-body", Behaviour(delivery="reset"), "times"),
    "truncated": Fault("the connection ends mid-body", Behaviour(delivery="truncated"), "times"),
    "broken-json": Fault("200 with half a document", Behaviour(delivery="broken"), "times"),
    "trickled": Fault("the body comes in small pieces", Behaviour(delivery="trickled")),
    "stream-error": Fault("an error inside the stream", Behaviour(delivery="stream-error"), "times"),
    "stream-cut": Fault("the stream ends early", Behaviour(delivery="stream-cut"), "times"),
    # Time.
    "slow": Fault("the answer takes so many seconds", argument="seconds"),
    "hold": Fault("the answer waits for POST /emulator/release/NAME", argument="name"),
}


def directives(prompt: str) -> list[tuple[str, str]]:
    """The (name, argument) pairs in a prompt, in order; the argument may be empty."""
    return [(found[1], found[2] or "") for found in _DIRECTIVE.finditer(prompt)]


def without_directives(prompt: str) -> str:
    """The prompt as it is drawn."""
    return _DIRECTIVE.sub("", prompt).strip()


def behaviour_for(prompt: str, attempt: int) -> Behaviour:
    """What this prompt asks for at its ``attempt``-th call, counted from 1.

    Raises GoogleError 400 for a name that is not in the table or an argument that does not fit, so that a
    misspelt rehearsal cannot pass for a success.
    """
    combined = Behaviour()
    for name, argument in directives(prompt):
        fault = FAULTS.get(name)
        if fault is None:
            raise _misspelt(f"There is no rehearsal called {name}; there are {', '.join(FAULTS)}.")
        combined = _overlaid(combined, _applied(name, fault, argument, attempt))
    return combined


def _applied(name: str, fault: Fault, argument: str, attempt: int) -> Behaviour:
    match fault.argument:
        case "times" if argument.isdecimal():
            return fault.behaviour if attempt <= int(argument) else Behaviour()
        case "seconds" if re.fullmatch(r"[0-9]+(\.[0-9]+)?", argument) and float(argument) <= _DELAY_S_MAX:
            return Behaviour(delay_s=float(argument))
        case "name" if argument:
            return Behaviour(gate=argument)
        case "none" | "times" if not argument:
            return fault.behaviour
        case _:
            raise _misspelt(f"The rehearsal {name} takes another argument ({fault.argument}).")


def _overlaid(below: Behaviour, above: Behaviour) -> Behaviour:
    plain = Behaviour()
    changed = {
        field.name: getattr(above, field.name)
        for field in dataclasses.fields(Behaviour)
        if getattr(above, field.name) != getattr(plain, field.name)
    }
    return dataclasses.replace(below, **changed)


def _misspelt(sentence: str) -> GoogleError:
    return _invalid_argument(FieldFault("contents", sentence))
