"""OpenAI's envelope for every error that there is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from app.domain.errors import (
    BodyTooLarge,
    BudgetExceeded,
    ContentBlocked,
    DeadlineExceeded,
    GatewayError,
    InternalError,
    ModelRefused,
    Overloaded,
    StoreUnavailable,
    Unauthenticated,
    UpstreamError,
    UpstreamNoImage,
    UpstreamQuota,
    ValidationFailed,
    Violation,
)
from app.domain.failure import list_error_classes
from app.domain.generation import Usage
from app.surfaces.errors import build_error_response, find_envelope
from app.surfaces.native.errors import build_problem_response
from app.surfaces.openai.errors import (
    build_openai_response,
    classify_error,
    render_openai_error,
    should_retry,
)

if TYPE_CHECKING:
    from starlette.responses import Response

SPENT = Usage(text_input=8)


def violations(*found: tuple[str, str]) -> ValidationFailed:
    return ValidationFailed(tuple(Violation(pointer, code, f"{code}.") for pointer, code in found))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unauthenticated(), (401, "invalid_request_error", "invalid_api_key")),
        (BudgetExceeded("x", (), 60), (429, "insufficient_quota", "insufficient_quota")),
        (UpstreamQuota("x"), (429, "requests", "rate_limit_exceeded")),
        (ContentBlocked("x", reason="SAFETY"), (400, "image_generation_user_error", "moderation_blocked")),
        (ModelRefused("x", reason="STOP"), (400, "image_generation_user_error", "model_refused")),
        (BodyTooLarge(), (413, "invalid_request_error", "body_too_large")),
        (InternalError(), (500, "server_error", "internal")),
        (StoreUnavailable(), (503, "server_error", "store_unavailable")),
        (violations(("/n", "x")), (400, "invalid_request_error", "invalid_value")),
        (violations(("/x", "unknown_field")), (400, "invalid_request_error", "unknown_parameter")),
        (violations(("/p", "required")), (400, "invalid_request_error", "missing_required_parameter")),
        (violations(("/n", "wrong_type")), (400, "invalid_request_error", "invalid_type")),
        (violations(("/model", "model_not_allowed")), (404, "invalid_request_error", "model_not_found")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_named_as_the_original_names_it(error: GatewayError, kind: tuple[int, str, str]) -> None:
    status, members = render_openai_error(error)
    assert (status, members["type"], members["code"]) == kind


@pytest.mark.parametrize("error", list_error_classes(), ids=lambda error: error.__name__)
def test_no_error_has_a_status_that_the_original_has_not(error: type[GatewayError]) -> None:
    kind = classify_error(error)
    assert kind.status != 422
    assert (kind.status == error.status) != (error.status == 422)
    assert (kind.type == "server_error") == (kind.status >= 500)


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (UpstreamError("x"), True),
        (UpstreamError("x", billed="maybe"), False),
        (UpstreamError("x", billed="yes", usage=SPENT), False),
        (UpstreamNoImage("x", usage=SPENT), False),
        (DeadlineExceeded("x", billed="maybe"), False),
        (DeadlineExceeded("x"), True),
        (BudgetExceeded("x", (), 60), False),
        (Overloaded("x", retry_after_s=1), True),
        (StoreUnavailable(), True),
        (ContentBlocked("x", reason="SAFETY", usage=SPENT), False),
        (InternalError(), False),
        (Unauthenticated(), False),
    ],
    ids=repr,
)
def test_a_retry_is_invited_only_where_it_is_free_and_can_help(error: GatewayError, answer: bool) -> None:
    assert should_retry(error) is answer
    assert build_openai_response(error, "id", "/openai/v1").headers["x-should-retry"] == str(answer).lower()


def test_every_fault_is_in_the_message_and_the_model_goes_first() -> None:
    status, members = render_openai_error(
        violations(("/size", "a"), ("/model", "unknown_model"), ("/image/1", "b"))
    )
    assert (status, members["param"]) == (404, "model")
    assert members["message"] == "size: a. model: unknown_model. image: b."
    assert [item["pointer"] for item in members["violations"]] == ["/size", "/model", "/image/1"]


def test_a_param_is_the_fields_own_name() -> None:
    assert render_openai_error(violations(("/a~1b~0c/0", "x")))[1]["param"] == "a/b~c"
    assert render_openai_error(violations(("", "x")))[1]["param"] is None


def body_of(response: Response) -> object:
    return json.loads(bytes(response.body))


@pytest.mark.parametrize("path", ["/openai", "/openai/", "/openai/v1/images/generations", "/openai/nowhere"])
def test_its_paths_answer_in_its_dialect(path: str) -> None:
    response = build_error_response(StoreUnavailable("x", retry_after_s=3), "id", path, {"Allow": "GET"})
    assert body_of(response) == {
        "error": {"message": "x", "type": "server_error", "param": None, "code": "store_unavailable"}
    }
    assert response.headers["content-type"] == "application/json"
    assert (response.headers["retry-after"], response.headers["allow"]) == ("3", "GET")


@pytest.mark.parametrize("path", ["/", "/openaix", "/v1/images:generate", "/v1/openai/x"])
def test_other_paths_do_not(path: str) -> None:
    assert find_envelope(path) is build_problem_response


def test_what_a_failure_cost_is_told() -> None:
    members = render_openai_error(ContentBlocked("x", reason="SAFETY", usage=SPENT))[1]
    assert members["usage"] == {"input_tokens": 8, "output_tokens": 0, "total_tokens": 8}
