"""The bad day as a script: an hour of what back ends were seen to do, minute by minute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HOUR_MIN = 60.0
Rules = tuple[dict[str, Any], ...]

QUOTA: Rules = ({"rehearse": "exhausted", "share": 0.5},)
"""Vertex AI's shared capacity, as users report it (docs/model.md#quotas): half of the calls, in waves."""
OUTAGE: Rules = ({"rehearse": "unavailable"},)
SLOW_4K: Rules = (
    {"rehearse": "slow:{minutes:2.5}", "match": {"image_size": "4K"}},
    {"rehearse": "unavailable", "match": {"image_size": "4K"}, "share": 0.4},
)
"""python-genai issue 1993: 4K takes minutes, if it comes at all."""


@dataclass(frozen=True)
class Phase:
    """Some minutes of the hour.

    Attributes:
        name: For the table.
        said: For the picture, over several lines.
        begin: Minute of the hour.
        end: The minute after it.
        first: What calls of the first back end meet.
        second: What those of the second meet.
        dead: The first back end takes no connection.
    """

    name: str
    said: str
    begin: float
    end: float
    first: Rules = ()
    second: Rules = ()
    dead: bool = False

    @property
    def serves(self) -> bool:
        """Whether a gateway that does everything right could deliver in this phase."""
        return (not self.dead and self.first != OUTAGE) or self.second != OUTAGE


DAY = (
    Phase("calm", "calm", 0, 8),
    Phase("quota wave", "429", 8, 11, QUOTA, QUOTA),
    Phase("lull", "", 11, 13),
    Phase("quota wave 2", "429", 13, 16, QUOTA, QUOTA),
    Phase("lull 2", "", 16, 18),
    Phase("quota wave 3", "429", 18, 20, QUOTA, QUOTA),
    Phase("outage", "503 everywhere", 20, 26, OUTAGE, OUTAGE),
    Phase("recovery", "recovery", 26, 34),
    Phase("slow 4K", "4K slow and failing", 34, 44, SLOW_4K),
    Phase("dead back end", "first back end dead", 44, 52, dead=True),
    Phase("evening", "evening", 52, 60),
)


def scaled(rules: Rules, minute_s: float) -> list[dict[str, Any]]:
    """The rules with their minutes in seconds of the run."""
    found = []
    for rule in rules:
        word = rule["rehearse"]
        if "{minutes:" in word:
            minutes = float(word.partition("{minutes:")[2].rstrip("}"))
            word = word.partition("{")[0] + f"{minutes * minute_s:.3f}"
        found.append({**rule, "rehearse": word})
    return found


def phase_at(minute: float) -> Phase:
    """The phase of a minute; the last one beyond the hour."""
    return next((phase for phase in DAY if minute < phase.end), DAY[-1])
