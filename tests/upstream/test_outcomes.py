"""The tables: every known status, finish reason and support code has one meaning, and no text leaks."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from app.cards import load_catalogue
from app.domain.errors import (
    ContentBlocked,
    UpstreamError,
    UpstreamQuota,
    UpstreamRejected,
    UpstreamSpendingCap,
    UpstreamUnavailable,
)
from app.domain.refusals import (
    BLOCKED,
    FILTERED,
    FINISHED,
    SUPPORT_CODES,
    UNFINISHED,
    classify_reason,
    find_category,
)
from app.domain.request import GenerationRequest, Input
from app.media.lifting import Lifter
from app.upstream.google.failures import (
    WITHOUT_IMAGE,
    attribute_to_request,
    build_failure,
    build_status_failure,
    parse_reason,
    parse_support_code,
)
from app.upstream.google.response import GoogleResponse, get_member, parse_usage
from app.upstream.google.transport import Exchange
from tests.upstream.server import png

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)  # 04:00 in California
SECRET = "a purple elephant"


def refusal(code: int, *details: Any, headers: dict[str, str] | None = None, **error: Any) -> UpstreamError:
    body = json.dumps({"error": {**error, "details": list(details)}}).encode()
    return build_status_failure(Exchange(status=code, headers=httpx2.Headers(headers or {}), body=body), NOON)


def detail(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **fields}


def test_every_finish_reason_of_the_sdk_has_one_meaning() -> None:
    assert WITHOUT_IMAGE.keys() == UNFINISHED
    meanings = [*FINISHED, *FILTERED, *UNFINISHED]
    assert sorted(meanings) == sorted(reason.value for reason in types.FinishReason)


def test_every_block_reason_of_the_sdk_has_one_meaning() -> None:
    assert sorted(BLOCKED) == sorted(reason.value for reason in types.BlockedReason)


@pytest.mark.parametrize(
    ("reason", "support_code", "category"),
    [
        ("IMAGE_SAFETY", None, "safety"),
        ("IMAGE_SAFETY", "56562880", "violence"),
        ("PROHIBITED_CONTENT", "58061214", "child"),
        ("SPII", "99999999", "personal_information"),
        ("JAILBREAK", None, "jailbreak"),
        ("A_REASON_OF_2028", None, "other"),
    ],
)
def test_the_kind_of_fault_is_told_by_the_number_and_else_by_the_reason(
    reason: str, support_code: str | None, category: str
) -> None:
    assert find_category(reason, support_code) == category


def test_a_new_reason_is_counted_under_one_word() -> None:
    assert [classify_reason(reason) for reason in ("STOP", "", "A_REASON_OF_2028")] == [
        "STOP",
        "none",
        "unknown",
    ]


def test_a_bad_key_comes_as_400_and_is_named() -> None:
    error = refusal(
        400, detail("ErrorInfo", reason="API_KEY_INVALID"), status="INVALID_ARGUMENT", message=SECRET
    )
    assert isinstance(error, UpstreamRejected)
    assert error.reason == "API_KEY_INVALID"
    assert SECRET not in error.detail


def test_field_paths_are_told_and_their_descriptions_are_not() -> None:
    violations = [
        {"field": "generation_config.image_config.aspect_ratio", "description": SECRET},
        {"field": SECRET, "description": "x"},
        "odd",
    ]
    error = refusal(400, detail("BadRequest", fieldViolations=violations), status="INVALID_ARGUMENT")
    assert "field generation_config.image_config.aspect_ratio." in error.detail
    assert SECRET not in error.detail


FILES = tuple(
    Input("image", f"/images/{at}", data=b"x", mime_type="image/png", width=9, height=at)
    for at in range(1, 15)
)
ALL = [f"/images/{at} (image/png, 9 x {at})" for at in range(1, 15)]


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        (["contents"], ALL),
        ([], ALL),
        (["contents[0].parts[3].inline_data.data"], ALL[3:4]),
        (["contents[0].parts[0]", "contents[0].parts[13]"], [ALL[0], ALL[13]]),
        (["contents[0].parts[14].text"], ALL),
        (["contents[1].parts[0]"], ALL),
        (["generation_config.image_config"], []),
        (["contents", "generation_config.seed"], []),
    ],
)
def test_the_files_of_a_request_that_google_refuses_are_named(paths: list[str], named: list[str]) -> None:
    violations = [{"field": path, "description": SECRET} for path in paths]
    failure = refusal(400, detail("BadRequest", fieldViolations=violations), status="INVALID_ARGUMENT")
    body = {
        "error": {"status": "INVALID_ARGUMENT", "details": [detail("BadRequest", fieldViolations=violations)]}
    }
    exchange = Exchange(status=400, body=json.dumps(body).encode())
    request = GenerationRequest(model="m", prompt=SECRET, images=FILES)
    found = attribute_to_request(failure, exchange, request)
    assert [each for each in ALL if f"{each}," in f"{found.detail[:-1]},"] == named
    assert SECRET not in found.detail
    without = attribute_to_request(failure, exchange, replace(request, images=()))
    assert without.detail == failure.detail


@pytest.mark.parametrize(
    ("headers", "details", "seconds"),
    [
        ({}, [], None),
        ({"retry-after": "7"}, [], 7),
        ({"retry-after": "Sun, 22 Nov 2026 12:01:30 GMT"}, [], 90),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, [], 0),
        ({"retry-after": "soon"}, [], None),
        ({"retry-after": "-5"}, [], None),
        ({"retry-after": "999999999999999999999"}, [], 86_400),
        ({}, [detail("RetryInfo", retryDelay="34.074824224s")], 35),
        ({"retry-after": "60"}, [detail("RetryInfo", retryDelay="34s")], 60),
        ({}, [detail("RetryInfo", retryDelay="soon"), detail("RetryInfo"), "odd"], None),
        ({}, [detail("QuotaFailure", violations=[{"quotaId": "RequestsPerDayPerProject"}])], 20 * 3600 + 1),
        ({}, [detail("QuotaFailure", violations=[{"quotaId": "RequestsPerMinute"}])], None),
    ],
)
def test_the_longest_wait_asked_for_wins(headers: dict[str, str], details: Any, seconds: int | None) -> None:
    error = refusal(429, *details, headers=headers)
    assert isinstance(error, UpstreamQuota)
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    ("status", "message", "known"),
    [
        (
            429,
            "Your project has exceeded its monthly spending cap. Please go to AI Studio",
            "project's monthly",
        ),
        (429, "Your billing account has exceeded its monthly spending cap.", "The account's monthly"),
        (429, "Your prepayment credits are depleted.", "prepaid credit"),
        (402, "Your prepayment credits are depleted.", "prepaid credit"),
        (429, "You exceeded your current quota, please check your plan and billing details.", None),
        (500, "Your project has exceeded its monthly spending cap.", None),
        (429, ["monthly spending cap"], None),
    ],
)
def test_a_spending_cap_is_told_from_a_quota_by_its_message(
    status: int, message: object, known: str | None
) -> None:
    document = {"error": {"code": status, "message": message, "status": "RESOURCE_EXHAUSTED"}}
    error = build_status_failure(Exchange(status=status, body=json.dumps(document).encode()), NOON)
    assert isinstance(error, UpstreamSpendingCap) == (known is not None)
    if known is not None:
        assert known in error.detail
        assert (error.billed, error.retryable, error.reason) == ("no", False, "RESOURCE_EXHAUSTED")


@given(
    st.integers(100, 999),
    st.one_of(
        st.binary(max_size=50),
        st.recursive(
            st.one_of(st.none(), st.text(max_size=5), st.integers()),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(["error", "details", "@type", "status", "violations"]), inner
                ),
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_no_refusal_can_crash_the_reader(status: int, body: bytes) -> None:
    error = build_status_failure(Exchange(status=status, body=body), NOON)
    assert error.upstream_status == status
    assert str(status) in error.detail


def test_what_was_never_sent_cannot_have_been_billed() -> None:
    for sent, billed in ((False, "no"), (True, "maybe")):
        for raised in (TimeoutError(), httpx2.ReadError(""), httpx2.WriteTimeout(""), ValueError(SECRET)):
            error = build_failure(Exchange(sent=sent), raised, NOON)
            assert error.billed == billed
            assert SECRET not in error.detail


@pytest.mark.parametrize(
    "raised", [httpx2.ReadError(""), httpx2.RemoteProtocolError(""), httpx2.WriteError("")]
)
def test_a_connection_that_breaks_before_the_request_is_out_is_an_outage_and_may_be_tried_again(
    raised: httpx2.TransportError,
) -> None:
    assert type(build_failure(Exchange(), raised, NOON)) is UpstreamUnavailable
    assert type(build_failure(Exchange(sent=True), raised, NOON)) is UpstreamError


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Filtered. Support code: 11030041.", "11030041"),
        ("Support codes: 58061214, 29310472", "58061214"),
        ("support code 63429089", "63429089"),
        ("I paid 12345678 for it.", None),
        (None, None),
        (5, None),
    ],
)
def test_support_codes_are_read_out_of_sentences(message: object, code: str | None) -> None:
    assert parse_support_code(message) == code


def test_every_support_code_says_where_the_filter_struck() -> None:
    assert all(code.isdigit() and len(code) == 8 for code in SUPPORT_CODES)
    assert {code for code, known in SUPPORT_CODES.items() if known.side is None} == {"64151117"}


@pytest.mark.parametrize("value", ["stop", SECRET, "", None, 5, "A" * 100, "STOP\n"])
def test_only_words_in_the_form_of_a_reason_are_one(value: object) -> None:
    assert parse_reason(value) == ""


def test_both_spellings_of_a_member_are_read() -> None:
    assert get_member({"inlineData": 1, "inline_data": 2}, "inlineData") == 1
    assert get_member({"inline_data": 2}, "inlineData") == 2
    assert get_member([], "inlineData") is None


NAMES = st.sampled_from([
    "candidates", "content", "parts", "text", "thought", "inlineData", "data", "usageMetadata",
    "promptFeedback", "blockReason", "finishReason", "finishMessage",
])  # fmt: skip
ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.integers(), st.just("SAFETY")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
)


@given(st.dictionaries(NAMES, ODD))
def test_no_answer_without_a_picture_can_crash_the_reader(body: dict[str, Any]) -> None:
    read = GoogleResponse(json.dumps(body).encode(), {})
    assert read.pictures == ()
    assert isinstance(read.build_error(), ContentBlocked | UpstreamError)


@given(st.binary(max_size=30).filter(lambda noise: b"{" not in noise))
def test_bytes_that_are_no_answer_may_have_been_billed(noise: bytes) -> None:
    with pytest.raises(UpstreamError) as raised:
        GoogleResponse(noise, {})
    assert raised.value.billed == "maybe"


@given(st.text(max_size=12), st.booleans())
def test_a_text_under_the_key_of_bytes_is_no_picture_and_stays_as_it_was_written(
    text: str, ascii_only: bool
) -> None:
    call = {"functionCall": {"name": "keep", "args": {"data": text, "inlineData": {"data": text}}}}
    picture = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(png()).decode()}}
    body = {"candidates": [{"content": {"parts": [call, picture]}, "finishReason": "STOP"}]}
    lifter = Lifter(alphabets="either", padding="optional")
    lifter.feed(json.dumps(body, ensure_ascii=ascii_only).encode())
    lifted = lifter.close()
    read = GoogleResponse(lifted.skeleton, {item.placeholder: item for item in lifted.blobs})
    card = next(card for card in load_catalogue() if card.id == "gemini-3.1-flash-image")
    ids = dict.fromkeys(read.blobs, "img_0")
    answer = read.build_answer(read.pictures, ids, GenerationRequest(model=card.id, prompt="Draw"), card)
    assert [kept.data for kept in answer.pictures] == [png()]
    assert answer.interim == ()
    assert json.loads(answer.verbatim)["candidates"][0]["content"]["parts"][0] == call
    assert json.loads(read.build_error().verbatim or "") == body


COUNTS = st.one_of(st.none(), st.integers(-5, 5000), st.booleans(), st.text(max_size=3), st.floats())
DETAILS = st.one_of(COUNTS, st.lists(st.one_of(COUNTS, st.fixed_dictionaries(
    {"modality": st.sampled_from(["IMAGE", "TEXT", None]), "tokenCount": COUNTS}))))  # fmt: skip


@given(st.fixed_dictionaries({}, optional={
    "promptTokenCount": COUNTS, "promptTokensDetails": DETAILS, "candidatesTokenCount": COUNTS,
    "candidatesTokensDetails": DETAILS, "thoughtsTokenCount": COUNTS, "cachedContentTokenCount": COUNTS,
}))  # fmt: skip
def test_no_report_of_usage_can_make_a_count_negative(metadata: dict[str, Any]) -> None:
    usage = parse_usage(metadata)
    assert (usage is None) == (not metadata)
    if usage is not None:
        assert min(usage.text_input, usage.image_input, usage.image_output, usage.text_output) >= 0
        assert usage.cached_input <= usage.input_tokens
