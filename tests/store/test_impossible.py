"""What can never fit into a budget costs no store command, for as long as the store's word is recent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.budget import Budget
from app.generation.ports import Absent, Claim, Lead, Refused
from app.ledger.adjustments import RedisBudgetAdjustments
from app.ledger.impossible import REMEMBERED_S, ImpossibleRequests
from tests.store.books import DAY, ONE, Books
from tests.store.test_discipline import commands

if TYPE_CHECKING:
    from app.generation.ports import Admission, AdmissionRequest
    from app.store.client import StoreClients

SMALL = replace(DAY, limit=1000)


class Front:
    """The memory in front of the ledger, with a clock that a test sets."""

    def __init__(self, books: Books) -> None:
        self.books = replace(books, budgets=(SMALL, Budget("images", "month", 5)))
        self.windows = self.books.windows
        self.now_s = 0.0
        self.memory = ImpossibleRequests(lambda: self.now_s)

    def request(self, hold: str, work: str | None = None, **options: Any) -> AdmissionRequest:
        return replace(self.books.request(hold, work, **options), windows=self.windows)

    async def admit(self, request: AdmissionRequest) -> Admission:
        known = self.memory.find(request)
        if known is not None:
            return known
        admission = await self.books.ledger.admit(request)
        self.memory.note(request, admission)
        return admission


async def test_what_can_never_fit_is_refused_without_the_store(books: Books, clients: StoreClients) -> None:
    front = Front(books)
    first = await front.admit(front.request("a", mode="bypass"))
    assert isinstance(first, Refused)
    dearer = replace(front.request("b", mode="bypass"), amounts=ONE._replace(image_tokens=2520))
    told: list[Admission] = []

    async def ask() -> None:
        told.extend([await front.admit(replace(dearer, hold_id=f"b{number}")) for number in range(100)])
        told.append(await front.admit(replace(dearer, may_lead=False)))

    sent, _inside = await commands(clients, ask())
    assert sent == []
    assert {type(answer) for answer in told} == {Refused, Absent}
    assert [(window.needed, window.budget.limit) for window in told[0].windows] == [(2520, 1000), (1, 5)]
    front.now_s = REMEMBERED_S
    sent, _inside = await commands(clients, front.admit(dearer))
    assert len(sent) == 1, "an operator may have raised the limit"


async def test_what_the_store_may_serve_is_passed_on(books: Books) -> None:
    front = Front(books)
    assert isinstance(await front.admit(front.request("a", "work")), Refused)
    find = front.memory.find
    assert find(front.request("b", "work")) is not None, "the same work again"
    assert find(front.request("c", "other")) is None, "its result may be there"
    bypassing = front.request("d", mode="bypass")
    assert find(bypassing) is not None
    assert find(replace(bypassing, claim=Claim("d" * 64, "me", 60))) is None
    assert find(replace(bypassing, amounts=ONE._replace(image_tokens=1000))) is None, "that may fit"
    assert find(replace(bypassing, tenant_id="other")) is None
    raised = replace(front.windows[0], budget=replace(SMALL, limit=2000))
    assert find(replace(bypassing, windows=(raised, *front.windows[1:]))) is None, "the tenant has changed"


async def test_a_raised_limit_counts_a_second_later(books: Books) -> None:
    front = Front(books)
    request = front.request("a", mode="bypass")
    assert isinstance(await front.admit(request), Refused)
    adjustments = RedisBudgetAdjustments(books.client)
    await adjustments.set_override(books.tenant, front.windows[0], 5000, 2**45)
    front.now_s = REMEMBERED_S - 0.001
    assert isinstance(await front.admit(request), Refused)
    front.memory.forget("other")
    assert isinstance(await front.admit(request), Refused)
    front.memory.forget(books.tenant)
    assert isinstance(await front.admit(request), Lead), "at once where it was raised"


@pytest.mark.parametrize("settled", [ONE._replace(image_tokens=900)])
async def test_a_budget_that_is_only_used_up_is_asked_for_each_time(books: Books, settled: Any) -> None:
    front = Front(books)
    small = replace(front.request("a", mode="bypass"), amounts=settled)
    assert isinstance(await front.admit(small), Lead)
    again = replace(small, hold_id="b")
    assert isinstance(await front.admit(again), Refused)
    assert front.memory.find(again) is None
