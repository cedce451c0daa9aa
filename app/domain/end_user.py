"""End users: for whom a caller makes a request, and what their tenant lets each of them use.

An end user is known by an id, a keyed hash of the name that the caller gives. The name itself is stored
nowhere, because it is personal data (docs/decisions/0054).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from app.domain.rate import Rate

NAME_LENGTH_MAX: Final = 256
USERS_MAX: Final = 10_000
"""Default of ``UserLimits.active_max``."""

Unnamed = Literal["refuse", "share"]

_PREFIX: Final = "usr_"
_ID: Final = re.compile(r"usr_[A-Za-z0-9_-]{16}", re.ASCII)
_ID_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class EndUser:
    """An end user of a tenant. ``id`` is ``usr_`` and 16 characters, or ``usr_unnamed``."""

    id: str

    @property
    def owner(self) -> str:
        """The owner of its counters in the store, such as ``u:2b8Xc0…``."""
        return f"u:{self.counter_id}"

    @property
    def counter_id(self) -> str:
        """The id without its prefix, as counters and rows of usage have it."""
        return self.id.removeprefix(_PREFIX)


UNNAMED: Final = EndUser("usr_unnamed")
"""Requests that name no user, where a tenant lets those share the limits of one."""


@dataclass(frozen=True, slots=True)
class UserLimits:
    """A tenant's rules for its end users, beside its budgets of the scope ``user``.

    Attributes:
        rate: Requests a minute and concurrent requests of each user.
        unnamed: What happens to requests that name no user where a limit of users is enforced: ``refuse``, or
            ``share`` the limits of one user.
        active_max: Users that may have a current window or rate at once.
    """

    rate: Rate | None = None
    unnamed: Unnamed = "refuse"
    active_max: int = USERS_MAX


def build_end_user(pepper: bytes, tenant_id: str, name: str) -> EndUser:
    """The end user that a tenant's caller names: an HMAC-SHA-256 of both under the deployment's pepper."""
    message = f"user\0{tenant_id}\0{name}".encode(errors="surrogatepass")
    digest = hmac.new(pepper, message, hashlib.sha256).digest()[:_ID_BYTES]
    return EndUser(_PREFIX + base64.urlsafe_b64encode(digest).decode())


def parse_user_id(text: str) -> EndUser | None:
    """The end user of an id as reports show it; None for a text that has another form."""
    if text == UNNAMED.id or _ID.fullmatch(text):
        return EndUser(text)
    return None


def build_user_id(counter_id: str) -> str:
    """The id of the user whose counters and rows of usage have this one."""
    return _PREFIX + counter_id


def is_user_name(name: str) -> bool:
    """Whether a text can name an end user: 1 to 256 printable characters, no space at either end."""
    return 0 < len(name) <= NAME_LENGTH_MAX and name.isprintable() and name == name.strip()
