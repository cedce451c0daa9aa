"""How the ledger treats time: leases, retention, and holds whose owner died."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.store.client import DEADLINE_S

MS = 1000
DAY_MS = 86_400_000
POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class LedgerPolicy:
    """Leases, retention and limits of a ledger.

    Attributes:
        lease_s: Seconds that a hold lives without a heartbeat (docs/reliability.md R10).
        keep_s: Seconds that an ended hold is remembered; longer than any retry of a settlement.
        unknown: Whether a sent hold whose owner died is charged at its estimate or released
            (docs/decisions/0034).
        usage_days: Days that usage reports go back.
        usage_labels: Labels of a tenant and day that are reported one by one.
        poll_s: Seconds between looks of a follower that is not notified.
        deadline_s: Seconds after which a call without an answer is StoreUnavailable.
        claims_max: Idempotency keys that a tenant may have.
    """

    lease_s: float = 30.0
    keep_s: int = 86_400
    unknown: Literal["charge", "release"] = "charge"
    usage_days: int = 92
    usage_labels: int = 200
    poll_s: float = POLL_S
    deadline_s: float = DEADLINE_S
    claims_max: int = 50_000

    @property
    def keeps_ms(self) -> tuple[str, str]:
        """For ``take_keep``: how long holds and windows are kept, and how long days of usage."""
        return str(self.keep_s * MS), str(self.usage_days * DAY_MS)
