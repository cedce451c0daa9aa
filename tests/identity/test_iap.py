"""Assertions of Identity-Aware Proxy: its own algorithm, issuer, audience and header."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from app.domain.tenancy import Identity
from app.identity.certificates import Certificates
from app.identity.tokens import IAP, GoogleIdTokens, TokenPolicy
from tests.identity.google import (
    ACCOUNT,
    AUDIENCE,
    IAP_AUDIENCE,
    REMOVED,
    SUBJECT,
    Iap,
    base64url,
    claims,
    iap,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLICY = TokenPolicy(frozenset({IAP_AUDIENCE}), signer=IAP)
BOTH = (Identity("subject", SUBJECT), Identity("email", ACCOUNT))


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Iap]:
    with iap() as running:
        yield running


async def judged(stand_in: Iap, token: str) -> tuple[Identity, ...]:
    async with Certificates(stand_in.url) as certificates:
        return await GoogleIdTokens(POLICY, certificates).verify(token, checked=True)


async def test_an_assertion_names_the_account_as_its_own_tokens_do(stand_in: Iap) -> None:
    assert await judged(stand_in, stand_in.assertion()) == BOTH


def _said(**changed: object) -> dict[str, object]:
    return claims(iss="https://cloud.google.com/iap", aud=IAP_AUDIENCE, **changed)


def _lengthened(one: Iap) -> str:
    """The second number with a zero before it, which is the same number and another text."""
    text, _, signature = one.assertion().rpartition(".")
    made = base64.urlsafe_b64decode(signature + "==")
    return f"{text}.{base64url(made[:32] + bytes(1) + made[32:])}"


REFUSED: dict[str, Callable[[Iap], str]] = {
    "the issuer of accounts": lambda one: one.assertion(iss="https://accounts.google.com"),
    "another audience": lambda one: one.assertion(aud=AUDIENCE),
    "an end that has passed": lambda one: one.assertion(exp=1),
    "the other algorithm": lambda one: one.signed({"alg": "RS256", "kid": "of RSA"}, _said()),
    "the other algorithm's key": lambda one: one.signed({"alg": "ES256", "kid": "of RSA"}, _said()),
    "a key of the other algorithm": lambda one: one.signed({"alg": "RS256", "kid": one.key_id}, _said()),
    "a signature of another length": _lengthened,
    "no algorithm's name": lambda one: one.asserted({"kid": one.key_id}, _said()),
    "no algorithm": lambda one: one.asserted({"alg": "none", "kid": one.key_id}, _said()),
    "a signature of zeros": lambda one: f"{one.assertion().rpartition('.')[0]}.{'A' * 86}",
    "a signature that was taken out": lambda one: f"{one.assertion().rpartition('.')[0]}.{REMOVED}",
    "a token of an account": lambda one: one.token(),
}


@pytest.mark.parametrize("wrong", REFUSED)
async def test_an_assertion_that_is_wrong_in_one_way_is_nobodys(stand_in: Iap, wrong: str) -> None:
    assert await judged(stand_in, REFUSED[wrong](stand_in)) == ()
