"""A failure comes back whole, whichever error it was: through the store's record, to every dialect."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pytest

from app.domain.budget import Budget, Override, Span, WindowState
from app.domain.errors import GatewayError, RateLimited, UpstreamError, UpstreamQuota, Violation
from app.domain.estimate import WouldFit
from app.domain.failure import EACH_CALLERS_OWN, Failure, build_failure, list_error_classes, rebuild_error
from app.domain.generation import Spent, Usage
from app.domain.rate import RateLimit, RateState
from app.generation.records import BRIEF_BYTES_MAX, decode_failure, encode_brief, encode_failure
from app.surfaces.gemini.errors import render_google_error
from app.surfaces.native.errors import render_problem
from app.surfaces.openai.errors import render_openai_error, should_retry

USAGE = Usage(1, 2, 3, 4, 5, 6, 7, estimated=True, tier="flex")
WINDOW = WindowState(Budget("usd", "day", 9, "key", "shadow", Override(8, 7)), 1, 2, Span(3, 4), 5, 6, 7, "k")
RATE = RateState(RateLimit("requests", "key", "k", 60, 6), 1, 2, 3, refused=True)
SAMPLES: dict[str, Any] = {
    "detail": 'Words "quoted", ümlaut, 🎨 and\x00 control',
    "anew": "Again.",
    "retry_after_s": 34,
    "usage": USAGE,
    "reason": "IMAGE_SAFETY",
    "support_code": "63429089",
    "side": "prompt",
    "upstream_status": 429,
    "billed": "maybe",
    "violations": (Violation("/n", "n_out_of_range", "No.", (1, 2.5, "3")), Violation("", "c", "d")),
    "refused_by": (WINDOW,),
    "would_fit": WouldFit("1K", 2),
    "sentences": ("The budget of a day is used up.",),
    "spent": Spent(USAGE, 8),
    "verbatim": '{"candidates": []}',
    "daily": True,
    "expected_usd": 1,
    "most_usd": 2,
}
"""A value for each argument and attribute of an error that is not its default."""
_OF_THE_CLASS = {"code", "title", "status", "retryable"}
CLASSES = [kind for kind in list_error_classes() if kind.__module__.startswith("app.domain")]


def attributes_of(error: GatewayError) -> set[str]:
    """What an error holds, but for what is each caller's own."""
    declared = {
        name
        for kind in type(error).__mro__[: type(error).__mro__.index(GatewayError) + 1]
        for name, value in vars(kind).items()
        if not name.startswith("_") and not callable(value) and not isinstance(value, property)
    }
    return (declared | vars(error).keys()) - _OF_THE_CLASS - EACH_CALLERS_OWN


def sample_of(kind: type[GatewayError]) -> GatewayError:
    """An error with nothing at its default."""
    samples = SAMPLES | ({"refused_by": (RATE,)} if kind is RateLimited else {})
    error = kind(**{name: samples[name] for name in inspect.signature(kind).parameters})
    for name in attributes_of(error) - inspect.signature(kind).parameters.keys():
        setattr(error, name, SAMPLES[name])
    return error


def told_again(error: GatewayError) -> GatewayError:
    """The error as one gets it for whom it was kept."""
    return rebuild_error(decode_failure(encode_failure(build_failure(error))))


def lost(error: GatewayError, again: GatewayError) -> set[str]:
    """Attributes that did not come back."""
    return {name for name in attributes_of(error) if getattr(error, name, None) != getattr(again, name, None)}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_comes_back_whole(kind: type[GatewayError]) -> None:
    error = sample_of(kind)
    again = told_again(error)
    assert type(again).code == kind.code
    assert isinstance(again, kind) or kind is GatewayError
    assert lost(error, again) == set()
    assert str(again) == again.detail


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_dialect_writes_it_as_it_wrote_the_first(kind: type[GatewayError]) -> None:
    error = sample_of(kind)
    again = told_again(error)
    assert render_problem(again, "r", "/v1") == render_problem(error, "r", "/v1")
    assert render_openai_error(again) == render_openai_error(error)
    assert should_retry(again) == should_retry(error)
    assert render_google_error(again, "r", "/gemini") == render_google_error(error, "r", "/gemini")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_that_says_nothing_more_comes_back_so(kind: type[GatewayError]) -> None:
    needed = {
        name: SAMPLES[name]
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is parameter.empty
    }
    error = kind(**needed)
    assert lost(error, told_again(error)) == set()


def test_what_an_error_learns_to_hold_is_missed_until_it_is_carried() -> None:
    error = UpstreamError("No.")
    error.added = 1  # type: ignore[attr-defined]
    assert lost(error, told_again(error)) == {"added"}
    assert {field.name for field in fields(Failure)} - {"code", "final"} <= SAMPLES.keys()


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_what_the_books_keep_lacks_only_what_ends_no_hold_and_the_upstreams_own_words(
    kind: type[GatewayError],
) -> None:
    error = sample_of(kind)
    text = encode_brief(build_failure(error))
    assert len(text.encode()) <= BRIEF_BYTES_MAX
    assert lost(error, rebuild_error(decode_failure(text))) <= {"verbatim", "violations", "refused_by"}


def test_the_books_keep_a_failure_of_any_size() -> None:
    words = "🎨" * 10_000
    violations = tuple(Violation(words, words, words) for _ in range(100))
    failure = Failure(
        "c", words, words, words, "prompt", verbatim=words, usage=USAGE, violations=violations,
        refused_by=(WINDOW,) * 100, spent=Spent(USAGE, 2**53), would_fit=WouldFit("512", 8),
    )  # fmt: skip
    assert len(encode_brief(failure).encode()) <= BRIEF_BYTES_MAX


def test_a_record_of_a_version_that_kept_less_is_read() -> None:
    kept = '{"code":"content_blocked","detail":"No.","reason":"SAFETY","support_code":null,"side":"prompt"'
    found = decode_failure(f'{{"v":1,"failure":{kept},"final":true,"verbatim":""}}}}')
    assert found == Failure("content_blocked", "No.", "SAFETY", side="prompt", final=True)


def test_an_error_of_a_later_version_is_one_of_the_upstream() -> None:
    again = rebuild_error(Failure("never_heard_of", "Later.", "LATER", retry_after_s=3))
    assert type(again) is UpstreamError
    assert (again.detail, again.reason, again.retry_after_s) == ("Later.", "LATER", 3)


def test_a_days_quota_stays_one() -> None:
    error = UpstreamQuota("Used up.", retry_after_s=7200).with_attributes(daily=True)
    again = told_again(error)
    assert isinstance(again, UpstreamQuota)
    assert again.daily
