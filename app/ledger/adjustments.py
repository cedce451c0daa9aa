"""Adjustments of a running budget: credit, and another limit for a time (``scripts/adjust.lua``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.errors import Conflict, InternalError
from app.ledger import codec
from app.ledger.checkpoints import Adjustment
from app.ledger.policy import MS
from app.ledger.scripting import Scripts
from app.store import keys
from app.store.calls import StoreCalls
from app.store.client import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from app.domain.budget import BudgetWindow, WindowState

KEEP_S = 86_400
"""How long a credit is remembered by its id; longer than anybody repeats it."""


class RedisBudgetAdjustments:
    """``operator_ports.BudgetAdjustments`` on a Redis or Valkey server.

    Args:
        client: Decoding replies to str; see ``client.open_clients``.
        deadline_s: A call that has no answer by then is StoreUnavailable.
        note: Remembers a change that was made, for a store that loses it.
    """

    def __init__(
        self,
        client: Redis,
        deadline_s: float = DEADLINE_S,
        *,
        note: Callable[[str, Adjustment, int], None] | None = None,
    ) -> None:
        self._note = note
        self._scripts = Scripts(client)
        self._calls = StoreCalls(deadline_s)

    async def add_credit(
        self, tenant_id: str, window: BudgetWindow, amount: int, credit_id: str
    ) -> WindowState:
        """Add credit to a lifetime budget, or take some back with an amount below zero; once for each id.

        Raises:
            Conflict: The budget is not prepaid, less credit is there than is to be taken, or the id was used
                for another credit.
            StoreUnavailable: Nobody knows whether it was added; repeating with the same id is safe.
        """
        if window.budget.window != "lifetime":
            raise Conflict("Only a budget for a lifetime is prepaid; change the limit of the others.")
        direction = "add" if amount >= 0 else "take"
        return await self._apply_change(tenant_id, window, ["credit", credit_id, direction, str(abs(amount))])

    async def set_override(
        self, tenant_id: str, window: BudgetWindow, limit: int, until_ms: int
    ) -> WindowState:
        """Let another limit be in force until a moment by the store's clock; one that is past ends it now.

        Raises:
            StoreUnavailable: Nobody knows whether it was changed; repeating is safe.
        """
        return await self._apply_change(tenant_id, window, ["limit", str(limit), str(max(0, until_ms))])

    async def _apply_change(self, tenant_id: str, window: BudgetWindow, change: list[str]) -> WindowState:
        reply = await self._run_script(tenant_id, window, change)
        if reply.code == "clock":
            reply = await self._run_script(tenant_id, window.at(reply.now_ms), change)
        match reply.code:
            case "ok":
                if self._note is not None and reply.payload:
                    adjustment = _build_adjustment(window.field, change, int(reply.payload), reply.now_ms)
                    self._note(tenant_id, adjustment, reply.now_ms)
                return reply.windows[0]
            case "short":
                raise Conflict("The credit would fall below zero, or above what can be counted.")
            case "conflict":
                raise Conflict("This id was used for another credit.")
            case _:
                raise InternalError("The store's clock fits no window.")

    async def _run_script(self, tenant_id: str, window: BudgetWindow, change: list[str]) -> codec.ScriptReply:
        arguments = [str(KEEP_S * MS), *codec.encode_windows((window,)), *change]
        reply = await self._calls.run(self._scripts.run("adjust", keys.ledger_keys(tenant_id), arguments))
        return codec.decode_reply(reply, (window,), ())


def _build_adjustment(field: str, change: list[str], number: int, now_ms: int) -> Adjustment:
    match change:
        case ["credit", credit_id, direction, amount]:
            return Adjustment("credit", number, f"credit.{credit_id}", field, f"{direction};{amount}")
        case [_, limit, until_ms]:
            value = f"{limit};{until_ms}" if int(until_ms) > now_ms else ""
            return Adjustment("limit", number, "", field, value)
        case _:
            raise InternalError("This is no change of a budget.")
