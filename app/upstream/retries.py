"""Which calls are retried, how often, and after which pause.

Only errors that were certainly not billed and are known to be transient, such as a quota or an overload, are
retried (docs/decisions/0035). A timeout or a broken connection may have been billed and is never retried. So
the hold of one call covers all of its attempts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import Field

from app.domain.config import Config
from app.domain.errors import GatewayError, UpstreamQuota, UpstreamRejected, UpstreamUnavailable

if TYPE_CHECKING:
    from app.domain.errors import UpstreamError

CALL_S_MIN: Final = 10.0
"""Seconds that an attempt needs at least: the upstream takes 10 s for the smallest image."""

RETRYABLE: Final = (UpstreamQuota, UpstreamUnavailable)
_FAILOVER_ERRORS: Final = (UpstreamQuota, UpstreamUnavailable, UpstreamRejected)


class RetryConfig(Config):
    """Retries of calls that were not billed.

    Attributes:
        pause_s: Twice this bounds the first pause, and every further bound doubles.
        pause_s_max: The longest of these bounds.
        ratio: Retries earned by each call.
        reserve: Retries that can be saved up.
    """

    attempts: int = Field(
        3,
        ge=1,
        description="Most rounds through the back ends for one image, the first included; only a call that "
        "cannot have been billed is repeated.",
    )
    pause_s: float = 1.0
    pause_s_max: float = 8.0
    wait_s: float = Field(
        5,
        ge=0,
        description="Longest wait that a back end may ask for, in seconds; with a longer one the caller "
        "gets the error and `Retry-After`.",
    )
    ratio: float = 0.1
    reserve: float = 10.0

    def compute_pause(self, attempt: int, error: UpstreamError, drawn: float) -> float:
        """Seconds: the upstream's own Retry-After plus full jitter; ``drawn`` is random in [0, 1)."""
        return drawn * min(self.pause_s_max, self.pause_s * 2.0**attempt) + (error.retry_after_s or 0)


class RetryBudget:
    """Bounds retries to a share of the calls plus a reserve, so that they do not double an overload."""

    def __init__(self, config: RetryConfig) -> None:
        self._ratio = config.ratio
        self._reserve = config.reserve
        self._left = config.reserve

    def deposit(self) -> None:
        """Count a call, which earns a share of a retry."""
        self._left = min(self._reserve, self._left + self._ratio)

    def withdraw(self) -> bool:
        """Take one retry; False if none is left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


def may_fail_over(error: GatewayError) -> bool:
    """Whether another back end may be tried: nothing was billed, and the fault is specific to this one."""
    return isinstance(error, _FAILOVER_ERRORS) and error.billed == "no"
