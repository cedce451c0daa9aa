"""Google-signed ID tokens: whether one holds, and whom it speaks for (docs/reliability.md R61).

The form is RFC 7519 in the compact serialization of RFC 7515, as OpenID Connect Core section 2 narrows it.
There are two signers: Google's accounts, and Identity-Aware Proxy. Each has one algorithm, whatever a token's
own header asks for, so a token can choose neither no signature nor one made with a public key as secret.
"""

from __future__ import annotations

import binascii
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeGuard

import pybase64
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from app.domain.tenancy import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.identity.certificates import Certificates, PublicKey

TOKEN_CHARACTERS_MAX: Final = 8192
_ES256_BYTES: Final = 64
_SIGNATURE_TAKEN_OUT: Final = "SIGNATURE_REMOVED_BY_GOOGLE"
"""What Cloud Run leaves in the place of a signature that it has checked."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs, and how.

    Attributes:
        vouches: Whether it only ever names addresses that it has verified, and so does not say of each.
        prefix: What it puts before the subject that Google's accounts give the same person.
    """

    issuers: frozenset[str]
    algorithm: Literal["RS256", "ES256"]
    vouches: bool = False
    prefix: str = ""


ACCOUNTS: Final = Signer(frozenset({"https://accounts.google.com", "accounts.google.com"}), "RS256")
IAP: Final = Signer(
    frozenset({"https://cloud.google.com/iap"}), "ES256", vouches=True, prefix="accounts.google.com:"
)


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """Which tokens hold.

    Attributes:
        signer: Whose.
        audiences: For whom a token must have been made; never empty.
        skew_s: How far Google's clock and ours may be apart.
        by_platform: Whether a signature that Cloud Run has checked and taken out counts as one.
    """

    audiences: frozenset[str]
    skew_s: int = 30
    by_platform: bool = False
    signer: Signer = ACCOUNTS


class GoogleIdTokens:
    """``surfaces.context.IdentityTokens``.

    Args:
        policy: Which tokens hold.
        certificates: The keys that Google signs with now.
        clock: Unix time in seconds.
    """

    def __init__(
        self, policy: TokenPolicy, certificates: Certificates, clock: Callable[[], float] = time.time
    ) -> None:
        self._policy = policy
        self._certificates = certificates
        self._clock = clock

    async def identities(self, token: str, *, checked: bool) -> tuple[Identity, ...]:
        """Whom the token speaks for, the subject first; nobody where it does not hold.

        The claims are judged before the signature, so that only a token which would hold asks for a key.

        Raises:
            IdentityUnavailable: Google's keys are not to be had at this moment.
        """
        if len(token) > TOKEN_CHARACTERS_MAX or token.count(".") != 2:
            return ()
        signed, _, signature = token.rpartition(".")
        header, claims = (_members(part) for part in signed.split("."))
        if not self._is_ours(claims):
            return ()
        if signature == _SIGNATURE_TAKEN_OUT:
            holds = checked and self._policy.by_platform
        else:
            holds = await self._is_signed(header, signed, signature)
        return tuple(_named(claims, self._policy.signer)) if holds else ()

    def _is_ours(self, claims: dict[str, Any]) -> bool:
        """Whether Google made it, for us, and for this moment."""
        now, skew_s = self._clock(), self._policy.skew_s
        ends, began, not_before = (claims.get(name) for name in ("exp", "iat", "nbf"))
        return (
            _one_of(claims.get("iss"), self._policy.signer.issuers)
            and _one_of(claims.get("aud"), self._policy.audiences)
            and _is_time(ends)
            and now < ends + skew_s
            and _is_time(began)
            and began <= now + skew_s
            and (not_before is None or (_is_time(not_before) and not_before <= now + skew_s))
        )

    async def _is_signed(self, header: dict[str, Any], signed: str, signature: str) -> bool:
        """Whether one of Google's keys signed it; extensions that must be understood are not."""
        key_id = header.get("kid")
        if (
            header.get("alg") != self._policy.signer.algorithm
            or "crit" in header
            or not isinstance(key_id, str)
        ):
            return False
        made = _bytes(signature)
        key = await self._certificates.key(key_id) if made else None
        return key is not None and _verified(self._policy.signer.algorithm, key, made, signed.encode("ascii"))


def _verified(algorithm: str, key: PublicKey, made: bytes, signed: bytes) -> bool:
    """Whether the signature is this key's, in the one form that the algorithm has (RFC 7518 section 3)."""
    try:
        if algorithm == "RS256" and isinstance(key, RSAPublicKey):
            key.verify(made, signed, PKCS1v15(), SHA256())
            return True
        if algorithm == "ES256" and isinstance(key, EllipticCurvePublicKey) and len(made) == _ES256_BYTES:
            r, s = (int.from_bytes(half) for half in (made[:32], made[32:]))
            key.verify(encode_dss_signature(r, s), signed, ECDSA(SHA256()))
            return True
    except InvalidSignature:
        pass
    return False


def _named(claims: dict[str, Any], signer: Signer) -> list[Identity]:
    """The subject, and the e-mail address where the signer has verified it."""
    found = []
    subject, email = claims.get("sub"), claims.get("email")
    if isinstance(subject, str) and subject:
        found.append(Identity("subject", subject.removeprefix(signer.prefix)))
    if isinstance(email, str) and email and (signer.vouches or claims.get("email_verified") is True):
        found.append(Identity("email", email.lower()))
    return found


def _bytes(text: str) -> bytes:
    """Base64url without padding (RFC 7515 section 2); nothing where it is not that."""
    try:
        return pybase64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _members(part: str) -> dict[str, Any]:
    """One of the two JSON objects; empty where it is none."""
    try:
        found = json.loads(_bytes(part))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _one_of(value: object, offered: frozenset[str]) -> bool:
    return isinstance(value, str) and value in offered


def _is_time(value: object) -> TypeGuard[float]:
    """Whether it is a number (RFC 7519 section 2, NumericDate)."""
    return isinstance(value, int | float) and not isinstance(value, bool)
