"""Requests that are right but for something odd: whatever it is, the answer is never a fault of the gateway.

The suite asks a sample that is always the same. ``FLASHGATE_FUZZ_S=300`` asks for so many seconds, other
cases each time, and some with several odd things at once.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count, takewhile
from typing import TYPE_CHECKING

import httpx2
import pytest
import yaml

from tests.contract.every_route import BASES, PICTURE
from tests.contract.mutations import HEADERS, Asker, Case, combined, odd_cases
from tests.processes import running_gateway
from tests.server.conftest import tokens_a_day, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.processes import Running

SECONDS = int(os.environ.get("FLASHGATE_FUZZ_S", "0"))
SAMPLE = 3000
SEED = 20
ASKERS = 2
NO_TIME_LEFT = 504
"""The answer to a caller who leaves less time than a call takes, or wants what is cached alone."""

OF_PYTHON = re.compile(
    r"dictionary|instance of|[Ii]nput should|valid (?:list|string|integer|number|boolean|tuple|set)\b|"
    r"unable to parse|Wire\b|pydantic|Traceback|\b(?:None|True|False)\b"
)

Asked = tuple[Case, int, bytes]


@pytest.fixture(scope="module")
def opened(
    settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Running, str]]:
    """A gateway of its own, because operators' requests change tenants; and a key that opens every route."""
    folder = tmp_path_factory.mktemp("mutated")
    prepaid = {"unit": "images", "window": "lifetime", "limit": 1_000_000}
    budgets = {"everything": [*tokens_a_day(1_000_000_000), prepaid]}
    tenants = write_tenants(folder / "tenants.yaml", budgets)
    listed = yaml.safe_load(tenants.path.read_text())
    listed["tenants"][0]["keys"][0]["scopes"] = ["images", "admin"]
    tenants.path.write_text(yaml.safe_dump(listed))
    with running_gateway(folder, **{**settings, "tenants_file": str(tenants.path)}) as gateway:
        yield gateway, tenants.keys["everything"]


@pytest.fixture(scope="module")
def bases(opened: tuple[Running, str]) -> list[Case]:
    """What is mutated; one of them is a picture that is there."""
    gateway, key = opened
    body = {"prompt": "Kept", "image_size": "512", "delivery": "uri"}
    made = httpx2.post(f"{gateway.url}/v1/images:generate", json=body, headers={"X-API-Key": key}, timeout=60)
    picture = made.json()["images"][0]["id"]
    return [replace(case, path=case.path.replace(PICTURE, picture)) for case in BASES]


@pytest.fixture(scope="module")
def asked(opened: tuple[Running, str], bases: list[Case]) -> list[Asked]:
    """Every case that was asked, and what was answered."""
    rng = random.Random(time.time_ns() if SECONDS else SEED)
    cases = [case for base in bases for case in odd_cases(base)]
    in_headers = [case for case in cases if case.headers and case.headers[-1][0] in HEADERS]
    elsewhere = [case for case in cases if not (case.headers and case.headers[-1][0] in HEADERS)]
    if not SECONDS:
        return _ask(opened, [*bases, *rng.sample(elsewhere, SAMPLE), *rng.sample(in_headers, SAMPLE // 3)])
    until = time.monotonic() + SECONDS
    mixed = (
        rng.choice((rng.choice(elsewhere), rng.choice(in_headers), combined(bases, rng))) for _ in count()
    )
    return _ask(opened, takewhile(lambda _: time.monotonic() < until, mixed))


def _ask(opened: tuple[Running, str], cases: Iterable[Case]) -> list[Asked]:
    gateway, key = opened
    address = httpx2.URL(gateway.url)
    remaining, found = iter(cases), list[Asked]()
    taking = threading.Lock()

    def ask() -> None:
        with Asker(address.host, address.port or 80, key) as asker:
            while True:
                with taking:
                    case = next(remaining, None)
                if case is None:
                    return
                found.append((case, *asker.ask(case)))

    with ThreadPoolExecutor(ASKERS) as pool:
        for done in [pool.submit(ask) for _ in range(ASKERS)]:
            done.result()
    return found


@pytest.mark.timeout(180 + SECONDS * 2)
def test_whatever_is_odd_about_a_request_it_is_no_fault_of_the_gateway(asked: list[Asked]) -> None:
    found = {(case.method, case.path, case.odd, status, body[:300]) for case, status, body in asked}
    assert not [each for each in found if each[3] >= 500 and each[3] != NO_TIME_LEFT]


def test_every_request_is_answered_but_for_those_that_end_before_their_body(asked: list[Asked]) -> None:
    unanswered = [case for case, status, _ in asked if not status]
    assert len(asked) > SAMPLE
    assert not [case.odd for case in unanswered if "Content-Length" not in case.odd]


def test_every_documented_operation_is_asked(opened: tuple[Running, str]) -> None:
    document = httpx2.get(f"{opened[0].url}/openapi.json").json()
    asked = [(case.method, case.path.replace("@", "")) for case in BASES]
    missing = [
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
        if not any(
            method.upper() == asked_method and re.fullmatch(re.sub(r"\{.*?\}", "[^/]+", path), asked_path)
            for asked_method, asked_path in asked
        )
    ]
    assert missing == []


def test_no_refusal_speaks_of_python(asked: list[Asked]) -> None:
    refusals = {body.decode("latin-1") for _, status, body in asked if status >= 400}
    assert len(refusals) > SAMPLE // 10
    assert not {found[0] for text in refusals if (found := OF_PYTHON.search(text))}
