"""Access to the store: certificate authorities and access tokens.

Memorystore's IAM authentication takes an access token of a service account as the password of the user
``default``. A token lasts an hour at most and is needed for every new connection. The metadata server of
Google Cloud issues tokens of the instance's service account to any process on the instance.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
from pydantic import BaseModel, Field, SecretStr, ValidationError
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as StoreConnectionError

from app.domain.config import Config
from app.resilience.diagnosis import Diagnosis, describe_cause
from app.resilience.resources import Resource
from app.resilience.tasks import BackgroundTasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

log = logging.getLogger(__name__)

TOKEN_PATH: Final = "/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105 - a path
RENEW_S: Final = 240.0
"""Seconds before a token expires when it is renewed; the metadata server has a new one 300 s before."""

ASK_S: Final = 5.0
AGAIN_S: Final = 1.0
"""Seconds before the metadata server is asked again after a failure."""

USER: Final = "default"


@dataclass(frozen=True, slots=True)
class Access:
    """How to connect to a server, beside its address.

    Attributes:
        ca_file: Certificate authorities of the server in PEM; None for the system's.
        credentials: Replace the user and password of the address, or None.
    """

    ca_file: Path | None = None
    credentials: CredentialProvider | None = None

    def build_options(self, url: str) -> dict[str, Any]:
        """Options for the client library.

        Raises:
            ValueError: The options do not fit the address. The message does not repeat the address.
        """
        encrypted = url.startswith("rediss")
        if self.ca_file is not None and not encrypted:
            raise ValueError("FLASHGATE_REDIS_CA_FILE needs an address with TLS: rediss://.")
        if self.credentials is None:
            return self._build_tls_options()
        if not encrypted:
            raise ValueError(
                "FLASHGATE_REDIS_IAM needs an address with TLS, rediss://: the token must stay secret."
            )
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise ValueError("FLASHGATE_REDIS_IAM and a user or password in the address exclude each other.")
        return {**self._build_tls_options(), "credential_provider": self.credentials}

    def _build_tls_options(self) -> dict[str, Any]:
        if self.ca_file is None:
            return {}
        try:
            ssl.create_default_context(cafile=self.ca_file)
        except OSError:
            raise ValueError("FLASHGATE_REDIS_CA_FILE holds no readable certificates.") from None
        # Python 3.13 also enforces RFC 5280 to the letter, and Memorystore's certificates lack an extension
        # that it requires (redis-py issue 3685). Signer, validity and host name are checked either way.
        return {"ssl_ca_certs": str(self.ca_file), "ssl_exclude_verify_flags": [ssl.VERIFY_X509_STRICT]}


class _Token(BaseModel):
    """The metadata server's response (RFC 6749 section 5.1)."""

    access_token: str = Field(min_length=1, repr=False)
    expires_in: float = Field(gt=0)


class RedisConfig(Config):
    """The store."""

    url: SecretStr | None = Field(
        None,
        description="Address of the Redis or Valkey server: redis://, rediss://, unix://, "
        "redis+sentinel://host:port,…/name or redis+cluster://host:port,…; unset for an embedded server, "
        "which needs the extra `embedded`.",
    )
    ca_file: Path | None = Field(
        None,
        description="PEM file with the certificate authorities of the store's TLS certificate; unset for the "
        "system's. The host name is always verified too.",
    )
    iam: bool = Field(
        default=False,
        description="Whether the store is shown an access token of the service account instead of a "
        "password, as Memorystore's IAM authentication requires.",
    )
    metadata_url: str = "http://metadata.google.internal"


class AccessTokens(CredentialProvider, Resource):
    """A credential provider with tokens of the service account. Use as ``async with``.

    All connections share one token. It is renewed in the background shortly before it expires, while new
    connections still use the old one. Only one request to the metadata server is open at a time.

    Args:
        metadata_url: Address of the metadata server.
        clock: A monotonic clock in seconds.
    """

    def __init__(self, metadata_url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = metadata_url.rstrip("/") + TOKEN_PATH
        self._clock = clock
        self._token = ""
        self._ends = self._ask_again = float("-inf")
        self._tasks = BackgroundTasks()
        self._asking: asyncio.Task[None] | None = None
        # Plain HTTP to a server on this machine: no certificates to load, and no proxy.
        self._http = httpx2.AsyncClient(verify=False, trust_env=False, timeout=ASK_S)

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        async with self._http, self._tasks:
            yield

    async def get_credentials_async(self) -> tuple[str, str]:
        """User and token. Raises the library's ConnectionError if there is no valid token."""
        now = self._clock()
        idle = self._asking is None or self._asking.done()
        if idle and now >= max(self._ends - RENEW_S, self._ask_again):
            self._asking = self._tasks.begin(self._fetch_token(), "store-access-token")
        if now >= self._ends and self._asking is not None:
            # Shielded, because other connections wait for the same request.
            await asyncio.shield(self._asking)
        if self._clock() >= self._ends:
            raise StoreConnectionError("There is no access token for the store.")
        return USER, self._token

    async def _fetch_token(self) -> None:
        """Fetch a token. A failure is logged and keeps the present token."""
        began = self._clock()
        try:
            answer = await self._http.get(self._url, headers={"Metadata-Flavor": "Google"})
            answer.raise_for_status()
            token = _Token.model_validate_json(answer.content)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValidationError) as error:
            self._ask_again = self._clock() + AGAIN_S
            remedy = "Check the metadata server and the service account of this instance"
            diagnosis = Diagnosis("no_access_token", self._url, describe_cause(error), remedy)
            status = None
            if isinstance(error, httpx2.HTTPStatusError):
                status = error.response.status_code
            log.warning("no access token for the store", extra={"diagnosis": diagnosis, "status": status})
            return
        self._token, self._ends = token.access_token, began + token.expires_in
