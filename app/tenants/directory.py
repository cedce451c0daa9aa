"""Tenants and keys: from a file, or one tenant ``demo`` that makes its own key on the first start.

Everything is in memory once read, so authentication works while the store is down (the outage of a shared
cache must not become an outage of authentication).
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
    """A Directory over tenants that are already known.

    Args:
        tenants: With ids unique among them, and key ids unique over all of them.
        pepper: The deployment's secret under which the keys' secrets are hashed.
        clock: Unix time in seconds, for keys and secrets that end.
    """

    def __init__(
        self, tenants: tuple[Tenant, ...], pepper: bytes, clock: Callable[[], float] = time.time
    ) -> None:
        self._pepper = pepper
        self._clock = clock
        self._replace_tenants(tenants)

    def _replace_tenants(self, tenants: tuple[Tenant, ...]) -> None:
        """Replace what is known; of two keys with one id the later tenant's counts."""
        callers = [Caller(tenant, key) for tenant in tenants for key in tenant.keys]
        self._callers = {caller.key.id: caller for caller in callers}
        # Only of keys that are in force: a later key of the same id takes an identity away as well.
        self._callers_by_identity = {
            caller.key.identity.name: caller
            for caller in self._callers.values()
            if caller.key.identity is not None
        }
        self._tenants = tenants

    def authenticate(self, presented: str) -> Caller | None:
        """The caller for a full gateway key, or None.

        A malformed key costs no hashing; an unknown key id costs the same as a wrong secret.
        """
        key = parse(presented)
        return None if key is None else self._check_secret(self._callers.get(key.key_id), key.secret)

    def find_by_identity(self, identities: tuple[Identity, ...]) -> Caller | None:
        """The caller whose key one of these identities opens, the first that is known, or None."""
        now_ms = int(self._clock() * 1000)
        callers = (self._callers_by_identity.get(identity.name) for identity in identities)
        return next((caller for caller in callers if caller and caller.key.is_live(now_ms)), None)

    def _check_secret(self, caller: Caller | None, secret: str) -> Caller | None:
        """The caller where one of its key's living secrets is this one; the work is the same in any case."""
        digest = hash_secret(self._pepper, secret)
        valid_hashes = () if caller is None else caller.key.hashes(int(self._clock() * 1000))
        current, retiring = (*valid_hashes, _NO_HASH, _NO_HASH)[:2]
        matches_current = hmac.compare_digest(digest, current)
        matches_retiring = hmac.compare_digest(digest, retiring)
        return caller if matches_current or matches_retiring else None

    def list_tenants(self) -> tuple[Tenant, ...]:
        """Every tenant."""
        return self._tenants


class FileDirectory(MemoryDirectory):
    """A Directory from the tenants' file. Raises ConfigurationError when made of a faulty one."""

    def __init__(self, path: Path, pepper: bytes, catalogue: Catalogue) -> None:
        self._path = path
        self._reader = TenantsReader(str(path), catalogue)
        super().__init__(self._read(paced=False), pepper)

    def _read(self, *, paced: bool) -> tuple[Tenant, ...]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError(str(self._path), (f"the file cannot be read: {reason}",)) from None
        return self._reader.read(text, paced=paced)

    async def reload(self) -> int:
        """Read the file again beside everything else; returns how many tenants had to be judged anew.

        On ConfigurationError, which is raised, the old contents stay in force.
        """
        await asyncio.to_thread(lambda: self._replace_tenants(self._read(paced=True)))
        return self._reader.validated_count


def _keep_once(path: Path, contents: str) -> str:
    """What the file holds, after writing ``contents`` to it if there was none.

    The file appears whole or not at all and never changes again, whoever else is starting: a finished
    temporary file is linked to the name, and a link to an existing name fails.
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
            with suppress(FileExistsError):  # another process was first; its contents count
                path.hardlink_to(draft)
        finally:
            draft.unlink()
    return path.read_text(encoding="ascii").strip()


def load_pepper(state_dir: Path) -> bytes:
    """The deployment's own pepper, made on the first start and kept in the state directory (mode 0600)."""
    path = state_dir / PEPPER_FILE
    text = _keep_once(path, secrets.token_hex(32))
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ConfigurationError(
            str(path), ("it holds no 64 hexadecimal digits; remove it to make a new one",)
        )
    return bytes.fromhex(text)


def open_demo_directory(state_dir: Path, pepper: bytes | None = None) -> MemoryDirectory:
    """The directory of a first start: the tenant ``demo``, its key kept in ``demo-key`` (mode 0600).

    Args:
        state_dir: Made where it is missing. Any number of processes may start in it at once.
        pepper: The configured one, or None to keep one beside the key.
    """
    path = state_dir / DEMO_KEY_FILE
    text = _keep_once(path, mint("demo", secrets.token_bytes(ENTROPY_BYTES)).text)
    parsed = parse(text)
    if parsed is None:
        raise ConfigurationError(str(path), ("it holds no gateway key; remove it to make a new one",))
    effective_pepper = load_pepper(state_dir) if pepper is None else pepper
    key = Key(parsed.key_id, hash_secret(effective_pepper, parsed.secret), SCOPES - {"admin"})
    demo = Tenant(id="demo", time_zone=ZoneInfo("UTC"), budgets=_DEMO_BUDGETS, keys=(key,))
    return MemoryDirectory((demo,), effective_pepper)
