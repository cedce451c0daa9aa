"""How the ledger treats time: leases, retention, and holds whose owner died."""

from __future__ import annotations

from pydantic import Field

from app.domain.policy import HoldConfig
from app.store.client import DEADLINE_S

MS = 1000
DAY_S = 86_400
DAY_MS = 86_400_000
POLL_S = 1.0


class LedgerConfig(HoldConfig):
    """The ledger.

    Attributes:
        keep_s: Seconds that an ended hold is remembered; longer than any retry of a settlement.
        usage_labels_max: Labels of a tenant and day that are reported one by one; others are added up.
        usage_users_max: The same for end users.
        usage_parameters_max: The same for models with the parameters of a request.
        poll_s: Seconds between looks of a follower that is not notified.
        deadline_s: Seconds after which a call without an answer is StoreUnavailable.
    """

    keep_s: int = DAY_S
    usage_days: int = Field(92, ge=1, le=3660, description="How far back usage reports reach, in days.")
    usage_labels_max: int = 200
    usage_users_max: int = 1000
    usage_parameters_max: int = 200
    idempotency_keys_max: int = Field(
        50_000,
        ge=1,
        description="Idempotency keys that a tenant may use in a day, each half a kilobyte of store that is "
        "never evicted; new ones beyond are refused with 429.",
    )
    poll_s: float = POLL_S
    deadline_s: float = DEADLINE_S

    @property
    def keeps_ms(self) -> tuple[str, str]:
        """For ``take_keep``: how long holds and windows are kept, and how long days of usage."""
        return str(self.keep_s * MS), str(self.usage_days * DAY_MS)
