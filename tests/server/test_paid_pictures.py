"""A paid picture reaches its caller, and is settled, whatever a step on the way raises."""

from __future__ import annotations

import asyncio
import base64
import errno
import inspect
import os
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from app.domain.allowance import Allowances
from app.domain.errors import StoreUnavailable
from app.generation import booking, conversations, event, gateway, hold, records
from app.generation.conversations import Conversations
from app.ledger import codec
from app.ledger.durable import DurableLedger
from app.ledger.journal import Journal
from app.ledger.operations import RedisOperations
from app.ledger.redis import RedisLedger
from app.main import create_app
from app.observability import observed
from app.observability.families import Family
from app.observability.http import ObservedRequests
from app.observability.metrics import Metrics
from app.observability.observed import ObservedLedger, ObservedResults
from app.pictures import folder
from app.results.redis import RedisResults
from app.surfaces.native import operations as native_operations
from tests.changed_constants import environment_of, settings_of
from tests.processes import HTTP, free_port
from tests.server.conftest import Client, calls_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx2

    from app.settings import Settings
    from tests.processes import Running
    from tests.server.conftest import Tenants

PRICE = 747


def closed() -> Exception:
    """What uvloop raises for a connection that has closed."""
    return RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")


def no_space() -> Exception:
    """What a full disk raises."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def cancelled_within() -> BaseException:
    """What a library lets out that cancels a wait of its own."""
    return asyncio.CancelledError()


@contextmanager
def running_here(settings: Settings) -> Iterator[str]:
    """The application on a real port, in a thread of this process, so that its parts can be made to fail."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=port, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started, "the server has started")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str], tenants: Tenants
) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("paid")
    with running_here(settings_of(environment_of({"state_dir": str(folder), **settings}))) as url:
        wait_for(lambda: HTTP.get(f"{url}/readyz").status_code == 200, "it is ready")
        yield Client(url, tenants.keys["units"])


@dataclass(frozen=True)
class Fault:
    """What raises.

    Attributes:
        owner: The class or module that the step belongs to.
        name: Of the step.
        kept: Whether the picture is kept all the same.
        times: How often it raises; None for always.
    """

    owner: Any
    name: str
    kept: bool = True
    times: int | None = None

    def install(self, patch: pytest.MonkeyPatch, error: Callable[[], BaseException]) -> list[str]:
        """Make the step raise. The list grows by its name each time that it does."""
        raised: list[str] = []
        real = getattr(self.owner, self.name)

        def failing(*arguments: Any, **named: Any) -> Any:
            if self.times is not None and len(raised) >= self.times:
                return real(*arguments, **named)
            raised.append(self.name)
            raise error()

        async def failing_later(*arguments: Any, **named: Any) -> Any:
            found = failing(*arguments, **named)
            return await found if inspect.isawaitable(found) else found

        later = inspect.iscoroutinefunction(real)
        patch.setattr(self.owner, self.name, failing_later if later else failing)
        return raised


FAULTS: dict[str, Fault] = {
    "ending the heartbeat": Fault(hold, "cancel_tasks"),
    "noticing mismatches": Fault(booking, "find_mismatches"),
    "learning": Fault(booking, "observe"),
    "learning an allowance": Fault(Allowances, "observe"),
    "keeping": Fault(ObservedResults, "put_pictures", kept=False),
    "keeping in the store": Fault(RedisResults, "put_pictures", kept=False),
    "writing the bytes": Fault(folder, "_write", kept=False),
    "keeping the generation": Fault(Conversations, "keep"),
    "going on from it": Fault(conversations, "add_turn"),
    "its parameters": Fault(conversations, "build_effective", times=1),
    "putting the generation": Fault(RedisResults, "put_generation"),
    "writing the generation": Fault(records, "encode_stored_generation"),
    "settling": Fault(ObservedLedger, "settle", times=1),
    "settling durably": Fault(DurableLedger, "settle", times=1),
    "settling in the store": Fault(RedisLedger, "settle", times=1),
    "writing the result": Fault(records, "encode_generation"),
    "reading the settlement": Fault(codec, "decode_booked"),
    "the windows to settle in": Fault(hold, "build_budget_windows", times=1),
    "noting in the journal": Fault(Journal, "note"),
    "remembering the epoch": Fault(Journal, "keep_epoch"),
    "comparing what was delivered": Fault(observed, "find_mismatches"),
    "every metric": Fault(Family, "_get_series"),
    "noting what it cost": Fault(event, "_note_usage"),
    "noting": Fault(event, "note"),
    "the access log": Fault(ObservedRequests, "_record"),
    **{
        f"metric {name}": Fault(Metrics, name)
        for name in (
            "count_budget_units",
            "count_finish",
            "count_image_bytes",
            "count_images",
            "count_settlement",
            "count_store_command",
            "count_upstream_call",
            "count_usage",
        )
    },
}


def body(**more: Any) -> dict[str, Any]:
    return {"prompt": f"Paid {uuid.uuid4()}", "image_size": "512", "delivery": "inline", **more}


def books(client: Client) -> tuple[float, float]:
    """What is settled, and what is held."""
    budget = client.budget()
    return budget["settled"], budget["held"]


def check_paid(client: Client, before: tuple[float, float]) -> None:
    """One picture is settled, and its hold is over."""
    assert books(client) == (before[0] + PRICE, before[1])


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("error", [closed, no_space])
def test_whatever_a_step_raises_the_picture_is_delivered_and_settled(
    client: Client, monkeypatch: pytest.MonkeyPatch, name: str, error: Callable[[], BaseException]
) -> None:
    before = books(client)
    with monkeypatch.context() as patch:
        raised = FAULTS[name].install(patch, error)
        answer = client.post(body())
        wait_for(lambda: bool(raised), "the step was on the way")
    assert answer.status_code == 200, answer.text
    assert base64.b64decode(answer.json()["images"][0]["data"])
    lost = "image_not_kept" in {warning["code"] for warning in answer.json()["warnings"]}
    assert lost is not FAULTS[name].kept
    check_paid(client, before)


@pytest.mark.parametrize("name", ["keeping", "keeping the generation", "settling", "settling in the store"])
def test_a_cancellation_of_the_clients_own_costs_nobody_a_picture(
    client: Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = books(client)
    with monkeypatch.context() as patch:
        FAULTS[name].install(patch, cancelled_within)
        answer = client.post(body())
    assert answer.status_code == 200, answer.text
    check_paid(client, before)


def test_where_nobody_can_add_up_what_was_used_the_estimate_is_charged(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = books(client)
    with monkeypatch.context() as patch:
        assert Fault(gateway, "compute_outcome").install(patch, closed) == []
        answer = client.post(body())
    assert answer.status_code == 200, answer.text
    check_paid(client, before)


def test_where_no_settlement_can_be_made_the_estimate_is_charged_at_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a fault of the gateway's own; the picture is lost then, and the books are not."""
    before = books(client)
    with monkeypatch.context() as patch:
        Fault(booking, "build_generation").install(patch, closed)
        answer = client.post(body())
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    check_paid(client, before)


def native(client: Client) -> httpx2.Response:
    return client.post(body())


def picture_alone(client: Client) -> httpx2.Response:
    return client.post(body(), Accept="image/*")


def gemini(client: Client, verb: str = "generateContent") -> httpx2.Response:
    asked = {
        "contents": [{"parts": [{"text": f"Paid {uuid.uuid4()}"}]}],
        "generationConfig": {"imageConfig": {"imageSize": "512"}, "responseModalities": ["IMAGE"]},
    }
    url = f"{client.url}/gemini/v1beta/models/gemini-3.1-flash-image:{verb}"
    return HTTP.post(url, json=asked, headers={"x-goog-api-key": client.key})


def gemini_stream(client: Client) -> httpx2.Response:
    return gemini(client, "streamGenerateContent?alt=sse")


def openai(client: Client, **more: Any) -> httpx2.Response:
    asked = {"prompt": f"Paid {uuid.uuid4()}", "model": "gemini-3.1-flash-image", "size": "512x512", **more}
    headers = {"Authorization": f"Bearer {client.key}"}
    return HTTP.post(f"{client.url}/openai/v1/images/generations", json=asked, headers=headers)


def openai_stream(client: Client) -> httpx2.Response:
    return openai(client, stream=True)


def operation(client: Client) -> httpx2.Response:
    return client.post(body(), Prefer="respond-async, wait=30")


WAYS: dict[str, tuple[Callable[[Client], httpx2.Response], str]] = {
    "native": (native, '"data":"'),
    "a picture alone": (picture_alone, ""),
    "Gemini": (gemini, '"inlineData"'),
    "Gemini's stream": (gemini_stream, '"inlineData"'),
    "OpenAI": (openai, '"b64_json":"'),
    "OpenAI's stream": (openai_stream, '"b64_json":"'),
    "an operation": (operation, '"data":"'),
}
"""How a picture is asked for, and what stands before its bytes."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["keeping", "settling", "every metric", "the access log"])
def test_it_is_delivered_on_every_way(
    client: Client, monkeypatch: pytest.MonkeyPatch, way: str, name: str
) -> None:
    ask, mark = WAYS[way]
    before = books(client)
    with monkeypatch.context() as patch:
        assert FAULTS[name].install(patch, closed) == []
        answer = ask(client)
    assert answer.status_code == 200, answer.text
    assert mark in answer.text if mark else answer.headers["content-type"].startswith("image/")
    check_paid(client, before)


def test_an_error_is_told_although_the_budgets_cannot_be_looked_up_for_its_headers(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        assert Fault(gateway.Gateway, "get_budgets").install(patch, closed) == []
        answer = client.post(body(aspect_ratio="7:3"))
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_a_call_that_cannot_be_marked_as_sent_is_not_made_and_costs_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch, emulator: Running
) -> None:
    before, calls = books(client), calls_of(emulator)
    with monkeypatch.context() as patch:
        Fault(DurableLedger, "dispatch").install(patch, closed)
        answer = client.post(body())
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert (books(client), calls_of(emulator)) == (before, calls)


def test_an_operation_that_the_store_cannot_tell_of_any_more_is_answered_with_its_address(
    client: Client, monkeypatch: pytest.MonkeyPatch, emulator: Running
) -> None:
    before, gate = books(client), uuid.uuid4().hex[:8]
    asked = body(prompt=f"Paid {gate} [[emulate:hold:{gate}]]")
    with monkeypatch.context() as patch:
        Fault(RedisOperations, "read").install(patch, StoreUnavailable)
        answer = client.post(asked, Prefer="respond-async, wait=1")
    assert answer.status_code == 202, answer.text
    HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
    address = answer.headers["location"]
    wait_for(lambda: client.get(address).json()["state"] == "done", "the operation is over")
    check_paid(client, before)


@pytest.mark.parametrize(
    "fault", [Fault(native_operations, "render_result"), Fault(RedisOperations, "finish")], ids=str
)
def test_who_waits_for_an_operation_gets_the_picture_that_its_record_misses(
    client: Client, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    before = books(client)
    with monkeypatch.context() as patch:
        fault.install(patch, closed)
        answer = operation(client)
    assert answer.status_code == 200, answer.text
    check_paid(client, before)
