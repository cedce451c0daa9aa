"""Checkpoints of a tenant's books, and changes by operators, as a journal keeps them beside holds.

See docs/decisions/0051-a-journal-begins-with-a-checkpoint.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

CHECKPOINT_TYPE = "flashgate.ledger.checkpoint"
ADJUSTMENT_PREFIX = "flashgate.budget."

MARK_KEEP_MS = 40 * 86_400_000
"""How long books remember that they contain a checkpoint; older ones are no use to books that are there."""


class UnreadableEvent(ValueError):
    """The event is none of this version."""


class CounterState(NamedTuple):
    """What one counter stood at; ``until_ms`` is when it may be forgotten."""

    name: str
    settled: int
    unresolved: int
    overage: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tenant's books at one moment, without the holds that they are made of.

    Attributes:
        epoch: Of these books.
        number: Greater than that of every transition that is in it, and less than that of all later ones.
        at_ms: The store's clock.
        journal: The journal that it was taken for.
        credit: By field, what prepaid budgets were given in all.
        limits: By field, ``<limit>;<until_ms>`` as an operator set it, or "" where it was ended, and the
            number of that change.
        open_holds: Those that had not ended; what is held is theirs, and not in the counters.
    """

    tenant_id: str
    epoch: str
    number: int
    at_ms: int
    journal: str
    counters: tuple[CounterState, ...] = ()
    credit: dict[str, int] = field(default_factory=dict)
    limits: dict[str, tuple[str, int]] = field(default_factory=dict)
    open_holds: tuple[str, ...] = ()

    @classmethod
    def decode(cls, tenant_id: str, journal: str, reply: Any) -> Checkpoint | None:
        """The answer of ``scripts/checkpoint.lua``; None where there are no books that are open."""
        if not reply[0]:
            return None
        epoch, number, now, counters, credit, limits, open_holds = reply
        return cls(
            tenant_id,
            epoch,
            int(number),
            int(now),
            journal,
            tuple(CounterState(row[0], *map(int, row[1:])) for row in _split(counters, 5)),
            {name: int(amount) for name, amount in _split(credit, 2)},
            {name: (term, int(changed)) for name, term, changed in _split(limits, 3)},
            tuple(open_holds),
        )

    @property
    def empty(self) -> bool:
        """Whether nothing is lost without it."""
        return not (self.counters or self.credit or self.limits)

    def encode(self) -> list[str]:
        """For ``take_checkpoint`` of ``scripts/restore.lua``."""
        arguments = [str(self.number), self.journal, str(MARK_KEEP_MS), str(len(self.counters))]
        for counter in self.counters:
            arguments += map(str, counter)
        arguments.append(str(len(self.credit)))
        for name, amount in self.credit.items():
            arguments += [name, str(amount)]
        arguments.append(str(len(self.limits)))
        for name, (term, changed) in self.limits.items():
            arguments += [name, term, str(changed)]
        return [*arguments, str(len(self.open_holds)), *self.open_holds]

    def build_event(self, source: str) -> dict[str, Any]:
        """The checkpoint as a CloudEvent (version 1.0)."""
        data = {
            "epoch": self.epoch,
            "number": self.number,
            "journal": self.journal,
            "counters": [list(counter) for counter in self.counters],
            "credit": self.credit,
            "limits": self.limits,
            "open": self.open_holds,
        }
        return build_event(
            CHECKPOINT_TYPE, f"{self.journal}:{self.number}", self.tenant_id, self.at_ms, source, data
        )

    @classmethod
    def from_event(cls, event: Any) -> Checkpoint:
        """The checkpoint of such an event. Raises UnreadableEvent for anything else."""
        try:
            data = event["data"]
            at_ms = int(datetime.fromisoformat(event["time"]).timestamp() * 1000)
            return cls(
                str(event["subject"]),
                str(data["epoch"]),
                int(data["number"]),
                at_ms,
                str(data["journal"]),
                tuple(CounterState(str(row[0]), *map(int, row[1:])) for row in data["counters"]),
                {str(name): int(amount) for name, amount in data["credit"].items()},
                {str(name): (str(term), int(changed)) for name, (term, changed) in data["limits"].items()},
                tuple(map(str, data["open"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnreadableEvent("The event is no checkpoint.") from error


class Adjustment(NamedTuple):
    """What an operator changed of a running budget.

    Attributes:
        kind: ``credit`` or ``limit``.
        number: Of the change, as that of a transition.
        id: Of a credit, so that it is added once; "" for a limit.
        field: Of the budget.
        value: ``add;<amount>``, ``take;<amount>``; or ``<limit>;<until_ms>``, "" where it was ended.
    """

    kind: Literal["credit", "limit"]
    number: int
    id: str
    field: str
    value: str

    def encode(self) -> list[str]:
        """For ``take_adjustments`` of ``scripts/restore.lua``."""
        return [self.kind, str(self.number), self.id, self.field, self.value]

    def build_event(self, tenant_id: str, at_ms: int, source: str) -> dict[str, Any]:
        """The change as a CloudEvent (version 1.0)."""
        event_id = f"{self.id or self.field}:{self.number}"
        return build_event(
            f"{ADJUSTMENT_PREFIX}{self.kind}", event_id, tenant_id, at_ms, source, self._asdict()
        )

    @classmethod
    def from_event(cls, event: Any) -> Adjustment:
        """The change of such an event. Raises UnreadableEvent for anything else."""
        try:
            data = event["data"]
            if data["kind"] not in {"credit", "limit"}:
                raise UnreadableEvent("The event is no change of a budget.")
            texts = (str(data[name]) for name in ("id", "field", "value"))
            return cls(data["kind"], int(data["number"]), *texts)
        except (KeyError, TypeError) as error:
            raise UnreadableEvent("The event is no change of a budget.") from error


def build_event(
    kind: str, event_id: str, tenant_id: str, at_ms: int, source: str, data: dict[str, Any]
) -> dict[str, Any]:
    """A CloudEvent (version 1.0) of the journal."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": kind,
        "subject": tenant_id,
        "time": datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "datacontenttype": "application/json",
        "data": data,
    }


def _split(flat: list[str], width: int) -> list[list[str]]:
    return [flat[at : at + width] for at in range(0, len(flat), width)]
