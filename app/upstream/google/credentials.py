"""Google credentials that are renewed outside the SDK (docs/decisions/0027).

google-auth fetches a new token when the present one has less than four minutes left, and the SDK fails the
call if that does not succeed, although the present token is still valid. Here a valid token is used while the
token service is unavailable. A token that Google refuses is replaced even if it seems valid, because validity
is judged by this machine's clock.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import google.auth
from google.auth import credentials as auth_credentials
from google.auth import exceptions as auth_errors
from google.auth.transport.requests import Request

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_PROJECTS: Final = "/v1/projects/"
TOKEN_S_MAX: Final = 10.0
"""The longest wait for one answer of the token service."""


def load_credentials(project: str, key_file: Path | None = None) -> RenewedCredentials:
    """Load credentials for a project. It may block on the network.

    Args:
        project: The Google Cloud project.
        key_file: File of a service account, user or workload identity; None for application default ones.

    Raises:
        google.auth.exceptions.TransportError: The token service is unavailable.
        google.auth.exceptions.GoogleAuthError: There are no credentials, or they are refused.
    """
    request = _ProjectRequest(project)
    if key_file is None:
        source, _ = google.auth.default(scopes=_SCOPES, request=request)
    else:
        with warnings.catch_warnings():
            # The warning is about files from strangers; this one is the operator's own.
            warnings.simplefilter("ignore", DeprecationWarning)
            source, _ = google.auth.load_credentials_from_file(  # type: ignore[no-untyped-call]
                str(key_file), scopes=_SCOPES, request=request
            )
    return RenewedCredentials(source)


class RenewedCredentials(auth_credentials.Credentials):
    """The credentials that the SDK holds; ``renew`` must be called before each use.

    Args:
        source: The source of tokens: a service account, a user, workload identity or the metadata server.
    """

    def __init__(self, source: auth_credentials.Credentials) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._source = source
        self._quota_project_id = source.quota_project_id
        self._renewing = asyncio.Lock()

    def refresh(self, request: object) -> None:  # noqa: ARG002 - as the SDK would call it
        """Fail, because ``renew`` renews the token before the call."""
        raise auth_errors.RefreshError("The token is renewed before the call.")  # type: ignore[no-untyped-call]

    async def renew(self, refused: str | None = None) -> None:
        """Make sure that there is a valid token. Concurrent callers share one request.

        Args:
            refused: A token that Google has refused, even if it seems valid here.

        Raises:
            google.auth.exceptions.TransportError: The token service is unavailable, and there is no valid
                token.
            google.auth.exceptions.GoogleAuthError: The credentials were revoked, or this machine's clock is
                far off.
        """
        async with self._renewing:
            state = self._source.token_state
            good = state is not auth_credentials.TokenState.INVALID and self._source.token != refused
            if not good or state is auth_credentials.TokenState.STALE:
                try:
                    await asyncio.to_thread(self._source.refresh, _TokenRequest())
                except auth_errors.TransportError:
                    if not good:
                        raise
            self.token = self._source.token


class _TokenRequest(Request):
    """Calls the token service with a short timeout, and treats its 5xx responses as transport errors."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Send one request. Raises TransportError for responses from 500 on."""
        timeout_s = min(timeout or TOKEN_S_MAX, TOKEN_S_MAX)
        answer = super().__call__(url, method, body, headers, timeout_s, **kwargs)  # type: ignore[no-untyped-call]
        if answer.status >= 500:
            # google-auth would retry for seconds in this thread and then report refused credentials.
            raise auth_errors.TransportError(  # type: ignore[no-untyped-call]
                f"The token service answered {answer.status}."
            )
        return answer


class _ProjectRequest(_TokenRequest):
    """Answers google-auth's request to the Resource Manager for the project of a workload identity.

    The project is configured. The real request would need another permission and another reachable address,
    and could take two minutes to time out.
    """

    def __init__(self, project: str) -> None:
        super().__init__()
        self._project = project

    def __call__(self, url: str, method: str = "GET", *args: Any, **kwargs: Any) -> Any:
        """Answer a request for the project, and send any other."""
        if method == "GET" and _PROJECTS in url:
            return _StaticResponse(json.dumps({"projectId": self._project}).encode())
        return super().__call__(url, method, *args, **kwargs)


@dataclass(frozen=True, slots=True)
class _StaticResponse:
    """A response in the form that google-auth reads."""

    data: bytes
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
