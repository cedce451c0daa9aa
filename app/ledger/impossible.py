"""Refusals that the store would repeat: a request that needs more than a whole budget is refused without it.

Only the store knows an operator's override and credit, so a refusal is remembered for a second: a caller who
keeps asking for what can never fit costs one command a second, and a limit that another replica raises counts
a second later. A request that might be served without any budget is always passed on: one with an idempotency
key or a numbered attempt, and one that may share a result, unless the very same work was refused.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from app.domain.budget import UNITS
from app.generation.ports import Absent, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.domain.budget import BudgetWindow, WindowState
    from app.domain.rate import RateState
    from app.generation.ports import Admission, AdmissionRequest

REMEMBERED_S = 1.0
CALLERS_MAX = 1000
WORKS_MAX = 100


@dataclass(slots=True)
class _Remembered:
    """What the store said, and of which work."""

    until: float
    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...]
    works: set[str] = field(default_factory=set)


class ImpossibleRequests:
    """Remembers refusals that waiting does not change, by tenant and budgets.

    Args:
        clock: Seconds; never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._callers: OrderedDict[tuple[str, tuple[BudgetWindow, ...]], _Remembered] = OrderedDict()

    def note(self, request: AdmissionRequest, admission: Admission) -> None:
        """Remember an answer of the store that refuses what can never fit."""
        if not isinstance(admission, Refused | Absent) or not _may_be_refused(request):
            return
        if not any(window.never_fits for window in admission.windows):
            return
        name = (request.tenant_id, request.windows)
        known = self._callers.get(name)
        works = known.works if known is not None and self._clock() < known.until else set()
        if len(works) < WORKS_MAX:
            works.add(request.fingerprint)
        until = self._clock() + REMEMBERED_S
        self._callers[name] = _Remembered(until, admission.windows, admission.rates, works)
        if len(self._callers) > CALLERS_MAX:
            self._callers.popitem(last=False)

    def forget(self, tenant_id: str) -> None:
        """Forget what is known of a tenant, because an operator has changed its budgets."""
        for name in [name for name in self._callers if name[0] == tenant_id]:
            del self._callers[name]

    def find(self, request: AdmissionRequest) -> Refused | Absent | None:
        """The store's answer to a request that it would refuse as it has refused another; else None."""
        known = self._callers.get((request.tenant_id, request.windows))
        if known is None or self._clock() >= known.until or not _may_be_refused(request):
            return None
        if request.cache.mode != "bypass" and request.fingerprint not in known.works:
            return None
        windows = tuple(
            replace(window, needed=request.needed[UNITS.index(window.budget.unit)])
            for window in known.windows
        )
        if not any(window.never_fits for window in windows):
            return None
        kind = Refused if request.may_lead else Absent
        return kind(windows, known.rates)


def _may_be_refused(request: AdmissionRequest) -> bool:
    """Whether nothing but its budgets and the cache decides on the request."""
    alone = request.claim is None and request.attempt is None and request.following is None
    return alone and request.cache.mode != "only_if_cached"
