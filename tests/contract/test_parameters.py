"""Each parameter of both original APIs has a row in a table, and each row is tried."""

from __future__ import annotations

import base64
import json
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from google.genai import types

from app.surfaces.gemini.members import GENERATE, Enumeration
from app.surfaces.gemini.system_parameters import HEADERS, QUERIES
from tests.contract import parameters
from tests.contract.parameters import OPENAI, TABLE, get, list_google_fields, list_google_rows
from tests.contract.tap import Tap, tapped
from tests.contract.test_gemini_rest import MODEL
from tests.fixtures import image_bytes
from tests.processes import HTTP, running_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from tests.contract.parameters import Row
    from tests.processes import Running
    from tests.server.conftest import Tenants

MODELS: Final = "/gemini/v1beta1/publishers/google/models"
PNG: Final = base64.b64encode(image_bytes("harbour.png")).decode()
ROWS: Final = list(list_google_rows())
VERDICTS: Final = {"honoured", "no effect", "refused", "SDK only"}
TOLD: Final = {"parameter_without_effect", "default_without_effect"}
WORDS: Final = {row.name: row for row in ROWS}


class Tried(NamedTuple):
    """A gateway, one of its keys, and what reached its upstream."""

    url: str
    key: str
    tap: Tap

    def send(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, **more: Any
    ) -> tuple[httpx2.Response, bool]:
        """Send a request, and return the answer and whether the upstream was called."""
        before = len(self.tap.calls)
        named = {"x-goog-api-key": self.key} if headers is None else headers
        method = "POST" if body is not None or more else "GET"
        answer = HTTP.request(method, self.url + path, json=body, headers=named, **more)
        return answer, len(self.tap.calls) > before


@pytest.fixture(scope="module")
def tried(
    emulator: Running, tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str], tenants: Tenants
) -> Iterator[Tried]:
    with tapped(emulator.url) as tap:
        more = {**settings, "emulator_base_url": tap.url, "gcs_buckets": "bucket"}
        with running_gateway(tmp_path_factory.mktemp("parameters"), **more) as process:
            yield Tried(process.url, tenants.keys["gemini"], tap)


def filled(value: Any) -> Any:
    """The value with a picture in place of its name."""
    return json.loads(json.dumps(value).replace('"PNG"', f'"{PNG}"'))


def notices_of(answer: httpx2.Response) -> set[str]:
    return set(answer.headers.get("x-flashgate-notices", "").split(", ")) - {""}


def test_every_field_of_google_genai_has_a_row_and_no_other() -> None:
    sections = TABLE["google"]
    top = set(list_google_fields("GenerateContentConfig"))
    for message, section in sections.items():
        fields = list_google_fields(message)
        if message == "GenerationConfig":
            fields = {name: inner for name, inner in fields.items() if name not in top}
        needed = {name for name, inner in fields.items() if not inner & sections.keys()}
        assert needed <= section["fields"].keys() <= fields.keys(), message
    assert {row.verdict for row in ROWS} <= VERDICTS


def test_every_field_and_word_of_the_openai_sdk_has_a_row_and_no_other() -> None:
    assert OPENAI.keys() == TABLE["openai"].keys()
    for method in OPENAI:
        fields, rows = parameters.list_openai_values(method), TABLE["openai"][method]
        assert fields.keys() == rows.keys()
        for name, words in fields.items():
            if name == "model" or method == "create_variation":
                continue  # OpenAI's own models are all alike here, and so is a method that is not served
            tried = {row["value"] for row in rows[name] if isinstance(row["value"], (str, bool))}
            assert words <= tried, name


@pytest.mark.parametrize(
    ("enumeration", "member"),
    [
        (types.Modality, "GenerateContentConfig.response_modalities"),
        (types.MediaResolution, "GenerateContentConfig.media_resolution"),
        (types.HarmCategory, "SafetySetting.category"),
        (types.HarmBlockThreshold, "SafetySetting.threshold"),
        (types.HarmBlockMethod, "SafetySetting.method"),
        (types.ThinkingLevel, "ThinkingConfig.thinking_level"),
        (types.ServiceTier, "GenerateContentConfig.service_tier"),
    ],
)
def test_every_word_of_googles_enumerations_is_known(enumeration: type[Any], member: str) -> None:
    words: set[str] = set()
    for shape in GENERATE.values():
        place: Any = shape
        for step in WORDS[member].at.split("."):
            place = place[step]
        assert isinstance(place, Enumeration)
        words |= {word.lower() for word in place.words}
    assert {each.value.lower() for each in enumeration} <= words


def test_every_parameter_that_the_gateway_knows_is_in_the_table() -> None:
    queries = {row["name"].removeprefix("$") for row in TABLE["google_queries"]}
    assert {name.removeprefix("$") for known in QUERIES.values() for name in known} <= queries
    assert HEADERS.keys() <= {row["name"].lower() for row in TABLE["google_headers"]}


def test_the_document_is_the_table() -> None:
    document = Path(__file__).parents[2] / "docs" / "parameters.md"
    assert document.read_text(encoding="utf-8") == parameters.render()


@pytest.mark.parametrize("row", [row for row in ROWS if row.verdict != "SDK only"], ids=lambda row: row.name)
def test_a_member_of_googles_bodies_is_treated_as_the_table_says(tried: Tried, row: Row) -> None:
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": secrets.token_hex(4)}]}]}
    if row.at.startswith("contents.parts."):
        body["contents"][0]["parts"].append({})
    for path, value in row.beside.items():
        parameters.put(body, path, filled(value))
    parameters.put(body, row.at, filled(row.value))
    answer, called = tried.send(f"{MODELS}/{MODEL}:generateContent", body)
    if row.verdict == "refused":
        assert (answer.status_code, called) == (400, False)
        fields = [item["field"] for item in answer.json()["error"]["details"][0]["fieldViolations"]]
        named = re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: "_" + match[1].lower(), row.at)
        assert [re.sub(r"\[\d+\]", "", field) for field in fields] == [named]
        return
    assert called, answer.text
    told = "parameter_without_effect" in notices_of(answer)
    assert told == (row.verdict == "no effect")
    if told:
        assert get(tried.tap.calls[-1].body, row.at) is None
        return
    reached = tried.tap.calls[-1]
    for path, value in row.sent.items():
        assert get(reached.body, path) == filled(value), path
    for name, value in row.sent_headers.items():
        assert reached.headers[name] == value
    if not row.sent and not row.sent_headers:
        assert answer.status_code == 200


def _call(tried: Tried, row: dict[str, Any], *, query: bool) -> tuple[httpx2.Response, bool]:
    value = str(row["value"]).replace("KEY", tried.key).replace("ID", secrets.token_hex(8))
    named = {} if "KEY" in str(row["value"]) else {"x-goog-api-key": tried.key}
    method = row.get("method", "generateContent")
    path = MODELS if method == "list" else f"{MODELS}/{MODEL}:{method}"
    body = None if method == "list" else {"contents": [{"role": "user", "parts": [{"text": "A fox"}]}]}
    if query:
        return tried.send(f"{path}?{row['name']}={value}", body, named)
    return tried.send(path, body, {**named, row["name"]: value})


@pytest.mark.parametrize(
    ("part", "row"),
    [(part, row) for part in ("google_queries", "google_headers") for row in TABLE[part]],
    ids=lambda value: value if isinstance(value, str) else f"{value['name']}={value.get('value')}",
)
def test_a_query_parameter_or_header_of_google_is_treated_as_the_table_says(
    tried: Tried, part: str, row: dict[str, Any]
) -> None:
    answer, called = _call(tried, row, query=part == "google_queries")
    if row["verdict"] == "refused":
        assert answer.status_code in {400, 415}
        assert not called
        named = answer.text.lower().replace("_", "")
        assert row["name"].lower() in named or "deadline" in named
        return
    assert answer.status_code == 200, answer.text
    told = row["verdict"] == "no effect" and row.get("told", True)
    assert ("parameter_without_effect" in notices_of(answer)) == told
    if row["name"] == "X-Vertex-AI-LLM-Shared-Request-Type":
        assert tried.tap.calls[-1].headers[row["name"].lower()] == row["value"]
    if row["name"] == "pageSize":
        assert len(answer.json()["publisherModels"]) == int(row["value"])
    if row["value"] == "sse":
        assert answer.headers["content-type"].startswith("text/event-stream")


OPENAI_ROWS: Final = [
    (method, name, row)
    for method, fields in TABLE["openai"].items()
    for name, rows in fields.items()
    for row in rows
]
ROUTES: Final = {"generate": "generations", "edit": "edits", "create_variation": "variations"}


def _ask(tried: Tried, method: str, name: str, row: dict[str, Any]) -> tuple[httpx2.Response, bool]:
    path, headers = f"/openai/v1/images/{ROUTES[method]}", {"authorization": f"Bearer {tried.key}"}
    if method == "generate":
        return tried.send(path, {"prompt": secrets.token_hex(4), name: row["value"]}, headers)
    picture = ("a.png", image_bytes("harbour.png"), "image/png")
    files: list[tuple[str, Any]] = [("prompt", (None, secrets.token_hex(4)))] * (name != "prompt")
    files += [("image", picture)] * (name != "image")
    value = row["value"]
    if value == "PNG":
        files.append((name, picture))
    elif isinstance(value, dict):
        files += [(f"{name}[{inner}]", (None, str(each))) for inner, each in value.items()]
    else:
        files.append((name, (None, json.dumps(value) if isinstance(value, bool) else str(value))))
    return tried.send(path, None, headers, files=files)


@pytest.mark.parametrize(
    ("method", "name", "row"),
    OPENAI_ROWS,
    ids=lambda value: value if isinstance(value, str) else str(value["value"]),
)
def test_a_field_of_openais_methods_is_treated_as_the_table_says(
    tried: Tried, method: str, name: str, row: dict[str, Any]
) -> None:
    answer, called = _ask(tried, method, name, row)
    if row["verdict"] == "refused":
        assert not called
        if method == "create_variation":
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        else:
            assert answer.status_code == (404 if name == "model" else 400)
            assert answer.json()["error"]["param"] == name
        return
    assert answer.status_code == 200, answer.text
    told = {item["code"] for item in answer.json()["warnings"]} & TOLD
    assert bool(told) == (row["verdict"] == "no effect")
    assert told <= notices_of(answer)
    for path, value in row.get("shows", {}).items():
        assert _find_shown(answer.json(), tried.tap.calls[-1].body, path, row) == value, path


def _find_shown(answer: dict[str, Any], reached: dict[str, Any], path: str, row: dict[str, Any]) -> Any:
    """What the answer, or what reached the upstream, shows of a field."""
    if path.startswith("answer."):
        return answer[path.removeprefix("answer.")]
    if path == "pictures":
        return len(answer["data"])
    if path in {"b64_json", "url"}:
        return bool(answer["data"][0][path])
    if path == "contents.parts.inlineData":
        return any(part.get("inlineData", {}).get("data") == PNG for part in reached["contents"][-1]["parts"])
    return get(reached, path)


@pytest.mark.parametrize("row", TABLE["openai_headers"], ids=lambda row: str(row["name"]))
def test_a_header_of_openai_is_treated_as_the_table_says(tried: Tried, row: dict[str, Any]) -> None:
    value = str(row["value"]).replace("KEY", tried.key).replace("ID", secrets.token_hex(8))
    headers = {} if "KEY" in str(row["value"]) else {"authorization": f"Bearer {tried.key}"}
    path = "/openai/v1/images/generations"
    if row["name"].startswith("?"):
        path += f"{row['name']}={value}"
    else:
        headers[row["name"]] = value
    answer, called = tried.send(path, {"prompt": "A fox", "size": "512x512"}, headers)
    if row["verdict"] == "refused":
        assert (answer.status_code, called) == (400, False)
        assert answer.json()["error"]["param"] == row["name"].removeprefix("?")
        return
    assert answer.status_code == 200, answer.text
    told = row["verdict"] == "no effect" and row.get("told", True)
    assert ("parameter_without_effect" in notices_of(answer)) == told
