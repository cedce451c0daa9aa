"""Validation of Google-signed ID tokens (docs/reliability.md R61).

Tokens are JWTs (RFC 7519) in the compact serialization of RFC 7515, as profiled by OpenID Connect Core
section 2. There are two signers: Google's accounts, and Identity-Aware Proxy. Each has one algorithm. The
token's own header is ignored, so a token cannot select no signature, or one that uses a public key as a
shared secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from pydantic import Field

from app.domain.config import Config
from app.domain.tenancy import Identity

if TYPE_CHECKING:
    from app.identity.certificates import Certificates, PublicKey

TOKEN_CHARACTERS_MAX: Final = 8192
_KEYS: Final = {"RS256": RSAPublicKey, "ES256": EllipticCurvePublicKey}
_REMOVED_SIGNATURE: Final = "SIGNATURE_REMOVED_BY_GOOGLE"
"""What Cloud Run puts in place of a signature that it has verified."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A signer of tokens.

    Attributes:
        vouches: Whether all its e-mail addresses are verified, so that tokens lack ``email_verified``.
        prefix: Prefix of the subject, compared with Google accounts.
    """

    issuers: frozenset[str]
    algorithm: Literal["RS256", "ES256"]
    vouches: bool = False
    prefix: str = ""


ACCOUNTS: Final = Signer(frozenset({"https://accounts.google.com", "accounts.google.com"}), "RS256")
IAP: Final = Signer(
    frozenset({"https://cloud.google.com/iap"}), "ES256", vouches=True, prefix="accounts.google.com:"
)


class IdentityConfig(Config):
    """ID tokens of Google accounts.

    ``certs_url`` has the keys that they are signed with, as a JSON Web Key Set.
    """

    audiences: frozenset[str] = Field(
        frozenset(),
        description="Accepted `aud` values of Google's ID tokens, such as https://flashgate.example; empty "
        "to accept no ID token.",
    )
    signature: Literal["required", "platform"] = Field(
        "required",
        description="Who verifies the signature of an ID token: required means this gateway; platform "
        "accepts tokens whose signature Cloud Run has verified and removed; only safe where IAM admits "
        "nobody without a token.",
    )
    certs_url: str = "https://www.googleapis.com/oauth2/v3/certs"


class IapConfig(Config):
    """Identity-Aware Proxy.

    ``certs_url`` has the keys that its assertions are signed with, as a JSON Web Key Set.
    """

    audiences: frozenset[str] = Field(
        frozenset(),
        description="Accepted `aud` values of assertions by Identity-Aware Proxy, such as "
        "/projects/1/global/backendServices/2; empty to accept none.",
    )
    certs_url: str = "https://www.gstatic.com/iap/verify/public_key-jwk"


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """Which tokens are valid.

    Attributes:
        signer: The accepted signer.
        audiences: The accepted ``aud`` values; never empty.
        skew_s: Largest difference between Google's clock and ours, in seconds.
        by_platform: Whether to accept a signature that Cloud Run has verified and removed.
    """

    audiences: frozenset[str]
    skew_s: int = 30
    by_platform: bool = False
    signer: Signer = ACCOUNTS


class GoogleIdTokens:
    """``surfaces.context.IdentityTokens``.

    Args:
        policy: Which tokens are valid.
        certificates: Google's public keys.
    """

    def __init__(self, policy: TokenPolicy, certificates: Certificates) -> None:
        self._policy = policy
        self._certificates = certificates

    async def verify(self, token: str, *, checked: bool) -> tuple[Identity, ...]:
        """Return the identities of a valid token, the subject first; none for an invalid token.

        The claims are checked before the signature, so that only an otherwise valid token causes a fetch of
        keys.

        Raises:
            IdentityUnavailable: Google's keys cannot be fetched.
        """
        if len(token) > TOKEN_CHARACTERS_MAX or not token.isascii():
            return ()
        try:
            decoded = self._decode(token)
            if token.endswith(f".{_REMOVED_SIGNATURE}"):
                if not (checked and self._policy.by_platform):
                    return ()
            else:
                self._decode(token, await self._find_key(decoded["header"]))
        except jwt.PyJWTError:
            return ()
        return tuple(_list_identities(decoded["payload"], self._policy.signer))

    def _decode(self, token: str, key: PublicKey | None = None) -> dict[str, Any]:
        """Return the header and claims of a token, after checking issuer, audience and times.

        The signature is verified only if a key is given.

        Raises:
            jwt.PyJWTError: The token is invalid.
        """
        policy = self._policy
        decoded = jwt.decode_complete(
            token,
            key or "",
            algorithms=[policy.signer.algorithm],
            audience=policy.audiences,
            issuer=policy.signer.issuers,
            leeway=policy.skew_s,
            options={
                "require": ["iss", "aud", "exp", "iat"],
                "verify_signature": key is not None,
                # Without a signature, PyJWT only verifies the claims that are listed here.
                "verify_iss": True,
                "verify_aud": True,
                "verify_exp": True,
                "verify_iat": True,
                "verify_nbf": True,
            },
        )
        _check_types(decoded["payload"])
        return decoded

    async def _find_key(self, header: dict[str, Any]) -> PublicKey:
        """Return the key that the header names, if its type fits the signer's algorithm."""
        algorithm, key_id = self._policy.signer.algorithm, header.get("kid")
        if header.get("alg") != algorithm or key_id is None:
            raise jwt.InvalidAlgorithmError
        key = await self._certificates.find_key(key_id)
        if key is None or not isinstance(key, _KEYS[algorithm]):
            raise jwt.InvalidKeyError
        return key


def _check_types(claims: dict[str, Any]) -> None:
    """Refuse what PyJWT accepts but Google never sends: several audiences, times as text or booleans."""
    times = (claims.get(name, 0) for name in ("exp", "iat", "nbf"))
    if not isinstance(claims["aud"], str):
        raise jwt.InvalidAudienceError
    if any(not isinstance(time, int | float) or isinstance(time, bool) for time in times):
        raise jwt.InvalidTokenError


def _list_identities(claims: dict[str, Any], signer: Signer) -> list[Identity]:
    """List the subject, and the e-mail address if the signer has verified it."""
    identities = []
    subject, email = claims.get("sub"), claims.get("email")
    if isinstance(subject, str) and subject:
        identities.append(Identity("subject", subject.removeprefix(signer.prefix)))
    if isinstance(email, str) and email and (signer.vouches or claims.get("email_verified") is True):
        identities.append(Identity("email", email.lower()))
    return identities
