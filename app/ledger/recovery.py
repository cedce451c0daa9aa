"""Rebuilds ledgers that the store has lost (docs/reliability.md R22).

A ledger that is lost as a whole is noticed by its epoch: at the next admission, or by a look once a second.
It stays closed for a moment, until every replica has put back what it knows.

A ledger may also be complete but old: a replica of the store that lacked the last seconds was promoted, or a
backup was restored. The store then reports another replication history at the next look, and this replica
puts back everything that it knows; what is there already is left as it is. Until then, for at most a second,
admissions use the old ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Literal, Protocol

from app.domain.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.ledger.epochs import LedgerDataLost
    from app.ledger.hold_records import HoldRecord
    from app.ledger.journaling import Journaling
    from app.ledger.redis import RedisLedger
    from app.ledger.restoring import Restorer

log = logging.getLogger(__name__)

DataLossPolicy = Literal["rebuild", "closed", "open"]

LOOK_S = 1.0
CLOSED_S = 3.0
"""Seconds that a lost ledger stays closed: every replica has looked by then and put back its part."""
PART = 5000
"""Lines of the journal held in memory at once."""


class DataLossMetrics(Protocol):
    """Counts losses; metrics in production."""

    def count_data_loss(self, policy: str, restored: int) -> None:
        """Count a tenant's ledger that was lost in whole or in part, and the holds that were put back."""


class Recovery:
    """Notices losses and puts back this replica's part.

    Args:
        ledger: Its ``epochs`` are those that this process has seen.
        journal: This replica's memory on disk.
        data_loss_policy: What happens after a tenant's ledger was lost.
        open_holds: The holds of a tenant that this process has open.

    Attributes:
        history: The replication history of the store when it last had everything; "" before the first look.
    """

    def __init__(
        self,
        ledger: RedisLedger,
        restorer: Restorer,
        metrics: DataLossMetrics,
        *,
        journal: Journaling,
        data_loss_policy: DataLossPolicy,
        open_holds: Callable[[str], dict[str, HoldRecord]],
    ) -> None:
        self._epochs = ledger.epochs
        self._restorer = restorer
        self._metrics = metrics
        self._journal = journal
        self._data_loss_policy = data_loss_policy
        self._open_holds = open_holds
        self._rebuilding = asyncio.Lock()
        self.history = ""

    async def recover(self, tenant_id: str, lost: LedgerDataLost) -> None:
        """Return once the tenant's ledger is open. Raises StoreUnavailable while it is not."""
        known = self._epochs.get(tenant_id)
        if known is None or lost.epoch is None:
            raise lost
        if self._data_loss_policy == "closed":
            raise StoreUnavailable("The store has lost the ledger of this tenant.", retry_after_s=60)
        try:
            wait_s = await self._rebuild(tenant_id, known)
        except OSError as error:
            log.exception("the ledger cannot be put back", extra={"tenant": tenant_id})
            raise StoreUnavailable("The ledger of this tenant cannot be rebuilt.", retry_after_s=5) from error
        if wait_s > 0:
            raise StoreUnavailable(
                "The ledger of this tenant is being rebuilt.", retry_after_s=max(1, -int(-wait_s // 1))
            )

    async def look_for_losses(self) -> None:
        """Look for losses, for ever: every replica puts back its part while a ledger is still closed."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._epochs and self._data_loss_policy == "rebuild":
                try:
                    await self._look()
                except StoreUnavailable:
                    pass  # there is nothing to see; the next look tells
                except Exception:
                    log.exception("the ledger cannot be put back")

    async def _look(self) -> None:
        known = dict(self._epochs)
        current = await self._restorer.read_epochs(list(known))
        history = await self._restorer.read_history()
        for tenant_id, epoch in current.items():
            if epoch != known[tenant_id]:
                await self._rebuild(tenant_id, known[tenant_id])
        if history != self.history:
            await self._put_back_all(frozenset(known))
        self.history = history

    async def _rebuild(self, tenant_id: str, known: str) -> float:
        """Put back this replica's part; returns the seconds until the ledger is open."""
        async with self._rebuilding:
            if self._epochs.get(tenant_id) != known:
                return 0.0  # another task of this process has done it meanwhile
            rebuilding = self._data_loss_policy == "rebuild"
            records = await self._collect_records(tenant_id) if rebuilding else []
            epoch, wait_s, count = await self._restorer.rebuild(
                tenant_id, records, secrets.token_hex(8), CLOSED_S if rebuilding else 0.0
            )
            self._epochs[tenant_id] = epoch
            self._journal.keep_epoch(tenant_id, epoch)
        log.error("the store has lost the ledger", extra={"tenant": tenant_id, "count": count})
        self._metrics.count_data_loss(self._data_loss_policy, count)
        return wait_s

    async def _put_back_all(self, tenant_ids: frozenset[str]) -> None:
        """Restore everything this replica knows to a store with another history."""
        missing: Counter[str] = Counter()
        async with self._rebuilding:
            async with contextlib.aclosing(self._journal.read_settled(PART)) as known:
                async for tenant_id, records in known:
                    if tenant_id in tenant_ids:
                        missing[tenant_id] += await self._restorer.put_back(tenant_id, records)
            for tenant_id in tenant_ids:
                open_holds = self._open_holds(tenant_id).values()
                missing[tenant_id] += await self._restorer.put_back(tenant_id, open_holds)
        for tenant_id, count in missing.items():
            if count:
                log.error(
                    "the store has lost a part of the ledger", extra={"tenant": tenant_id, "count": count}
                )
                self._metrics.count_data_loss(self._data_loss_policy, count)

    async def _collect_records(self, tenant_id: str) -> list[HoldRecord]:
        """The last state of every hold that this replica remembers."""
        records = await self._journal.read_settled_of(tenant_id)
        return list((records | self._open_holds(tenant_id)).values())
