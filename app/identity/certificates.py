"""Google's public keys for ID tokens: a JSON Web Key Set (RFC 7517), cached in memory.

Google rotates the keys every few days; ``Cache-Control`` says how long they may be cached. Expired keys stay
in use while they are refreshed, for a day at most. Made-up key ids cause at most one refresh per minute.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import httpx2
import pybase64
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from app.domain.errors import IdentityUnavailable
from app.resilience.deadlines import time_limit
from app.resilience.diagnosis import Diagnosis, describe_cause
from app.resilience.resources import Resource
from app.resilience.tasks import BackgroundTasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey

log = logging.getLogger(__name__)

REFRESH_INTERVAL_S: Final = 60.0
RETRY_INTERVAL_S: Final = 5.0
"""Seconds between attempts while there are no keys, so that nobody can be authenticated."""

WAIT_S: Final = 2.0
"""Seconds for which a request waits for keys; a slower refresh continues in the background."""

FETCH_TIMEOUT_S: Final = 5.0
BYTES_MAX: Final = 65_536
MAX_AGE_S_MIN, MAX_AGE_S, MAX_AGE_S_MAX = 300.0, 3600.0, 86_400.0
OVERDUE_S_MAX: Final = 86_400.0
RSA_BITS_MIN: Final = 2048
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])", re.ASCII)


class Certificates(Resource):
    """Keys by id. Use as ``async with``; the first token causes the first refresh.

    Args:
        url: URL of the key set.
        clock: Returns monotonic seconds.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[str, PublicKey] = {}
        self._refresh_at = self._unusable_at = self._next_refresh = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None
        self._http: httpx2.AsyncClient | None = None
        self._stack = AsyncExitStack()
        self._tasks = BackgroundTasks()

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        async with self._stack, self._tasks:
            yield

    async def find_key(self, key_id: str) -> PublicKey | None:
        """Return the key with this id, or None if Google has none.

        Raises:
            IdentityUnavailable: There are no keys, and none can be fetched.
        """
        now = self._clock()
        if now >= self._unusable_at:
            self._keys = {}
        key = self._keys.get(key_id)
        if key is None or now >= self._refresh_at:
            reading = self._refresh(now)
            if key is None and reading is not None:
                await asyncio.wait({reading}, timeout=WAIT_S)
                key = self._keys.get(key_id)
        if not self._keys:
            raise IdentityUnavailable(retry_after_s=max(1, round(self._next_refresh - self._clock())))
        return key

    def _refresh(self, now: float) -> asyncio.Task[None] | None:
        """Return the refresh in progress; start one if none is running and it is time."""
        if self._refreshing is not None and not self._refreshing.done():
            return self._refreshing
        if now < self._next_refresh:
            return None
        self._next_refresh = now + (REFRESH_INTERVAL_S if self._keys else RETRY_INTERVAL_S)
        self._refreshing = self._tasks.begin(self._read(), "identity-certificates")
        return self._refreshing

    async def _read(self) -> None:
        """Fetch the key set. Failures are logged, and the keys stay unchanged."""
        try:
            async with time_limit(FETCH_TIMEOUT_S):
                text, kept_s = await self._fetch()
            keys = parse_key_set(text)
        except (httpx2.HTTPError, OSError, TimeoutError, ValueError) as error:
            remedy = "Check egress and name resolution: the gateway fetches this URL itself"
            diagnosis = Diagnosis("no_keys", self._url, describe_cause(error), remedy)
            log.warning("Google's keys cannot be fetched", extra={"diagnosis": diagnosis})
            return
        now = self._clock()
        self._keys = keys
        self._next_refresh = now + REFRESH_INTERVAL_S
        self._refresh_at = now + kept_s
        self._unusable_at = self._refresh_at + OVERDUE_S_MAX

    async def _fetch(self) -> tuple[bytes, float]:
        """Fetch the key set and its lifetime in seconds. Raises ValueError if it is invalid."""
        if self._http is None:
            # Created in a thread, because it loads all CA certificates.
            self._http = await asyncio.to_thread(httpx2.AsyncClient, timeout=FETCH_TIMEOUT_S)
            self._stack.push_async_callback(self._http.aclose)
        text = b""
        async with self._http.stream("GET", self._url) as response:
            if response.status_code != httpx2.codes.OK:
                raise ValueError(f"the status is {response.status_code}")
            async for chunk in response.aiter_bytes():
                text += chunk
                if len(text) > BYTES_MAX:
                    raise ValueError("the key set is too long")
        max_age = _MAX_AGE.search(response.headers.get("cache-control", ""))
        return text, min(max(float(max_age[1]), MAX_AGE_S_MIN), MAX_AGE_S_MAX) if max_age else MAX_AGE_S


def parse_key_set(text: bytes) -> dict[str, PublicKey]:
    """Parse the keys for RS256 and ES256 of a key set. Raises ValueError if there are none."""
    document = json.loads(text)
    entries = None
    if isinstance(document, dict):
        entries = document.get("keys")
    keys = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("kid"), str) and entry.get("use", "sig") == "sig":
            key = _build_key(entry)
            if key is not None:
                keys[entry["kid"]] = key
    if not keys:
        raise ValueError("it has no signing key")
    return keys


def _build_key(entry: dict[str, Any]) -> PublicKey | None:
    """Build a key; None if it is of another type or too weak."""
    match entry.get("kty"), entry.get("alg"):
        case "RSA", "RS256" | None:
            exponent, modulus = (_decode_number(entry.get(name)) for name in ("e", "n"))
            key = RSAPublicNumbers(exponent, modulus).public_key()
            if key.key_size >= RSA_BITS_MIN:
                return key
            return None
        case "EC", "ES256" | None if entry.get("crv") == "P-256":
            x, y = (_decode_number(entry.get(name)) for name in ("x", "y"))
            return EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
    return None


def _decode_number(value: object) -> int:
    """Decode a number in base64url (RFC 7518 section 6.3.1)."""
    if not isinstance(value, str):
        raise ValueError("a number of a key is missing")  # noqa: TRY004 - the document is wrong, not the caller
    return int.from_bytes(pybase64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
