"""Application default credentials of every kind, against a token service that has bad days of its own."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth import _helpers
from google.oauth2 import credentials as users

from app.cards import load_catalogue
from app.domain.errors import UpstreamRejected, UpstreamUnavailable
from app.upstream.google.backend import BackEnd
from app.upstream.google.client import GoogleImageModel
from tests.upstream.conftest import answer, asked, lasting, part
from tests.upstream.server import Received, Upstream, answering, dropping, upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.upstream.server import Reply

HOUR_S = 3600
IAT_TOLERANCE_S = 600
REFUSED = {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "The token is too old."}}
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass
class Google:
    """Token service and Vertex AI in one: it takes the tokens that it gave and has not taken back.

    Attributes:
        lifetime_s: Of a token, as the service tells it.
        good: Tokens that Vertex AI takes.
        service: Answers in place of tokens, one each; where there is none left, tokens.
    """

    server: Upstream
    lifetime_s: int = HOUR_S
    good: set[str] = field(default_factory=set)
    service: list[Reply] = field(default_factory=list)

    async def reply(self, received: Received, writer: asyncio.StreamWriter) -> None:
        if not received.path.startswith("/token"):
            known = received.headers["authorization"].removeprefix("Bearer ") in self.good
            await answering(answer(part()) if known else REFUSED, 200 if known else 401)(received, writer)
            return
        if self.service:
            await self.service.pop(0)(received, writer)
            return
        token = f"token-{len(self.asked_for_tokens)}"
        self.good.add(token)
        granted = {"access_token": token, "expires_in": self.lifetime_s, "token_type": "Bearer",
                   "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}  # fmt: skip
        await answering(granted)(received, writer)

    @property
    def asked_for_tokens(self) -> list[Received]:
        return [received for received in self.server.received if received.path.startswith("/token")]

    @property
    def called_with(self) -> list[str]:
        """The token of each call of the model."""
        return [
            received.headers["authorization"].removeprefix("Bearer ")
            for received in self.server.received
            if "generateContent" in received.path
        ]


def service_account(token_url: str, _folder: Path) -> dict[str, Any]:
    return {"type": "service_account", "client_email": "gateway@p.example", "private_key": PEM,
            "private_key_id": "1", "project_id": "another", "token_uri": token_url}  # fmt: skip


def authorized_user(token_url: str, _folder: Path) -> dict[str, Any]:
    return {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r",
            "quota_project_id": "quota-project", "token_uri": token_url}  # fmt: skip


def workload_identity(token_url: str, folder: Path) -> dict[str, Any]:
    (folder / "subject").write_text("the platform's own token")
    pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"
    return {"type": "external_account", "audience": pool, "token_url": token_url,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "credential_source": {"file": str(folder / "subject")}}  # fmt: skip


KINDS = {"service_account": service_account, "authorized_user": authorized_user,
         "workload_identity": workload_identity}  # fmt: skip


@pytest.fixture
async def google() -> AsyncIterator[Google]:
    async with upstream() as server:
        found = Google(server)
        server.reply = found.reply
        yield found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets this machine's clock, as google-auth sees it, ahead by so many seconds or behind."""
    really: Callable[[], datetime] = _helpers.utcnow

    def step(seconds: float) -> None:
        monkeypatch.setattr(_helpers, "utcnow", lambda: really() + timedelta(seconds=seconds))

    return step


@asynccontextmanager
async def vertex(
    google: Google, folder: Path, kind: str = "authorized_user"
) -> AsyncIterator[GoogleImageModel]:
    """Vertex AI with a file of this kind, as ``GOOGLE_APPLICATION_CREDENTIALS`` names it."""
    path = folder / "credentials.json"
    path.write_text(json.dumps(KINDS[kind](f"{google.server.url}/token", folder)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        # google-auth lets no file say where a user's tokens come from.
        patch.setattr(users, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{google.server.url}/token")
        back_end = BackEnd("vertex", base_url=google.server.url, project="p")
        async with GoogleImageModel(back_end, load_catalogue()) as model:
            yield model


async def drawn(model: GoogleImageModel) -> None:
    assert (await model.generate(asked(), None, lasting(20))).pictures


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_serves_until_it_is_nearly_over(
    google: Google, tmp_path: Path, clock: Callable[[float], None], kind: str
) -> None:
    async with vertex(google, tmp_path, kind) as model:
        await drawn(model)
        clock(HOUR_S - 300)
        await drawn(model)
        clock(HOUR_S - 60)
        await drawn(model)
        clock(2 * HOUR_S)
        await drawn(model)
    assert google.called_with == ["token-1", "token-1", "token-2", "token-3"]
    assert len(google.asked_for_tokens) == 3


@pytest.mark.parametrize("kind", ["service_account", "workload_identity"])
async def test_a_file_of_its_own_outranks_the_application_default_credentials(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    path = tmp_path / "images-b.json"
    path.write_text(json.dumps(KINDS[kind](f"{google.server.url}/token", tmp_path)))
    back_end = BackEnd("vertex", base_url=google.server.url, project="p", name="images-b", key_file=path)
    async with GoogleImageModel(back_end, load_catalogue()) as model:
        answered = await model.generate(asked(), None, lasting(20))
    assert (answered.back_end, google.called_with) == ("vertex/images-b", ["token-1"])
    assert "/projects/p/" in google.server.received[-1].path


async def test_workload_identity_shows_the_platforms_token_as_it_is_now(
    google: Google, tmp_path: Path, clock: Callable[[float], None]
) -> None:
    async with vertex(google, tmp_path, "workload_identity") as model:
        await drawn(model)
        (tmp_path / "subject").write_text("a newer token")
        clock(2 * HOUR_S)
        await drawn(model)
    shown = [received.body.decode() for received in google.asked_for_tokens]
    assert "subject_token=the+platform%27s+own+token" in shown[0]
    assert "subject_token=a+newer+token" in shown[1]


async def test_who_pays_the_quota_is_told(google: Google, tmp_path: Path) -> None:
    async with vertex(google, tmp_path) as model:
        await drawn(model)
    assert google.server.received[-1].headers["x-goog-user-project"] == "quota-project"


async def test_calls_at_the_same_moment_share_one_new_token(google: Google, tmp_path: Path) -> None:
    async with vertex(google, tmp_path) as model:
        await asyncio.gather(*(drawn(model) for _ in range(5)))
    assert google.called_with == ["token-1"] * 5
    assert len(google.asked_for_tokens) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_revoked_credentials_are_the_operators_to_mend_and_nothing_is_sent(
    google: Google, tmp_path: Path, clock: Callable[[float], None], kind: str
) -> None:
    revoked = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
    async with vertex(google, tmp_path, kind) as model:
        await drawn(model)
        clock(2 * HOUR_S)
        google.service = [answering(revoked, 400)]
        with pytest.raises(UpstreamRejected) as raised:
            await model.generate(asked(), None, lasting(20))
        assert raised.value.billed == "no"
        assert google.called_with == ["token-1"]
        await drawn(model)  # an operator has acted


@pytest.mark.parametrize(
    "outage", [answering(b"<html>", 503), answering({"error": "internal"}, 500), dropping()]
)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_service_that_is_away_is_an_outage_and_no_refusal(
    google: Google, tmp_path: Path, kind: str, outage: Reply
) -> None:
    async with vertex(google, tmp_path, kind) as model:
        google.service = [outage]
        with pytest.raises(UpstreamUnavailable) as raised:
            await model.generate(asked(), None, lasting(20))
        assert (raised.value.billed, google.called_with) == ("no", [])
        await drawn(model)


async def test_a_token_that_is_still_good_is_used_while_the_token_service_is_away(
    google: Google, tmp_path: Path, clock: Callable[[float], None]
) -> None:
    async with vertex(google, tmp_path) as model:
        await drawn(model)
        clock(HOUR_S - 60)
        google.service = [answering(b"", 503)] * 2
        await drawn(model)
        clock(HOUR_S + 60)
        with pytest.raises(UpstreamUnavailable):
            await model.generate(asked(), None, lasting(20))
        await drawn(model)
    assert google.called_with == ["token-1", "token-1", "token-4"]


async def test_a_token_that_vertex_refuses_is_renewed_and_the_call_made_once_more(
    google: Google, tmp_path: Path, clock: Callable[[float], None]
) -> None:
    """The clock of this machine was set back by two hours, so the token seems good long after its end."""
    async with vertex(google, tmp_path) as model:
        await drawn(model)
        clock(-2 * HOUR_S)
        google.good.clear()
        await asyncio.gather(*(drawn(model) for _ in range(3)))
    assert sorted(google.called_with) == ["token-1"] * 4 + ["token-2"] * 3
    assert len(google.asked_for_tokens) == 2


async def test_a_new_token_that_is_refused_as_well_is_not_tried_for_ever(
    google: Google, tmp_path: Path
) -> None:
    async def forgetful(received: Received, writer: asyncio.StreamWriter) -> None:
        google.good.clear()
        await google.reply(received, writer)

    async with vertex(google, tmp_path) as model:
        google.server.reply = forgetful
        with pytest.raises(UpstreamRejected) as raised:
            await model.generate(asked(b"an input"), None, lasting(20))
    assert (raised.value.upstream_status, raised.value.billed) == (401, "no")
    assert google.called_with == ["token-1", "token-2"]


async def test_the_inputs_go_out_again_with_the_second_attempt(google: Google, tmp_path: Path) -> None:
    async with vertex(google, tmp_path) as model:
        await drawn(model)
        google.good.clear()
        await model.generate(asked(b"\x89PNG an input"), None, lasting(20))
    first, second = [received.json for received in google.server.received if b"inlineData" in received.body]
    assert first == second
    assert base64.b64encode(b"\x89PNG an input").decode() in json.dumps(second)


@pytest.mark.parametrize("skew_s", [-2 * HOUR_S, 2 * HOUR_S])
async def test_a_clock_that_is_far_off_is_refused_by_the_token_service_and_said(
    google: Google, tmp_path: Path, clock: Callable[[float], None], skew_s: float
) -> None:
    async def strict(received: Received, writer: asyncio.StreamWriter) -> None:
        claims = received.body.decode().partition("assertion=")[2].split(".")[1]
        issued = json.loads(base64.urlsafe_b64decode(claims + "=="))["iat"]
        if abs(issued - time.time()) <= IAT_TOLERANCE_S:
            await google.reply(received, writer)
            return
        refused = {"error": "invalid_grant", "error_description": "Invalid JWT: Token must be short-lived."}
        await answering(refused, 400)(received, writer)

    async with vertex(google, tmp_path, "service_account") as model:
        clock(skew_s)
        google.service = [strict]
        with pytest.raises(UpstreamRejected):
            await model.generate(asked(), None, lasting(20))
        assert google.called_with == []
        clock(0)
        google.service = [strict]
        await drawn(model)
