"""Google's keys in memory: when they are read, how often at most, and what holds meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from app.domain.errors import IdentityUnavailable
from app.identity.certificates import (
    BYTES_MAX,
    MAX_AGE_S_MAX,
    OVERDUE_S_MAX,
    REFRESH_INTERVAL_S,
    Certificates,
)
from tests.identity.google import Google, google

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def running() -> Iterator[Google]:
    with google() as found:
        yield found


@pytest.fixture
def stand_in(running: Google) -> Google:
    running.readings, running.status, running.key_id = 0, 200, "first"
    running.headers = {"Cache-Control": "public, max-age=20000, must-revalidate"}
    running.serve_own_key()
    return running


@asynccontextmanager
async def opened(stand_in: Google, clock: Clock) -> AsyncIterator[Certificates]:
    async with Certificates(stand_in.url, clock) as certificates:
        yield certificates


async def reading_done(certificates: Certificates) -> None:
    """Return when the reading that is under way has ended."""
    reading = certificates._refreshing
    assert reading is not None
    await reading


async def test_keys_are_read_once_for_everybody_who_comes_at_once(stand_in: Google, clock: Clock) -> None:
    async with opened(stand_in, clock) as certificates:
        assert stand_in.readings == 0
        found = await asyncio.gather(*(certificates.find_key("first") for _ in range(50)))
        assert None not in found
        assert await certificates.find_key("first")
        assert stand_in.readings == 1


async def test_made_up_key_ids_cause_one_reading_a_minute(stand_in: Google, clock: Clock) -> None:
    async with opened(stand_in, clock) as certificates:
        await certificates.find_key("first")
        for count in range(200):
            assert await certificates.find_key(f"made-up-{count}") is None
        clock.now += REFRESH_INTERVAL_S - 1
        assert await certificates.find_key("made-up") is None
        assert stand_in.readings == 1
        clock.now += 2
        assert {await certificates.find_key(f"again-{count}") for count in range(200)} == {None}
        assert stand_in.readings == 2


async def test_a_new_key_is_known_a_minute_later_and_the_old_one_is_gone(
    stand_in: Google, clock: Clock
) -> None:
    async with opened(stand_in, clock) as certificates:
        await certificates.find_key("first")
        stand_in.key_id = "second"
        stand_in.serve_own_key()
        clock.now += REFRESH_INTERVAL_S + 1
        assert await certificates.find_key("second")
        assert await certificates.find_key("first") is None


async def test_keys_that_are_due_go_on_being_used_while_they_are_read_again(
    stand_in: Google, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patience in ("WAIT_S", "FETCH_TIMEOUT_S"):
        monkeypatch.setattr(f"app.identity.certificates.{patience}", 60)
    async with opened(stand_in, clock) as certificates:
        await certificates.find_key("first")
        clock.now += 20_001
        stand_in.gate.clear()
        try:
            assert await asyncio.wait_for(certificates.find_key("first"), 10)
            assert await asyncio.wait_for(certificates.find_key("first"), 10)
        finally:
            stand_in.gate.set()
        await reading_done(certificates)
        assert stand_in.readings == 2


async def test_keys_outlive_an_outage_for_a_day_and_no_longer(stand_in: Google, clock: Clock) -> None:
    stand_in.headers = {"Cache-Control": "max-age=999999999"}
    async with opened(stand_in, clock) as certificates:
        await certificates.find_key("first")
        stand_in.status = 503
        clock.now += MAX_AGE_S_MAX + OVERDUE_S_MAX - 1
        assert await certificates.find_key("first")
        await reading_done(certificates)
        clock.now += 2
        with pytest.raises(IdentityUnavailable) as refused:
            await certificates.find_key("first")
        assert refused.value.retry_after_s
        stand_in.status = 200
        clock.now += REFRESH_INTERVAL_S
        assert await certificates.find_key("first")


FAULTY = {
    "no JSON": b"<html>",
    "a list": b"[]",
    "no keys": b'{"keys": []}',
    "keys that are no objects": b'{"keys": [1, "x", null]}',
    "an even exponent": b'{"keys": [{"kid": "first", "kty": "RSA", "e": "Ag", "n": "%s"}]}' % (b"A" * 400),
    "a number that is missing": b'{"keys": [{"kid": "first", "kty": "RSA", "e": "AQAB"}]}',
    "more than a key set has": b'{"keys": []}' + b" " * BYTES_MAX,
}


@pytest.mark.parametrize("fault", FAULTY)
async def test_what_is_no_key_set_lets_nobody_in_and_is_asked_again_soon(
    stand_in: Google, clock: Clock, fault: str
) -> None:
    stand_in.body = FAULTY[fault]
    async with opened(stand_in, clock) as certificates:
        for _ in range(3):
            with pytest.raises(IdentityUnavailable):
                await certificates.find_key("first")
        assert stand_in.readings == 1
        stand_in.serve_own_key()
        clock.now += 6
        assert await certificates.find_key("first")


async def test_a_server_that_does_not_answer_holds_nobody_up_for_long(
    stand_in: Google, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.identity.certificates.WAIT_S", 0.05)
    stand_in.gate.clear()
    try:
        async with opened(stand_in, clock) as certificates:
            with pytest.raises(IdentityUnavailable):
                await asyncio.wait_for(certificates.find_key("first"), 5)
            stand_in.gate.set()
            await reading_done(certificates)
            assert await certificates.find_key("first")
    finally:
        stand_in.gate.set()


async def test_a_weak_key_is_no_key(clock: Clock) -> None:
    with google(bits=1024) as weak:
        async with opened(weak, clock) as certificates:
            with pytest.raises(IdentityUnavailable):
                await certificates.find_key("first")
