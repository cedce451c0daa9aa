"""Request rates by GCRA, and caps on open holds (docs/reliability.md R20).

The admission script does the arithmetic in the store; this defines its terms. A rate is a leaky bucket of
``burst`` requests that loses ``requests_per_minute`` a minute: in any T seconds no more than
``burst + rate * T`` requests are admitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RateKind = Literal["requests", "concurrent"]
RateScope = Literal["tenant", "key", "user"]

MINUTE_S = 60
REQUESTS_PER_MINUTE_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """The limits of a tenant, a key or an end user; None for no limit.

    Attributes:
        requests_per_minute: Requests a minute, those served by the cache included.
        burst: Requests that may come at once after a pause; None for a whole minute's.
        concurrent: Holds that may be open at once. Cache hits and followers need none.
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
        remaining: Requests or holds that would be admitted now.
        retry_in_ms: Milliseconds until the next is admitted; 0 where one is now, or where that is unknown.
        full_in_ms: Milliseconds until the whole burst is free again; 0 for a cap on open holds.
        refused: Whether it refuses the request.
    """

    limit: RateLimit
    remaining: int
    retry_in_ms: int
    full_in_ms: int
    refused: bool = False


def build_rate_limits(scope: RateScope, owner: str, rate: Rate | None) -> tuple[RateLimit, ...]:
    """The limits that a rate stands for; ``owner`` is ``t``, ``k:<key>`` or ``u:<user>``."""
    if rate is None:
        return ()
    limits = []
    if rate.requests_per_minute is not None:
        burst = rate.requests_per_minute if rate.burst is None else rate.burst
        limits.append(RateLimit("requests", scope, f"{owner}|requests", rate.requests_per_minute, burst))
    if rate.concurrent is not None:
        limits.append(RateLimit("concurrent", scope, f"{owner}|concurrent", rate.concurrent))
    return tuple(limits)
