"""What is admitted while the store does not answer: nothing by default (docs/reliability.md R30).

Where an operator allows it, each replica lets every tenant's requests through until their estimates reach a
number of tokens in one outage. Nobody else knows of it, so all replicas together may exceed a budget by that
number each; the holds are recorded like any other, and booked when the store is back.

Where the caller sent an idempotency key nothing is let through: without the store nobody knows whether it
was used.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from typing import TYPE_CHECKING

from app.ledger.hold_records import Counter, HoldRecord

if TYPE_CHECKING:
    from app.generation.ports import AdmissionRequest


class Grace:
    """The tokens that are left of it, and the holds that were admitted so.

    Args:
        tokens: In one outage, for each tenant; 0 for no grace at all.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._taken: Tally[str] = Tally()
        self._holds: set[str] = set()

    @property
    def tokens_taken(self) -> int:
        """Tokens that were admitted in this outage, of all tenants together."""
        return self._taken.total()

    def take(self, request: AdmissionRequest) -> HoldRecord | None:
        """A hold that no store knows, or None where there is no grace for it."""
        tokens = request.amounts.total_tokens
        sharing_only = request.cache.mode == "only_if_cached" or request.claim is not None
        if sharing_only or self._taken[request.tenant_id] + tokens > self._tokens:
            return None
        self._taken[request.tenant_id] += tokens
        self._holds.add(request.hold_id)
        counters = {
            window.field: Counter(
                window.budget.unit, window.spans[1].start_ms, window.spans[1].end_ms, window.field
            )
            for window in request.windows
        }
        return HoldRecord(
            hold_id=request.hold_id,
            state="held",
            flags="",
            began_ms=time.time_ns() // 1_000_000,
            fingerprint=request.fingerprint,
            est=request.amounts,
            act=None,
            counters=tuple(counters.values()),
        )

    def covers(self, hold_id: str) -> bool:
        """Whether a hold was admitted so, and has not ended."""
        return hold_id in self._holds

    def forget(self, hold_id: str) -> None:
        """A hold has ended; what it took of this outage stays taken."""
        self._holds.discard(hold_id)

    def reset(self) -> None:
        """The store has answered: the next outage begins anew."""
        self._taken.clear()
