"""What is said to a caller: it names the field, says what would be accepted, and is no program's English."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP
from tests.server.conftest import Client, Tenants

if TYPE_CHECKING:
    from tests.processes import Running

MODEL = "gemini-3.1-flash-image"
GENERATE = f"/gemini/v1beta/models/{MODEL}:generateContent"


@pytest.fixture
def client(gateway: Running, tenants: Tenants) -> Client:
    return Client(gateway.url, tenants.keys["badinput"])


def told(client: Client, path: str, body: Any = None, files: Any = None) -> dict[str, str]:
    """The sentence about each field, in any dialect."""
    answer = HTTP.post(client.url + path, json=body, files=files, headers={"X-API-Key": client.key})
    document = answer.json()
    if "violations" in document:
        return {item["pointer"]: item["detail"] for item in document["violations"]}
    error = document["error"]
    if "violations" in error:
        return {item["pointer"]: item["detail"] for item in error["violations"]}
    (found,) = (detail for detail in error["details"] if detail["@type"].endswith("BadRequest"))
    return {item["field"]: item["description"] for item in found["fieldViolations"]}


NATIVE: list[tuple[dict[str, Any], str, str]] = [
    ({"images": "x"}, "/images", "This must be a list."),
    ({"images": ["x"]}, "/images/0", "This must be a JSON object."),
    ({"grounding": []}, "/grounding", "This must be a JSON object."),
    ({"labels": []}, "/labels", "This must be a JSON object."),
    ({"labels": {"a": 1}}, "/labels/a", "This must be a string."),
    ({"n": "two"}, "/n", "This must be a whole number."),
    ({"n": 1.5}, "/n", "This must be a whole number."),
    ({"temperature": "hot"}, "/temperature", "This must be a number."),
    ({"delivery": "post"}, "/delivery", "This must be inline or uri."),
    ({"prompt": None}, "/prompt", "This must be a string."),
    ({"safety_settings": [{"category": "x"}]}, "/safety_settings/0/threshold", "This is required."),
    ({"grounding": {"web": True}}, "/grounding/web", "This is not a known field."),
]


@pytest.mark.parametrize(("fields", "place", "sentence"), NATIVE)
@pytest.mark.parametrize(
    "path", ["/v1/images:generate", "/v1/images:estimate", "/openai/v1/images/generations"]
)
def test_a_wrong_type_is_told_by_the_right_one(
    client: Client, path: str, fields: dict[str, Any], place: str, sentence: str
) -> None:
    if path.startswith("/openai") and fields == {"prompt": None}:
        sentence = "This is required."  # its SDKs send null for what they leave out
    assert told(client, path, {"prompt": "A fox", **fields})[place] == sentence


def test_what_is_accepted_is_listed_where_there_is_a_list(client: Client) -> None:
    body = {"prompt": "A fox", "cache": "never", "grounding": {"web": True}}
    found = {item["pointer"]: item.get("allowed") for item in client.post(body).json()["violations"]}
    assert found == {
        "/cache": ["use", "refresh", "bypass"],
        "/grounding/web": ["image_search", "web_search"],
    }


@pytest.mark.parametrize("path", ["/v1/images:edit", "/openai/v1/images/edits"])
@pytest.mark.parametrize("name", ["image", "document", "video"])
def test_a_text_where_a_file_belongs_is_told_so(client: Client, path: str, name: str) -> None:
    files = [("prompt", (None, "A fox")), (name, (None, "data:image/png;base64,aGk="))]
    assert told(client, path, files=files) == {f"/{name}": "Send this as a file part, with a file name."}


@pytest.mark.parametrize(
    "data", ["https://example.org/fox.png", "data:image/png,abc", "data:image/png;base64"]
)
def test_an_address_in_place_of_bytes_is_told_what_is_accepted(client: Client, data: str) -> None:
    sentence = (
        "This is a URL, or a data URL that is not base64. Send the bytes as base64, also in a data URL."
    )
    native = told(client, "/v1/images:generate", {"prompt": "A fox", "images": [{"data": data}]})
    assert native == {"/images/0/data": sentence}
    part = {"inlineData": {"mimeType": "image/png", "data": data}}
    googles = told(client, GENERATE, {"contents": [{"parts": [part, {"text": "A fox"}]}]})
    assert googles["contents[0].parts[0].inline_data.data"] == sentence


def test_a_file_without_a_type_is_told_to_name_it(client: Client) -> None:
    body = {"contents": [{"parts": [{"fileData": {"fileUri": "gs://a/b.png"}}, {"text": "A fox"}]}]}
    found = told(client, GENERATE, body)
    assert found == {
        "contents[0].parts[0].file_data.mime_type": (
            "Name the media type of the file, such as image/png: the gateway does not open it."
        )
    }


def test_no_dialect_is_told_of_another_ones_fields(client: Client) -> None:
    body = {"contents": [{"parts": [{"text": "A fox"}]}]}
    config = {
        "candidateCount": 2,
        "imageConfig": {"imageOutputOptions": {"mimeType": "image/png", "compressionQuality": 5}},
    }
    googles = told(client, GENERATE, {**body, "generationConfig": config})
    assert len(googles) == 2
    openais = told(client, "/openai/v1/images/generations", {"prompt": "x", "output_compression": 5})
    assert openais.keys() == {"/output_compression"}
    for sentence in (*googles.values(), *openais.values()):
        assert "output_mime_type" not in sentence
        assert "use n" not in sentence


def test_what_is_wrong_with_a_query_is_told_in_the_same_words(client: Client) -> None:
    answer = client.get("/v1/usage?since=yesterday")
    (found,) = answer.json()["violations"]
    assert (found["pointer"], found["code"]) == ("/since", "wrong_type")
    assert found["detail"] == "This must be a date such as 2026-11-22."
    answer = client.get(f"/v1/generations/gen_{'0' * 24}?delivery=post")
    (found,) = answer.json()["violations"]
    assert (found["detail"], found["allowed"]) == ("This must be inline or uri.", ["inline", "uri"])
