"""Google credentials that are renewed before the SDK sees them, and once more where Google says they are old.

google-auth fetches a new token when the present one has less than four minutes left, and the SDK fails the
call where that does not work out, although the token it has would still do. Here a token that is good is
used while the token service is away; and one that Google refuses is exchanged before it seems old, because
it is this machine's clock that says so.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import google.auth
from google.auth import credentials as auth_credentials
from google.auth import exceptions as auth_errors
from google.auth.transport.requests import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_PROJECTS: Final = "/v1/projects/"
TOKEN_S_MAX: Final = 10.0
"""The longest wait for one answer of the token service."""


def load_application_default(project: str) -> RenewedCredentials:
    """What the environment gives the gateway for calls in a project. It may block on the network.

    Raises:
        google.auth.exceptions.TransportError: The token service is away.
        google.auth.exceptions.GoogleAuthError: There are none, or they are refused.
    """
    source, _ = google.auth.default(scopes=_SCOPES, request=_ProjectRequest(project))
    return RenewedCredentials(source)


class RenewedCredentials(auth_credentials.Credentials):
    """What the SDK holds: a token that is good now.

    Args:
        source: Where tokens come from: a service account, a user, workload identity, the metadata server.
    """

    def __init__(self, source: auth_credentials.Credentials) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._source = source
        self._quota_project_id = source.quota_project_id
        self._renewing = asyncio.Lock()

    def refresh(self, request: object) -> None:  # noqa: ARG002 - as the SDK would call it
        """Never asked for: the token is renewed before a call, by ``renew``."""
        raise auth_errors.RefreshError("The token is renewed before the call.")  # type: ignore[no-untyped-call]

    async def renew(self, refused: str | None = None) -> None:
        """Make sure of a good token; callers at the same moment share one request.

        Args:
            refused: A token that Google has refused, however good it seems here.

        Raises:
            google.auth.exceptions.TransportError: The token service is away, and there is no good token.
            google.auth.exceptions.GoogleAuthError: It refuses: the credentials were revoked, or the clock
                of this machine is far off.
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
    """Asks the token service, briefly, and takes its failures for what they are."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """One request. Raises TransportError for every answer that the service did not mean."""
        timeout_s = min(timeout or TOKEN_S_MAX, TOKEN_S_MAX)
        answer = super().__call__(url, method, body, headers, timeout_s, **kwargs)  # type: ignore[no-untyped-call]
        if answer.status >= 500:
            # google-auth would wait for seconds in this thread, and then take it for a refusal.
            raise auth_errors.TransportError(  # type: ignore[no-untyped-call]
                f"The token service answered {answer.status}."
            )
        return answer


class _ProjectRequest(_TokenRequest):
    """Answers by itself what google-auth asks the Resource Manager: which project workload identity is in.

    The gateway is told its project. The question would need another permission, another address that is let
    through, and up to two minutes where that one does not answer.
    """

    def __init__(self, project: str) -> None:
        super().__init__()
        self._project = project

    def __call__(self, url: str, method: str = "GET", *args: Any, **kwargs: Any) -> Any:
        """One request."""
        if method == "GET" and _PROJECTS in url:
            return _StaticResponse(json.dumps({"projectId": self._project}).encode())
        return super().__call__(url, method, *args, **kwargs)


@dataclass(frozen=True, slots=True)
class _StaticResponse:
    """An answer in the form that google-auth reads."""

    data: bytes
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
