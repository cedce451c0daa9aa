"""The emulator as the gateway's child: started, kept running, stopped, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys

import httpx2
import psutil
import pytest

from app.emulator.child import EmulatorChild
from tests.emulator.conftest import GENERATE, NO_TLS, pictures, small

DEADLINE_S = 30
KEY = {"x-goog-api-key": "k"}
PARENT = """
import asyncio, sys
from app.emulator.child import EmulatorChild
async def main():
    async with EmulatorChild() as child:
        print(child.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def generated(url: str) -> int:
    async with httpx2.AsyncClient(
        base_url=url, headers={"x-goog-api-key": "k"}, timeout=DEADLINE_S
    ) as client:
        response = await client.post(GENERATE, json=small("A fox"))
        return len(pictures(response.json()))


async def test_it_answers_as_soon_as_it_is_entered_and_is_gone_after() -> None:
    async with EmulatorChild() as child:
        assert child.pid is not None
        process = psutil.Process(child.pid)
        assert await generated(child.base_url) == 1
    assert not process.is_running()
    with pytest.raises(httpx2.ConnectError):
        await generated(child.base_url)


async def test_a_child_that_dies_is_replaced_at_the_same_address() -> None:
    async with EmulatorChild() as child:
        before = child.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        assert await generated(child.base_url) == 1
        assert child.restarts == 1
        assert child.pid != before


async def test_a_child_that_cannot_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ended with status 3"):
        async with EmulatorChild((sys.executable, "-c", "raise SystemExit(3)")):
            pass


async def test_a_child_that_does_not_listen_to_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.emulator.child._STOP_S_MAX", 0.2)
    async with EmulatorChild() as child:
        assert child.pid is not None
        process = psutil.Process(child.pid)
        process.suspend()
    assert not process.is_running()


async def test_a_child_does_not_outlive_a_parent_that_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    await asyncio.to_thread(psutil.wait_procs, [child], DEADLINE_S)
    assert not child.is_running()


def test_the_server_also_listens_on_an_address_of_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, "-m", "app.emulator", "--port", str(port)]) as process:
        try:
            transport = httpx2.HTTPTransport(retries=60, verify=NO_TLS)
            with httpx2.Client(transport=transport, timeout=DEADLINE_S) as client:
                assert client.get(f"http://127.0.0.1:{port}/emulator/calls").status_code == 200
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_S) == 0
