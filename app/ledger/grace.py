"""Admissions while the store does not answer: none by default (docs/reliability.md R30).

Where an operator allows it, each replica admits each tenant's requests until their estimates reach a number
of tokens in one outage. Replicas do not know of each other's, so a budget may be exceeded by that number
times the replicas. The holds are recorded like any other and booked when the store is back.

Requests with an idempotency key are not admitted: without the store nobody knows whether the key was used.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from typing import TYPE_CHECKING

from app.ledger.hold_records import Counter, HoldRecord

if TYPE_CHECKING:
    from app.generation.ports import AdmissionRequest


class Grace:
    """The tokens left in this outage, and the holds that were admitted in it.

    Args:
        tokens: Tokens for each tenant in one outage; 0 admits nothing.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._taken: Tally[str] = Tally()
        self._holds: set[str] = set()

    @property
    def tokens_taken(self) -> int:
        """Tokens of all tenants admitted in this outage."""
        return self._taken.total()

    def take(self, request: AdmissionRequest) -> HoldRecord | None:
        """A hold that the store does not know, or None where the request is not admitted."""
        tokens = request.amounts.total_tokens
        sharing_only = (
            request.cache.mode == "only_if_cached" or request.claim is not None or not request.may_lead
        )
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
            est=request.offered[0].worst,
            act=request.amounts,
            counters=tuple(counters.values()),
        )

    def covers(self, hold_id: str) -> bool:
        """Whether the hold was admitted without the store and has not ended."""
        return hold_id in self._holds

    def forget(self, hold_id: str) -> None:
        """Drop a hold that has ended; its tokens still count in this outage."""
        self._holds.discard(hold_id)

    def reset(self) -> None:
        """Start counting again, because the store has answered."""
        self._taken.clear()
