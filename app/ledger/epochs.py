"""Epochs: each begins where a tenant's ledger was empty, so a new name means that the old ledger is lost."""

from __future__ import annotations

from app.domain.errors import StoreUnavailable

EPOCH_FIELD = "!epoch"


class LedgerDataLost(StoreUnavailable):
    """The store has lost the ledger that this process knew, or the ledger is still closed.

    Args:
        epoch: The epoch of the ledger that is there now, or "" without one; None where it is the right ledger
            and still closed.
    """

    def __init__(self, detail: str, *, epoch: str | None, retry_after_s: int) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self.epoch = epoch
