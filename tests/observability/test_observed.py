"""The wrappers round the ports: nothing passes uncounted, and nothing is changed on the way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from app.cards import load_catalogue
from app.domain.attempt import Attempt, Rejoined
from app.domain.bound import Bound
from app.domain.budget import Amounts, Budget, BudgetWindow, Span, WindowState
from app.domain.errors import ContentBlocked, StoreUnavailable, UpstreamQuota
from app.domain.failure import Failure
from app.domain.generation import Generation, ModelAnswer, Picture, PictureRecord, Usage
from app.domain.request import CacheDirective, GenerationRequest, Grounding
from app.domain.tenancy import Caller, Identity, Key, Tenant
from app.generation.ports import (
    Absent,
    AdmissionRequest,
    Call,
    Directory,
    Failed,
    Follow,
    Hit,
    ImageModel,
    Lead,
    Ledger,
    Refused,
    Results,
    Settled,
    Settlement,
)
from app.observability.metrics import Metrics
from app.observability.observed import (
    ObservedDirectory,
    ObservedImageModel,
    ObservedLedger,
    ObservedResults,
    name_outcome,
)
from tests.observability.test_metrics import samples, value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.domain.attempt import Delivery
    from app.domain.rate import RateLimit, RateState
    from app.domain.stored_generation import StoredGeneration
    from app.generation.ports import Admission

SPAN = Span(0, 86_400_000)
DAY = Budget("image_tokens", "day", 1000)
SHADOW = Budget("usd", "day", 10, mode="shadow")
WINDOW = BudgetWindow(DAY, "t|output_tokens|day", (SPAN, SPAN, SPAN), ZoneInfo("UTC"))
IMAGE_TOKENS = {"tenant": "a", "scope": "tenant", "unit": "image_tokens", "window": "day"}
HELD = Amounts(1120, 1400, 1, 70, 1300)
CALL = Call("a", 30)
PICTURE = Picture("img_1", "image/png", 1, 1, b"12345")
KEY = Key("k1", "0" * 64, frozenset({"images"}))
TENANT = Tenant("a", ZoneInfo("UTC"), (), (KEY,))
GENERATION = Generation("gen_1", "gemini", "", 0, (), "", "STOP", Usage())


def state(budget: Budget = DAY, settled: int = 0, held: int = 0, asked: int = 0) -> WindowState:
    return WindowState(budget, settled, held, SPAN, 0, asked)


def asking(following: str | None = None, cache: CacheDirective | None = None) -> AdmissionRequest:
    return AdmissionRequest("a", "h1", "f", (WINDOW,), HELD, cache or CacheDirective(), following)


CATALOGUE = load_catalogue()


class Inner:
    """All four ports: answers what it was told to, or raises it, and remembers the arguments."""

    def __init__(self, answer: object = None) -> None:
        self.answer = answer
        self.asked: list[tuple[object, ...]] = []

    def _do(self, *arguments: object) -> object:
        self.asked.append(arguments)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def admit(self, request: AdmissionRequest) -> Admission:
        return self._do(request)  # type: ignore[return-value]

    async def peek(self, request: AdmissionRequest) -> Hit | Absent:
        return self._do(request)  # type: ignore[return-value]

    async def dispatch(self, tenant_id: str, hold_id: str, fingerprint: str) -> bool:
        return self._do(tenant_id, hold_id, fingerprint)  # type: ignore[return-value]

    async def settle(self, settlement: Settlement, windows: tuple[BudgetWindow, ...]) -> Settled:
        return self._do(settlement, windows)  # type: ignore[return-value]

    async def wait(self, tenant_id: str, fingerprint: str, leader: str, timeout_s: float) -> None:
        self._do(tenant_id, fingerprint, leader, timeout_s)

    async def get_windows(self, tenant_id: str, windows: tuple[BudgetWindow, ...]) -> tuple[WindowState, ...]:
        return self._do(tenant_id, windows)  # type: ignore[return-value]

    async def note_delivery(self, tenant_id: str, attempt: Attempt, delivery: Delivery) -> None:
        self._do(tenant_id, attempt, delivery)

    async def get_rates(self, tenant_id: str, rates: tuple[RateLimit, ...]) -> tuple[RateState, ...]:
        return self._do(tenant_id, rates)  # type: ignore[return-value]

    async def put_pictures(self, tenant_id: str, pictures: tuple[Picture, ...], ttl_s: int) -> bool:
        return self._do(tenant_id, pictures, ttl_s)  # type: ignore[return-value]

    async def get_picture(self, tenant_id: str, image_id: str) -> Picture | None:
        return self._do(tenant_id, image_id)  # type: ignore[return-value]

    async def delete_picture(self, tenant_id: str, image_id: str) -> bool:
        return self._do(tenant_id, image_id)  # type: ignore[return-value]

    async def delete_generation(self, tenant_id: str, generation_id: str) -> bool:
        return self._do(tenant_id, generation_id)  # type: ignore[return-value]

    async def put_generation(
        self,
        tenant_id: str,
        finished: StoredGeneration,
        ttl_s: int,
        files: Sequence[PictureRecord] = (),
    ) -> bool:
        return self._do(tenant_id, finished, ttl_s)  # type: ignore[return-value]

    async def get_generation(self, tenant_id: str, generation_id: str) -> StoredGeneration | None:
        return self._do(tenant_id, generation_id)  # type: ignore[return-value]

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        return self._do(request, seed, call)  # type: ignore[return-value]

    async def find_fault(self) -> str | None:
        return self._do()  # type: ignore[return-value]

    def authenticate(self, presented: str) -> Caller | None:
        return self._do(presented)  # type: ignore[return-value]

    def find_by_identity(self, identities: tuple[Identity, ...]) -> Caller | None:
        return self._do(identities)  # type: ignore[return-value]

    def list_tenants(self) -> tuple[Tenant, ...]:
        return self._do()  # type: ignore[return-value]


@pytest.fixture
def metrics() -> Metrics:
    found = Metrics()
    found.register_tenant("a")
    return found


def test_the_wrappers_are_the_ports(metrics: Metrics) -> None:
    inner = Inner()
    ledger: Ledger = ObservedLedger(inner, metrics)
    results: Results = ObservedResults(inner, metrics)
    model: ImageModel = ObservedImageModel(inner, "vertex", metrics, CATALOGUE)
    directory: Directory = ObservedDirectory(inner, metrics)
    assert all((ledger, results, model, directory))


ATTEMPT = Attempt("origin", "me", repeats=True, keep_s=60)


@pytest.mark.parametrize(
    ("admission", "request_", "decision", "cache"),
    [
        (Hit(GENERATION, 1, (state(),)), asking(), "hit", "hit"),
        (Hit(GENERATION, 1, (state(),)), asking(following="h0"), "hit", "coalesced"),
        (Lead("h1", (state(),)), asking(), "lead", "miss"),
        (Lead("h1", (state(),)), asking(cache=CacheDirective("refresh")), "lead", "miss"),
        (Lead("h1", (state(),)), asking(cache=CacheDirective("bypass")), "lead", "bypass"),
        (Absent((state(),)), asking(), "absent", "miss"),
        (Follow("h0", (state(),)), asking(), "follow", None),
        (Rejoined(ATTEMPT, "gen_h0", 1, 0, (state(),)), asking(), "rejoined", "hit"),
        (Rejoined(ATTEMPT, "gen_h0", 1, 0, (state(),)), asking(following="h0"), "rejoined", "coalesced"),
        (Failed(Failure("upstream_error", ""), (state(),)), asking(following="h0"), "failed", None),
        (Refused((state(settled=900, asked=1120),)), asking(), "refused", None),
    ],
)
async def test_each_decision_is_counted_once(
    metrics: Metrics, admission: Admission, request_: AdmissionRequest, decision: str, cache: str | None
) -> None:
    inner = Inner(admission)
    assert await ObservedLedger(inner, metrics).admit(request_) is admission
    assert inner.asked == [(request_,)]
    found = samples(metrics)
    assert {k[1]: v for k, v in found.items() if k[0] == "flashgate_admissions_total"} == {
        (("decision", decision),): 1
    }
    assert {k[1]: v for k, v in found.items() if k[0] == "flashgate_cache_total"} == (
        {(("status", cache),): 1} if cache else {}
    )
    assert value(metrics, "store_commands_total", command="admit", outcome="ok") == 1
    assert value(metrics, "store_command_duration_seconds_count", command="admit") == 1


async def settled_after_lead(
    metrics: Metrics, settlement: Settlement, answer: Settled, *, led: bool = True
) -> dict[tuple[str, str], float]:
    """Amounts by (event, unit) after a reservation of HELD and this settlement."""
    inner = Inner(Lead("h1", (), bound=Bound(1720, HELD)))
    ledger = ObservedLedger(inner, metrics)
    if led:
        await ledger.admit(asking())
    inner.answer = answer
    assert await ledger.settle(settlement, (WINDOW,)) is answer
    return {
        (dict(labels)["event"], dict(labels)["unit"]): count
        for (name, labels), count in samples(metrics).items()
        if name == "flashgate_budget_units_total" and dict(labels)["event"] != "reserved"
    }


BOOKED = Settlement("a", "h1", "f", "settle", Amounts(747, 1500, 1, 70, 1400))
APPLIED = Settled(
    "settled", repeated=False, late=False, published=True, now_ms=0, windows=(state(settled=747),)
)


async def test_a_settlement_splits_the_hold_into_used_released_and_overage(metrics: Metrics) -> None:
    assert await settled_after_lead(metrics, BOOKED, APPLIED) == {
        ("settled", "image_tokens"): 747,
        ("settled", "total_tokens"): 1500,
        ("settled", "images"): 1,
        ("settled", "usd"): 70,
        ("settled", "all_output_tokens"): 1400,
        ("released", "image_tokens"): 1120 - 747,
        ("overage", "total_tokens"): 100,
        ("overage", "all_output_tokens"): 100,
    }
    assert value(metrics, "settlements_total", outcome="settle", state="applied") == 1


async def test_a_void_releases_all_and_a_charge_books_the_estimate(metrics: Metrics) -> None:
    void = replace(BOOKED, outcome="void", amounts=Amounts())
    assert await settled_after_lead(metrics, void, APPLIED) == {
        ("released", unit): amount for unit, amount in zip(HELD._fields, HELD, strict=True)
    }
    expected = replace(BOOKED, outcome="charge", amounts=HELD._replace(image_tokens=747))
    charged = await settled_after_lead(Metrics(), expected, APPLIED)
    assert charged.pop(("unresolved", "image_tokens")) == 1120 - 747
    assert charged == {
        ("charged", unit): amount for unit, amount in zip(HELD._fields, expected.amounts, strict=True)
    }


async def test_a_repeated_settlement_moves_nothing(metrics: Metrics) -> None:
    assert await settled_after_lead(metrics, BOOKED, replace(APPLIED, repeated=True)) == {}
    assert value(metrics, "settlements_total", outcome="settle", state="repeated") == 1


async def test_a_late_settlement_of_another_process_counts_what_it_booked(metrics: Metrics) -> None:
    found = await settled_after_lead(metrics, BOOKED, replace(APPLIED, late=True), led=False)
    assert {event for event, _ in found} == {"settled"}
    assert value(metrics, "settlements_total", outcome="settle", state="late") == 1


async def test_windows_that_refuse_are_counted_in_either_mode(metrics: Metrics) -> None:
    labels = {"tenant": "a", "scope": "tenant", "window": "day"}
    refusing = (state(settled=900, asked=101), state(SHADOW, settled=1, asked=5))
    await ObservedLedger(Inner(Refused(refusing)), metrics).admit(asking())
    assert value(metrics, "budget_refusals_total", unit="image_tokens", mode="enforce", **labels) == 1
    assert value(metrics, "budget_refusals_total", unit="usd", mode="shadow", **labels) is None
    admitted = (state(settled=800, held=101, asked=101), state(SHADOW, settled=6, held=5, asked=5))
    bound = Bound(1720, Amounts(image_tokens=101, usd=5))
    await ObservedLedger(Inner(Lead("h1", admitted, bound=bound)), metrics).admit(asking())
    assert value(metrics, "budget_refusals_total", unit="image_tokens", mode="enforce", **labels) == 1
    assert value(metrics, "budget_refusals_total", unit="usd", mode="shadow", **labels) == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (StoreUnavailable(), "store_unavailable"),
        (asyncio.CancelledError(), "cancelled"),
        (ValueError("a prompt"), "internal"),
    ],
)
async def test_errors_are_counted_by_their_code_and_raised_unchanged(
    metrics: Metrics, error: BaseException, outcome: str
) -> None:
    inner = Inner(error)
    ledger, results, model = (
        ObservedLedger(inner, metrics),
        ObservedResults(inner, metrics),
        ObservedImageModel(inner, "vertex", metrics, CATALOGUE),
    )
    request = GenerationRequest("gemini", "a prompt")
    for command, call in {
        "admit": ledger.admit(asking()),
        "dispatch": ledger.dispatch("a", "h1", "f"),
        "settle": ledger.settle(BOOKED, ()),
        "wait": ledger.wait("a", "f", "h0", 1),
        "windows": ledger.get_windows("a", ()),
        "put_pictures": results.put_pictures("a", (), 1),
        "get_picture": results.get_picture("a", "img_1"),
        "delete_picture": results.delete_picture("a", "img_1"),
        "delete_generation": results.delete_generation("a", "gen_1"),
    }.items():
        with pytest.raises(type(error)) as caught:
            await call
        assert caught.value is error
        assert value(metrics, "store_commands_total", command=command, outcome=outcome) == 1
    with pytest.raises(type(error)):
        await model.generate(request, None, CALL)
    assert name_outcome(error) == outcome
    assert value(metrics, "upstream_calls_total", back_end="vertex", model="gemini", outcome=outcome) == 1
    assert value(metrics, "upstream_duration_seconds_count", model="gemini", outcome=outcome) == 1
    for stage in ("waiting", "upstream"):
        assert value(metrics, "in_flight", stage=stage) == 0
    assert b"a prompt" not in metrics.render()[0]


async def test_waiting_and_drawing_are_shown_while_they_last(metrics: Metrics) -> None:
    release = asyncio.Event()
    begun = asyncio.Barrier(5)

    class Slow(Inner):
        async def wait(self, tenant_id: str, fingerprint: str, leader: str, timeout_s: float) -> None:
            await begun.wait()
            await release.wait()

        async def generate(self, *_: object) -> ModelAnswer:
            await begun.wait()
            await release.wait()
            raise UpstreamQuota("")

    ledger, model = ObservedLedger(Slow(), metrics), ObservedImageModel(Slow(), "vertex", metrics, CATALOGUE)
    async with asyncio.TaskGroup() as group:
        group.create_task(ledger.wait("a", "f", "h0", 1))
        drawing = [
            asyncio.ensure_future(model.generate(GenerationRequest("gemini", ""), None, CALL))
            for _ in range(3)
        ]
        await begun.wait()
        assert value(metrics, "in_flight", stage="upstream") == 3
        assert value(metrics, "in_flight", stage="waiting") == 1
        release.set()
        await asyncio.gather(*drawing, return_exceptions=True)
    assert value(metrics, "in_flight", stage="waiting") == 0
    assert value(metrics, "in_flight", stage="upstream") == 0
    assert (
        value(metrics, "upstream_calls_total", back_end="vertex", model="gemini", outcome="upstream_quota")
        == 3
    )


async def test_an_answer_counts_tokens_images_and_bytes(metrics: Metrics) -> None:
    answer = ModelAnswer((PICTURE, PICTURE), "", "STOP", Usage(image_output=3360), "v1")
    inner = Inner(answer)
    request = GenerationRequest("gemini", "", image_size="2K")
    assert await ObservedImageModel(inner, "vertex", metrics, CATALOGUE).generate(request, 7, CALL) is answer
    assert inner.asked == [(request, 7, CALL)]
    assert value(metrics, "images_total", model="gemini", image_size="2K") == 2
    assert value(metrics, "image_bytes_total", event="received") == 10
    assert value(metrics, "tokens_total", model="gemini", modality="image_output") == 3360


async def test_a_refusal_counts_the_tokens_that_it_cost(metrics: Metrics) -> None:
    blocked = ContentBlocked("", reason="SAFETY", usage=Usage(text_input=9))
    with pytest.raises(ContentBlocked):
        await ObservedImageModel(Inner(blocked), "vertex", metrics, CATALOGUE).generate(
            GenerationRequest("gemini", ""), None, CALL
        )
    assert value(metrics, "tokens_total", model="gemini", modality="text_input") == 9
    assert value(metrics, "images_total", model="gemini", image_size="default") is None


async def test_bytes_are_counted_where_they_were_kept_or_found(metrics: Metrics) -> None:
    assert await ObservedResults(Inner(answer=True), metrics).put_pictures("a", (PICTURE,), 60)
    assert not await ObservedResults(Inner(answer=False), metrics).put_pictures("a", (PICTURE,), 60)
    assert await ObservedResults(Inner(PICTURE), metrics).get_picture("a", "img_1") is PICTURE
    assert await ObservedResults(Inner(None), metrics).get_picture("a", "img_1") is None
    assert value(metrics, "image_bytes_total", event="stored") == 5
    assert value(metrics, "image_bytes_total", event="loaded") == 5
    assert value(metrics, "store_commands_total", command="put_pictures", outcome="ok") == 2


def test_keys_shown_are_counted_and_a_found_tenant_becomes_known() -> None:
    metrics = Metrics()
    caller = Caller(TENANT, KEY)
    assert ObservedDirectory(Inner(caller), metrics).authenticate("x") is caller
    assert ObservedDirectory(Inner(None), metrics).authenticate("x") is None
    assert ObservedDirectory(Inner(caller), metrics).find_by_identity((Identity("subject", "1"),)) is caller
    assert ObservedDirectory(Inner(None), metrics).find_by_identity(()) is None
    assert value(metrics, "authentications_total", outcome="ok") == 2
    assert value(metrics, "authentications_total", outcome="refused") == 2
    metrics.count_budget_refusal("a", state())
    assert "a" in {dict(labels).get("tenant") for name, labels in samples(metrics) if "refusals" in name}


async def test_a_picture_of_another_size_or_type_is_counted() -> None:
    picture = Picture("img_" + "0" * 64, "image/jpeg", 512, 512, b"x")
    answer = ModelAnswer((picture,), "", "STOP", Usage(image_output=1120), "v")
    request = GenerationRequest(
        "gemini-3.1-flash-image", "", aspect_ratio="1:1", image_size="1K", output_mime_type="image/png"
    )
    metrics = Metrics()
    await ObservedImageModel(Inner(answer), "vertex", metrics, CATALOGUE).generate(request, None, CALL)
    for code in ("size_mismatch", "mime_mismatch"):
        model = "gemini-3.1-flash-image"
        assert value(metrics, "delivery_mismatches_total", model=model, code=code) == 1


@pytest.mark.parametrize(("queries", "beyond"), [(10, None), (13, 3)])
async def test_searches_for_which_nothing_was_held_are_counted(queries: int, beyond: int | None) -> None:
    model = "gemini-3.1-flash-image"
    answer = ModelAnswer((), "", "STOP", Usage(image_output=1120, search_queries=queries), "v")
    request = GenerationRequest(model, "", n=2, grounding=Grounding(web_search=True))
    metrics = Metrics()
    await ObservedImageModel(Inner(answer), "vertex", metrics, CATALOGUE).generate(request, None, CALL)
    assert value(metrics, "searches_beyond_hold_total", model=model) == beyond
