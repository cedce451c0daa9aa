"""A deployment's whole ledger in a file: carried from one store to another, and compared.

Lines of JSON. The first says which form it is, the last how many lines there are and a digest of them, so
that a file that was cut or changed is refused. Each line between is a part of one key: its entries in the
order of their names.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from app.ledger.verifying import READ_DEADLINE_S, list_ledger_tenants
from app.store import keys
from app.store.calls import StoreCalls
from app.store.scripting import read_script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from typing import TextIO

    from redis.asyncio import Redis

FORM = "flashgate-ledger/1"
PAGE = 1000
_READ = read_script(__file__, "transfer")
_REGISTRY = (keys.TENANTS, keys.KEY_OWNERS, keys.TENANTS_VERSION)
_calls = StoreCalls(READ_DEADLINE_S)


class UnusableFile(ValueError):
    """The file is no whole export of this form; the message says why."""


class StoreInUse(RuntimeError):
    """The store that is to be filled has a ledger or tenants already."""


class Part(NamedTuple):
    """Some entries of a key: name and value, member and score, or id and event as JSON; "" names a string."""

    key: str
    kind: str
    entries: list[list[str]]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a file or a store holds; equal for equal contents."""

    tenants: int
    holds: int
    digest: str


class _Audit:
    """Adds up parts in their order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._tenants: set[str] = set()
        self._holds = self.lines = 0

    def add(self, part: Part) -> None:
        self.lines += 1
        self._digest.update(_encode(part).encode())
        if part.key.endswith(":win"):
            self._tenants.add(part.key)
        if part.key.endswith(":res"):
            self._holds += len(part.entries)

    @property
    def summary(self) -> Summary:
        return Summary(len(self._tenants), self._holds, self._digest.hexdigest())


async def export_ledger(client: Redis, file: TextIO) -> Summary:
    """Write everything that keeps a promise: each tenant's ledger as of one moment, and the registry.

    Raises:
        StoreUnavailable: The store does not answer.
        OSError: The file cannot be written.
    """
    audit = _Audit()
    file.write(f"{json.dumps({'form': FORM})}\n")
    async for part in _read_parts(client):
        audit.add(part)
        file.write(f"{_encode(part)}\n")
    file.write(f"{json.dumps({'lines': audit.lines, 'digest': audit.summary.digest})}\n")
    return audit.summary


async def summarize(client: Redis) -> Summary:
    """What a store holds. Raises StoreUnavailable."""
    audit = _Audit()
    async for part in _read_parts(client):
        audit.add(part)
    return audit.summary


def check_file(lines: Iterable[str]) -> Summary:
    """What a file holds. Raises UnusableFile."""
    audit = _Audit()
    for part in _decode_lines(lines, audit):
        audit.add(part)
    return audit.summary


async def restore_ledger(client: Redis, lines: Iterable[str]) -> None:
    """Fill an empty store from the lines of a file that was checked.

    Raises:
        StoreInUse: The store is not empty.
        StoreUnavailable: The store does not answer; a part may be there, so that it has to be emptied first.
        UnusableFile: The file has changed since it was checked.
    """
    has_tenants: Any = await _calls.run(client.exists(keys.TENANTS))
    if has_tenants or await list_ledger_tenants(client):
        raise StoreInUse("The store has a ledger or tenants already; restore into an empty one.")
    audit = _Audit()
    for part in _decode_lines(lines, audit):
        audit.add(part)
        await _calls.run(_write(client, part))


async def _write(client: Any, part: Part) -> None:
    match part.kind:
        case "hash":
            await client.hset(part.key, mapping=dict(part.entries))
        case "zset":
            await client.zadd(part.key, {member: float(score) for member, score in part.entries})
        case "string":
            await client.set(part.key, part.entries[0][1])
        case "stream":
            for event_id, fields in part.entries:
                await client.xadd(part.key, json.loads(fields), id=event_id)


async def _read_parts(client: Redis) -> AsyncIterator[Part]:
    for tenant_id in await list_ledger_tenants(client):
        for part in await _read_keys(client, keys.ledger_keys(tenant_id)):
            yield part
    for part in await _read_keys(client, list(_REGISTRY)):
        yield part
    after = "-"
    while True:
        page: Any = await _calls.run(client.xrange(keys.AUDIT_LOG, min=after, count=PAGE))
        if page:
            yield Part(
                keys.AUDIT_LOG,
                "stream",
                [[event_id, json.dumps(fields, sort_keys=True)] for event_id, fields in page],
            )
        if len(page) < PAGE:
            return
        after = f"({page[-1][0]}"


async def _read_keys(client: Redis, names: list[str]) -> list[Part]:
    reply: Any = await _calls.run(client.eval(_READ, len(names), *names))
    parts = []
    for name, (kind, flat) in zip(names, reply, strict=True):
        entries = sorted([key, value] for key, value in zip(flat[::2], flat[1::2], strict=True))
        parts += [Part(name, kind, entries[begin : begin + PAGE]) for begin in range(0, len(entries), PAGE)]
    return parts


def _encode(part: Part) -> str:
    return json.dumps(part, separators=(",", ":"))


def _decode_lines(lines: Iterable[str], audit: _Audit) -> Iterator[Part]:
    """The parts of a file; ``audit`` has counted each when the next one is asked for. Raises UnusableFile."""
    iterator = iter(lines)
    try:
        form = json.loads(next(iterator, "null"))
        if not isinstance(form, dict) or form.get("form") != FORM:
            raise UnusableFile(f"The file does not begin with the form {FORM}.")
        for line in iterator:
            entry = json.loads(line)
            if isinstance(entry, dict):
                if (entry.get("lines"), entry.get("digest")) != (audit.lines, audit.summary.digest):
                    raise UnusableFile("The file's last line does not fit the others: it was changed or cut.")
                return
            key, kind, entries = entry
            yield Part(str(key), str(kind), [[str(name), str(value)] for name, value in entries])
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        if isinstance(error, UnusableFile):
            raise
        raise UnusableFile("A line of the file cannot be read.") from error
    raise UnusableFile("The file has no last line: the export did not end.")
