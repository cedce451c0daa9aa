"""Rows of usage as the ledger's scripts keep them (``scripts/_common.lua``, "Usage"), read for reports."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from app.domain.end_user import EndUser, build_user_id
from app.domain.report import STANDARD, Row, Spent, build_spent, decode_day, encode_day
from app.store import keys
from app.store.calls import StoreCalls

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from redis.asyncio import Redis

    from app.domain.report import Attribution
    from app.generation.ports import Settlement
    from app.ledger.policy import LedgerConfig

READ_DEADLINE_S = 10.0
PAGE = 1000
UNATTRIBUTED = "-"
LABEL = "="
USER = "~|"
PARAMETERS = "!|"


class RedisReports:
    """``operator_ports.Reports`` on a Redis or Valkey server.

    Args:
        client: Decoding replies to str.
        cells: All combinations of model and size.
    """

    def __init__(self, client: Redis, cells: Iterable[tuple[str, str]]) -> None:
        self._client = client
        self._calls = StoreCalls()
        self._cells = tuple(cells)

    async def read_key(self, tenant_id: str, key_id: str, since: date, until: date) -> tuple[Row, ...]:
        """Return what one key used on these days, the last included; one command, however much others use."""
        names = [
            f"{number}|{key_id}|{model}|{size}"
            for number in range(encode_day(since), encode_day(until) + 1)
            for model, size in self._cells
        ]
        return await self._read_rows(tenant_id, names)

    async def read_user(self, tenant_id: str, user_id: str, since: date, until: date) -> tuple[Row, ...]:
        """Return what one end user used on these days, the last included."""
        user = EndUser(user_id).counter_id
        names = [f"{number}|{USER}{user}" for number in range(encode_day(since), encode_day(until) + 1)]
        return await self._read_rows(tenant_id, names)

    async def _read_rows(self, tenant_id: str, names: list[str]) -> tuple[Row, ...]:
        if not names:
            return ()
        values: Any = await self._calls.run(self._client.hmget(keys.usage_key(tenant_id), names))
        rows = (
            _decode_row(tenant_id, name, text)
            for name, text in zip(names, values, strict=True)
            if text is not None
        )
        return tuple(row for row in rows if row is not None)

    async def read_tenant(self, tenant_id: str, since: date, until: date) -> tuple[Row, ...]:
        """Return everything that a tenant used on these days, the last included, read page by page.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        return await self._calls.run(self._scan(tenant_id, since, until), READ_DEADLINE_S)

    async def _scan(self, tenant_id: str, since: date, until: date) -> tuple[Row, ...]:
        rows = []
        async for name, text in self._client.hscan_iter(keys.usage_key(tenant_id), count=PAGE):
            row = _decode_row(tenant_id, name, text)
            if row is not None and since <= row.day <= until:
                rows.append(row)
        return _separate_tiers(rows)

    async def read_last_used(self, tenant_id: str, key_ids: tuple[str, ...]) -> dict[str, int]:
        """Return when keys were last served, by id, in Unix milliseconds, without keys that never were."""
        if not key_ids:
            return {}
        names = [f"@{key_id}" for key_id in key_ids]
        values: Any = await self._calls.run(self._client.hmget(keys.usage_key(tenant_id), names))
        return {key_id: int(at) for key_id, at in zip(key_ids, values, strict=True) if at is not None}


def encode_attribution(attribution: Attribution | None, config: LedgerConfig) -> list[str]:
    """Encode an attribution as ``take_usage`` of the scripts reads it."""
    if attribution is None:
        return ["", "0", "0", "0", "0", "", ""]
    head = f"{attribution.key_id}|{attribution.model}|{attribution.size}"
    labels = [
        json.dumps(label, separators=(",", ":"), ensure_ascii=False).encode(errors="replace").decode()
        for label in attribution.labels
    ]
    user = ""
    if attribution.user_id is not None:
        user = EndUser(attribution.user_id).counter_id
    parameters = ""
    if attribution.parameters:
        parameters = f"{attribution.model}|{';'.join(attribution.parameters)}"
    maxima = (config.usage_labels_max, config.usage_users_max, config.usage_parameters_max)
    return [head, *map(str, maxima), str(len(labels)), *labels, user, parameters]


def encode_row(settlement: Settlement) -> list[str]:
    """Encode what is reported of a settlement as ``take_row`` of the scripts reads it."""
    spent = settlement.spent or build_spent(settlement.amounts, settlement.usage)
    return [str(number) for number in spent]


def encode_parts(settlement: Settlement) -> list[str]:
    """Encode its parts by service tier as ``take_parts`` of the scripts reads them."""
    words = [str(len(settlement.parts))]
    for part in settlement.parts:
        words += [part.tier, *map(str, part.spent)]
    return words


def _decode_row(tenant_id: str, name: str, text: str) -> Row | None:
    """Decode a row of the store; None for what is no row: a day's number of labels, say, or a last use."""
    number, separator, heading = name.partition("|")
    if not separator or heading in {"#", "~#", "!#"}:
        return None
    try:
        day, spent = decode_day(int(number)), Spent(*map(int, text.split(",")))
    except (ValueError, TypeError):
        return None  # malformed; the next script that adds to it sets it aside
    return _decode_heading(heading, Row(tenant_id, day, spent))


def _decode_heading(heading: str, row: Row) -> Row:
    """The row with what its heading says of whom it counts."""
    if heading == UNATTRIBUTED:
        return row
    if heading.startswith(USER):
        user = heading.removeprefix(USER)
        return row._replace(user_id=build_user_id(user) if user else "")
    if heading.startswith(PARAMETERS):
        model, _, text = heading.removeprefix(PARAMETERS).partition("|")
        return row._replace(model=model or None, parameters=tuple(filter(None, text.split(";"))))
    key_id, model, *rest = heading.split("|", 3)
    if key_id == LABEL:
        label = heading.partition("|")[2]
        return row._replace(label=tuple(json.loads(label)) if label else ("", ""))
    size, tier = rest[0], rest[1] if len(rest) > 1 else None
    return row._replace(key_id=key_id, model=model, size=size, tier=tier)


def _separate_tiers(rows: list[Row]) -> tuple[Row, ...]:
    """Take the parts of other tiers out of the rows that they are parts of, which leaves the standard one."""
    parts: dict[tuple[object, ...], Spent] = {}
    for row in rows:
        if row.tier is not None:
            heading = (row.day, row.key_id, row.model, row.size)
            parts[heading] = parts.get(heading, Spent()).add(row.spent)
    separated = []
    for row in rows:
        if row.tier is None and row.key_id is not None:
            part = parts.get((row.day, row.key_id, row.model, row.size), Spent())
            row = row._replace(spent=row.spent.subtract(part), tier=STANDARD)  # noqa: PLW2901
        separated.append(row)
    return tuple(separated)
