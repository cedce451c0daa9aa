"""How often and how many at once: request rates by GCRA, and caps on open holds (docs/reliability.md R20).

The arithmetic is done in the store, in the admission script; here are its words. A rate is a leaky bucket of
``burst`` requests that loses ``requests_per_minute`` a minute: in any T seconds no more than
``burst + rate * T`` requests are admitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RateKind = Literal["requests", "concurrent"]
RateScope = Literal["tenant", "key"]

MINUTE_S = 60
REQUESTS_PER_MINUTE_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """What a tenant or a key may ask in a minute and at once; None for no limit.

    Attributes:
        requests_per_minute: Every request that is served counts, also those that the cache serves.
        burst: Requests that may come at once after a pause; None for a whole minute's.
        concurrent: Holds that may be open at once. What the cache serves or another's call serves needs none.
    """

    requests_per_minute: int | None = None
    burst: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One limit as the store checks it.

    Attributes:
        field: The counter's name in the store, such as ``k:k1|requests``.
        limit: Requests a minute, or open holds.
        burst: Requests at once; 0 for a cap on open holds.
    """

    kind: RateKind
    scope: RateScope
    field: str
    limit: int
    burst: int = 0

    @property
    def name(self) -> str:
        """The policy's name in RateLimit headers and refusals, such as ``tenant-requests``."""
        return f"{self.scope}-{self.kind}"


@dataclass(frozen=True, slots=True)
class RateState:
    """A limit as the store sees it at one moment.

    Attributes:
        remaining: Requests, or holds, that would be admitted now.
        retry_in_ms: Until the next would be admitted; 0 where one would now, or where nobody can know.
        full_in_ms: Until nothing of it is used any more; 0 for a cap on open holds.
        refused: Whether it refuses the request.
    """

    limit: RateLimit
    remaining: int
    retry_in_ms: int
    full_in_ms: int
    refused: bool = False


def build_rate_limits(scope: RateScope, owner: str, rate: Rate | None) -> tuple[RateLimit, ...]:
    """The limits that a rate stands for; ``owner`` is ``t`` or ``k:<key>``."""
    if rate is None:
        return ()
    limits = []
    if rate.requests_per_minute is not None:
        burst = rate.requests_per_minute if rate.burst is None else rate.burst
        limits.append(RateLimit("requests", scope, f"{owner}|requests", rate.requests_per_minute, burst))
    if rate.concurrent is not None:
        limits.append(RateLimit("concurrent", scope, f"{owner}|concurrent", rate.concurrent))
    return tuple(limits)
