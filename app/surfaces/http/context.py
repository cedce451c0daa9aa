"""The objects that every surface uses: the gateway, the directory, and the limits on requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol, cast

from fastapi import Depends, Request
from pydantic import AfterValidator, Field

from app.domain.config import Config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import SecretStr

    from app.domain.credential_state import CredentialState
    from app.domain.end_user import EndUser
    from app.domain.tenancy import Identity
    from app.generation.gateway import Gateway
    from app.generation.operations import LongRunning
    from app.generation.ports import Directory
    from app.media.pdf import PageCounter
    from app.observability.live import LiveRequest
    from app.tenants.administration import Administration
    from app.tenants.ports import Reports


MEMBER_PRICE: Final = re.compile(r"(\d{1,9})/(call|byte)|unpriced", re.ASCII)
"""The price of a member that an operator allows: input tokens each time it is given, or for each byte."""
_MEMBER: Final = re.compile(r"[a-z][A-Za-z0-9]*(\.[a-z][A-Za-z0-9]*)*")


class IdentityTokens(Protocol):
    """Verifies ID tokens that Google signs for accounts (OpenID Connect Core section 2)."""

    async def verify(self, token: str, *, checked: bool) -> tuple[Identity, ...]:
        """Return the identities of a valid token, the immutable one first; none for an invalid token.

        Args:
            token: The token as the caller sent it.
            checked: Whether the platform verified the header of the token; it then removes the signature.

        Raises:
            IdentityUnavailable: The keys to verify it with cannot be fetched.
        """


def _check_member(path: str) -> str:
    if not _MEMBER.fullmatch(path):
        raise ValueError("must be paths such as tools.urlContext")
    return path


def _check_price(price: str) -> str:
    if not MEMBER_PRICE.fullmatch(price):
        raise ValueError("must be prices such as 20000/call or 2/byte, or unpriced")
    return price


class SurfaceConfig(Config):
    """Limits and defaults of all surfaces.

    Attributes:
        light_bytes_max: Largest size of the JSON without its images, in bytes.
        inputs_max: Largest number of file parts of a form, or of inputs of a body.
        chunked_above_bytes: Larger responses have no Content-Length, because Cloud Run refuses large ones
            that have it.
    """

    default_model: str = Field(
        "gemini-3.1-flash-image", description="Card used for requests that name no model."
    )
    public_url: str | None = Field(
        None,
        description="Base of the URIs in answers, such as https://flashgate.example; unset for the "
        "request's own.",
    )
    gemini_extra_members: Mapping[
        Annotated[str, AfterValidator(_check_member)], Annotated[str, AfterValidator(_check_price)]
    ] = Field(
        {},
        description="Further members that bodies in Google's dialect may hold, with the input tokens to "
        "reserve beside their own text, such as `tools.urlContext=20000/call`, `tools.other=2/byte` or "
        "`tools.third=unpriced`. They act with the gateway's rights. One without a price is refused for "
        "strict tenants with an enforced budget in total_tokens or usd.",
    )
    openai_formats: Literal["exact", "jpeg"] = Field(
        "exact",
        description="What a request for PNG or WebP gets in OpenAI's dialect if the back ends offer no "
        "choice of format: exact is a 400, jpeg is a JPEG with the warning `mime_mismatch`.",
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
    """The surface limits, with those of the cards and of other parts. Sizes are in bytes.

    Attributes:
        usage_days: Number of days for which usage reports are kept.
        location: The Vertex AI location of every call of the deployment.
        has_format_choice: Whether the back ends let callers choose the format of pictures.
    """

    input_bytes_max: int
    input_pixels_max: int
    usage_days: int
    location: str
    has_format_choice: bool = True


@dataclass(frozen=True, slots=True)
class Service:
    """The running gateway and its surroundings.

    Attributes:
        operations: Generations that continue after their caller got a response.
        page_counter: Counts the pages of PDF inputs; shared by all requests.
        readiness: Checks by name; each returns why it is not ready, or None.
        conditions: Further facts about the store for operators, by name.
        list_credentials: How each credential of the back ends is in this process.
        list_live: Requests and operations that are under way in this process, the oldest first.
        store: Where the ledger is, in words; never with a user or a password.
        render_metrics: The Prometheus exposition for an Accept header, as (body, content type).
        operators_ports: Ports that callers cannot reach, on which ``/metrics`` needs no key.
        identity_tokens: Verifies ID tokens; None if they are not accepted.
        reports: Usage by day.
        iap_tokens: Verifies assertions of Identity-Aware Proxy; None if they are not accepted.
        admin_key: The operator's key from the environment, or None.
        reload_tenants: Reads the tenants' file again and returns how many entries had to be validated. Raises
            ConfigurationError, and then changes nothing.
        identify_user: Returns the end user of a tenant id and a name.
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
    store: str
    list_credentials: Callable[[], list[CredentialState]]
    list_live: Callable[[], list[LiveRequest]]
    render_metrics: Callable[[str], tuple[bytes, str]]
    operators_ports: frozenset[int]
    administration: Administration
    reports: Reports
    admin_key: SecretStr | None
    reload_tenants: Callable[[], Awaitable[int]]
    identify_user: Callable[[str, str], EndUser]


def get_service(request: Request) -> Service:
    """Return the service of the application."""
    return cast("Service", request.app.state.service)


def get_base_url(request: Request, service: Service) -> str:
    """Return the base URL of the gateway without a trailing slash: as configured, else as requested."""
    return (service.limits.public_url or str(request.base_url)).rstrip("/")


ServiceDep = Annotated[Service, Depends(get_service)]
