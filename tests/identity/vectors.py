"""Tokens that must not hold, each wrong in one way."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.identity.google import AUDIENCE, REMOVED, Google, base64url, claims, part

if TYPE_CHECKING:
    from collections.abc import Callable


def _unsigned(stand_in: Google, alg: str) -> str:
    return f"{part({'alg': alg, 'kid': stand_in.key_id})}.{part(claims())}."


def _by_the_public_key(stand_in: Google) -> str:
    """HS256 with the public key as the secret, which a checker that obeys the header would take."""
    public = stand_in.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = f"{part({'alg': 'HS256', 'kid': stand_in.key_id})}.{part(claims())}"
    return f"{text}.{base64url(hmac.digest(public, text.encode(), hashlib.sha256))}"


def _by_another(stand_in: Google) -> str:
    """Signed with a key that is not Google's, under the id of one that is."""
    return Google(rsa.generate_private_key(public_exponent=65537, key_size=2048), stand_in.key_id).token()


def _with_other_claims(stand_in: Google) -> str:
    header, _, signature = stand_in.token().split(".")
    return f"{header}.{part(claims(email='somebody@else.example'))}.{signature}"


def _now() -> int:
    return int(time.time())


REFUSED: Final[dict[str, Callable[[Google], str]]] = {
    "no algorithm": lambda one: _unsigned(one, "none"),
    "no algorithm, in another case": lambda one: _unsigned(one, "NONE"),
    "no signature": lambda one: _unsigned(one, "RS256"),
    "the public key as a secret": _by_the_public_key,
    "a key of somebody else": _by_another,
    "claims that were not signed": _with_other_claims,
    "another algorithm's name": lambda one: one.signed({"alg": "RS512", "kid": one.key_id}, claims()),
    "no algorithm's name": lambda one: one.signed({"kid": one.key_id}, claims()),
    "no key id": lambda one: one.signed({"alg": "RS256"}, claims()),
    "a key id that is no text": lambda one: one.signed({"alg": "RS256", "kid": ["first"]}, claims()),
    "an unknown key id": lambda one: one.signed({"alg": "RS256", "kid": "made up"}, claims()),
    "an extension that must be understood": lambda one: one.signed(
        {"alg": "RS256", "kid": one.key_id, "crit": ["b64"], "b64": False}, claims()
    ),
    "a header that is a list": lambda _: f"{base64url(b'[1]')}.{part(claims())}.{base64url(b'x')}",
    "claims that are no JSON": lambda _: f"{part({'alg': 'RS256'})}.{base64url(b'{')}.{base64url(b'x')}",
    "another audience": lambda one: one.token(aud="https://another.example"),
    "no audience": lambda one: one.token(aud=None),
    "a list of audiences": lambda one: one.token(aud=[AUDIENCE]),
    "the beginning of the audience": lambda one: one.token(aud=AUDIENCE[:-1]),
    "another issuer": lambda one: one.token(iss="https://accounts.google.com.example"),
    "no issuer": lambda one: one.token(iss=None),
    "an end that has passed": lambda one: one.token(exp=_now() - 40),
    "no end": lambda one: one.token(exp=None),
    "an end that is text": lambda one: one.token(exp=str(_now() + 3600)),
    "an end that is no number": lambda one: one.token(exp=float("nan")),
    "an end that is true": lambda one: one.token(exp=True),
    "a beginning that is text": lambda one: one.token(iat=str(_now())),
    "a beginning that is true": lambda one: one.token(iat=True),
    "a time before which it does not hold, as text": lambda one: one.token(nbf=str(_now())),
    "an audience that is an object": lambda one: one.token(aud={AUDIENCE: AUDIENCE}),
    "a list of issuers": lambda one: one.token(iss=["https://accounts.google.com"]),
    "a beginning in the future": lambda one: one.token(iat=_now() + 300),
    "no beginning": lambda one: one.token(iat=None),
    "a time before which it does not hold": lambda one: one.token(nbf=_now() + 300),
    "a signature that was taken out": lambda one: f"{one.token().rpartition('.')[0]}.{REMOVED}",
    "two parts": lambda one: one.token().rpartition(".")[0],
    "four parts": lambda one: one.token() + ".x",
    "a signature in another alphabet": lambda one: one.token()[:-4] + "++/=",
    "more text than a token has": lambda one: one.token(nonce="x" * 9000),
}
