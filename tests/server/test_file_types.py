"""A file is what its bytes are, whatever it is called, on every surface and on its way to the upstream."""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures import file_bytes, image_bytes
from tests.processes import HTTP, running_gateway
from tests.server.conftest import tokens_a_day, write_tenants
from tests.server.recorder import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx2

    from tests.processes import Running
    from tests.server.recorder import Recorder

    Sent = Callable[[str, bytes, str], httpx2.Response]

MODEL = "gemini-3.1-flash-image"
WRONG = ("image/png", "image/gif", "png", "application/pdf", "video/mp4", "text/plain")
SAYS_NOTHING = ("application/octet-stream", "binary/octet-stream")


@pytest.fixture(scope="module")
def recorder(emulator: Running) -> Iterator[Recorder]:
    with recording(emulator.url) as found:
        yield found


@pytest.fixture(scope="module")
def sent(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str], recorder: Recorder
) -> Iterator[Sent]:
    """Sends a file under a claim over one of the surfaces."""
    folder = tmp_path_factory.mktemp("types")
    tenants = write_tenants(folder / "tenants.yaml", {"types": tokens_a_day(10_000_000)})
    given = {**settings, "tenants_file": str(tenants.path), "emulator_base_url": recorder.url}
    with running_gateway(folder / "gateway", **given) as gateway:
        headers = {"X-API-Key": tenants.keys["types"]}

        def send(surface: str, data: bytes, claim: str) -> httpx2.Response:
            path, body = SURFACES[surface](f"A {secrets.token_hex(4)}", data, claim)
            return HTTP.post(gateway.url + path, headers=headers, timeout=60, **body)

        yield send


def _native(prompt: str, data: bytes, claim: str) -> tuple[str, dict[str, Any]]:
    image = {"data": base64.b64encode(data).decode(), "mime_type": claim}
    asked = {"prompt": prompt, "image_size": "512", "delivery": "uri", "images": [image]}
    return "/v1/images:generate", {"json": asked}


def _form(prompt: str, data: bytes, claim: str) -> tuple[str, dict[str, Any]]:
    files = [("image", ("a.png", data, claim))]
    return "/v1/images:edit", {"data": {"prompt": prompt, "image_size": "512"}, "files": files}


def _openai(prompt: str, data: bytes, claim: str) -> tuple[str, dict[str, Any]]:
    files = [("image[]", ("a.png", data, claim))]
    return "/openai/v1/images/edits", {"data": {"prompt": prompt, "image_size": "512"}, "files": files}


def _gemini(prompt: str, data: bytes, claim: str, **more: Any) -> tuple[str, dict[str, Any]]:
    blob = {"mimeType": claim, "data": base64.b64encode(data).decode()}
    asked = {
        "contents": [{"role": "user", "parts": [{"inlineData": blob}, {"text": prompt}]}],
        "generationConfig": {"imageConfig": {"imageSize": "512"}, **more},
    }
    return f"/gemini/v1beta/models/{MODEL}:generateContent", {"json": asked}


def _gemini_verbatim(prompt: str, data: bytes, claim: str) -> tuple[str, dict[str, Any]]:
    """With a member that the gateway has no word for, so that the body goes on as it came."""
    return _gemini(prompt, data, claim, stopSequences=["STOP"])


SURFACES: dict[str, Callable[[str, bytes, str], tuple[str, dict[str, Any]]]] = {
    "native": _native,
    "form": _form,
    "openai": _openai,
    "gemini": _gemini,
    "gemini verbatim": _gemini_verbatim,
}


def types_sent(recorder: Recorder) -> list[str]:
    """Of the files in the last call that reached the upstream."""
    (content,) = json.loads(recorder.passed[-1].asked)["contents"]
    blobs = [part["inlineData"] for part in content["parts"] if "inlineData" in part]
    return [blob.get("mimeType") or blob["mime_type"] for blob in blobs]  # the SDK mixes both spellings


@pytest.mark.parametrize("claim", [*WRONG, *SAYS_NOTHING])
@pytest.mark.parametrize("surface", SURFACES)
def test_a_picture_is_sent_on_as_what_it_is_whatever_it_is_called(
    sent: Sent, recorder: Recorder, surface: str, claim: str
) -> None:
    answer = sent(surface, image_bytes("harbour.jpg"), claim)
    assert answer.status_code == 200, answer.text
    assert types_sent(recorder) == ["image/jpeg"]
    notices = answer.headers.get("X-Flashgate-Notices", "").split(", ")
    assert ("corrected_mime_type" in notices) == (claim in WRONG)


@pytest.mark.parametrize("surface", SURFACES)
def test_an_animation_is_drawn_from_with_a_notice(sent: Sent, surface: str) -> None:
    answer = sent(surface, file_bytes("w-animated3.webp"), "image/webp")
    assert answer.status_code == 200, answer.text
    assert "animated_image" in answer.headers["X-Flashgate-Notices"]


@pytest.mark.parametrize("surface", SURFACES)
def test_a_text_is_no_picture_whatever_it_is_called(sent: Sent, recorder: Recorder, surface: str) -> None:
    before = len(recorder.passed)
    answer = sent(surface, b"<html>404 Not Found</html>", "image/png")
    assert answer.status_code == (422 if surface in {"native", "form"} else 400)
    assert "text/plain" in answer.text
    assert len(recorder.passed) == before
