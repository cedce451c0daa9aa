"""Tenants and keys from a file, or a single tenant ``demo`` that generates its key on the first start.

All tenants are in memory, so authentication works while the store is down.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from app.domain.budget import Budget
from app.domain.errors import ConfigurationError
from app.domain.keys import ENTROPY_BYTES, hash_secret, mint, parse
from app.domain.tenancy import SCOPES, Caller, Key, Tenant
from app.tenants.file import TenantsReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.cards import Catalogue
    from app.domain.tenancy import Identity

PEPPER_FILE: Final = "pepper"
DEMO_KEY_FILE: Final = "demo-key"

# A hundred 1K pictures a day, a thousand a month, by the card's table.
_DEMO_BUDGETS: Final = (Budget("image_tokens", "day", 112_000), Budget("image_tokens", "month", 1_120_000))
_NO_HASH: Final = "0" * 64


class MemoryDirectory:
    """A directory of tenants in memory.

    Args:
        tenants: Tenants with unique ids and unique key ids.
        pepper: The deployment's pepper of the hashes of secrets.
        clock: Returns Unix time in seconds, for keys and secrets that expire.
        pools: Pools that tenants may name; None to accept any.
    """

    def __init__(
        self,
        tenants: tuple[Tenant, ...],
        pepper: bytes,
        clock: Callable[[], float] = time.time,
        *,
        pools: frozenset[str] | None = None,
    ) -> None:
        self.pools = pools
        self._pepper = pepper
        self._clock = clock
        self._replace_tenants(tenants)

    def _replace_tenants(self, tenants: tuple[Tenant, ...]) -> None:
        """Replace the tenants; of two keys with the same id, the later tenant's is used."""
        callers = [Caller(tenant, key) for tenant in tenants for key in tenant.keys]
        self._callers = {caller.key.id: caller for caller in callers}
        # Built from the keys in force: a later key with the same id also replaces the identity.
        self._callers_by_identity = {
            caller.key.identity.name: caller
            for caller in self._callers.values()
            if caller.key.identity is not None
        }
        self._tenants = tenants

    def authenticate(self, presented: str) -> Caller | None:
        """Return the caller of a full gateway key, or None.

        A malformed key is not hashed; an unknown key id takes as long as a wrong secret.
        """
        key = parse(presented)
        if key is None:
            return None
        return self._check_secret(self._callers.get(key.key_id), key.secret)

    def find_by_identity(self, identities: tuple[Identity, ...]) -> Caller | None:
        """Return the caller with the first identity that has a valid key, or None."""
        now_ms = int(self._clock() * 1000)
        callers = (self._callers_by_identity.get(identity.name) for identity in identities)
        return next((caller for caller in callers if caller and caller.key.is_live(now_ms)), None)

    def _check_secret(self, caller: Caller | None, secret: str) -> Caller | None:
        """Return the caller if the secret is one of its key's valid ones, in constant time."""
        digest = hash_secret(self._pepper, secret)
        hashes = []
        if caller is not None:
            hashes = list(caller.key.hashes(int(self._clock() * 1000)))
        # Always two comparisons, so that the time does not tell whether the key exists or has two secrets.
        hashes += [_NO_HASH] * (2 - len(hashes))
        matches = [hmac.compare_digest(digest, valid) for valid in hashes]
        if any(matches):
            return caller
        return None

    def list_tenants(self) -> tuple[Tenant, ...]:
        """List all tenants."""
        return self._tenants


class FileDirectory(MemoryDirectory):
    """A directory from the tenants' file. Raises ConfigurationError if the file is invalid."""

    def __init__(
        self, path: Path, pepper: bytes, catalogue: Catalogue, pools: frozenset[str] | None = None
    ) -> None:
        self._path = path
        self._reader = TenantsReader(str(path), catalogue, pools)
        super().__init__(self._read(paced=False), pepper, pools=pools)

    def _read(self, *, paced: bool) -> tuple[Tenant, ...]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason: str | None = "it is not UTF-8"
            if isinstance(error, OSError):
                reason = error.strerror
            raise ConfigurationError(str(self._path), (f"the file cannot be read: {reason}",)) from None
        return self._reader.read(text, paced=paced)

    async def reload(self) -> int:
        """Reload the file in a thread, and return how many entries had to be validated.

        Raises ConfigurationError; then the old contents stay in force.
        """
        await asyncio.to_thread(lambda: self._replace_tenants(self._read(paced=True)))
        return self._reader.validated_count


def _keep_once(path: Path, contents: str) -> str:
    """Return the contents of the file, after creating it with ``contents`` if it did not exist.

    The file appears completely or not at all, and never changes, even if several processes start at once: a
    complete temporary file is linked to the name, and linking to an existing name fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(contents + "\n")
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):  # another process was first; use its contents
                path.hardlink_to(draft)
        finally:
            draft.unlink()
    return path.read_text(encoding="ascii").strip()


def load_pepper(state_dir: Path) -> bytes:
    """Load the pepper from the state directory (mode 0600); it is generated on the first start."""
    path = state_dir / PEPPER_FILE
    text = _keep_once(path, secrets.token_hex(32))
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ConfigurationError(
            str(path), ("it must hold 64 hexadecimal digits; remove it to generate a new one",)
        )
    return bytes.fromhex(text)


def open_demo_directory(
    state_dir: Path, pepper: bytes | None = None, pools: frozenset[str] | None = None
) -> MemoryDirectory:
    """Open the directory with the tenant ``demo``, whose key is in ``demo-key`` (mode 0600).

    Args:
        state_dir: Created if it is missing. Several processes may start in it at once.
        pepper: The configured pepper, or None to store one beside the key.
        pools: Pools that tenants may name; None to accept any.
    """
    path = state_dir / DEMO_KEY_FILE
    text = _keep_once(path, mint("demo", secrets.token_bytes(ENTROPY_BYTES)).text)
    parsed = parse(text)
    if parsed is None:
        raise ConfigurationError(str(path), ("it must hold a gateway key; remove it to generate a new one",))
    if pepper is None:
        pepper = load_pepper(state_dir)
    key = Key(parsed.key_id, hash_secret(pepper, parsed.secret), SCOPES - {"admin"})
    demo = Tenant(id="demo", time_zone=ZoneInfo("UTC"), budgets=_DEMO_BUDGETS, keys=(key,))
    return MemoryDirectory((demo,), pepper, pools=pools)
