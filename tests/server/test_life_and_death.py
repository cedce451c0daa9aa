"""The first answer of a process and its last, callers who stop reading, and two processes on one store."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx2
import psutil
import pytest

from tests.processes import HTTP, Running, free_port, running_gateway
from tests.server.conftest import PEPPER, Client, Tenants, calls_of, tokens_a_day, wait_for, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
STALLED, STALLED_MIB, WAVES = 6, 10, 5


def picture(prompt: str, *rehearse: str) -> dict[str, Any]:
    directives = "".join(f" [[emulate:{word}]]" for word in rehearse)
    return {"prompt": prompt + directives, "image_size": "512", "delivery": "uri"}


@pytest.fixture(scope="module")
def own_tenants(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    folder = tmp_path_factory.mktemp("life")
    return write_tenants(folder / "own.yaml", {"life": tokens_a_day(1_000_000)})


@pytest.fixture(scope="module")
def own_settings(own_tenants: Tenants, emulator: Running) -> dict[str, str]:
    return {
        "tenants_file": str(own_tenants.path),
        "key_pepper": PEPPER,
        "upstream": "emulator",
        "emulator_base_url": emulator.url,
    }


def test_the_first_thing_that_a_new_process_does_is_to_serve(
    tmp_path: Path, own_tenants: Tenants, own_settings: dict[str, str]
) -> None:
    """It takes no connection before it can answer, so whoever comes through needs no patience."""
    port = free_port()
    answers: list[httpx2.Response] = []

    def insist() -> None:
        client = Client(f"http://127.0.0.1:{port}", own_tenants.keys["life"])
        while not answers:
            with contextlib.suppress(httpx2.ConnectError):
                answers.append(client.post(picture("The very first")))

    insisting = threading.Thread(target=insist)
    insisting.start()
    with running_gateway(tmp_path, port=str(port), **own_settings):
        insisting.join(60)
        assert [answer.status_code for answer in answers] == [200], answers[0].text


class _Crowd:
    """Callers in threads of their own, and what they were answered."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, int, dict[str, Any]]] = []
        self._threads: list[threading.Thread] = []

    def ask(self, client: Client, body: dict[str, Any]) -> None:
        def asking() -> None:
            answer = client.post(body)
            self.answers.append((client.url, answer.status_code, answer.json()))

        self._threads.append(threading.Thread(target=asking))
        self._threads[-1].start()

    def gone(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def listens(gateway: Running) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(gateway_address(gateway), timeout=2):
        return True
    return False


def gateway_address(gateway: Running) -> tuple[str, int]:
    return "127.0.0.1", int(gateway.url.rpartition(":")[2])


def test_two_processes_that_go_down_together_lose_no_paid_answer_and_leave_no_hold(
    tmp_path: Path, own_tenants: Tenants, own_settings: dict[str, str], emulator: Running
) -> None:
    gate, never, key = secrets.token_hex(4), secrets.token_hex(4), own_tenants.keys["life"]
    crowd, before = _Crowd(), calls_of(emulator)
    with contextlib.ExitStack() as closing:
        settings = {**own_settings, "drain_s": "2"}
        gateways = [closing.enter_context(running_gateway(tmp_path, **settings)) for _ in range(2)]
        clients = [Client(gateway.url, key) for gateway in gateways]
        for number, client in enumerate(clients):
            for view in range(2):
                crowd.ask(client, picture(f"View {view} of {number}", f"hold:{gate}"))
        wait_for(lambda: calls_of(emulator) - before == 4, "each has calls under way")
        for client in clients:  # the same work at both: one leads, one follows
            crowd.ask(client, picture("The same for both", f"hold:{gate}"))
        wait_for(lambda: calls_of(emulator) - before == 5, "one of them leads")
        crowd.ask(clients[0], picture("Too slow", f"hold:{never}"))
        wait_for(lambda: calls_of(emulator) - before == 6, "and one call will not end in time")
        wait_for(lambda: waiting(gateways) == 1, "and one of them follows")
        began = time.monotonic()
        for gateway in gateways:
            gateway.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not any(map(listens, gateways)), "no new work is taken")
        HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
        crowd.gone()
        assert [gateway.process.wait(15) for gateway in gateways] == [0, 0]
        assert time.monotonic() - began < 10
    HTTP.post(f"{emulator.url}/emulator/release/{never}")
    codes = sorted(document.get("code", "served") for _, _, document in crowd.answers)
    assert codes == ["draining", *["served"] * 6]
    with running_gateway(tmp_path, **own_settings) as third:
        budget = Client(third.url, key).budget()
        assert (budget["held"], budget["settled"]) == (0, 6 * 747)
        again = Client(third.url, key).post(picture("View 0 of 0", f"hold:{gate}"))
        assert again.headers["cache-status"].startswith("flashgate; hit")


def waiting(gateways: list[Running]) -> int:
    """How many requests wait for another's result, all processes together."""
    return sum(in_flight(gateway, "waiting") for gateway in gateways)


def in_flight(gateway: Running, stage: str) -> int:
    text = HTTP.get(gateway.metrics_url).text
    lines = [line for line in text.splitlines() if line.startswith(f'flashgate_in_flight{{stage="{stage}"}}')]
    return int(float(lines[0].rpartition(" ")[2])) if lines else 0


@contextlib.contextmanager
def stalled(gateway: Running, key: str, body: dict[str, Any]) -> Iterator[socket.socket]:
    """A caller who asks for a large picture and then reads nothing."""
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/images:generate HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nAccept: image/*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.socket() as plug:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plug.connect(gateway_address(gateway))
        plug.sendall(head.encode() + content)
        yield plug


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, own_settings: dict[str, str]) -> Iterator[Running]:
    """A gateway that gives a reader a second."""
    folder = tmp_path_factory.mktemp("impatient")
    with running_gateway(folder, **own_settings, reader_timeout_s="1") as gateway:
        yield gateway


def test_callers_who_read_nothing_are_cut_off_and_hold_no_memory(
    own_tenants: Tenants, impatient: Running
) -> None:
    key = own_tenants.keys["life"]
    body = picture("A large one", f"huge:{STALLED_MIB}") | {"delivery": "inline"}
    client = Client(impatient.url, key)
    assert len(client.post(body, accept="image/*").content) > STALLED_MIB * MIB
    process = psutil.Process(impatient.process.pid)
    resident = []
    for _ in range(WAVES):
        with contextlib.ExitStack() as closing:
            for _ in range(STALLED):
                closing.enter_context(stalled(impatient, key, body))
            wait_for(lambda: in_flight(impatient, "request") >= STALLED, "their answers are on the way")
            wait_for(lambda: in_flight(impatient, "request") <= 1, "all but the scrape itself are cut off")
        resident.append(process.memory_info().rss)
    # The first waves teach the allocator how much there can be at once, up to two waves' bytes; sixteen waves
    # add nothing to that. Were answers held, each wave would add all of its bytes.
    held = (WAVES - 1) * STALLED * STALLED_MIB * MIB
    assert resident[-1] - resident[0] < held * 3 / 4, resident
    assert client.post(body, accept="image/*").status_code == 200


def test_a_caller_who_reads_slowly_but_steadily_gets_all_of_it(
    own_tenants: Tenants, impatient: Running
) -> None:
    key = own_tenants.keys["life"]
    body = picture("A large one, slowly", "huge:1") | {"delivery": "inline"}
    assert Client(impatient.url, key).post(body, accept="image/*").status_code == 200
    with stalled(impatient, key, body) as plug:
        received, until = 0, time.monotonic() + 1.5
        while received < MIB:
            received += len(plug.recv(65_536))
            if time.monotonic() < until:
                time.sleep(0.1)  # the slowness itself is what is tried
