"""Google's error responses: one exception and its bodies."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
QUOTA_FAILURE = "type.googleapis.com/google.rpc.QuotaFailure"
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
HELP = "type.googleapis.com/google.rpc.Help"

QUOTA_WORDS = "You exceeded your current quota, please check your plan and billing details."
PROJECT_CAP = (
    "Your project has exceeded its monthly spending cap. Please go to AI Studio at https://ai.studio/spend to"
    " manage your project spend cap. Learn more at"
    " https://ai.google.dev/gemini-api/docs/billing#project-spend-caps. "
)


@dataclass(frozen=True, slots=True)
class FieldFault:
    """A fault of a request: the field's path in snake_case, which may be empty, and a sentence."""

    field: str
    description: str


class GoogleError(Exception):
    """What Google answers instead of a result (docs/model.md#errors).

    Args:
        code: HTTP status.
        status: ``google.rpc.Code`` by name; empty where a front end answers HTML instead of JSON.
        message: The sentence for people.
        details: ``google.rpc`` messages in their JSON form, each with its ``@type``.
    """

    def __init__(
        self, code: int, status: str, message: str, details: tuple[dict[str, Any], ...] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message
        self.details = details

    def document(self) -> dict[str, Any]:
        """The JSON body."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = list(self.details)
        return {"error": error}

    def html(self) -> str:
        """The page that Google's front end sends where the API itself was not reached."""
        phrase = next((known.phrase for known in HTTPStatus if known == self.code), "Error")
        return (
            f"<!DOCTYPE html>\n<html lang=en>\n<title>Error {self.code} ({phrase})!!1</title>\n"
            f"<p><b>{self.code}.</b> <ins>That's an error.</ins>\n<p>{self.message}\n"
        )


def invalid_argument(*faults: FieldFault) -> GoogleError:
    """400 with one ``fieldViolation`` a fault; the message holds all their sentences."""
    violations = []
    for fault in faults:
        violation = {"description": fault.description}
        if fault.field:
            violation = {"field": fault.field, **violation}
        violations.append(violation)
    return GoogleError(
        400,
        "INVALID_ARGUMENT",
        "\n".join(fault.description for fault in faults),
        ({"@type": BAD_REQUEST, "fieldViolations": violations},),
    )


def error_info(reason: str, **metadata: str) -> dict[str, Any]:
    """``google.rpc.ErrorInfo`` of googleapis.com."""
    return {"@type": ERROR_INFO, "reason": reason, "domain": "googleapis.com", "metadata": metadata}


def build_quota_details(
    quota_id: str, value: str, retry_delay: str, model: str = "gemini-3.1-flash-image"
) -> tuple[dict[str, Any], ...]:
    """``details`` of a 429: which quota is used up, and when to try again."""
    return (
        {
            "@type": QUOTA_FAILURE,
            "violations": [
                {
                    "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
                    "quotaId": quota_id,
                    "quotaDimensions": {"location": "global", "model": model},
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
