"""Tracks whether a response reaches its caller, for clients that retry automatically.

The OpenAI SDKs number the attempts at a call. A result that one attempt did not receive, because its
connection broke or it timed out, goes to the next attempt instead of being paid for again
(docs/decisions/0047).
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect

from app.domain.errors import DeadlineExceeded, GatewayError
from app.generation.progress import Progress
from app.resilience.tasks import cancel_tasks

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.types import Receive

    from app.domain.attempt import Delivery
    from app.generation.gateway import Gateway
    from app.generation.job import Job
    from app.generation.order import GenerationResult

RETRY_COUNT: Final = "x-stainless-retry-count"
RENEW_S: Final = 5.0
"""Seconds between two notes to the store that a response is still being written; well within a lease."""

MARGIN_S: Final = 1.0
"""Seconds added to the client's timeout, so that the client always gives up first."""

_COUNT = re.compile(r"\d{1,4}", re.ASCII)
_SECONDS = re.compile(r"\d{1,7}(\.\d{1,9})?", re.ASCII)


def read_retry_count(request: Request) -> int | None:
    """Return the number of earlier attempts; None if the client does not number its attempts."""
    count = request.headers.get(RETRY_COUNT, "")
    if not _COUNT.fullmatch(count):
        return None
    return int(count)


def read_sdk_timeout(request: Request) -> float | None:
    """Return the seconds without a byte after which the client gives up; None if it does not say.

    Python's SDK sends its read timeout, Node's sends its timeout rounded down to whole seconds.
    """
    for name, cut_s in (("x-stainless-read-timeout", 0.0), ("x-stainless-timeout", 1.0)):
        seconds = request.headers.get(name, "")
        if _SECONDS.fullmatch(seconds):
            return float(seconds) + cut_s + MARGIN_S
    return None


class Handover:
    """One request of such a client, from its arrival until its response has reached the connection.

    Args:
        receive: The server's ASGI callable; after the body it reports that the caller disconnected.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._tasks: list[asyncio.Task[None]] = []
        self._gateway: Gateway | None = None
        self._job: Job | None = None
        self._progress = Progress()
        self._gone = False
        self._answered = False
        self._over = False

    async def serve(self, gateway: Gateway, job: Job, timeout_s: float | None) -> GenerationResult:
        """Serve a job until its caller leaves. The body must have been read before.

        Args:
            gateway: The gateway that serves the job.
            job: An attempt.
            timeout_s: Seconds after which the caller has given up, even if the disconnect goes unnoticed.

        Raises:
            ClientDisconnect: The caller disconnected; the work continues.
            GatewayError: As ``Gateway.serve``, and DeadlineExceeded after the timeout.
        """
        self._gateway, self._job = gateway, job
        watching = asyncio.create_task(self._watch())
        self._tasks.append(watching)
        serving = asyncio.create_task(gateway.serve(job, self._progress))
        try:
            await asyncio.wait({serving, watching}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            finished = serving.done()
            if not finished:
                serving.cancel()
                self._abandon()
        if finished:
            return self._finish(serving)
        if self._gone:
            raise ClientDisconnect
        detail = "The client's timeout has passed; its next attempt will get the picture."
        if self._progress.sent:
            raise DeadlineExceeded(detail, billed="maybe")
        raise DeadlineExceeded(detail, billed="no")

    def _finish(self, serving: asyncio.Task[GenerationResult]) -> GenerationResult:
        try:
            result = serving.result()
        except DeadlineExceeded:
            self._abandon()  # the work may continue
            raise
        except GatewayError:
            self._answered = True
            raise
        self._answered = True
        self._tasks.append(asyncio.create_task(self._renew()))
        return result

    async def settle_down(self) -> None:
        """Let a recent disconnect propagate through the event loop: to the server, its waiter, and here."""
        for _ in range(3):
            await asyncio.sleep(0)

    def sent(self) -> None:
        """Note that the whole response was written to the connection."""
        if self._answered and not self._gone:
            self._over = True
            self._note("delivered")

    async def aclose(self) -> None:
        """Clean up; a response that was not delivered goes to the next attempt."""
        await cancel_tasks(self._tasks)
        self._abandon()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            self._note("under_way")

    def _abandon(self) -> None:
        if not self._over:
            self._over = True
            self._note("abandoned")

    def _note(self, delivery: Delivery) -> None:
        if self._gateway is not None and self._job is not None:
            self._gateway.note_delivery(self._job, self._progress, delivery)
