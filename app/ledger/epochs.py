"""Epochs: each begins where a tenant's ledger was empty, so a new name means that the old ledger is lost."""

from __future__ import annotations

from app.domain.errors import StoreUnavailable

EPOCH_FIELD = "!epoch"


class LedgerDataLost(StoreUnavailable):
    """The store has lost the books that this process knew, or they are not open again yet.

    Args:
        epoch: The name of the books that are there now, empty where there are none; None where they are the
            right ones, but not open yet.
    """

    def __init__(self, detail: str, *, epoch: str | None, retry_after_s: int) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self.epoch = epoch
