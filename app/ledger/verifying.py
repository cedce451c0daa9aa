"""A ledger recomputed from its holds: what every counter should be, and what it is."""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from app.domain.budget import UNITS
from app.ledger.hold_records import HoldRecord, UnreadableHold
from app.store import keys
from app.store.calls import StoreCalls
from app.store.scripting import read_script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from redis.asyncio import Redis

READ_DEADLINE_S = 60.0
PAGE = 1000

_calls = StoreCalls(READ_DEADLINE_S)

_COUNTER = re.compile(r"(.+\|\d+):([shpuq])")
_LEDGER_KEY = re.compile(r"fg:\{([^}]+)\}:win")


class Difference(NamedTuple):
    """A counter that differs from the sum of the holds."""

    tenant_id: str
    counter: str
    what: str
    stands: int
    counted: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tenant's ledger at one moment.

    Attributes:
        holds: Every hold that the store remembers.
        counters: Settled (s), held (h) and unresolved (u) by counter; and the part of forgotten holds in what
            is settled (p) and in what is unresolved (q).
        leased: Holds that have a lease, which are the open ones.
        now_ms: The store's clock.
    """

    tenant_id: str
    holds: tuple[HoldRecord, ...]
    counters: Mapping[str, Mapping[str, int]]
    leased: frozenset[str]
    now_ms: int

    def find_differences(self) -> list[Difference]:
        """Every counter that does not add up; empty for a ledger that balances."""
        booked: Tally[str] = Tally()
        held: Tally[str] = Tally()
        unresolved: Tally[str] = Tally()
        ends: dict[str, int] = {}
        for hold in self.holds:
            for counter in hold.counters:
                ends[counter.name] = counter.end_ms
                if hold.open:
                    held[counter.name] += hold.est[UNITS.index(counter.unit)] if counter.unit else 1
                elif counter.unit:
                    booked[counter.name] += hold.booked[UNITS.index(counter.unit)]
                    unresolved[counter.name] += hold.unresolved[UNITS.index(counter.unit)]
        differences = []
        for name in sorted({*self.counters, *(name for name, end in ends.items() if end > self.now_ms)}):
            stands = self.counters.get(name, {})
            counted = {
                "settled": stands.get("p", 0) + booked[name],
                "held": held[name],
                "unresolved": stands.get("q", 0) + unresolved[name],
            }
            for what, expected in counted.items():
                if stands.get(what[0], 0) != expected:
                    differences.append(
                        Difference(self.tenant_id, name, what, stands.get(what[0], 0), expected)
                    )
        open_holds = {hold.hold_id for hold in self.holds if hold.open}
        if open_holds != self.leased:
            lost = len(open_holds ^ self.leased)
            differences.append(Difference(self.tenant_id, "open holds", "leased", len(self.leased), lost))
        return differences


async def list_ledger_tenants(client: Redis) -> list[str]:
    """Every tenant that has a ledger in the store.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    return sorted(await _calls.run(_scan_tenants(client)))


async def _scan_tenants(client: Redis) -> list[str]:
    matches = [_LEDGER_KEY.fullmatch(name) async for name in client.scan_iter("fg:{*}:win", PAGE)]
    return [match[1] for match in matches if match]


async def read_snapshot(client: Redis, tenant_id: str) -> Snapshot:
    """A tenant's ledger, all of one moment.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    res, win, exp, *_ = keys.ledger_keys(tenant_id)
    reply: Any = await _calls.run(client.eval(read_script(__file__, "snapshot"), 3, res, win, exp))
    records, fields, leased, seconds = _pair_up(reply[0]), _pair_up(reply[1]), reply[2], reply[3]
    counters: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for field, value in fields.items():
        if match := _COUNTER.fullmatch(field):
            counters[match[1]][match[2]] = int(value)
    holds = tuple(hold for name, text in records.items() if (hold := _decode_hold(name, text)) is not None)
    return Snapshot(tenant_id, holds, counters, frozenset(leased), int(seconds) * 1000)


async def read_events(client: Redis, tenant_id: str, source: str) -> AsyncIterator[dict[str, Any]]:
    """Every hold that the store remembers, as it is, in the order in which they began, as CloudEvents.

    ``id`` is the same in every export of a hold in the same state.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    holds = (await read_snapshot(client, tenant_id)).holds
    for hold in sorted(holds, key=lambda each: (each.began_ms, each.hold_id)):
        yield hold.build_event(tenant_id, hold.began_ms, source)


def _pair_up(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _decode_hold(name: str, text: str) -> HoldRecord | None:
    """The hold of an entry, or None for what is none, such as credit."""
    try:
        return HoldRecord.decode(name, text)
    except UnreadableHold:
        return None
