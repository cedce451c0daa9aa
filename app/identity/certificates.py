"""The public keys that Google signs ID tokens with, as a JSON Web Key Set (RFC 7517), kept in memory.

Google changes them every few days and says in ``Cache-Control`` how long they may be kept. A key that is due
to be read anew goes on being used while that happens, for a day at most; whoever makes up key ids causes one
reading a minute and no more.
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
"""How soon the keys are asked for again where none were ever read, so that nobody can be let in."""

WAIT_S: Final = 2.0
"""How long a request waits for keys; a reading that takes longer goes on without it."""

FETCH_TIMEOUT_S: Final = 5.0
BYTES_MAX: Final = 65_536
MAX_AGE_S_MIN, MAX_AGE_S, MAX_AGE_S_MAX = 300.0, 3600.0, 86_400.0
OVERDUE_S_MAX: Final = 86_400.0
RSA_BITS_MIN: Final = 2048
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])", re.ASCII)


class Certificates(Resource):
    """Keys by id. Use as ``async with``; nothing is read before the first token comes.

    Args:
        url: Of the key set.
        clock: Any clock in seconds that never goes back.
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
        """The key of this id, or None where Google has none of it now.

        Raises:
            IdentityUnavailable: There are no keys, and none can be read.
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
        """The one reading that is under way, begun now where none is and it is time for another."""
        if self._refreshing is not None and not self._refreshing.done():
            return self._refreshing
        if now < self._next_refresh:
            return None
        self._next_refresh = now + (REFRESH_INTERVAL_S if self._keys else RETRY_INTERVAL_S)
        self._refreshing = self._tasks.begin(self._read(), "identity-certificates")
        return self._refreshing

    async def _read(self) -> None:
        """Read the key set. Whatever goes wrong is logged, and the keys stay as they are."""
        try:
            async with time_limit(FETCH_TIMEOUT_S):
                text, kept_s = await self._fetch()
            keys = parse_key_set(text)
        except (httpx2.HTTPError, OSError, TimeoutError, ValueError) as error:
            remedy = "Look at egress and name resolution: the gateway reads this address itself"
            diagnosis = Diagnosis("no_keys", self._url, describe_cause(error), remedy)
            log.warning("Google's keys cannot be read", extra={"diagnosis": diagnosis})
            return
        now = self._clock()
        self._keys = keys
        self._next_refresh = now + REFRESH_INTERVAL_S
        self._refresh_at = now + kept_s
        self._unusable_at = self._refresh_at + OVERDUE_S_MAX

    async def _fetch(self) -> tuple[bytes, float]:
        """The key set's text and how long it may be kept. Raises ValueError where it is no key set."""
        if self._http is None:
            # Made in a thread, because it reads the certificates of every authority.
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
    """The keys of a key set that sign with RS256 or ES256. Raises ValueError where there are none."""
    document = json.loads(text)
    entries = document.get("keys") if isinstance(document, dict) else None
    keys = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("kid"), str) and entry.get("use", "sig") == "sig":
            key = _build_key(entry)
            if key is not None:
                keys[entry["kid"]] = key
    if not keys:
        raise ValueError("it holds no key that signs")
    return keys


def _build_key(entry: dict[str, Any]) -> PublicKey | None:
    """One key, or None where it is of another kind, or weak."""
    match entry.get("kty"), entry.get("alg"):
        case "RSA", "RS256" | None:
            exponent, modulus = (_decode_number(entry.get(name)) for name in ("e", "n"))
            key = RSAPublicNumbers(exponent, modulus).public_key()
            return key if key.key_size >= RSA_BITS_MIN else None
        case "EC", "ES256" | None if entry.get("crv") == "P-256":
            x, y = (_decode_number(entry.get(name)) for name in ("x", "y"))
            return EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
    return None


def _decode_number(value: object) -> int:
    """A number in base64url (RFC 7518 section 6.3.1)."""
    if not isinstance(value, str):
        raise ValueError("a number of a key is missing")  # noqa: TRY004 - the document is wrong, not the caller
    return int.from_bytes(pybase64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
