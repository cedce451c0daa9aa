"""The Lua scripts: read from ``scripts/``, loaded once, run by their hash with a single command."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from redis.exceptions import NoScriptError

from app.domain.budget import UNITS

if TYPE_CHECKING:
    from redis.asyncio import Redis

ScriptName = Literal[
    "admit",
    "dispatch",
    "settle",
    "deliver",
    "windows",
    "purge",
    "adjust",
    "checkpoint",
    "restore",
    "trial",
]
NAMES: tuple[ScriptName, ...] = get_args(ScriptName)

Arguments = Mapping[str, str | Sequence[str]]
"""A script's arguments in its order, by the names that it takes them by; a test compares both."""

_BASE = ("_numbers", "_records", "_common")
_FOLDER = Path(__file__).parent / "scripts"
_SHARED: Mapping[ScriptName, tuple[str, ...]] = {
    "admit": (*_BASE, "_windows", "_leads", "_usage", "_rates", "_claims", "_attempts", "_epoch"),
    "dispatch": (*_BASE, "_leads"),
    "settle": (*_BASE, "_leads", "_usage", "_claims", "_attempts"),
    "deliver": (*_BASE, "_attempts"),
    "windows": (*_BASE, "_windows", "_rates"),
    "adjust": (*_BASE, "_windows"),
    "purge": (*_BASE, "_leads"),
    "checkpoint": (*_BASE, "_epoch"),
    "restore": (*_BASE, "_epoch", "_checkpoints"),
    "trial": (),
}


@dataclass(frozen=True, slots=True)
class Script:
    """A script's whole text and the name that servers know it by."""

    text: str
    sha: str


@cache
def load_script(name: ScriptName) -> Script:
    """The shared functions with the script behind them; a ``#!`` line stays the first, as servers demand."""
    own = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    shared = "\n".join(
        (_FOLDER / f"{part}.lua").read_text(encoding="utf-8") for part in _SHARED.get(name, _BASE)
    )
    first = ""
    if own.startswith("#!"):
        first, own = own.split("\n", 1)
        first += "\n"
    text = f"{first}local UNITS = {len(UNITS)}\n{shared}\n{own}"
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class Scripts:
    """Runs scripts on one client."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def load(self) -> None:
        """Load every script into the server, so that each run is one command."""
        for name in NAMES:
            await self._client.script_load(load_script(name).text)

    async def run(self, name: ScriptName, keys: Sequence[str], arguments: Arguments | Sequence[str]) -> Any:
        """Run a script. A server that has lost it (restart, failover) is sent its text once."""
        script = load_script(name)
        values = flatten(arguments) if isinstance(arguments, Mapping) else arguments
        try:
            return await self._client.evalsha(script.sha, len(keys), *keys, *values)
        except NoScriptError:
            return await self._client.eval(script.text, len(keys), *keys, *values)


def flatten(arguments: Arguments) -> list[str]:
    """The arguments one after the other, as a script takes them."""
    values: list[str] = []
    for value in arguments.values():
        values += [value] if isinstance(value, str) else value
    return values
