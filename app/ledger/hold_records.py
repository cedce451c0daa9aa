"""A hold as the scripts write it: verifying, exporting and rebuilding the ledger work with these."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import add
from typing import Any, Literal, NamedTuple

from app.domain.budget import EARLIER_UNITS, NOTHING, UNITS, Amounts, Unit

State = Literal["held", "dispatched", "settled", "voided", "expired", "charged"]

LETTERS: dict[str, State] = {
    "h": "held", "d": "dispatched", "s": "settled", "v": "voided", "x": "expired", "c": "charged",
}  # fmt: skip
_PROGRESS: dict[State, int] = {
    "held": 0, "dispatched": 1, "expired": 2, "charged": 2, "voided": 3, "settled": 3,
}  # fmt: skip
_LETTER_OF = {state: letter for letter, state in LETTERS.items()}
VERSION = "3"
_RECORD = re.compile(
    r"3;([hdsvxc]);([a-z]*);(\d+);([^;]*);([\d,]*);([\d,]*|=);([^;]*);(-?\d*);([\d,~]*)"
    r"|([hdsvxc]);([a-z]*);(\d+);([^;]*);([\d,]*);([\d,]*);([^;]*)(?:;2)?"
)
"""The third version, or one of the first two."""
_COUNTER = re.compile(r"(\d+)@(\d+)(s?)@(\d+)(s?)@([^,]+)")

TYPE_PREFIX = "flashgate.hold."


class UnreadableHold(ValueError):
    """The text is not a hold of this version."""


class Counter(NamedTuple):
    """A window that a hold is booked in; ``unit`` is None for a place under a cap on open holds."""

    unit: Unit | None
    start_ms: int
    end_ms: int
    field: str

    @property
    def name(self) -> str:
        """The counter's name in the store, without what it counts."""
        return f"{self.field}|{self.start_ms}"


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """One hold at one moment.

    Attributes:
        flags: ``f`` leads its work, ``l`` was corrected late, ``p`` its result was published, ``u`` it was
            settled in part, and the outcome of the rest is unknown.
        began_ms: Store time of the reservation, Unix milliseconds.
        est: The amounts reserved, the worst case; with ``u``, the settled and unresolved amounts.
        act: The amounts used if settled, otherwise the expected amounts; None if those are ``est``.
        number: The number of its last transition (see ``scripts/_common.lua``); 0 if it is not known.
        first: How a hold that was corrected late had ended before, as the scripts write it.
    """

    hold_id: str
    state: State
    flags: str
    began_ms: int
    fingerprint: str
    est: Amounts
    act: Amounts | None
    counters: tuple[Counter, ...]
    number: int = 0
    first: str = ""

    @classmethod
    def decode(cls, hold_id: str, text: str) -> HoldRecord:
        """The hold of a record of the store. Raises UnreadableHold."""
        match = _RECORD.fullmatch(text)
        if match is None:
            raise UnreadableHold("The record is not one of a hold.")
        letter, flags, began, fingerprint, est, act, windows = (
            match.groups()[:7] if match[1] else match.groups()[9:]
        )
        counters: tuple[Counter, ...] = ()
        if windows:
            lasting = match[1] is not None
            counters = tuple(_decode_counter(text, lasting=lasting) for text in windows.split(","))
        if act == "=":
            act = est
        actual = _decode_amounts(act) if act else None
        number = int(began) * 1000 + int(match[8]) if match[8] else 0
        return cls(
            hold_id,
            LETTERS[letter],
            flags,
            int(began),
            fingerprint,
            _decode_amounts(est),
            actual,
            counters,
            number,
            match[9] or "",
        )

    def encode(self) -> str:
        """The record as the store's scripts write it."""
        windows = ",".join(map(_encode_counter, self.counters))
        est, act = _encode_amounts(self.est), _encode_amounts(self.act) if self.act is not None else ""
        letter = _LETTER_OF[self.state]
        number = self.number - self.began_ms * 1000 if self.number else ""
        begin = f"{VERSION};{letter};{self.flags};{self.began_ms};{self.fingerprint};{est}"
        return f"{begin};{'=' if act == est else act};{windows};{number};{self.first}"

    @property
    def open(self) -> bool:
        """Whether it has not ended yet."""
        return self.state in {"held", "dispatched"}

    @property
    def progress(self) -> int:
        """The rank of its state, which never goes down."""
        return _PROGRESS[self.state]

    @property
    def booked(self) -> Amounts:
        """The amounts that it counts as settled in its windows."""
        if self.state == "settled":
            return self.act or NOTHING
        return self.expected if self.state == "charged" else NOTHING

    @property
    def expected(self) -> Amounts:
        """What it is expected to use, as long as nobody knows what it did."""
        return self.est if self.act is None else self.act

    @property
    def unresolved(self) -> Amounts:
        """What is set aside for it beside what is booked, because nobody knows what came of it."""
        if self.state == "charged" or (self.state == "settled" and "u" in self.flags):
            return Amounts(*(max(0, most - known) for most, known in zip(self.est, self.booked, strict=True)))
        return NOTHING

    def end(self, state: State, act: Amounts, unresolved: Amounts = NOTHING) -> HoldRecord:
        """The same hold after its end; what was used, and what is kept unresolved, where it is settled."""
        if state != "settled":
            return replace(self, state=state)
        if unresolved == NOTHING:
            return replace(self, state=state, act=act)
        est = Amounts(*map(add, act, unresolved))
        return replace(self, state=state, flags=f"{self.flags}u", act=act, est=est)

    def reopen(self) -> HoldRecord:
        """The same hold as it may have been before its end."""
        act = None if self.state == "settled" else self.act
        return replace(self, state="dispatched", flags=self.flags.replace("u", ""), act=act)

    def build_event(self, tenant_id: str, at_ms: int, source: str) -> dict[str, Any]:
        """The transition into this state as a CloudEvent (version 1.0). It holds no prompt and no text.

        Its ``id`` is the same in every export, so that a consumer counts it once.
        """
        return {
            "specversion": "1.0",
            "id": f"{self.hold_id}:{self.state}{':late' if 'l' in self.flags else ''}",
            "source": source,
            "type": f"{TYPE_PREFIX}{self.state}",
            "subject": tenant_id,
            "time": datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            "datacontenttype": "application/json",
            "data": {
                "hold_id": self.hold_id,
                "flags": self.flags,
                "began_ms": self.began_ms,
                "fingerprint": self.fingerprint,
                "estimate": self.est._asdict(),
                "actual": self.act._asdict() if self.act and self.state == "settled" else None,
                "expected": self.act._asdict() if self.act and self.state != "settled" else None,
                "windows": [counter._asdict() for counter in self.counters],
                "number": self.number,
                "first": self.first,
            },
        }

    @classmethod
    def from_event(cls, event: Any) -> tuple[str, HoldRecord]:
        """The tenant and the hold of such an event. Raises UnreadableHold for anything else."""
        try:
            data = event["data"]
            state = event["type"].removeprefix(TYPE_PREFIX)
            act = data["actual"] or data.get("expected")
            if state not in _LETTER_OF:
                raise UnreadableHold("The event is not one of a hold.")
            record = cls(
                hold_id=data["hold_id"],
                state=state,
                flags=data["flags"],
                began_ms=int(data["began_ms"]),
                fingerprint=data["fingerprint"],
                est=_read_amounts(data["estimate"]),
                act=_read_amounts(act) if act is not None else None,
                counters=tuple(_read_counter(**counter) for counter in data["windows"]),
                number=int(data.get("number", 0)),
                first=str(data.get("first", "")),
            )
            return str(event["subject"]), record
        except (KeyError, TypeError, AttributeError) as error:
            raise UnreadableHold("The event has other fields.") from error


def _decode_counter(text: str, *, lasting: bool) -> Counter:
    """One window of a record. Raises UnreadableHold for a unit that this version does not know.

    Args:
        text: As ``scripts/_common.lua`` describes it.
        lasting: Whether the second time is how long the window lasts, and not its end.
    """
    match = _COUNTER.fullmatch(text)
    if match is None or int(match[1]) > len(UNITS):
        raise UnreadableHold("The record counts in a window or a unit that is not known here.")
    unit = int(match[1])
    start_ms, stop_ms = (int(match[at]) * (1000 if match[at + 1] else 1) for at in (2, 4))
    end_ms = start_ms + stop_ms if lasting else stop_ms
    return Counter(UNITS[unit - 1] if unit else None, start_ms, end_ms, match[6])


def _encode_counter(counter: Counter) -> str:
    unit = UNITS.index(counter.unit) + 1 if counter.unit else 0
    times = (counter.start_ms, counter.end_ms - counter.start_ms)
    start, lasts = (f"{ms // 1000}s" if ms % 1000 == 0 else str(ms) for ms in times)
    return f"{unit}@{start}@{lasts}@{counter.field}"


def _decode_amounts(text: str) -> Amounts:
    """Amounts in the order of UNITS, 0 for those that came later. Raises UnreadableHold for more."""
    amounts = [int(digits) for digits in text.split(",")]
    if len(amounts) > len(UNITS):
        raise UnreadableHold("The record has amounts of units that are not known here.")
    return Amounts(*amounts)


def _read_counter(unit: Any, **members: Any) -> Counter:
    """One window of an event."""
    return Counter(EARLIER_UNITS.get(unit, unit), **members)


def _read_amounts(amounts: dict[str, int]) -> Amounts:
    """Amounts of an event, 0 for units that came later."""
    return Amounts(**{EARLIER_UNITS.get(unit, unit): amount for unit, amount in amounts.items()})


def _encode_amounts(amounts: Amounts) -> str:
    return ",".join(str(amount) for amount in amounts)
