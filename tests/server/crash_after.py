"""Runs one generation in a gateway that kills its own process after a named step of the money path."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from app.domain.request import GenerationRequest
from app.generation.order import Order
from app.observability.live import LiveRequests
from app.observability.metrics import Metrics
from app.settings.environment import load_settings
from app.wiring import open_gateway


class Deadly:
    """A port that behaves until a method has returned (or is about to be called), and then kills."""

    def __init__(self, port: Any, method: str, *, before: bool = False) -> None:
        self._port, self._method, self._before = port, method, before

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._port, name)
        if name != self._method:
            return real

        async def and_die(*arguments: Any) -> Any:
            if not self._before:
                await real(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        return and_die


STEPS = {
    "before reserve": ("_ledger", "admit", True),
    "reserve": ("_ledger", "admit", False),
    "dispatch": ("_ledger", "dispatch", False),
    "upstream": ("_model", "generate", False),
    "settle": ("_ledger", "settle", False),
}


async def run(step: str) -> None:
    """Generate once for the only tenant, and die on the way."""
    settings = load_settings()
    async with open_gateway(settings, Metrics(), LiveRequests()) as service:
        port, method, before = STEPS[step]
        setattr(service.gateway, port, Deadly(getattr(service.gateway, port), method, before=before))
        caller = service.directory.authenticate(os.environ["CRASH_KEY"])
        assert caller is not None
        request = GenerationRequest(model="gemini-3.1-flash-image", prompt=f"Crash after {step}")
        await service.gateway.generate(Order(caller, request))
    raise AssertionError("still alive")


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
