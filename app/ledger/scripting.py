"""The Lua scripts: read from ``scripts/``, loaded once, run by their hash with a single command."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from redis.exceptions import NoScriptError

from app.domain.budget import UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

ScriptName = Literal[
    "admit", "dispatch", "settle", "deliver", "windows", "purge", "adjust", "restore", "trial"
]
NAMES: tuple[ScriptName, ...] = get_args(ScriptName)

_FOLDER = Path(__file__).parent / "scripts"
_SHARED: Mapping[ScriptName, tuple[str, ...]] = {
    "admit": ("_common", "_usage", "_rates", "_claims", "_attempts", "_epoch"),
    "settle": ("_common", "_usage", "_claims", "_attempts"),
    "deliver": ("_common", "_attempts"),
    "windows": ("_common", "_rates"),
    "restore": ("_common", "_epoch"),
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
        (_FOLDER / f"{part}.lua").read_text(encoding="utf-8") for part in _SHARED.get(name, ("_common",))
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
        """Makes the server know every script, so that each run is one command."""
        for name in NAMES:
            await self._client.script_load(load_script(name).text)

    async def run(self, name: ScriptName, keys: Sequence[str], arguments: Sequence[str]) -> Any:
        """Runs a script; a server that has forgotten it (restart, failover) is sent its text once."""
        script = load_script(name)
        try:
            return await self._client.evalsha(script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self._client.eval(script.text, len(keys), *keys, *arguments)
