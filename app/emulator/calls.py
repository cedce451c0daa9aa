"""State for tests against the emulator: counts of calls, and gates that hold responses.

It is used from one event loop only, so it needs no locks.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any

from app.resilience.deadlines import time_limit

_GATES_MAX = 1000
BILLED_NAMES = (
    *("pictures", "image_tokens", "input_tokens", "output_tokens", "total_tokens"),
    *("above_bound", "calls_above_bound"),
)


@dataclass(slots=True)
class Calls:
    """Counts since the start or the last reset.

    Attributes:
        remembered_max: Distinct requests that are counted one by one; the one seen longest ago is dropped.
        billed: What the emulator would have charged for the answers to each tenant, BILLED_NAMES; "" where a
            call names none. Tokens above the call's bound on output are counted once more as ``above_bound``.
    """

    remembered_max: int
    generate: int = 0
    count_tokens: int = 0
    refused: int = 0
    running: int = 0
    billed: OrderedDict[str, Counter[str]] = field(default_factory=OrderedDict)
    by_fingerprint: OrderedDict[str, int] = field(default_factory=OrderedDict)
    by_labels: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def count_call(self, fingerprint: str, labels: str = "") -> int:
        """Count a generation, and return how often the same request has been received, from 1.

        ``labels`` are JSON, or empty.
        """
        self.generate += 1
        if labels:
            self.by_labels[labels] = self.by_labels.get(labels, 0) + 1
            if len(self.by_labels) > self.remembered_max:
                self.by_labels.popitem(last=False)
        times = self.by_fingerprint.pop(fingerprint, 0) + 1
        self.by_fingerprint[fingerprint] = times
        if len(self.by_fingerprint) > self.remembered_max:
            self.by_fingerprint.popitem(last=False)
        return times

    def bill(self, tenant_id: str, **amounts: int) -> None:
        """Add one finished generation; ``amounts`` are named as in BILLED_NAMES."""
        self.billed.setdefault(tenant_id, Counter()).update(amounts)
        if len(self.billed) > self.remembered_max:
            self.billed.popitem(last=False)

    def reset(self) -> None:
        """Forget everything but what is running now."""
        self.generate = self.count_tokens = self.refused = 0
        self.billed.clear()
        self.by_fingerprint.clear()
        self.by_labels.clear()

    def document(self) -> dict[str, Any]:
        """As ``GET /emulator/calls`` shows it."""
        return {
            "generate": self.generate,
            "count_tokens": self.count_tokens,
            "refused": self.refused,
            "running": self.running,
            "billed": _name_amounts(sum(self.billed.values(), Counter())),
            "billed_by_tenant": {tenant_id: _name_amounts(each) for tenant_id, each in self.billed.items()},
            "by_fingerprint": dict(self.by_fingerprint),
            "by_labels": dict(self.by_labels),
        }


def _name_amounts(billed: Counter[str]) -> dict[str, int]:
    return {name: billed[name] for name in BILLED_NAMES}


@dataclass(slots=True)
class _Gate:
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


class Gates:
    """Named gates that hold answers. A released gate stays open until it is reset."""

    def __init__(self, wait_s_max: float) -> None:
        self._wait_s_max = wait_s_max
        self._gates: OrderedDict[str, _Gate] = OrderedDict()

    def _get_gate(self, name: str) -> _Gate:
        gate = self._gates.setdefault(name, _Gate())
        if len(self._gates) > _GATES_MAX:
            idle = next(
                (key for key, each in self._gates.items() if not each.waiting and each is not gate), ""
            )
            self._gates.pop(idle, None)
        return gate

    async def wait(self, name: str) -> bool:
        """Wait until the gate is open; False after the maximum time."""
        gate = self._get_gate(name)
        gate.waiting += 1
        try:
            async with time_limit(self._wait_s_max):
                await gate.opened.wait()
        except TimeoutError:
            return False
        finally:
            gate.waiting -= 1
        return True

    def release(self, name: str) -> int:
        """Open the gate for waiting and later responses, and return how many waited."""
        gate = self._get_gate(name)
        gate.opened.set()
        return gate.waiting

    def waiting(self, name: str) -> int:
        """How many responses the gate holds."""
        gate = self._gates.get(name)
        if gate is None:
            return 0
        return gate.waiting

    def reset(self) -> None:
        """Close every gate without waiting responses."""
        for name in [name for name, gate in self._gates.items() if not gate.waiting]:
            del self._gates[name]
