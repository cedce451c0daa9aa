"""Restores what the store has forgotten: hold by hold, set if absent and never added."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.ledger.epochs import EPOCH_FIELD
from app.ledger.policy import MS
from app.store import keys
from app.store.calls import StoreCalls
from app.store.client import fetch_node_info

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

    from app.ledger.hold_records import HoldRecord
    from app.ledger.policy import LedgerConfig
    from app.ledger.scripting import Scripts
    from app.store.breaker import StoreBreaker

AT_ONCE = 100
RESTORE_DEADLINE_S = 5.0


class Restorer:
    """Runs ``scripts/restore.lua`` and reads the epochs of tenants' ledgers."""

    def __init__(
        self, client: Redis, scripts: Scripts, config: LedgerConfig, breaker: StoreBreaker | None = None
    ) -> None:
        self._client = client
        self._calls = StoreCalls(breaker=breaker)
        self._scripts = scripts
        self._lease_ms = str(int(config.lease_s * MS))
        self._keep_ms, self._usage_ms = config.keeps_ms

    async def put_back(self, tenant_id: str, records: Iterable[HoldRecord]) -> int:
        """Put holds back that were begun so lately that the store cannot have ended and pruned them.

        Returns how many were missing.

        Raises:
            StoreUnavailable: Some may be missing still; repeating is safe.
        """
        holds, count = list(records), 0
        for begin in range(0, len(holds), AT_ONCE):
            _, _, missing = await self._restore(
                tenant_id, holds[begin : begin + AT_ONCE], self._keep_ms, "", 0
            )
            count += missing
        return count

    async def rebuild(
        self, tenant_id: str, records: Sequence[HoldRecord], epoch: str, closed_s: float
    ) -> tuple[str, float, int]:
        """Put every hold back, whatever its age, and begin an epoch where there is none.

        Returns the epoch that is there now, the seconds until its first admission, and how many were missing.

        Raises:
            StoreUnavailable: Some may be missing still; repeating is safe.
        """
        count, wait_s, current = 0, 0.0, ""
        for begin in range(0, len(records) or 1, AT_ONCE):
            part = records[begin : begin + AT_ONCE]
            current, wait_s, missing = await self._restore(
                tenant_id, list(part), "", epoch, int(closed_s * MS)
            )
            count += missing
        return current, wait_s, count

    async def read_history(self) -> str:
        """Names the store's history; another one follows a restart, a failover or an older backup."""
        nodes = await self._calls.run(fetch_node_info(self._client, "replication"))
        return ",".join(sorted(str(node.get("master_replid")) for node in nodes))

    async def read_epochs(self, tenant_ids: Sequence[str]) -> dict[str, str]:
        """The name of each tenant's epoch; empty where the store knows none."""
        pipeline = self._client.pipeline(transaction=False)
        for tenant_id in tenant_ids:
            pipeline.hget(keys.ledger_keys(tenant_id)[1], EPOCH_FIELD)
        values = await self._calls.run(pipeline.execute())
        return {
            tenant_id: str(value or "").partition(";")[0]
            for tenant_id, value in zip(tenant_ids, values, strict=True)
        }

    async def _restore(
        self, tenant_id: str, records: list[HoldRecord], oldest_ms: str, epoch: str, closed_ms: int
    ) -> tuple[str, float, int]:
        arguments = [self._keep_ms, self._usage_ms, self._lease_ms, oldest_ms, epoch, str(closed_ms)]
        arguments.append(str(len(records)))
        for record in records:
            arguments += [record.hold_id, _drop_places(record).encode()]
        name, wait_ms, count = await self._calls.run(
            self._scripts.run("restore", keys.ledger_keys(tenant_id), arguments), RESTORE_DEADLINE_S
        )
        return str(name), int(wait_ms) / MS, int(count)


def _drop_places(record: HoldRecord) -> HoldRecord:
    """A cap on open holds is not rebuilt: what is put back holds no place, so it gives none back."""
    return replace(record, counters=tuple(counter for counter in record.counters if counter.unit))
