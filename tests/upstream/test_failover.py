"""Which back end is asked, in which order, and after what another one: calls are counted."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING

import pytest

from app.domain.conversation import Conversation, Earlier
from app.domain.errors import (
    ContentBlocked,
    DeadlineExceeded,
    GatewayError,
    ModelRefused,
    Overloaded,
    UpstreamError,
    UpstreamInvalidRequest,
    UpstreamNoImage,
    UpstreamQuota,
    UpstreamRejected,
    UpstreamSpendingCap,
    UpstreamUnavailable,
)
from app.domain.generation import ModelAnswer, Usage
from app.domain.passthrough import Passthrough
from app.domain.request import Input
from app.generation.ports import Call
from app.upstream.back_end import GuardConfig, GuardedBackEnd
from app.upstream.breaker import BreakerConfig
from app.upstream.failover import FailoverImageModel
from app.upstream.metrics import NullMetrics
from app.upstream.routing import SignatureOrigins
from app.upstream.slots import SlotConfig, Slots
from tests.upstream.conftest import MODEL, asked, lasting
from tests.upstream.test_resilience import Clock, Scripted
from tests.upstream.test_slots import settled

if TYPE_CHECKING:
    from app.domain.request import GenerationRequest

CAPPED = UpstreamSpendingCap("The cap is reached.", upstream_status=429, reason="RESOURCE_EXHAUSTED")
FREE_CHOICE = frozenset({"output_mime_type", "cloud_storage"})
USED_UP = UpstreamQuota("a day's", retry_after_s=7200).with_attributes(daily=True)


def signed(signature: str) -> str:
    """An answer with this thought signature, as the upstream writes it."""
    return json.dumps({"candidates": [{"content": {"parts": [{"thoughtSignature": signature}]}}]})


def answer(back_end: str, signature: str = "") -> ModelAnswer:
    verbatim = signed(signature) if signature else ""
    return ModelAnswer((), "", "STOP", Usage(), "m", verbatim=verbatim, back_end=back_end)


class Hops(NullMetrics):
    """The failovers that the watcher was told of."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def count_failover(self, model: str, left: str, taken: str) -> None:
        self.seen.append((left, taken))


class Pair:
    """Vertex AI first, the Gemini Developer API second, each saying what the test wrote down for it."""

    def __init__(
        self, vertex: list[GatewayError | ModelAnswer], gemini: list[GatewayError | ModelAnswer] | None = None
    ) -> None:
        self.clock = Clock()
        self.vertex = Scripted(*vertex)
        self.gemini = Scripted(*(gemini or [answer("gemini")]))
        self.hops = Hops()
        back_ends = [
            GuardedBackEnd("vertex", self.vertex, capabilities=FREE_CHOICE, clock=self.clock),
            GuardedBackEnd("gemini", self.gemini, clock=self.clock),
        ]
        self.model = FailoverImageModel(
            back_ends,
            orders={"gemini-3-pro-image": back_ends[::-1]},
            metrics=self.hops,
            clock=self.clock,
            sleep=self.clock.sleep,
            jitter=lambda: 0.5,
        )

    async def served_by(self, request: GenerationRequest, timeout_s: float = 100) -> str:
        return (await self.model.generate(request, None, lasting(timeout_s))).back_end

    @property
    def calls(self) -> tuple[int, int]:
        return len(self.vertex.timeouts), len(self.gemini.timeouts)


@pytest.mark.parametrize(
    "error",
    [
        UpstreamUnavailable("no connection"),
        UpstreamUnavailable("overloaded", upstream_status=503, retry_after_s=60),
        UpstreamQuota("quota", retry_after_s=35),
        UpstreamRejected("the model is gone", upstream_status=404),
        UpstreamRejected("the key", upstream_status=403),
    ],
    ids=lambda error: error.detail,
)
async def test_the_next_back_end_is_asked_at_once_after_what_was_not_billed(error: GatewayError) -> None:
    pair = Pair([error])
    assert await pair.served_by(asked()) == "gemini"
    assert (pair.calls, pair.clock.pauses, pair.hops.seen) == ((1, 1), [], [("vertex", "gemini")])


@pytest.mark.parametrize(
    "error",
    [
        UpstreamError("500"),
        UpstreamError("reset", billed="maybe"),
        UpstreamUnavailable("lost", billed="maybe"),
        UpstreamRejected("no signature", upstream_status=200, billed="maybe"),
        DeadlineExceeded("late", billed="maybe"),
        UpstreamNoImage("none", billed="yes"),
        UpstreamInvalidRequest("the caller's"),
        ContentBlocked("blocked", reason="SAFETY"),
        ModelRefused("words", reason="STOP"),
    ],
    ids=lambda error: error.detail,
)
async def test_no_other_back_end_is_asked_after_what_may_be_billed_or_is_the_callers(
    error: GatewayError,
) -> None:
    pair = Pair([error])
    with pytest.raises(type(error)):
        await pair.served_by(asked())
    assert (pair.calls, pair.hops.seen) == ((1, 0), [])


async def test_a_hold_that_cannot_be_marked_as_sent_ends_the_call_on_every_back_end() -> None:
    async def ran_out() -> None:
        raise Overloaded

    pair = Pair([answer("vertex")])
    with pytest.raises(Overloaded):
        await pair.model.generate(asked(), None, Call("a", 100, begin=ran_out))
    assert pair.calls == (0, 0)


async def test_a_back_end_that_keeps_failing_is_passed_over_without_a_call() -> None:
    pair = Pair([UpstreamError("500")])
    for _ in range(20):
        with pytest.raises(UpstreamError, match="500"):
            await pair.served_by(asked())
    assert await pair.served_by(asked()) == "gemini"
    assert pair.calls == (20, 1)


async def test_a_back_end_without_a_slot_is_passed_over() -> None:
    held, go_on = asyncio.Event(), asyncio.Event()

    class Busy(Scripted):
        async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
            held.set()
            await go_on.wait()
            return await super().generate(request, seed, call)

    terms = GuardConfig(slots=SlotConfig(min=1, max=1, queue_max=0))
    back_ends = [
        GuardedBackEnd("vertex", Busy(answer("vertex")), config=terms),
        GuardedBackEnd("gemini", Scripted(answer("gemini")), config=terms),
    ]
    model = FailoverImageModel(back_ends)
    first = asyncio.create_task(model.generate(asked(), None, lasting(100)))
    await held.wait()
    assert (await model.generate(asked(), None, lasting(100))).back_end == "gemini"
    go_on.set()
    assert (await first).back_end == "vertex"


async def test_another_round_begins_with_the_first_back_end_again() -> None:
    pair = Pair(
        [UpstreamQuota("quota", retry_after_s=30), answer("vertex")], [UpstreamUnavailable("down"), USED_UP]
    )
    assert await pair.served_by(asked()) == "vertex"
    assert (pair.calls, pair.clock.pauses) == ((2, 1), [1.0])


async def test_of_several_failures_the_caller_is_told_the_one_that_passes_soonest() -> None:
    pair = Pair([UpstreamQuota("minutes", retry_after_s=40)], [UpstreamQuota("hours", retry_after_s=9000)])
    with pytest.raises(UpstreamQuota, match="minutes"):
        await pair.served_by(asked())
    rejected = Pair([UpstreamRejected("key")], [UpstreamQuota("quota", retry_after_s=40)])
    with pytest.raises(UpstreamQuota, match="quota"):
        await rejected.served_by(asked())


async def test_no_second_back_end_is_begun_that_the_deadline_would_cut() -> None:
    pair = Pair([UpstreamQuota("quota", retry_after_s=1)])
    with pytest.raises(UpstreamQuota):
        await pair.served_by(asked(), timeout_s=9)
    assert pair.calls == (1, 0)


async def test_models_may_have_an_order_of_their_own() -> None:
    pair = Pair([answer("vertex")])
    assert await pair.served_by(asked()) == "vertex"
    assert await pair.served_by(asked(model="gemini-3-pro-image")) == "gemini"


@pytest.mark.parametrize(
    "fields",
    [
        {"output_mime_type": "image/png"},
        {"images": (Input("image", "/images/0", uri="gs://b/x.png", declared_mime_type="image/png"),)},
    ],
    ids=["a type of its own", "a file in Cloud Storage"],
)
async def test_only_back_ends_that_can_do_what_is_asked_are_asked(fields: dict[str, object]) -> None:
    pair = Pair([UpstreamRejected("key")])
    assert pair.model.capabilities == FREE_CHOICE
    with pytest.raises(UpstreamRejected):
        await pair.served_by(asked(**fields))
    assert pair.calls == (1, 0)
    alone = FailoverImageModel([GuardedBackEnd("gemini", pair.gemini)])
    with pytest.raises(UpstreamInvalidRequest, match=r"No back end .* offers"):
        await alone.generate(asked(**fields), None, lasting(100))


def gone_on(back_end: str) -> Earlier:
    """A conversation of the gateway's own that was made there."""
    return Earlier(Conversation("gen_1", MODEL, back_end, 1, "", (), 0, 1, 10, 0, 100), {})


async def test_a_conversation_stays_on_the_back_end_that_made_it() -> None:
    pair = Pair([answer("vertex")], [answer("gemini"), UpstreamQuota("quota", retry_after_s=60)])
    request = asked(earlier=gone_on("gemini"))
    assert await pair.served_by(request) == "gemini"
    with pytest.raises(UpstreamQuota):
        await pair.served_by(request)
    assert (pair.calls, pair.hops.seen) == ((0, 2), [])


async def test_a_conversation_of_a_back_end_that_is_gone_is_refused_in_words() -> None:
    pair = Pair([answer("vertex")])
    with pytest.raises(UpstreamInvalidRequest, match="Only the back end emulator can continue"):
        await pair.served_by(asked(earlier=gone_on("emulator")))
    assert pair.calls == (0, 0)


def spoken(signature: str) -> Passthrough:
    """A body in Google's dialect whose earlier turn carries this signature."""
    contents = [{"role": "model", "parts": [{"text": "x", "thought_signature": signature}]}]
    return Passthrough(json.dumps({"contents": contents}).encode(), {}, "said")


async def test_a_body_with_signatures_is_not_failed_over() -> None:
    pair = Pair([UpstreamQuota("quota", retry_after_s=60)])
    with pytest.raises(UpstreamQuota):
        await pair.served_by(asked(verbatim=spoken("AAAA")))
    assert pair.calls == (1, 0)
    plain = Passthrough(b'{"contents":[{"parts":[{"text":"\\"thoughtSignature\\": \\"AA\\""}]}]}', {}, "said")
    assert await pair.served_by(asked(verbatim=plain)) == "gemini"


async def test_a_body_with_a_signature_goes_to_the_back_end_that_made_it() -> None:
    pair = Pair([UpstreamQuota("quota", retry_after_s=60), answer("vertex")], [answer("gemini", "a+/b+/8=")])
    assert await pair.served_by(asked()) == "gemini"
    for spelling in ("a+/b+/8=", "a-_b-_8", "a+\\/b+\\/8="):
        skeleton = spoken("HERE").skeleton.replace(b"HERE", spelling.encode())
        assert await pair.served_by(asked(verbatim=Passthrough(skeleton, {}, "said"))) == "gemini"
    lifted = Passthrough(spoken("HERE").skeleton, {"HERE": base64.b64decode("a+/b+/8=")}, "said")
    assert await pair.served_by(asked(verbatim=lifted)) == "gemini"
    assert pair.calls == (1, 5)


async def test_an_answer_is_delivered_although_its_signatures_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_origins: SignatureOrigins, _answer: ModelAnswer) -> None:
        raise ValueError

    monkeypatch.setattr(SignatureOrigins, "learn", broken)
    assert await Pair([answer("vertex", "a+/b+/8=")]).served_by(asked()) == "vertex"


def test_only_so_many_signatures_are_remembered() -> None:
    origins = SignatureOrigins(2)
    for name in ("AAAA", "BBBB", "CCCC"):
        origins.learn(answer("vertex", name))
    assert [origins.find_origin(spoken(name)) for name in ("AAAA", "BBBB", "CCCC")] == [
        "",
        "vertex",
        "vertex",
    ]
    assert origins.find_origin(Passthrough(b"{}", {}, "")) is None


@pytest.mark.parametrize("error", [USED_UP, UpstreamError("500")], ids=["a day's quota", "a breaker"])
async def test_who_waited_for_a_slot_is_not_sent_to_a_back_end_that_refuses_by_then(
    error: UpstreamError,
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    sent = 0

    class Busy(Scripted):
        async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
            begun.set()
            await go_on.wait()
            return await super().generate(request, seed, call)

    async def begin() -> None:
        nonlocal sent
        sent += 1

    busy = Busy(error)
    terms = GuardConfig(slots=SlotConfig(min=1, max=1), breaker=BreakerConfig(calls_min=1))
    model = FailoverImageModel([GuardedBackEnd("vertex", busy, config=terms)])
    first = asyncio.create_task(model.generate(asked(), None, Call("a", 100, begin=begin)))
    await begun.wait()
    second = asyncio.create_task(model.generate(asked(), None, Call("b", 100, begin=begin)))
    await settled()
    assert model._back_ends[0]._get_slots(MODEL).waiting == 1
    go_on.set()
    ended = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(each) for each in ended] == [
        type(error), UpstreamQuota if error is USED_UP else UpstreamUnavailable
    ]  # fmt: skip
    assert (len(busy.timeouts), sent) == (1, 1)


async def test_a_days_quota_is_asked_for_again_only_now_and_then_until_it_begins_anew() -> None:
    pair = Pair([USED_UP, USED_UP, answer("vertex")])
    alone = FailoverImageModel(pair.model._back_ends[:1], clock=pair.clock, sleep=pair.clock.sleep)

    async def told() -> int | None:
        with pytest.raises(UpstreamQuota) as raised:
            await alone.generate(asked(), None, lasting(100))
        assert raised.value.billed == "no"
        return raised.value.retry_after_s

    assert [await told(), await told()] == [7200, 7200]
    pair.clock.now += 599
    assert (await told(), pair.calls) == (6601, (1, 0))
    pair.clock.now += 1
    assert (await told(), pair.calls) == (7200, (2, 0)), "one call saw for itself"
    assert (await told(), pair.calls) == (7200, (2, 0))
    pair.clock.now += 7200
    assert (await alone.generate(asked(), None, lasting(100))).back_end == "vertex"
    assert (await alone.generate(asked(), None, lasting(100))).back_end == "vertex"
    assert (pair.calls, pair.clock.pauses) == ((4, 0), [])


class Caps(NullMetrics):
    """What the watcher was shown of spending caps."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    def set_spending_cap(self, back_end: str, *, reached: bool) -> None:
        self.seen.append((back_end, reached))


async def test_a_spending_cap_holds_every_model_of_a_back_end_until_a_probe_is_answered() -> None:
    clock, shown = Clock(), Caps()
    scripted = Scripted(CAPPED, CAPPED, answer("gemini"))
    guarded = GuardedBackEnd("gemini", scripted, metrics=shown, clock=clock)
    alone = FailoverImageModel([guarded], clock=clock, sleep=clock.sleep)

    async def refused(model: str) -> int:
        with pytest.raises(UpstreamSpendingCap, match=r"^The cap is reached\.$") as raised:
            await alone.generate(asked(model=model), None, lasting(100))
        error = raised.value
        assert (error.billed, error.retryable, error.retry_after_s, error.upstream_status) == (
            "no", False, None, 429
        )  # fmt: skip
        return len(scripted.timeouts)

    other = "gemini-3-pro-image"
    assert alone.conditions() == {}
    assert [await refused(MODEL), await refused(other)] == [1, 1], "the other model is held as well"
    assert alone.conditions() == {"gemini_spending_cap": "The cap is reached."}
    clock.now += 599
    assert await refused(other) == 1
    clock.now += 1
    assert [await refused(other), await refused(MODEL)] == [2, 2], "one call saw for itself"
    assert shown.seen == [("gemini", True)]
    clock.now += 600
    assert (await alone.generate(asked(), None, lasting(100))).back_end == "gemini"
    assert (alone.conditions(), shown.seen[-1], clock.pauses) == ({}, ("gemini", False), [])


async def test_the_next_back_end_serves_while_a_spending_cap_holds_the_first() -> None:
    pair = Pair([CAPPED])
    assert [await pair.served_by(asked()), await pair.served_by(asked())] == ["gemini", "gemini"]
    assert pair.calls == (1, 2)


async def test_a_spending_cap_shrinks_no_slots() -> None:
    guarded = GuardedBackEnd("gemini", Scripted(*[CAPPED] * 3), config=GuardConfig(quota_probe_s=0))
    for _ in range(3):
        with pytest.raises(UpstreamSpendingCap):
            await guarded.attempt(asked(), None, lasting(100))
    slots = guarded._slots[MODEL]
    assert slots.limit == Slots("gemini", MODEL, SlotConfig(), NullMetrics(), Clock()).limit
