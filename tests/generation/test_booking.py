"""The decisions about money that the request path asks for: how a hold ends, and who may try again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.allowance import Allowances
from app.domain.errors import ContentBlocked, GatewayError, OperationCancelled, UpstreamError
from app.domain.failure import build_failure
from app.domain.generation import NO_USAGE
from app.domain.outcome import compute_outcome
from app.domain.policy import Policy, TimeConfig
from app.domain.request import CacheDirective
from app.generation import booking
from app.generation.booking import StoredParts
from app.generation.job import Job, build_job
from app.generation.order import IdempotencyKey, Order
from app.generation.ports import Failed
from tests.generation.paths import BLOCKED, CALLER, CATALOGUE, LOST, REQUEST, UNBILLED
from tests.generation.ports import RATES, USAGE, WINDOWS, answer

HOLD = "d" * 24
WHOLE = StoredParts(images=True, generation=True)


def job(mode: str = "use", key: str | None = "k") -> Job:
    order = Order(
        CALLER,
        REQUEST,
        CacheDirective(mode),  # type: ignore[arg-type]
        idempotency=IdempotencyKey(key, "images:generate") if key else None,
    )
    return build_job(order, CATALOGUE, Policy(), Allowances(), TimeConfig(upstream_timeout_s=60))


@pytest.mark.parametrize(
    ("error", "ending", "state", "failure"),
    [
        (BLOCKED, "settle", "failed", "content_blocked"),
        (ContentBlocked("Blocked.", reason="SAFETY"), "settle", "failed", "content_blocked"),
        (UNBILLED, "void", "free", "upstream_error"),
        (LOST, "charge", "unknown", "upstream_error"),
        (UpstreamError("Empty.", billed="yes", usage=USAGE), "settle", "failed", "upstream_error"),
        (OperationCancelled(), "void", "free", None),
    ],
    ids=["blocked", "blocked in silence", "unbilled", "lost", "empty and billed", "cancelled"],
)
def test_an_error_ends_a_hold_and_tells_followers_and_repetitions(
    error: GatewayError, ending: str, state: str, failure: str | None
) -> None:
    asked = job()
    outcome = compute_outcome([error], asked.card, asked.estimate_per_call)
    made = booking.build_generation(asked, HOLD, outcome)
    settlement = booking.build_settlement(asked, HOLD, outcome, made, StoredParts())
    assert (settlement.outcome, settlement.publish) == (ending, None)
    assert settlement.answered is not None
    assert settlement.answered.state == state
    assert (settlement.failure and settlement.failure.code) == failure


@pytest.mark.parametrize(
    ("mode", "kept", "published"),
    [
        ("use", WHOLE, True),
        ("refresh", WHOLE, True),
        ("use", StoredParts(images=True), True),
        ("use", StoredParts(), False),
        ("bypass", WHOLE, False),
    ],
)
def test_a_result_is_published_where_it_is_kept_and_may_be_shared(
    mode: str, kept: StoredParts, published: bool
) -> None:
    asked = job(mode)
    outcome = compute_outcome([answer()], asked.card, asked.estimate_per_call)
    made = booking.build_generation(asked, HOLD, outcome)
    settlement = booking.build_settlement(asked, HOLD, outcome, made, kept)
    assert (settlement.outcome, settlement.usage) == ("settle", USAGE)
    assert settlement.publish == (made if published else None)
    assert settlement.answered is not None
    assert (settlement.answered.state, settlement.answered.outcome) == ("done", made)


@pytest.mark.parametrize("key", ["k", None])
@pytest.mark.parametrize("ending", ["void", "charge"])
def test_an_unknown_outcome_keeps_its_idempotency_key_from_being_used(ending: str, key: str | None) -> None:
    asked = job(key=key)
    settlement = booking.build_unknown_settlement(asked, HOLD, ending)  # type: ignore[arg-type]
    assert (settlement.outcome, settlement.amounts) == (ending, asked.estimate.amounts)
    assert (settlement.usage, settlement.publish, settlement.failure) == (NO_USAGE, None, None)
    assert (settlement.answered.state if settlement.answered else None) == ("unknown" if key else None)


def test_a_settlement_in_short_books_the_same_amounts() -> None:
    asked = job()
    outcome = compute_outcome([BLOCKED], asked.card, asked.estimate_per_call)
    made = booking.build_generation(asked, HOLD, outcome)
    whole = booking.build_settlement(asked, HOLD, outcome, made, StoredParts())
    short = booking.strip_to_amounts(whole)
    assert (short.outcome, short.amounts, short.hold_id) == (whole.outcome, whole.amounts, HOLD)
    assert (short.publish, short.failure) == (None, None)
    assert short.answered is not None
    assert short.answered.state == "unknown"


@pytest.mark.parametrize(
    ("error", "takeovers", "raised"),
    [(LOST, 0, False), (LOST, 1, True), (UNBILLED, 0, False), (BLOCKED, 0, True)],
)
def test_a_leaders_failure_is_taken_over_once_and_a_refusal_never(
    error: GatewayError, takeovers: int, raised: bool
) -> None:
    found = booking.select_failure(Failed(build_failure(error), WINDOWS, RATES), takeovers)
    assert (found is not None) is raised
    if found is not None:
        assert (type(found), found.usage) == (type(error), None)
        assert (found.windows, found.rates) == (WINDOWS, RATES)


def test_a_job_does_not_change() -> None:
    asked = job()
    with pytest.raises(AttributeError):
        asked.work_s = 1.0  # type: ignore[misc]
    assert replace(asked, work_s=1.0).left_s <= 1.0
