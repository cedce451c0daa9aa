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
import time
from typing import TYPE_CHECKING, Literal, Protocol

from app.domain.errors import StoreUnavailable
from app.ledger.restoring import EPOCHS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.domain.budget import Amounts
    from app.ledger.epochs import LedgerDataLost
    from app.ledger.hold_records import HoldRecord
    from app.ledger.journaling import Journaling
    from app.ledger.redis import RedisLedger
    from app.ledger.restoring import Restored, Restorer

log = logging.getLogger(__name__)

DataLossPolicy = Literal["rebuild", "closed", "open"]

LOOK_S = 1.0
CLOSED_S = 3.0
"""Seconds that a lost ledger stays closed: every replica has looked by then and put back its part."""
SETTLE_S = 10.0
"""Seconds after a loss before a checkpoint is taken: every replica has put back its part by then."""
CHECKPOINTS_AT_ONCE = 200
LOOKED_AT_ONCE = 100
"""Tenants that are looked at in each look, by turns: with 10,000 of them, each is every 100 seconds."""
PART = 5000
"""Lines of the journal held in memory at once."""


class DataLossMetrics(Protocol):
    """Counts losses; metrics in production."""

    def count_data_loss(self, policy: str, restored: int, missing: Amounts) -> None:
        """Count a ledger that was lost in whole or in part, the holds put back, and what they had booked."""

    def count_malformed_entry(self, kind: str) -> None:
        """Count an entry of the ledger that cannot be read, by its kind."""

    def count_history_change(self, missing: Literal["yes", "no"]) -> None:
        """Count that the store goes on from another state, and whether anything was missing here."""


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
        self._notifications = ledger.notifications
        self._restorer = restorer
        self._metrics = metrics
        self._journal = journal
        self._data_loss_policy = data_loss_policy
        self._open_holds = open_holds
        self._rebuilding = asyncio.Lock()
        self._settled_at = 0.0
        self._turn = self._look_turn = 0
        self._shared_epochs: dict[str, str] = {}
        self.history = ""

    async def recover(self, tenant_id: str, lost: LedgerDataLost) -> None:
        """Return once the tenant's ledger is open. Raises StoreUnavailable while it is not."""
        known = self._epochs.get(tenant_id)
        if known is None or lost.epoch is None:
            raise lost
        if self._data_loss_policy == "closed":
            raise StoreUnavailable("The store has lost the ledger of this tenant.", retry_after_s=60)
        try:
            wait_s = (await self._rebuild({tenant_id: known})).get(tenant_id, 0.0)
        except OSError as error:
            log.exception("the ledger cannot be put back", extra={"tenant": tenant_id})
            raise StoreUnavailable("The ledger of this tenant cannot be rebuilt.", retry_after_s=5) from error
        if wait_s > 0:
            raise StoreUnavailable(
                "The ledger of this tenant is being rebuilt.", retry_after_s=max(1, -int(-wait_s // 1))
            )

    async def look_for_losses(self) -> None:
        """Look for losses, for ever: every replica puts back its part while a ledger is still closed."""
        self._shared_epochs = dict(self._epochs)
        while True:
            try:
                await self._look()
            except StoreUnavailable:
                pass  # there is nothing to see; the next look tells
            except Exception:
                log.exception("the ledger cannot be put back")
            await asyncio.sleep(LOOK_S)

    async def take_checkpoints(self) -> None:
        """Take some of those that journals lack, once every replica has told a new history what it knows.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        due = self._journal.due
        if not due or self._data_loss_policy != "rebuild" or time.monotonic() < self._settled_at:
            return
        self._turn += CHECKPOINTS_AT_ONCE  # a tenant of which there is none must not keep others waiting
        begin = self._turn % len(due) if len(due) > CHECKPOINTS_AT_ONCE else 0
        taken = [
            (lines, await self._restorer.take_checkpoint(tenant_id, lines.id))
            for lines, tenant_id in due[begin : begin + CHECKPOINTS_AT_ONCE]
        ]
        if await self._restorer.read_history() != self.history:
            return  # they may be of a history that does not know everything yet
        for lines, checkpoint in taken:
            if checkpoint is not None and checkpoint.epoch == self._epochs.get(checkpoint.tenant_id):
                self._journal.note_checkpoint(lines, checkpoint)

    async def _look(self) -> None:
        history = await self._restorer.read_history()
        await self._share_epochs(new_history=history != self.history)
        known = dict(self._epochs)
        if self.history not in {"", history}:
            log.warning("the store has another history", extra={"history": history})
        if history != self.history:
            self._settled_at = time.monotonic() + SETTLE_S
        await self._look_for_lost(known)
        lacked = False
        if history != self.history and self._data_loss_policy == "rebuild":
            lacked = await self._put_back_all(frozenset(known))
        if self.history not in {"", history}:
            self._metrics.count_history_change("yes" if lacked else "no")
        self.history = history

    async def _share_epochs(self, *, new_history: bool) -> None:
        """Learn of ledgers that only others have used, and tell others of those that are new here.

        A replica that did not know of a ledger would begin an empty one as soon as the store has lost it.
        """
        begun = {
            tenant_id: epoch
            for tenant_id, epoch in self._epochs.items()
            if self._shared_epochs.get(tenant_id) != epoch
        }
        await self._restorer.announce_epochs(begun)
        learned, self._notifications.epochs = self._notifications.epochs, {}
        if new_history:
            learned |= await self._restorer.read_epochs()
        for tenant_id, epoch in learned.items():
            self._epochs.setdefault(tenant_id, epoch)
        self._shared_epochs = dict(self._epochs)

    async def _look_for_lost(self, known: dict[str, str]) -> None:
        """Look at some tenants by turns and at those that a replica has named; at all where one is lost."""
        named, self._notifications.lost_tenants = self._notifications.lost_tenants, set()
        looked_at = list(known) if "" in named else self._take_turn(list(known), named)
        lost = await self._find_lost(looked_at, known)
        if lost and len(looked_at) < len(known):
            lost |= await self._find_lost([each for each in known if each not in looked_at], known)
        if lost and self._data_loss_policy == "rebuild":
            self._settled_at = time.monotonic() + SETTLE_S
            await self._rebuild(lost)

    def _take_turn(self, tenant_ids: list[str], named: set[str]) -> list[str]:
        begin = self._look_turn if self._look_turn < len(tenant_ids) else 0
        self._look_turn = begin + LOOKED_AT_ONCE
        return list(dict.fromkeys([*tenant_ids[begin : self._look_turn], *named.intersection(tenant_ids)]))

    async def _find_lost(self, tenant_ids: list[str], known: dict[str, str]) -> dict[str, str]:
        """Return those whose epoch is not the known one, and report entries that were set aside."""
        lost = {}
        for begin in range(0, len(tenant_ids), EPOCHS_AT_ONCE):
            part = tenant_ids[begin : begin + EPOCHS_AT_ONCE]
            for tenant_id, (epoch, has_asides) in (await self._restorer.look_at(part)).items():
                if epoch != known[tenant_id]:
                    lost[tenant_id] = known[tenant_id]
                if has_asides:
                    for kind, name in await self._restorer.take_asides(tenant_id):
                        self._metrics.count_malformed_entry(kind)
                        _report_unreadable(tenant_id, kind, name)
        return lost

    async def _rebuild(self, lost: dict[str, str]) -> dict[str, float]:
        """Put back this replica's part of tenants whose epochs were these; the seconds until each is open."""
        async with self._rebuilding:
            lost = {each: epoch for each, epoch in lost.items() if self._epochs.get(each) == epoch}
            rebuilding = self._data_loss_policy == "rebuild"
            closed_s = CLOSED_S if rebuilding else 0.0
            if rebuilding and lost:
                await self._restorer.announce_losses(lost)
            checkpoints = await self._journal.read_checkpoints() if rebuilding and lost else {}
            restored = {}
            for tenant_id in lost:
                holds = self._open_holds(tenant_id).values() if rebuilding else ()
                restored[tenant_id] = await self._restorer.rebuild(
                    tenant_id,
                    holds,
                    secrets.token_hex(8),
                    closed_s,
                    checkpoint=checkpoints.get(tenant_id),
                )
            if rebuilding and lost:
                async with contextlib.aclosing(self._journal.read(PART)) as known:
                    async for tenant_id, remembered in known:
                        if tenant_id in lost:
                            restored[tenant_id] += await self._restorer.rebuild(
                                tenant_id,
                                remembered.holds.values(),
                                restored[tenant_id].epoch,
                                closed_s,
                                adjustments=remembered.adjustments,
                            )
            for tenant_id, result in restored.items():
                self._epochs[tenant_id] = result.epoch
                self._journal.keep_epoch(tenant_id, result.epoch)
        for tenant_id, result in restored.items():
            self._report(tenant_id, result, whole=True)
        return {tenant_id: result.wait_s for tenant_id, result in restored.items()}

    async def _put_back_all(self, tenant_ids: frozenset[str]) -> bool:
        """Tell a store of another history what this replica knows; whether anything was missing."""
        restored: dict[str, Restored] = {}
        async with self._rebuilding:
            checkpoints = await self._journal.read_checkpoints()
            for tenant_id in tenant_ids:
                holds = self._open_holds(tenant_id).values()
                restored[tenant_id] = await self._restorer.put_back(
                    tenant_id, holds, checkpoint=checkpoints.get(tenant_id)
                )
            async with contextlib.aclosing(self._journal.read(PART)) as known:
                async for tenant_id, remembered in known:
                    if tenant_id in tenant_ids:
                        restored[tenant_id] += await self._restorer.put_back(
                            tenant_id, remembered.holds.values(), remembered.adjustments
                        )
        for tenant_id, result in restored.items():
            if result:
                self._report(tenant_id, result, whole=False)
        return any(restored.values())

    def _report(self, tenant_id: str, restored: Restored, *, whole: bool) -> None:
        missing = restored.missing
        fields = {
            "tenant": tenant_id,
            "count": restored.count,
            "images": missing.images,
            "tokens": missing.total_tokens,
            "usd_billionths": missing.usd,
        }
        if whole:
            log.error("the store has lost the ledger", extra=fields)
        else:
            log.error("the store has lost a part of the ledger", extra=fields)
        self._metrics.count_data_loss(self._data_loss_policy, restored.count, missing)


def _report_unreadable(tenant_id: str, kind: str, name: str) -> None:
    fields = {"tenant": tenant_id, "reason": kind, "key": name}
    if kind == "later":
        log.error(
            "a later version of the gateway writes records that this one cannot read; replace this one",
            extra=fields,
        )
    else:
        log.error("an entry of the ledger cannot be read and was set aside", extra=fields)
