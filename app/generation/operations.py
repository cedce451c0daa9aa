"""Operations: generations that go on after their callers were answered; every replica can report them.

The process that accepted an operation does the work and renews a lease in the store. If it dies, the
operation is lost when the lease ends. On a platform that stops the CPU between requests (Cloud Run without
CPU always allocated) operations would stand still.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from app.domain.config import Config
from app.domain.errors import (
    Draining,
    GatewayError,
    InternalError,
    NotFound,
    OperationCancelled,
    Overloaded,
    StoreUnavailable,
)
from app.domain.estimate import price_usage
from app.domain.fingerprint import compute_digest
from app.domain.operation import OperationResult
from app.generation.event import note_job
from app.generation.progress import Progress
from app.resilience.best_effort import best_effort
from app.resilience.spans import open_span
from app.resilience.tasks import OwnTasks, cancel_tasks
from app.resilience.wide_event import collect_fields, note

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from app.domain.operation import Operation
    from app.generation.gateway import Gateway
    from app.generation.job import Job
    from app.generation.order import GenerationResult, IdempotencyKey
    from app.generation.ports import Operations

log = logging.getLogger(__name__)

CLOSING_S = 1.0
_PAUSE_S = 0.2
_PAUSE_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class OperationEncoder:
    """How a surface writes the result of an operation as JSON."""

    result: Callable[[GenerationResult], str]
    problem: Callable[[GatewayError], str]


@dataclass(frozen=True, slots=True)
class _Owned:
    """An operation of this process."""

    tenant_id: str
    id: str
    claim: str


class OperationConfig(Config):
    """Operations.

    ``keep_s`` is how long each can be read, in seconds.
    """

    max: int = Field(
        100, ge=1, description="Operations (`Prefer: respond-async`) that run in one process at once."
    )
    kept_max: int = Field(
        20_000,
        ge=1,
        description="Operations kept for a tenant, each half a kilobyte of store that is never evicted; new "
        "ones beyond are refused with 429.",
    )
    keep_s: int = 86_400


class LongRunning:
    """Starts operations, finds them and cancels them.

    Args:
        gateway: Does the work.
        operations: Where all replicas see them.
        lease_s: How long an operation outlives its process.
        config: How many there may be; each holds its inputs in memory.
        on_ended: Called with the final state of each operation.
        follow: Collects what is noted about an operation while it runs.
    """

    def __init__(
        self,
        gateway: Gateway,
        operations: Operations,
        *,
        lease_s: float,
        config: OperationConfig,
        on_ended: Callable[[str], None] = lambda _state: None,
        follow: Callable[[dict[str, Any]], AbstractContextManager[dict[str, Any]]] | None = None,
    ) -> None:
        self._gateway = gateway
        self._operations = operations
        self._lease_s = lease_s
        self._running_max = config.max
        self._on_ended = on_ended
        self._follow = follow or (lambda _state: collect_fields())
        self._tasks = OwnTasks()
        self._serving: dict[str, asyncio.Task[GenerationResult]] = {}

    async def start(
        self, job: Job, key: IdempotencyKey | None, encoder: OperationEncoder
    ) -> tuple[Operation, asyncio.Task[GenerationResult] | None]:
        """Begin an operation, or find the one that the caller's idempotency key began.

        Returns it with the task that comes to its result, or with None where it is not this call's.

        Raises:
            IdempotencyMismatch: The key began an operation for another request.
            TooManyOperations: The tenant has as many as it may.
            Overloaded: This process carries as many as it may.
            GatewayError: It would not be admitted now; nothing is stored about it.
            StoreUnavailable: Nobody could tell of it, so it was not begun.
        """
        if len(self._tasks) >= self._running_max:
            raise Overloaded("The gateway carries as many operations as it may.", retry_after_s=1)
        await self._gateway.require_admission(job)
        owned = _Owned(job.tenant_id, _derive_id(job, key), secrets.token_hex(12))
        operation, is_new = await self._operations.begin(owned.tenant_id, owned.id, owned.claim, job.original)
        return operation, self._tasks.begin(self._run_and_log(owned, job, encoder)) if is_new else None

    async def find(self, tenant_id: str, operation_id: str) -> Operation:
        """An operation of this tenant. Raises NotFound, also for another tenant's."""
        operation = await self._operations.read(tenant_id, operation_id)
        if operation is None:
            raise NotFound("No such operation, or it has expired.")
        return operation

    async def cancel(self, tenant_id: str, operation_id: str) -> Operation:
        """Cancel an operation that waits; what was sent goes on. Raises NotFound as ``find`` does."""
        operation = await self._operations.cancel(tenant_id, operation_id)
        if operation is None:
            raise NotFound("No such operation, or it has expired.")
        serving = self._serving.get(operation_id)
        if serving is not None and operation.state == "cancelled":
            serving.cancel()
        return operation

    async def aclose(self) -> None:
        """Begin nothing new; what the gateway's own end has not ended by now is ended as failed."""
        await self._tasks.aclose(CLOSING_S)

    async def _run_and_log(self, owned: _Owned, job: Job, encoder: OperationEncoder) -> GenerationResult:
        """Run an operation, and log its end as a request's is logged."""
        began = time.monotonic()
        owner = {"tenant": owned.tenant_id, "key": job.caller.key.id}
        with self._follow(owner) as noted, open_span("operation"):
            note(operation_id=owned.id, outcome="ok", **owner)
            note_job(job)
            try:
                return await self._run(owned, job, encoder)
            except BaseException as error:
                note(outcome=error.code if isinstance(error, GatewayError) else GatewayError.code)
                raise
            finally:
                note(duration_s=round(time.monotonic() - began, 3))
                log.info("operation", extra=noted)

    async def _run(self, owned: _Owned, job: Job, encoder: OperationEncoder) -> GenerationResult:
        """Serve the job and record each step in the store."""

        async def before_sending() -> None:
            if not await self._operations.step(owned.tenant_id, owned.id, owned.claim, "running"):
                raise OperationCancelled

        progress = Progress(before_sending)
        serving = asyncio.create_task(self._gateway.serve(job, progress))
        self._serving[owned.id] = serving
        beating = asyncio.create_task(self._send_heartbeats(owned, progress, serving))
        try:
            result = await serving
        except GatewayError as error:
            await self._finish(owned, "failed", encoder.problem(error), _compute_cost(error, job, progress))
            raise
        except asyncio.CancelledError:
            serving.cancel()
            stopped = Draining("The gateway went down during the operation.", retry_after_s=5)
            recorded = await self._finish(
                owned, "failed", encoder.problem(stopped), _compute_cost(stopped, job, progress)
            )
            raise (stopped if recorded else OperationCancelled()) from None
        except Exception:
            log.exception("an operation failed by a fault of the gateway")
            fault = InternalError()
            await self._finish(owned, "failed", encoder.problem(fault), _compute_cost(fault, job, progress))
            raise
        finally:
            if self._serving.get(owned.id) is serving:
                del self._serving[owned.id]
            await cancel_tasks([beating])
        text = ""  # it is then told from the generation
        with best_effort("operation"):
            text = encoder.result(result)
        summary = OperationResult(result.generation.id, price_usage(result.card, result.cost))
        await self._finish(owned, "done", text, summary)
        return result

    async def _send_heartbeats(
        self, owned: _Owned, progress: Progress, serving: asyncio.Task[GenerationResult]
    ) -> None:
        """Renew the operation's lease, and notice a cancellation by another replica."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            state: Literal["waiting", "running"] = "running" if progress.sent else "waiting"
            try:
                goes_on = await self._operations.step(owned.tenant_id, owned.id, owned.claim, state)
            except StoreUnavailable:
                continue
            except Exception:
                log.exception("an operation could not be said to be alive")
                continue
            if not goes_on and not progress.sent:
                serving.cancel()

    async def _finish(
        self, owned: _Owned, state: Literal["done", "failed"], text: str, result: OperationResult | None
    ) -> bool:
        """Record the end in the store, with retries while this process lives. False where it was too late."""
        pause_s = _PAUSE_S
        while True:
            try:
                recorded = await self._operations.finish(
                    owned.tenant_id, owned.id, owned.claim, state, text, result
                )
            except StoreUnavailable:
                if self._tasks.closed:
                    return True
                await asyncio.sleep(pause_s)
                pause_s = min(_PAUSE_S_MAX, pause_s * 2)
                continue
            except Exception:
                # For readers its lease ends it; a caller who waits gets the result all the same.
                log.exception("the store was not told how an operation ended")
                return True
            ended: Literal["done", "failed", "cancelled"] = state if recorded else "cancelled"
            self._on_ended(ended)
            note(state=ended)
            return recorded


def _compute_cost(error: GatewayError, job: Job, progress: Progress) -> OperationResult | None:
    """The possible cost of a failed operation; None where it cost nothing."""
    if error.usage is not None:
        return OperationResult("", price_usage(job.card, error.usage))
    return OperationResult("", None) if progress.sent else None


def _derive_id(job: Job, key: IdempotencyKey | None) -> str:
    """A random id; under an idempotency key always the same one, so that a repetition finds it."""
    if key is None:
        return f"op_{secrets.token_hex(12)}"
    scope = json.dumps([job.tenant_id, job.caller.key.id, key.route, key.key])
    return f"op_{compute_digest(scope.encode())[:24]}"
