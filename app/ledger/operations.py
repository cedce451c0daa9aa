"""Operations in the store, so that any replica can report them (``scripts/operation.lua``)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from app.domain.errors import InternalError
from app.domain.operation import Operation, OperationResult, is_operation_id
from app.domain.repetition import IdempotencyMismatch, TooManyOperations
from app.generation.operations import OperationConfig
from app.ledger.codec import decode_spent, encode_spent
from app.store import keys
from app.store.breaker import StoreBreaker
from app.store.calls import StoreCalls
from app.store.client import DEADLINE_S
from app.store.scripting import read_script

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from app.domain.operation import OperationState
    from app.store.capacity import StoreCapacity

log = logging.getLogger(__name__)

_SCRIPT = read_script(__file__, "operation")
_MS = 1000
_STATES: dict[str, OperationState] = {
    "waiting": "waiting", "running": "running", "done": "done", "failed": "failed", "cancelled": "cancelled",
}  # fmt: skip


class RedisOperations:
    """``ports.Operations`` on a Redis or Valkey server.

    Args:
        client: Decoding replies to str; see ``client.open_clients``.
        lease_s: How long an operation outlives its process.
        deadline_s: Seconds after which a call without an answer raises StoreUnavailable.
        config: How many operations a tenant may have, running and ended, except those that cost nothing.
        breaker: The breaker of the client's pool; None for one of its own.
        capacity: Decides whether an answer may be kept; None to keep all.
    """

    def __init__(
        self,
        client: Redis,
        *,
        lease_s: float,
        config: OperationConfig | None = None,
        deadline_s: float = DEADLINE_S,
        breaker: StoreBreaker | None = None,
        capacity: StoreCapacity | None = None,
    ) -> None:
        self._client = client
        self._lease_ms = str(int(lease_s * _MS))
        config = config or OperationConfig()
        self._keep_ms = str(config.keep_s * _MS)
        self._kept_max = config.kept_max
        self._calls = StoreCalls(deadline_s, breaker or StoreBreaker())
        self._capacity = capacity

    async def begin(self, tenant_id: str, operation_id: str, claim: str, work: str) -> tuple[Operation, bool]:
        """Begin an operation under a claim, or return the existing one for the same work.

        Returns the operation, and whether this claim began it.

        Raises:
            IdempotencyMismatch: The id belongs to other work.
            TooManyOperations: The tenant has reached its maximum.
            StoreUnavailable: The outcome is unknown; the operation ends with its lease.
        """
        arguments = ["begin", claim, work, self._lease_ms, self._keep_ms, str(self._kept_max)]
        code, operation = await self._run_script(tenant_id, operation_id, arguments)
        if code == "mismatch":
            raise IdempotencyMismatch("This Idempotency-Key was used for another request; use a new one.")
        if operation is None:
            raise InternalError("An operation that was begun has no state.")
        return operation, code == "ok"

    async def step(
        self, tenant_id: str, operation_id: str, claim: str, state: Literal["waiting", "running"]
    ) -> bool:
        """Record progress. Returns False if it was cancelled, has ended, or has another owner by now."""
        code, _ = await self._run_script(tenant_id, operation_id, ["step", claim, state, self._lease_ms])
        return code == "ok"

    async def finish(
        self,
        tenant_id: str,
        operation_id: str,
        claim: str,
        state: Literal["done", "failed"],
        text: str,
        result: OperationResult | None,
    ) -> bool:
        """End it with a result or a problem. Returns False as ``step`` does.

        A store without room keeps the operation but not its text.
        """
        if self._capacity is not None and not self._capacity.reserve_text(text):
            text = ""
        if result is None:
            kept = ["free", "", ""]
        else:
            kept = ["keep", result.generation_id, encode_spent(result.spent)]
        arguments = ["finish", claim, state, text, self._keep_ms, *kept]
        code, _ = await self._run_script(tenant_id, operation_id, arguments)
        return code == "ok"

    async def cancel(self, tenant_id: str, operation_id: str) -> Operation | None:
        """Cancel it if it is waiting, else record the request. Returns it, or None if there is none."""
        return await self._read_or_cancel(tenant_id, operation_id, "cancel")

    async def read(self, tenant_id: str, operation_id: str) -> Operation | None:
        """Return an operation of this tenant; None if it is unknown, expired or another tenant's."""
        return await self._read_or_cancel(tenant_id, operation_id, "read")

    async def _read_or_cancel(self, tenant_id: str, operation_id: str, action: str) -> Operation | None:
        if not is_operation_id(operation_id):
            return None
        code, operation = await self._run_script(tenant_id, operation_id, [action])
        return operation if code == "ok" else None

    async def _run_script(
        self, tenant_id: str, operation_id: str, arguments: list[str]
    ) -> tuple[str, Operation | None]:
        names = keys.operation_keys(tenant_id, operation_id)
        reply: Any = await self._calls.run(
            self._client.eval(_SCRIPT, len(names), *names, operation_id, *arguments)
        )
        code, now, ttl, state, created, lease, wish, text, generation_id, cost, malformed = reply
        if malformed:
            log.error(
                "an operation cannot be read and was removed",
                extra={"tenant": tenant_id, "key": operation_id},
            )
        if code == "crowded":
            raise TooManyOperations(
                f"The tenant has {self._kept_max} operations, running and ended, as many as it may. A new "
                "one can begin when the oldest is forgotten; requests that wait for their answers go on.",
                retry_after_s=max(1, -(-int(ttl) // _MS)),
            )
        if state not in _STATES:
            return code, None
        return code, Operation(
            id=operation_id,
            state=_STATES[state],
            created_ms=int(created),
            expires_ms=int(now) + int(ttl),
            alive=int(lease) > int(now),
            cancel_requested=wish == "1",
            text=text,
            result=OperationResult(generation_id, decode_spent(cost)) if generation_id or cost else None,
        )
