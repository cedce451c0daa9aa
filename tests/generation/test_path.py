"""The request path over ports in memory: every answer of an admission, every end, a fault at every call."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from app.domain.attempt import Attempt, Rejoined
from app.domain.errors import (
    BudgetExceeded,
    ContentBlocked,
    DeadlineExceeded,
    Draining,
    GatewayError,
    InternalError,
    NotCached,
    RateLimited,
    StoreUnavailable,
    UpstreamError,
)
from app.domain.failure import build_failure
from app.domain.generation import NO_USAGE
from app.domain.repetition import IdempotencyInFlight, IdempotencyMismatch, ResultGone, TooManyIdempotencyKeys
from app.generation.ports import (
    Absent,
    Crowded,
    Failed,
    InFlight,
    Limited,
    Mismatched,
    Refused,
    Replayed,
)
from tests.generation.paths import (
    BLOCKED,
    EARLIER,
    FOLLOW,
    LEADER,
    LEADING,
    LOST,
    UNBILLED,
    Clock,
    Path,
    error_of,
    hit,
    settled_down,
)
from tests.generation.ports import (
    NOW_MS,
    RATES,
    USAGE,
    WINDOWS,
    answer,
)

if TYPE_CHECKING:
    from app.generation.ports import Admission

# what an admission answers


async def test_lead_draws_keeps_settles_and_returns() -> None:
    path = Path()
    result = await path.ask()
    assert tuple(path.script.calls) == LEADING
    assert path.outcomes == ["settle"]
    (settlement,) = path.ledger.ended
    assert settlement.amounts.image_tokens == 747
    assert settlement.publish is not None
    assert (result.cache_status, result.cost, result.windows, result.rates) == ("miss", USAGE, WINDOWS, RATES)
    assert result.generation.id == f"gen_{settlement.hold_id}"
    assert result.generation.created_ms == NOW_MS
    assert set(result.timings_ms) == {"validate", "admit", "upstream", "settle"}


async def test_what_is_not_to_be_shared_is_settled_and_not_published() -> None:
    path = Path()
    assert (await path.ask("bypass")).cache_status == "bypass"
    assert path.outcomes == ["settle"]
    assert path.ledger.ended[0].publish is None


async def test_hit_is_loaded() -> None:
    path = Path()
    path.ledger.admissions.append(hit(await path.keep()))
    result = await path.ask()
    assert path.script.calls == ["admit 1", "get_picture 1"]
    assert (result.cache_status, result.age_s, result.cost) == ("hit", 5, NO_USAGE)
    assert (path.model.sent, path.outcomes) == (0, [])


async def test_hit_whose_picture_is_gone_is_made_anew_and_counted_once() -> None:
    path = Path()
    path.ledger.admissions.append(hit(await path.keep(picture=False)))
    result = await path.ask()
    assert result.cache_status == "miss"
    assert [each.requests for each in path.ledger.asked] == [1, 0]
    assert [each.cache.max_age_s for each in path.ledger.asked] == [None, 0]
    assert (path.model.sent, path.outcomes) == (1, ["settle"])


async def test_follow_then_hit_is_coalesced() -> None:
    path = Path()
    made = replace(await path.keep(), id=f"gen_{LEADER}")
    path.ledger.admissions.extend([FOLLOW, hit(made)])
    result = await path.ask()
    assert (result.cache_status, result.cost) == ("coalesced", NO_USAGE)
    assert path.follows() == [None, LEADER]
    assert [each.requests for each in path.ledger.asked] == [1, 0]
    assert path.script.calls == ["admit 1", "wait 1", "admit 2", "get_picture 1"]
    assert "wait" in result.timings_ms


async def test_follow_then_hit_whose_picture_is_gone_is_nobodys_follower_any_more() -> None:
    path = Path(FOLLOW, hit(await Path().keep(picture=False)))
    assert (await path.ask()).cache_status == "miss"
    assert path.follows() == [None, LEADER, None]


async def test_follow_then_a_final_failure_is_the_followers_too_at_no_cost() -> None:
    path = Path(FOLLOW, Failed(build_failure(BLOCKED), WINDOWS, RATES))
    error = await error_of(path.ask())
    assert isinstance(error, ContentBlocked)
    assert (error.usage, error.windows, error.rates) == (None, WINDOWS, RATES)
    assert (path.model.sent, path.outcomes) == (0, [])


async def test_follow_then_another_failure_is_taken_over() -> None:
    path = Path(FOLLOW, Failed(build_failure(LOST), WINDOWS, RATES))
    assert (await path.ask()).cache_status == "miss"
    assert path.follows() == [None, LEADER, None]
    assert (path.model.sent, path.outcomes) == (1, ["settle"])


async def test_the_second_failure_of_a_leader_is_raised() -> None:
    failed = Failed(build_failure(LOST), WINDOWS, RATES)
    path = Path(FOLLOW, failed, FOLLOW, failed)
    error = await error_of(path.ask())
    assert isinstance(error, UpstreamError)
    assert (error.code, error.billed, error.windows, error.rates) == (LOST.code, "maybe", WINDOWS, RATES)
    assert (path.model.sent, path.outcomes) == (0, [])


REFUSING = tuple(replace(each, settled=10_000, needed=747) for each in WINDOWS)
LIMITING = tuple(replace(each, remaining=0, refused=True) for each in RATES)


@pytest.mark.parametrize(
    ("admission", "kind"),
    [
        (Refused(REFUSING, RATES), BudgetExceeded),
        (Limited(WINDOWS, LIMITING), RateLimited),
        (Absent(WINDOWS, RATES), NotCached),
        (InFlight(3, WINDOWS, RATES), IdempotencyInFlight),
        (Mismatched(WINDOWS, RATES), IdempotencyMismatch),
        (Crowded(9, 3, WINDOWS, RATES), TooManyIdempotencyKeys),
        (Replayed(build_failure(BLOCKED), 5, WINDOWS, RATES), ContentBlocked),
        (Replayed(None, 5, WINDOWS, RATES, EARLIER), ResultGone),
    ],
    ids=lambda each: type(each).__name__ if not isinstance(each, type) else each.__name__,
)
async def test_a_refusal_says_where_its_caller_stands(admission: Admission, kind: type[GatewayError]) -> None:
    path = Path(admission)
    error = await error_of(path.ask(key="k"))
    assert type(error) is kind
    assert (error.windows, error.rates) == (admission.windows, admission.rates)
    assert error.replayed is isinstance(admission, Replayed)
    assert (path.model.sent, path.outcomes) == (0, [])


@pytest.mark.parametrize("within", [True, False])
async def test_replayed_result_is_loaded(within: bool) -> None:
    path = Path()
    made = await path.keep()
    path.ledger.admissions.append(Replayed(made if within else None, 5, WINDOWS, RATES, EARLIER, NOW_MS))
    result = await path.ask(key="k")
    assert (result.replayed, result.cache_status, result.cost) == (True, "hit", NO_USAGE)
    assert (path.model.sent, path.outcomes) == (0, [])


async def test_an_earlier_attempts_result_is_loaded() -> None:
    path = Path(Rejoined(Attempt("o", "i", False, 60), EARLIER, NOW_MS, 5, WINDOWS, RATES))
    await path.keep()
    result = await path.ask("bypass", retries=1)
    assert (result.cost, path.model.sent, path.ledger.notes) == (NO_USAGE, 0, [])


async def test_an_earlier_attempts_result_that_is_gone_is_given_up_and_made_anew() -> None:
    path = Path(Rejoined(Attempt("o", "i", False, 60), EARLIER, NOW_MS, 5, WINDOWS, RATES))
    result = await path.ask("bypass", retries=1)
    assert (result.cost, path.model.sent, path.outcomes) == (USAGE, 1, ["settle"])
    assert path.ledger.notes == ["delivered"]


# what a call comes to


@pytest.mark.parametrize(
    ("ending", "outcome", "state"),
    [
        (BLOCKED, "settle", "failed"),
        (UNBILLED, "void", "free"),
        (LOST, "charge", "unknown"),
        (RuntimeError("unreadable"), "charge", "unknown"),
    ],
    ids=["blocked", "unbilled", "lost", "unreadable"],
)
async def test_what_a_call_comes_to_decides_what_is_booked(
    ending: Exception, outcome: str, state: str
) -> None:
    path = Path()
    path.model.endings.append(ending)
    error = await error_of(path.ask(key="k"))
    assert (error.windows, error.rates) == (WINDOWS, RATES)
    assert path.outcomes == [outcome]
    (settlement,) = path.ledger.ended
    assert settlement.answered is not None
    assert settlement.answered.state == state
    assert settlement.failure is not None
    assert settlement.failure.code == error.code


async def test_of_two_calls_one_is_delivered_and_what_both_used_is_booked() -> None:
    path = Path()
    path.model.endings.extend([answer(), LOST])
    result = await path.ask(n=2)
    assert [notice.code for notice in result.notices] == ["partial_result"]
    assert path.outcomes == ["settle"]
    (settlement,) = path.ledger.ended
    assert settlement.amounts.image_tokens == 2 * 747
    assert settlement.publish is None


async def test_a_hold_that_ran_out_before_it_was_sent_is_never_sent() -> None:
    path = Path()
    stop = path.script.stop("slot 1")
    asked = path.ask()
    await stop.reached.wait()
    path.ledger.open.clear()
    stop.go_on.set()
    assert (await error_of(asked)).code == "overloaded"
    assert path.model.sent == 0


@pytest.mark.parametrize("missing", ["image", "generation"])
async def test_what_could_not_be_kept_is_delivered_with_a_notice(missing: str) -> None:
    path = Path()
    path.results.full = missing == "image"
    path.script.errors["put_generation 1"] = StoreUnavailable()
    result = await path.ask()
    assert [notice.code for notice in result.notices] == [f"{missing}_not_kept"]
    assert path.outcomes == ["settle"]
    assert (path.ledger.ended[0].publish is None) is (missing == "image")


async def test_a_settlement_that_fails_is_repeated_with_its_amounts_alone() -> None:
    path = Path()
    path.script.errors["settle 1"] = StoreUnavailable()
    assert len((await path.ask()).pictures) == 1
    assert path.outcomes == ["settle"]
    assert path.ledger.ended[0].publish is None


async def test_a_picture_whose_settlement_fails_twice_is_delivered_and_its_lease_ends_the_hold() -> None:
    path = Path()
    path.script.errors |= {"settle 1": StoreUnavailable(), "settle 2": RuntimeError("closed")}
    assert len((await path.ask()).pictures) == 1
    assert list(path.ledger.open.values()) == ["dispatched"]


# callers who leave, and time that is over


@pytest.mark.parametrize("step", ["slot 1", "dispatch 1", "upstream 1", "put_pictures 1", "settle 1"])
async def test_a_leader_who_leaves_still_pays_and_keeps(step: str) -> None:
    path = Path()
    stop = path.script.stop(step)
    asked = path.ask()
    await stop.reached.wait()
    asked.cancel()
    await settled_down()
    assert asked.cancelled()
    stop.go_on.set()
    await path.gateway.aclose(30)
    assert path.outcomes == ["settle"]
    assert path.ledger.ended[0].publish is not None


@pytest.mark.parametrize("step", ["wait 1", "admit 1"])
async def test_a_follower_who_leaves_spends_nothing(step: str) -> None:
    path = Path(FOLLOW, Failed(build_failure(LOST), WINDOWS, RATES))
    stop = path.script.stop(step)
    asked = path.ask()
    await stop.reached.wait()
    asked.cancel()
    await settled_down()
    stop.go_on.set()
    await path.gateway.aclose(30)
    assert asked.cancelled()
    assert path.script.calls[-1] in {"admit 1", "wait 1"}
    assert (path.model.sent, path.outcomes) == (0, [])


async def test_a_follower_who_leaves_does_not_take_over_afterwards() -> None:
    path = Path(FOLLOW, Failed(build_failure(LOST), WINDOWS, RATES))
    stop = path.script.stop("admit 2")
    asked = path.ask()
    await stop.reached.wait()
    asked.cancel()
    await settled_down()
    stop.go_on.set()
    await path.gateway.aclose(30)
    assert (path.model.sent, path.outcomes) == (0, [])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(time.monotonic)
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


async def test_too_little_time_for_a_call_is_a_call_that_is_not_made() -> None:
    path = Path()
    error = await error_of(path.ask(seconds=2))
    assert isinstance(error, DeadlineExceeded)
    assert error.billed == "no"
    assert error.detail == "The time in X-Timeout leaves less than the 10 s of a call, so none was made."
    assert (path.model.sent, path.outcomes) == (0, ["void"])


async def test_time_that_passes_before_sending_voids_the_hold(clock: Clock) -> None:
    path = Path()
    stop = path.script.stop("slot 1")
    asked = path.ask(seconds=30)
    await stop.reached.wait()
    clock.advance(25)
    stop.go_on.set()
    error = await error_of(asked)
    assert isinstance(error, DeadlineExceeded)
    assert error.billed == "no"
    assert (path.model.sent, path.outcomes) == (0, ["void"])


async def test_a_deadline_while_following_spends_nothing(clock: Clock) -> None:
    path = Path(FOLLOW)
    stop = path.script.stop("wait 1")
    asked = path.ask(seconds=30)
    await stop.reached.wait()
    clock.advance(31)
    error = await error_of(asked)
    assert isinstance(error, DeadlineExceeded)
    assert error.billed == "no"
    assert "while the same request is being made for somebody else" in error.detail
    await path.gateway.aclose(30)
    assert (path.model.sent, path.outcomes) == (0, [])


async def test_the_works_own_time_that_is_over_while_following_is_a_deadline_too(clock: Clock) -> None:
    path = Path(FOLLOW, FOLLOW)
    stop = path.script.stop("wait 1")
    asked = path.ask()
    await stop.reached.wait()
    clock.advance(61)
    stop.go_on.set()
    error = await error_of(asked)
    assert isinstance(error, DeadlineExceeded)
    assert (error.windows, error.rates) == (WINDOWS, RATES)


async def test_a_deadline_while_the_upstream_works_bounds_the_caller_and_not_the_work(clock: Clock) -> None:
    path = Path()
    stop = path.script.stop("upstream 1")
    asked = path.ask(seconds=30)
    await stop.reached.wait()
    clock.advance(31)
    error = await error_of(asked)
    assert isinstance(error, DeadlineExceeded)
    assert error.billed == "maybe"
    assert "the cache will have it" in error.detail
    stop.go_on.set()
    await path.gateway.aclose(30)
    assert path.outcomes == ["settle"]


# the gateway's own end


@pytest.mark.parametrize(
    ("step", "outcomes", "delivered"),
    [
        ("slot 1", ["void"], False),
        ("dispatch 1", ["void"], False),
        ("upstream 1", ["charge"], False),
        ("put_pictures 1", ["settle"], True),
        ("put_generation 1", ["settle"], True),
        ("settle 1", ["settle"], True),
    ],
)
async def test_a_leader_cut_off_by_the_gateways_end_leaves_no_hold_open(
    step: str, outcomes: list[str], delivered: bool
) -> None:
    path = Path()
    stop = path.script.stop(step)
    asked = path.ask()
    await stop.reached.wait()
    closing = asyncio.create_task(path.gateway.aclose(0))
    await settled_down()
    stop.go_on.set()
    if delivered:
        assert len((await asked).pictures) == 1
    else:
        assert isinstance(await error_of(asked), Draining)
    await closing
    assert path.outcomes == outcomes


async def test_a_follower_of_a_gateway_that_goes_down_gets_what_is_there() -> None:
    path = Path(FOLLOW)
    path.ledger.peeked = hit(replace(await path.keep(), id=f"gen_{LEADER}"))
    stop = path.script.stop("wait 1")
    asked = path.ask()
    await stop.reached.wait()
    closing = asyncio.create_task(path.gateway.aclose(30))
    await settled_down()
    stop.go_on.set()
    assert (await asked).cache_status == "coalesced"
    await closing
    assert path.script.calls == ["admit 1", "wait 1", "peek 1", "get_picture 1"]


async def test_a_follower_of_a_gateway_that_goes_down_begins_nothing() -> None:
    path = Path(FOLLOW, Failed(build_failure(LOST), WINDOWS, RATES))
    stop = path.script.stop("wait 1")
    asked = path.ask()
    await stop.reached.wait()
    closing = asyncio.create_task(path.gateway.aclose(30))
    await settled_down()
    stop.go_on.set()
    assert isinstance(await error_of(asked), Draining)
    await closing
    assert path.outcomes == []


@pytest.mark.parametrize("settled", [True, False])
async def test_a_follower_cut_off_by_the_gateways_end_still_gets_what_its_leader_settles(
    settled: bool,
) -> None:
    path = Path(FOLLOW)
    if settled:
        path.ledger.peeked = hit(replace(await path.keep(), id=f"gen_{LEADER}"))
    stop = path.script.stop("wait 1")
    asked = path.ask()
    await stop.reached.wait()
    await path.gateway.aclose(0)
    assert path.script.calls[:4] == ["admit 1", "wait 1", "wait 2", "peek 1"]
    if settled:
        assert (await asked).cache_status == "coalesced"
    else:
        assert isinstance(await error_of(asked), Draining)


@pytest.mark.parametrize("call", ["admit 1", "get_picture 1"])
async def test_a_request_cut_off_at_any_other_step_is_told_that_the_gateway_goes_down(call: str) -> None:
    path = Path()
    path.ledger.admissions.append(hit(await path.keep()))
    stop = path.script.stop(call)
    asked = path.ask()
    await stop.reached.wait()
    await path.gateway.aclose(0)
    assert isinstance(await error_of(asked), Draining)
    assert path.outcomes == []


async def test_a_gateway_that_goes_down_makes_nothing_anew_for_a_lost_picture() -> None:
    path = Path(hit(await Path().keep(picture=False)))
    stop = path.script.stop("get_picture 1")
    asked = path.ask()
    await stop.reached.wait()
    closing = asyncio.create_task(path.gateway.aclose(30))
    await settled_down()
    stop.go_on.set()
    assert isinstance(await error_of(asked), Draining)
    await closing
    assert (path.model.sent, path.outcomes) == (0, [])


# a fault at every call of a port


@pytest.mark.parametrize("error", [StoreUnavailable(), RuntimeError("broken")], ids=["known", "unknown"])
@pytest.mark.parametrize("call", LEADING)
async def test_a_leaders_hold_ends_whatever_a_port_raises(call: str, error: Exception) -> None:
    path = Path()
    path.script.errors[call] = error
    asked = path.ask()
    await asyncio.wait({asked})
    raised = asked.exception()
    paid = call.startswith(("put", "settle"))
    assert (raised is None) is paid
    if call == "admit 1":
        assert (raised, path.outcomes) == (error, [])
        return
    assert isinstance(raised, GatewayError | None)
    assert path.model.sent == (1 if paid or call == "upstream 1" else 0)
    assert path.outcomes == (["settle"] if paid else [path.ledger.ended[0].outcome])
    if call == "dispatch 1":
        assert isinstance(raised, StoreUnavailable if isinstance(error, StoreUnavailable) else InternalError)
        assert path.outcomes == ["void"]
        assert path.ledger.ended[0].failure is None, "it says nothing of the work"


FOLLOWING = ("admit 1", "wait 1", "admit 2", "get_picture 1")


@pytest.mark.parametrize("call", FOLLOWING)
async def test_a_follower_pays_nothing_whatever_a_port_raises(call: str) -> None:
    path = Path()
    path.ledger.admissions.extend([FOLLOW, hit(await path.keep())])
    path.script.errors[call] = error = StoreUnavailable()
    assert await error_of(path.ask()) is error
    assert path.script.calls == list(FOLLOWING[: FOLLOWING.index(call) + 1])
    assert (path.model.sent, path.outcomes) == (0, [])
