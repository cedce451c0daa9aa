"""Bodies as clients encode them, HEAD, and addresses put together in other ways, over every dialect."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials
from openai import AzureOpenAI

from tests.contract.test_gemini_rest import MODEL, Rest, rest, words
from tests.contract.test_google_genai import NO_TLS
from tests.fixtures import image_bytes
from tests.processes import HTTP
from tests.server.conftest import calls_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2

    from tests.processes import Running

__all__ = ["rest"]

GOOGLE = f"/gemini/v1beta/models/{MODEL}:generateContent"
NATIVE = {"prompt": "Encoded", "image_size": "512"}
ROUTES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "native": ("/v1/images:generate", NATIVE),
    "gemini": (GOOGLE, words("Encoded")),
    "openai": ("/openai/v1/images/generations", {"prompt": "Encoded", "size": "512x512"}),
}
BOM = b"\xef\xbb\xbf"


def send(rest: Rest, path: str, content: bytes, **headers: str) -> httpx2.Response:
    named = {"x-api-key": rest.key, "content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return HTTP.post(rest.url + path, content=content, headers=named)


def code_of(answer: httpx2.Response) -> str:
    """The code of an error in any dialect."""
    document = answer.json()
    error = document.get("error", document)
    if "details" in error:
        return str(error["details"][-1]["reason"]).lower()
    return str(error["code"])


@pytest.mark.parametrize("dialect", ROUTES)
@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "identity", "BOM"])
def test_a_compressed_body_or_one_with_a_bom_is_read(rest: Rest, dialect: str, coding: str) -> None:
    path, body = ROUTES[dialect]
    text = json.dumps(body).encode()
    if coding == "BOM":
        assert send(rest, path, BOM + text).status_code == 200
        return
    content = {"deflate": zlib.compress(text), "identity": text}.get(coding, gzip.compress(text))
    assert send(rest, path, content, content_encoding=coding).status_code == 200


def test_a_compressed_form_is_read(rest: Rest) -> None:
    form = HTTP.build_request(
        "POST", rest.url, data={"prompt": "Form"}, files={"image": ("a.png", image_bytes("harbour.png"))}
    )
    told = {"content_type": form.headers["content-type"], "content_encoding": "gzip"}
    for path in ("/v1/images:edit", "/openai/v1/images/edits"):
        assert send(rest, path, gzip.compress(form.read()), **told).status_code == 200


@pytest.mark.parametrize("dialect", ROUTES)
@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress"])
def test_an_encoding_that_is_not_decoded_is_refused_with_those_that_are(
    rest: Rest, emulator: Running, dialect: str, coding: str
) -> None:
    calls = calls_of(emulator)
    path, body = ROUTES[dialect]
    answer = send(rest, path, json.dumps(body).encode(), content_encoding=coding)
    assert (answer.status_code, code_of(answer)) == (415, "unsupported_content_encoding")
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    assert calls_of(emulator) == calls


@pytest.mark.parametrize("dialect", ROUTES)
@pytest.mark.parametrize(
    "content", [b"{}", gzip.compress(b"{}", mtime=0)[:-1], gzip.compress(bytes(10_000_000), mtime=0)]
)
def test_a_body_that_is_not_what_its_encoding_says_is_unreadable(
    rest: Rest, dialect: str, content: bytes
) -> None:
    answer = send(rest, ROUTES[dialect][0], content, content_encoding="gzip")
    assert (answer.status_code, code_of(answer)) == (400, "invalid_request")
    assert "The body " in answer.text


def test_head_answers_as_get_without_the_body(rest: Rest, gateway: Running) -> None:
    drawn = send(rest, "/v1/images:generate", json.dumps(NATIVE | {"delivery": "uri"}).encode()).json()
    paths = [
        f"/v1/images/{drawn['images'][0]['id']}",
        *("/v1/models", f"/v1/models/{MODEL}", "/v1/usage", "/v1/generations/gen_0", "/livez", "/docs"),
        *("/gemini/v1beta/models", f"/gemini/v1beta/models/{MODEL}", "/openai/v1/models", "/nowhere"),
    ]
    own = ("content-type", "content-length", "etag", "cache-control")
    for path in paths:
        answers = [
            HTTP.request(method, gateway.url + path, headers={"x-api-key": rest.key})
            for method in ("GET", "HEAD")
        ]
        assert answers[0].status_code == answers[1].status_code, path
        assert [answers[0].headers.get(name) for name in own] == [
            answers[1].headers.get(name) for name in own
        ], path
        assert answers[1].content == b""


@pytest.mark.parametrize(
    "path",
    [
        f"/gemini/models/{MODEL}:generateContent",
        f"/gemini/v1beta/v1beta/models/{MODEL}:generateContent",
        f"/gemini/v1/v1beta1/publishers/google/models/{MODEL}:generateContent",
        f"/gemini/v1beta1/v1beta1/projects/p/locations/global/publishers/google/models/{MODEL}:generateContent",
    ],
)
def test_googles_paths_are_served_without_and_with_two_versions(rest: Rest, path: str) -> None:
    assert send(rest, path, json.dumps(words("Where")).encode()).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/openai/images/generations",
        "/openai/v1/v1/images/generations",
        "/openai/v1/images/generations/",
        "/gemini/v1beta/openai/images/generations",
        f"/openai/deployments/{MODEL}/images/generations?api-version=2025-04-01-preview",
    ],
)
def test_openais_paths_are_served_in_every_form(rest: Rest, path: str) -> None:
    body = json.dumps({"prompt": "Where", "size": "512x512"}).encode()
    assert send(rest, path, body).status_code == 200
    listed = path.partition("images/")[0] + "models"
    if "deployments" not in path:
        assert HTTP.get(rest.url + listed, headers={"x-api-key": rest.key}).status_code == 200


def test_azures_client_works_by_its_address_and_key(rest: Rest) -> None:
    client = AzureOpenAI(azure_endpoint=rest.url, api_key=rest.key, api_version="2025-04-01-preview")
    drawn = client.images.generate(model=MODEL, prompt="Azure", size="512x512")
    assert drawn.data
    assert base64.b64decode(drawn.data[0].b64_json or "")
    edited = client.images.edit(
        model="nano-banana-2", prompt="Azure", image=("a.png", image_bytes("harbour.png"))
    )
    assert edited.data
    with pytest.raises(Exception, match="no such model"):
        client.images.generate(model="my-dall-e", prompt="Azure")


@pytest.mark.parametrize(
    ("path", "base", "dialect"),
    [
        ("/v1/images/generations", "below /openai/v1:", "openai"),
        ("/v1/images/edits", "below /openai/v1:", "openai"),
        ("/images/generations", "below /openai/v1:", "openai"),
        ("/v1/chat/completions", "below /openai/v1:", "openai"),
        ("/openai/v1/chat/completions", "POST /openai/v1/images/generations", "openai"),
        ("/openai/v1/images/variations", "POST /openai/v1/images/generations", "openai"),
        ("/openai/v1/responses", "POST /openai/v1/images/generations", "openai"),
        ("/openai/v1/files", "POST /openai/v1/images/generations", "openai"),
        (f"/v1beta/models/{MODEL}:generateContent", "below /gemini:", "gemini"),
        (f"/v1/models/{MODEL}:generateContent", "below /gemini:", "gemini"),
        (f"/models/{MODEL}:countTokens", "below /gemini:", "gemini"),
        (f"/v1/projects/p/locations/l/publishers/google/models/{MODEL}:predict", "below /gemini:", "gemini"),
        ("/v1beta/files", "below /gemini:", "gemini"),
        ("/gemini/v1beta/files", "Below /gemini/", "gemini"),
    ],
)
def test_a_path_that_is_not_served_names_the_right_address_in_its_dialect(
    rest: Rest, path: str, base: str, dialect: str
) -> None:
    answer = send(rest, path, b"{}")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert base in error["message"]
    assert error["code"] == (404 if dialect == "gemini" else "not_found")


def test_a_client_of_vertex_ai_sends_the_gateways_key_as_its_access_token(rest: Rest) -> None:
    options = types.HttpOptions(base_url=f"{rest.url}/gemini", client_args={"verify": NO_TLS})
    token = Credentials(rest.key)  # type: ignore[no-untyped-call]
    with genai.Client(
        vertexai=True, project="p", location="global", credentials=token, http_options=options
    ) as client:
        drawn = client.models.generate_content(model=MODEL, contents="By token")
    assert drawn.candidates
