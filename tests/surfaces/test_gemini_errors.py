"""Google's envelope for every error that there is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain.errors import (
    BodyTooLarge,
    BudgetExceeded,
    DeadlineExceeded,
    GatewayError,
    InternalError,
    NotFound,
    Overloaded,
    PermissionDenied,
    RateLimited,
    StoreUnavailable,
    Unauthenticated,
    UnsupportedContentEncoding,
    UpstreamError,
    UpstreamQuota,
    UpstreamRejected,
    ValidationFailed,
    Violation,
)
from app.domain.failure import list_error_classes
from app.domain.rate import RateLimit, RateState
from app.surfaces.errors import build_error_response
from app.surfaces.gemini.errors import map_status

GEMINI = "/gemini/v1beta/models/m:generateContent"
VERTEX = "/gemini/v1beta1/projects/p/locations/l/publishers/google/models/m:generateContent"


def error_of(error: GatewayError, path: str = GEMINI) -> dict[str, Any]:
    """The members of ``error``; the HTTP status is the same as the body's."""
    response = build_error_response(error, "request-1", path)
    found: dict[str, Any] = json.loads(bytes(response.body))["error"]
    assert response.status_code == found["code"]
    return found


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unauthenticated(), (400, "INVALID_ARGUMENT")),
        (PermissionDenied(), (403, "PERMISSION_DENIED")),
        (NotFound(), (404, "NOT_FOUND")),
        (BodyTooLarge(), (413, "INVALID_ARGUMENT")),
        (ValidationFailed((Violation("/prompt", "x", "X."),)), (400, "INVALID_ARGUMENT")),
        (ValidationFailed((Violation("/model", "unknown_model", "X."),)), (404, "NOT_FOUND")),
        (ValidationFailed((Violation("/model", "model_not_allowed", "X."),)), (404, "NOT_FOUND")),
        (UpstreamQuota("x"), (429, "RESOURCE_EXHAUSTED")),
        (InternalError(), (500, "INTERNAL")),
        (UpstreamError("x"), (500, "INTERNAL")),
        (UpstreamRejected("x"), (500, "INTERNAL")),
        (Overloaded(), (503, "UNAVAILABLE")),
        (StoreUnavailable(), (503, "UNAVAILABLE")),
        (DeadlineExceeded("x"), (504, "DEADLINE_EXCEEDED")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_statuses_are_those_that_the_original_would_use(
    error: GatewayError, expected: tuple[int, str]
) -> None:
    found = error_of(error)
    assert (found["code"], found["status"]) == expected


@pytest.mark.parametrize("error", [each for each in list_error_classes() if each is not ValidationFailed])
def test_every_error_has_a_status_of_google(error: type[GatewayError]) -> None:
    code, status = map_status(error.__new__(error), GEMINI)
    assert status != "UNKNOWN"
    # RFC 9110 has one answer to an encoding that is not read, whatever the dialect.
    others = {415} if error is UnsupportedContentEncoding else set()
    assert code not in {410, 415, 422, 502} - others, "the original never answers so"


def test_a_wrong_key_is_refused_in_the_words_of_either_service() -> None:
    developer, vertex = error_of(Unauthenticated()), error_of(Unauthenticated(), VERTEX)
    assert developer["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
            "metadata": {"service": "generativelanguage.googleapis.com"},
        }
    ]
    assert (vertex["code"], vertex["status"]) == (401, "UNAUTHENTICATED")
    assert "www-authenticate" in build_error_response(Unauthenticated(), "r", VERTEX).headers
    assert "www-authenticate" not in build_error_response(Unauthenticated(), "r", GEMINI).headers


def test_faults_are_named_with_what_would_be_accepted() -> None:
    found = error_of(
        ValidationFailed(
            (
                Violation("/aspect_ratio", "unsupported_aspect_ratio", "No.", ("1:1", "16:9")),
                Violation("", "odd", "All of it."),
            )
        )
    )
    path = "generation_config.image_config.aspect_ratio"
    assert found["message"] == f"{path}: No. Accepted: 1:1, 16:9.\nbody: All of it."
    assert found["details"][0]["fieldViolations"][0] == {
        "field": path,
        "description": "No. Accepted: 1:1, 16:9.",
        "reason": "UNSUPPORTED_ASPECT_RATIO",
    }
    info = found["details"][1]
    assert (info["reason"], info["metadata"]) == ("VALIDATION_FAILED", {"requestId": "request-1"})


def test_a_wait_is_told_in_the_header_and_the_details() -> None:
    error = BudgetExceeded("x", (), 7)
    assert build_error_response(error, "r", GEMINI).headers["retry-after"] == "7"
    by_type = {item["@type"].rpartition(".")[2]: item for item in error_of(error)["details"]}
    assert by_type["RetryInfo"]["retryDelay"] == "7s"
    endless = error_of(BudgetExceeded("x", (), None))["details"]
    assert not [item for item in endless if item["@type"].endswith("RetryInfo")]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("requests", "The tenant may make 9 requests a minute; try again in 1 s."),
        ("concurrent", "The tenant may have 9 requests under way at once; try again in 1 s."),
    ],
)
def test_a_rate_is_googles_quota_too(kind: Any, sentence: str) -> None:
    state = RateState(RateLimit(kind, "tenant", "t", 9), 0, 1000, 1000, refused=True)
    found = error_of(RateLimited("x", (state,), 1))
    assert (found["code"], found["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert found["details"][0]["violations"] == [
        {
            "subject": f"tenant:tenant-{kind}",
            "description": sentence,
            "quotaMetric": f"flashgate/{kind}",
            "quotaId": f"tenant-{kind}",
            "quotaValue": "9",
        }
    ]
