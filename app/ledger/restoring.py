"""Restores what the store has lost: counters from a checkpoint, then holds one by one, each at most once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import add
from typing import TYPE_CHECKING

from app.domain.budget import EARLIER_UNITS, UNITS, Amounts
from app.ledger.checkpoints import MARK_KEEP_MS, Checkpoint
from app.ledger.epochs import EPOCH_FIELD
from app.ledger.notifications import KNOWN, LOST
from app.ledger.policy import MS
from app.ledger.verifying import list_ledger_tenants
from app.store import keys
from app.store.calls import StoreCalls
from app.store.client import fetch_node_info
from app.store.scripting import read_script

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from app.ledger.checkpoints import Adjustment
    from app.ledger.hold_records import HoldRecord
    from app.ledger.policy import LedgerConfig
    from app.ledger.scripting import Scripts
    from app.store.breaker import StoreBreaker

_ASIDES = read_script(__file__, "asides")
ASIDE_FIELD = "!aside"
AT_ONCE = 100
EPOCHS_AT_ONCE = 1000
ANNOUNCED_MAX = 100
"""Where more tenants have lost their ledgers, one message is about all."""
RESTORE_DEADLINE_S = 5.0


NOTHING = Amounts()


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore.

    Attributes:
        epoch: Epoch of the ledger that exists now; "" without one.
        wait_s: Seconds until its first admission.
        count: Number of missing holds, as far as they are known individually.
        missing: Booked amounts that were missing.
    """

    epoch: str = ""
    wait_s: float = 0.0
    count: int = 0
    missing: Amounts = NOTHING

    @classmethod
    def decode(cls, reply: list[str]) -> Restored:
        """Decode the reply of ``scripts/restore.lua``."""
        amounts, counters = [int(amount) for amount in reply[3 : 3 + len(UNITS)]], reply[3 + len(UNITS) :]
        # A hold is booked in many windows; what the widest one lacked is what was lost.
        widest = dict.fromkeys(UNITS, 0)
        for name, amount in zip(counters[::2], counters[1::2], strict=True):
            word = name.split("|")[1]
            unit = EARLIER_UNITS.get(word, word)
            if unit in widest:
                widest[unit] = max(widest[unit], int(amount))
        missing = Amounts(*(amount + widest[unit] for unit, amount in zip(UNITS, amounts, strict=True)))
        return cls(reply[0], int(reply[1]) / MS, int(reply[2]), missing)

    def __add__(self, later: Restored) -> Restored:
        missing = Amounts(*map(add, self.missing, later.missing))
        return Restored(later.epoch, later.wait_s, self.count + later.count, missing)

    def __bool__(self) -> bool:
        """Return whether anything was missing."""
        return self.count > 0 or any(self.missing)


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
        self._unknown_outcome = config.unknown_outcome

    async def put_back(
        self,
        tenant_id: str,
        holds: Iterable[HoldRecord] = (),
        adjustments: Sequence[Adjustment] = (),
        checkpoint: Checkpoint | None = None,
    ) -> Restored:
        """Restore what an existing ledger lacks: only holds that it cannot have ended and pruned.

        Raises:
            StoreUnavailable: Some may still be missing; repeating is safe.
        """
        return await self._restore_parts(
            tenant_id, list(holds), adjustments, checkpoint, oldest_ms=self._keep_ms, epoch="", closed_s=0
        )

    async def rebuild(
        self,
        tenant_id: str,
        holds: Iterable[HoldRecord],
        epoch: str,
        closed_s: float,
        *,
        adjustments: Sequence[Adjustment] = (),
        checkpoint: Checkpoint | None = None,
    ) -> Restored:
        """Restore everything, whatever its age, and begin an epoch if there is none.

        Raises:
            StoreUnavailable: Some may still be missing; repeating is safe.
        """
        return await self._restore_parts(
            tenant_id, list(holds), adjustments, checkpoint, oldest_ms="", epoch=epoch, closed_s=closed_s
        )

    async def take_checkpoint(self, tenant_id: str, journal_id: str) -> Checkpoint | None:
        """Return a tenant's current ledger for this journal; None if there is none, or it is closed.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        names = keys.ledger_keys(tenant_id)
        reply = await self._calls.run(
            self._scripts.run("checkpoint", names, [journal_id, str(MARK_KEEP_MS)]), RESTORE_DEADLINE_S
        )
        return Checkpoint.decode(tenant_id, journal_id, reply)

    async def read_history(self) -> str:
        """Return the store's history, which changes with a restart, a failover or an older backup."""
        replication = await self._calls.run(fetch_node_info(self._client, "replication"))
        servers = await self._calls.run(fetch_node_info(self._client, "server"))
        ids = sorted(str(node.get("master_replid")) for node in replication)
        return ",".join([*ids, *sorted(str(node.get("run_id")) for node in servers)])

    async def look_at(self, tenant_ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
        """Return each tenant's epoch, "" for none, and whether malformed entries were set aside."""
        pipeline = self._client.pipeline(transaction=False)
        for tenant_id in tenant_ids:
            pipeline.hmget(keys.ledger_keys(tenant_id)[1], [EPOCH_FIELD, ASIDE_FIELD])
        rows = await self._calls.run(pipeline.execute()) if tenant_ids else []
        return {
            tenant_id: (str(epoch or "").partition(";")[0], bool(aside))
            for tenant_id, (epoch, aside) in zip(tenant_ids, rows, strict=True)
        }

    async def read_epochs(self) -> dict[str, str]:
        """Return the epoch of every tenant's ledger in the store. Raises StoreUnavailable."""
        epochs: dict[str, str] = {}
        tenant_ids = [each for each in await list_ledger_tenants(self._client) if not each.startswith("_")]
        for begin in range(0, len(tenant_ids), EPOCHS_AT_ONCE):
            looked_at = await self.look_at(tenant_ids[begin : begin + EPOCHS_AT_ONCE])
            epochs |= {tenant_id: epoch for tenant_id, (epoch, _) in looked_at.items() if epoch}
        return epochs

    async def announce_epochs(self, epochs: Mapping[str, str]) -> None:
        """Tell every replica of ledgers that it may not have used yet."""
        for tenant_id, epoch in epochs.items():
            await self._calls.run(self._client.publish(keys.WAKE_CHANNEL, f"{KNOWN}{tenant_id};{epoch}"))

    async def announce_losses(self, tenant_ids: Collection[str]) -> None:
        """Tell every replica whose ledger is lost, so that each restores its part."""
        for tenant_id in tenant_ids if len(tenant_ids) <= ANNOUNCED_MAX else ("",):
            await self._calls.run(self._client.publish(keys.WAKE_CHANNEL, f"{LOST}{tenant_id}"))

    async def take_asides(self, tenant_id: str) -> list[tuple[str, str]]:
        """Return kind and name of entries that were set aside; each is returned to one replica only."""
        win = keys.ledger_keys(tenant_id)[1]
        lines = str(await self._calls.run(self._client.eval(_ASIDES, 1, win))).splitlines()
        return [(kind, name) for kind, _, name in (line.partition("|") for line in lines)]

    async def _restore_parts(
        self,
        tenant_id: str,
        holds: list[HoldRecord],
        adjustments: Sequence[Adjustment],
        checkpoint: Checkpoint | None,
        *,
        oldest_ms: str,
        epoch: str,
        closed_s: float,
    ) -> Restored:
        if not (holds or adjustments or checkpoint or epoch):
            return Restored()
        settings = [self._keep_ms, self._usage_ms, self._lease_ms, oldest_ms, self._unknown_outcome]
        settings += [epoch, str(int(closed_s * MS))]
        whole = Restored()
        for begin in range(0, max(1, len(holds)), AT_ONCE):
            part = holds[begin : begin + AT_ONCE]
            arguments = [*settings, *(checkpoint.encode() if checkpoint and begin == 0 else [""])]
            changed = adjustments if begin == 0 else ()
            arguments.append(str(len(changed)))
            for adjustment in changed:
                arguments += adjustment.encode()
            arguments.append(str(len(part)))
            for record in part:
                arguments += [record.hold_id, _drop_places(record).encode()]
            whole += Restored.decode(
                await self._calls.run(
                    self._scripts.run("restore", keys.ledger_keys(tenant_id), arguments), RESTORE_DEADLINE_S
                )
            )
        return whole


def _drop_places(record: HoldRecord) -> HoldRecord:
    """Leave out places in caps on open holds: a restored hold takes none, so it must release none."""
    return replace(record, counters=tuple(counter for counter in record.counters if counter.unit))
