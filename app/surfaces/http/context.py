"""What every surface is given: the gateway, the directory, and the limits that apply at the door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol, cast

from fastapi import Depends, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import SecretStr

    from app.domain.tenancy import Identity
    from app.generation.gateway import Gateway
    from app.generation.operations import LongRunning
    from app.generation.ports import Directory
    from app.media.pdf import PageCounter
    from app.tenants.administration import Administration
    from app.tenants.ports import Reports


class IdentityTokens(Protocol):
    """ID tokens that Google signs for accounts (OpenID Connect Core section 2)."""

    async def verify(self, token: str, *, checked: bool) -> tuple[Identity, ...]:
        """Whom a token speaks for, the name that never changes first; nobody where it does not hold.

        Args:
            token: As it was shown.
            checked: Whether the platform has checked the header that the token stood in, which it tells by
                taking the signature out.

        Raises:
            IdentityUnavailable: The keys to check it with are not to be had at this moment.
        """


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that surfaces hold to. Sizes in bytes.

    Attributes:
        usage_days: How far reports of usage reach back.
        location: Where every call of the deployment is made, as a location of Vertex AI.
        gemini_extra_members: Members of bodies in Google's dialect that an operator lets pass, as paths.
    """

    default_model: str
    light_bytes_max: int
    input_bytes_max: int
    input_pixels_max: int
    inputs_max: int
    chunked_above_bytes: int
    stream_patience_s: float
    public_url: str | None
    usage_days: int
    location: str = "global"
    gemini_extra_members: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Service:
    """The open gateway and what stands around it.

    Attributes:
        operations: What goes on after its caller was answered.
        page_counter: Counts the pages of PDF inputs, for all requests together.
        readiness: Checks by name; each tells why it is not ready, or nothing.
        conditions: What else an operator wants to see of the store, by name.
        render_metrics: The Prometheus exposition, as (body, content type).
        operators_ports: Ports that callers do not reach, so that ``/metrics`` asks for no key there.
        identity_tokens: Checks ID tokens, or None where none are taken.
        reports: What was used, day by day.
        iap_tokens: Checks assertions of Identity-Aware Proxy, or None where none are taken.
        admin_key: The operator's key from the environment, or None.
        reload_tenants: Reads the tenants' file again and tells how many of them had to be judged anew; raises
            ConfigurationError and changes nothing then.
    """

    gateway: Gateway
    operations: LongRunning
    directory: Directory
    identity_tokens: IdentityTokens | None
    iap_tokens: IdentityTokens | None
    limits: Limits
    page_counter: PageCounter
    readiness: dict[str, Callable[[], Awaitable[str | None]]]
    conditions: Callable[[], dict[str, str | int]]
    render_metrics: Callable[[], tuple[bytes, str]]
    operators_ports: frozenset[int]
    administration: Administration
    reports: Reports
    admin_key: SecretStr | None
    reload_tenants: Callable[[], Awaitable[int]]


def get_service(request: Request) -> Service:
    """The service that this application was opened with."""
    return cast("Service", request.app.state.service)


def get_base_url(request: Request, service: Service) -> str:
    """Where callers reach this gateway, without a slash at the end: as configured, else as they called it."""
    return (service.limits.public_url or str(request.base_url)).rstrip("/")


ServiceDep = Annotated[Service, Depends(get_service)]
