"""What the ledger does by itself, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.store.client import DEADLINE_S

MS = 1000
DAY_MS = 86_400_000
POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class LedgerPolicy:
    """What the ledger does by itself.

    Attributes:
        lease_s: A hold lives this long without a heartbeat (docs/reliability.md R10).
        keep_s: How long an ended hold is remembered; longer than any retry of a settlement.
        unknown: What becomes of a sent hold whose owner died: its estimate is charged, or released
            (docs/decisions/0034).
        usage_days: How long days are kept for reports of usage.
        usage_labels: How many labels of a tenant and day are reported one by one.
        poll_s: How often a follower looks by itself, beside waiting to be woken.
        deadline_s: A call that has no answer by then is StoreUnavailable.
        claims_max: How many idempotency keys a tenant may have.
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
