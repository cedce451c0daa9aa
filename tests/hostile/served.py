"""The gateway as ``python -m app serve`` runs it, with a gauge on its event loop and a few more cards.

``GET /gauge`` answers what the loop was kept busy with since it was last asked.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

import app.__main__ as command
import app.commands.serve
import app.wiring
from app.cards import Catalogue, load_catalogue
from app.main import create_app
from tests.changed_constants import settings_of
from tests.domain.validation_cases import NARROW, NO_DOCUMENTS, OFFERS_TOP_K, RETIRED

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from app.domain.card import Card
    from app.settings import Settings

_TICK_S = 0.005
VARIATIONS = {
    "retired": RETIRED,
    "offers-top-k": OFFERS_TOP_K,
    "no-documents": NO_DOCUMENTS,
    "narrow": NARROW,
}


class LoopGauge:
    """The most processor time that the loop's thread spent between two chances to run a due timer.

    That is what a single request can hold up all others for. It is read from the thread's own clock, so
    neither other threads nor a busy machine count; an iteration with many small callbacks does.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ticking = False
        self._cpu = 0.0
        self._wall = 0.0
        self._longest = {"cpu_ms": 0.0, "wall_ms": 0.0}

    def _tick(self) -> None:
        cpu, wall = time.thread_time(), time.perf_counter()
        if self._ticking:
            longest = self._longest
            longest["cpu_ms"] = max(longest["cpu_ms"], (cpu - self._cpu) * 1000)
            longest["wall_ms"] = max(longest["wall_ms"], (wall - self._wall) * 1000)
        self._ticking, self._cpu, self._wall = True, cpu, wall
        asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._ticking:
            self._tick()
        if scope["type"] == "http" and scope["path"] == "/gauge":
            await JSONResponse(self._longest)(scope, receive, send)
            self._longest = dict.fromkeys(self._longest, 0.0)
        else:
            await self._app(scope, receive, send)


def catalogue() -> Catalogue:
    """The real cards, and variations of the seed whose limits can be broken."""
    varied = tuple(_named(name, card) for name, card in VARIATIONS.items())
    return Catalogue((*load_catalogue(), *varied))


def _named(name: str, card: Card) -> Card:
    return card.model_copy(update={"id": name, "aliases": ()})


def gauged(settings: Settings) -> FastAPI:
    """The application, the gauge outermost."""
    made = create_app(settings)
    made.add_middleware(LoopGauge)
    return made


if __name__ == "__main__":
    vars(app.commands.serve)["load_settings"] = lambda: settings_of(os.environ)
    vars(app.wiring)["load_catalogue"] = catalogue
    vars(app.commands.serve)["create_app"] = gauged
    sys.exit(command.main(["serve"]))
