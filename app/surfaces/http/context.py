"""What every surface is given: the gateway, the directory, and the limits that apply at the door."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Protocol, cast

from fastapi import Depends, Request
from pydantic import AfterValidator, Field

from app.domain.config import Config

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


_MEMBER: Final = re.compile(r"[a-z][A-Za-z0-9]*(\.[a-z][A-Za-z0-9]*)*")


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


def _check_member(path: str) -> str:
    if not _MEMBER.fullmatch(path):
        raise ValueError("must be paths such as tools.urlContext")
    return path


class SurfaceConfig(Config):
    """All surfaces.

    Attributes:
        light_bytes_max: Bytes of JSON beside the images.
        inputs_max: File parts of one form, or inputs of one body.
        chunked_above_bytes: Larger answers go out chunked, without Content-Length, because Cloud Run refuses
            large ones that have it.
    """

    default_model: str = Field(
        "gemini-3.1-flash-image", description="Card used for requests that name no model."
    )
    public_url: str | None = Field(
        None,
        description="Base of the URIs in answers, such as https://flashgate.example; unset for the "
        "request's own.",
    )
    gemini_extra_members: frozenset[Annotated[str, AfterValidator(_check_member)]] = Field(
        frozenset(),
        description="Further members that bodies in Google's dialect may hold, as paths such as "
        "`tools.urlContext`; they act with the gateway's rights, and only their own text is reserved.",
    )
    stream_status_wait_s: float = Field(
        5,
        ge=0,
        description="How long the HTTP status of a stream waits for the image, in seconds; a later failure "
        "is an event of the stream.",
    )
    light_bytes_max: int = 1_000_000
    inputs_max: int = 64
    chunked_above_bytes: int = 8_000_000


class Limits(SurfaceConfig):
    """The same, with what the deployment's other parts and the cards add. Sizes in bytes.

    Attributes:
        usage_days: How far reports of usage reach back.
        location: Where every call of the deployment is made, as a location of Vertex AI.
    """

    input_bytes_max: int
    input_pixels_max: int
    usage_days: int
    location: str


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
