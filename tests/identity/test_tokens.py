"""Which ID tokens hold, judged with keys that a real server gives out."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from app.domain.tenancy import Identity
from app.identity.certificates import Certificates
from app.identity.tokens import GoogleIdTokens, TokenPolicy
from tests.identity.google import ACCOUNT, AUDIENCE, REMOVED, SUBJECT, Google, base64url, claims, google, part
from tests.identity.vectors import REFUSED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

BOTH = (Identity("subject", SUBJECT), Identity("email", ACCOUNT))


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Google]:
    with google() as running:
        yield running


@asynccontextmanager
async def checker(stand_in: Google, *, by_platform: bool = False) -> AsyncIterator[GoogleIdTokens]:
    async with Certificates(stand_in.url) as certificates:
        policy = TokenPolicy(frozenset({AUDIENCE}), by_platform=by_platform)
        yield GoogleIdTokens(policy, certificates)


async def test_a_good_token_names_its_account_both_ways(stand_in: Google) -> None:
    async with checker(stand_in) as tokens:
        assert await tokens.verify(stand_in.token(), checked=False) == BOTH
        assert await tokens.verify(stand_in.token(iss="accounts.google.com"), checked=False) == BOTH
        shouted = stand_in.token(email=ACCOUNT.upper())
        assert await tokens.verify(shouted, checked=False) == BOTH


@pytest.mark.parametrize("wrong", REFUSED)
async def test_a_token_that_is_wrong_in_one_way_is_nobodys(stand_in: Google, wrong: str) -> None:
    async with checker(stand_in) as tokens:
        assert await tokens.verify(REFUSED[wrong](stand_in), checked=True) == ()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "..",
        "é.é.é",
        f"{base64url(b'[' * 5000)}.{base64url(b'[' * 5000)}.x",
        f"{part({'alg': 'RS256'})}.{base64url(b'{' + b'9' * 6000 + b'}')}.x",
        f"{part({'alg': 'RS256'})}.{part(claims(exp=float('inf')))}.x",
        f"{part({'alg': 'RS256'})}.{part(claims(exp=10**4000))}.x",
        f"{part({'alg': 'RS256'})}.{part(claims(iat=-(10**4000)))}.é",
        f"{base64url(bytes([255, 254]))}.{base64url(bytes([255]))}.x",
        "\ud800.\ud800.\ud800",
        f"{part({'alg': 'RS256', 'b64': False, 'crit': ['b64']})}..x",
    ],
)
async def test_whatever_is_shown_is_judged_and_nothing_is_raised(stand_in: Google, token: str) -> None:
    async with checker(stand_in) as tokens:
        assert await tokens.verify(token, checked=True) == ()


@pytest.mark.parametrize("verified", [None, False, "true", 1])
async def test_an_address_that_google_has_not_verified_is_no_name(stand_in: Google, verified: object) -> None:
    async with checker(stand_in) as tokens:
        token = stand_in.token(email_verified=verified)
        assert await tokens.verify(token, checked=False) == (Identity("subject", SUBJECT),)


async def test_clocks_may_be_apart_by_half_a_minute_and_no_more(stand_in: Google) -> None:
    now = int(time.time())
    async with checker(stand_in) as tokens:
        for changed, holds in (
            ({"iat": now + 20}, True),
            ({"nbf": now + 20}, True),
            ({"exp": now - 20}, True),
            ({"iat": now + 40}, False),
            ({"nbf": now + 40}, False),
            ({"exp": now - 40}, False),
        ):
            token = stand_in.token(**changed)
            assert bool(await tokens.verify(token, checked=False)) == holds, changed


@pytest.mark.parametrize("wrong", ["no algorithm", "another audience", "an end that has passed", "no key id"])
async def test_only_a_token_that_would_hold_causes_a_key_to_be_fetched(wrong: str) -> None:
    with google() as unread:
        async with checker(unread) as tokens:
            assert await tokens.verify(REFUSED[wrong](unread), checked=True) == ()
        assert unread.readings == 0


async def test_a_signature_that_the_platform_took_out_counts_only_where_it_is_said_to(
    stand_in: Google,
) -> None:
    taken_out = f"{stand_in.token().rpartition('.')[0]}.{REMOVED}"
    async with checker(stand_in) as tokens:
        assert await tokens.verify(taken_out, checked=True) == ()
    async with checker(stand_in, by_platform=True) as tokens:
        assert await tokens.verify(taken_out, checked=True) == BOTH
        # In a header that the platform has not read it is anybody's word.
        assert await tokens.verify(taken_out, checked=False) == ()
        late = f"{stand_in.token(exp=1).rpartition('.')[0]}.{REMOVED}"
        assert await tokens.verify(late, checked=True) == ()
        assert await tokens.verify(stand_in.token(), checked=False) == BOTH
        for wrong in ("no signature", "no algorithm", "a key of somebody else"):
            assert await tokens.verify(REFUSED[wrong](stand_in), checked=True) == (), wrong
