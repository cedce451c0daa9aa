"""Purging finished results: one script, no search through the store.

A mark says until when results are purged; whatever was begun by then is treated as absent and its bytes go
with their TTL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.ledger.scripting import Scripts
from app.store import keys
from app.store.calls import StoreCalls
from app.store.client import DEADLINE_S

if TYPE_CHECKING:
    from redis.asyncio import Redis

MARK_KEPT_MS = 86_400_000
"""Longer than any call of the upstream with all its retries."""


class RedisCache:
    """``operator_ports.Cache`` on a Redis or Valkey server; the client decodes replies to str."""

    def __init__(self, client: Redis, deadline_s: float = DEADLINE_S) -> None:
        self._scripts = Scripts(client)
        self._calls = StoreCalls(deadline_s)

    async def purge(self, tenant_id: str, fingerprint: str | None) -> int:
        """Serve and keep no result any more that was begun until now; see ``scripts/purge.lua``."""
        ledger_keys = keys.ledger_keys(tenant_id)
        names = ledger_keys if fingerprint is None else keys.work_keys(tenant_id, fingerprint)
        arguments = [str(MARK_KEPT_MS), fingerprint or ""]
        (now,) = await self._calls.run(self._scripts.run("purge", names, arguments))
        return int(now)
