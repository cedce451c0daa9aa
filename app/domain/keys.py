"""Gateway keys: ``fg_<env>_<keyid>_<secret>_<crc32>`` (docs/reliability.md R58).

The secret is 256 random bits in base62. With the checksum, a secret scanner can tell a key from other text
without a look-up; the gateway stores only an HMAC of the secret. The randomness comes from the caller.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from typing import NamedTuple

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_BYTES = 32
_SECRET_DIGITS = 43  # 62**43 > 2**256
_ID_BYTES = 8
_ID_DIGITS = 11  # 62**11 > 2**64
_CHECKSUM_DIGITS = 6  # 62**6 > 2**32
_PREFIX = "fg_"
_KEY_CHARACTERS_MAX = 128

ENTROPY_BYTES = _SECRET_BYTES + _ID_BYTES

ENVIRONMENT = re.compile(r"[a-z0-9]{1,16}", re.ASCII)
KEY_ID = re.compile(r"[0-9A-Za-z]{1,32}", re.ASCII)
_KEY = re.compile(
    rf"fg_(?P<env>{ENVIRONMENT.pattern})_(?P<key_id>{KEY_ID.pattern})"
    rf"_(?P<secret>[0-9A-Za-z]{{{_SECRET_DIGITS}}})_(?P<checksum>[0-9A-Za-z]{{{_CHECKSUM_DIGITS}}})",
    re.ASCII,
)


class MintedKey(NamedTuple):
    """A new key: its id, the whole text that is shown once, and the secret to be hashed."""

    key_id: str
    text: str
    secret: str

    def __repr__(self) -> str:
        """The id alone, so that tracebacks and logs leak no key."""
        return f"MintedKey(key_id={self.key_id!r})"


class ParsedKey(NamedTuple):
    """The parts of a well-formed key; its secret is still to be compared."""

    env: str
    key_id: str
    secret: str

    def __repr__(self) -> str:
        """Everything but the secret."""
        return f"ParsedKey(env={self.env!r}, key_id={self.key_id!r})"


def _encode_base62(number: int, digits: int) -> str:
    characters = []
    for _ in range(digits):
        number, digit = divmod(number, 62)
        characters.append(_ALPHABET[digit])
    return "".join(reversed(characters))


def _compute_checksum(body: str) -> str:
    return _encode_base62(zlib.crc32(body.encode("ascii")), _CHECKSUM_DIGITS)


def mint(env: str, entropy: bytes, key_id: str | None = None) -> MintedKey:
    """Make a key out of ``ENTROPY_BYTES`` bytes from a cryptographic source.

    Args:
        env: Where the key belongs, such as ``prod``: 1 to 16 of ``a-z0-9``.
        entropy: Exactly 40 bytes; the first 32 become the secret, the rest the id.
        key_id: The operator's own id (1 to 32 of ``0-9A-Za-z``) in place of a random one.

    Raises:
        ValueError: Where a part has the wrong length or alphabet.
    """
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a key takes {ENTROPY_BYTES} bytes of entropy, not {len(entropy)}")
    if not ENVIRONMENT.fullmatch(env):
        raise ValueError("the environment of a key is 1 to 16 lower-case letters or digits")
    chosen = _encode_base62(int.from_bytes(entropy[_SECRET_BYTES:]), _ID_DIGITS) if key_id is None else key_id
    if not KEY_ID.fullmatch(chosen):
        raise ValueError("a key id is 1 to 32 letters or digits")
    secret = _encode_base62(int.from_bytes(entropy[:_SECRET_BYTES]), _SECRET_DIGITS)
    body = f"{_PREFIX}{env}_{chosen}_{secret}"
    return MintedKey(chosen, f"{body}_{_compute_checksum(body)}", secret)


def parse(presented: str) -> ParsedKey | None:
    """The parts of a well-formed key with the right checksum, else None; no look-up, no exception."""
    if len(presented) > _KEY_CHARACTERS_MAX:
        return None
    match = _KEY.fullmatch(presented)
    if match is None or _compute_checksum(presented[: match.end("secret")]) != match["checksum"]:
        return None
    return ParsedKey(match["env"], match["key_id"], match["secret"])


def resembles_key(text: str) -> bool:
    """Whether a text may hold a gateway key and so must not be echoed or logged."""
    return _PREFIX in text


def hash_secret(pepper: bytes, secret: str) -> str:
    """HMAC-SHA-256 of a secret under the deployment's pepper, 64 hexadecimal digits: all that is stored."""
    return hmac.new(pepper, secret.encode(), hashlib.sha256).hexdigest()
