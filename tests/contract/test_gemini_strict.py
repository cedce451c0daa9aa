"""What Google's dialect refuses by name before a call, on each of its routes, and what is not there."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app.domain.errors import ConfigurationError
from tests.changed_constants import environment_of, settings_of
from tests.contract.test_gemini_rest import MODEL, Rest, error_of, rest, words
from tests.processes import running_gateway
from tests.server.conftest import Tenants, calls_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Running

__all__ = ["rest"]

GEMINI = "/v1beta/models"
EXPRESS = "/v1beta1/publishers/google/models"
PROJECT = "/v1/projects/p/locations/{}/publishers/google/models"
VERBS = ("generateContent", "streamGenerateContent", "streamGenerateContent?alt=sse", "countTokens")
ROUTES = [f"{base}/{MODEL}:{verb}" for base in (GEMINI, EXPRESS, PROJECT.format("global")) for verb in VERBS]
JUNK = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(b"junk\xff" * 9).decode()}}


def saying(**members: Any) -> dict[str, Any]:
    return {**words("Strictly"), **members}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"cachedContent": "cachedContents/1"}, "cached_content"),
        ({"cached_content": "cachedContents/1"}, "cached_content"),
        ({"modelArmorConfig": {"promptTemplateName": "t"}}, "model_armor_config"),
        ({"wishList": {"a": 1}}, "wish_list"),
        *(
            ({"tools": [{"googleSearch": {}}, {tool: {}}]}, f"tools[1].{field}")
            for tool, field in (
                ("urlContext", "url_context"),
                ("url_context", "url_context"),
                ("googleMaps", "google_maps"),
                ("codeExecution", "code_execution"),
                ("enterpriseWebSearch", "enterprise_web_search"),
                ("mcpServers", "mcp_servers"),
                ("fileSearch", "file_search"),
                ("retrieval", "retrieval"),
                ("computerUse", "computer_use"),
            )
        ),
        ({"generationConfig": {"routingConfig": {}}}, "generation_config.routing_config"),
        ({"toolConfig": {"newConfig": {}}}, "tool_config.new_config"),
        (
            {"contents": [{"parts": [{"text": "A"}, {"toolCall": {"id": "1"}}]}]},
            "contents[0].parts[1].tool_call",
        ),
        (
            {"systemInstruction": {"parts": [{"text": "A", "mediaProcessing": "AGENTIC"}]}},
            "system_instruction.parts[0].media_processing",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unknown_member_is_refused_by_name_before_a_call(
    rest: Rest, emulator: Running, path: str, more: dict[str, Any], field: str
) -> None:
    calls = calls_of(emulator)
    answer = rest.post(path, saying(**more))
    assert error_of(answer) == (400, 400, "INVALID_ARGUMENT")
    (violation,) = answer.json()["error"]["details"][0]["fieldViolations"]
    assert (violation["field"], violation["reason"]) == (field, "UNKNOWN_FIELD")
    assert " Accepted: " in violation["description"]
    assert calls_of(emulator) == calls


def test_what_is_wrapped_to_be_counted_is_judged_alike(rest: Rest) -> None:
    body = {"generateContentRequest": saying(cachedContent="cachedContents/1")}
    answer = rest.generate(body, "countTokens")
    assert error_of(answer) == (400, 400, "INVALID_ARGUMENT")
    (violation,) = answer.json()["error"]["details"][0]["fieldViolations"]
    assert violation["field"] == "generate_content_request.cached_content"


@pytest.mark.parametrize("path", [path for path in ROUTES if "countTokens" not in path])
@pytest.mark.parametrize(
    "body",
    [
        {"contents": [{"parts": [{"text": "A"}]}, {"role": "model", "parts": [JUNK] * 20}]},
        {"contents": {"parts": [{"functionResponse": {"name": "f", "parts": [JUNK]}}, {"text": "A"}]}},
        {"contents": {"parts": {"text": "A"}}, "systemInstruction": {"parts": [JUNK]}},
    ],
    ids=["model", "function response", "system instruction"],
)
def test_a_file_is_judged_wherever_it_stands(
    rest: Rest, emulator: Running, path: str, body: dict[str, Any]
) -> None:
    calls = calls_of(emulator)
    answer = rest.post(path, body)
    assert error_of(answer) == (400, 400, "INVALID_ARGUMENT")
    assert "UNSUPPORTED_IMAGE_TYPE" in answer.text
    assert calls_of(emulator) == calls


def reached(rest: Rest, base: str) -> list[httpx2.Response]:
    """Every method of the API below a path of models."""
    key = {"x-goog-api-key": rest.key}
    listed = httpx2.get(f"{rest.url}/gemini{base}", headers=key)
    shown = httpx2.get(f"{rest.url}/gemini{base}/{MODEL}", headers=key)
    return [listed, shown, *(rest.post(f"{base}/{MODEL}:{verb}", words("Where")) for verb in VERBS)]


@pytest.mark.parametrize(
    "location", ["europe-west4", "us-central1", "us", "eu", "mars", "Global", "global%20"]
)
def test_a_location_that_is_not_served_is_not_found(rest: Rest, emulator: Running, location: str) -> None:
    calls = calls_of(emulator)
    for answer in reached(rest, PROJECT.format(location)):
        assert error_of(answer) == (404, 404, "NOT_FOUND")
        assert "Available locations: locations/global." in answer.json()["error"]["message"]
    assert calls_of(emulator) == calls


@pytest.fixture(scope="module")
def elsewhere(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str], tenants: Tenants
) -> Iterator[Rest]:
    """A gateway whose operator chose a region, and a member that the gateway does not know."""
    more = {"vertex_location": "europe-west4", "gemini_extra_members": "tools.urlContext=20000/call"}
    with running_gateway(tmp_path_factory.mktemp("elsewhere"), **settings, **more) as process:
        yield Rest(process.url, tenants.keys["gemini"])


@pytest.mark.parametrize(
    ("location", "status"), [("europe-west4", 200), ("global", 200), ("us-central1", 404)]
)
def test_the_location_of_the_deployment_is_served(elsewhere: Rest, location: str, status: int) -> None:
    for answer in reached(elsewhere, PROJECT.format(location)):
        assert answer.status_code == status
        assert status == 200 or "locations: locations/europe-west4, locations/global." in answer.text


def test_what_an_operator_lets_pass_is_judged_by_the_upstream(elsewhere: Rest) -> None:
    answer = elsewhere.generate(saying(tools=[{"url_context": {}}]))
    assert answer.status_code == 400
    assert "Unsupported tool" in answer.json()["error"]["message"]
    other = elsewhere.generate(saying(tools=[{"codeExecution": {}}]))
    assert "UNKNOWN_FIELD" in other.text


def test_a_region_is_not_served_where_a_back_end_without_regions_may_answer() -> None:
    def location(**chosen: str) -> str:
        known = {"vertex_project": "p", "vertex_location": "europe-west4", "gemini_api_key": "k"}
        return settings_of(environment_of({**known, **chosen})).location

    assert location() == location(upstream="vertex") == "europe-west4"
    assert location(upstream="vertex,gemini") == location(upstream="gemini") == "global"
    assert location(upstream="vertex", upstream_by_model="m=gemini") == "global"


@pytest.mark.parametrize("path", ["tools.url_context", "tools[].urlContext", ".", "/tools/urlContext"])
def test_a_member_that_could_never_match_keeps_the_gateway_from_starting(path: str) -> None:
    with pytest.raises(ConfigurationError, match="must be paths such as"):
        settings_of(environment_of({"gemini_extra_members": f"{path}=unpriced"}))


@pytest.mark.parametrize("price", ["", "free", "1", "-1/call", "1.5/byte", "1/token", "9999999999/call"])
def test_a_price_that_cannot_be_read_keeps_the_gateway_from_starting(price: str) -> None:
    with pytest.raises(ConfigurationError, match="must be prices such as 20000/call or 2/byte, or unpriced"):
        settings_of(environment_of({"gemini_extra_members": f"tools.urlContext={price}"}))


@pytest.mark.parametrize("version", ["v9", "v2", "v1beta2", "beta"])
def test_a_version_that_google_does_not_have_is_not_found(rest: Rest, version: str) -> None:
    for base in (f"/{version}/models", f"/{version}/projects/p/locations/global/publishers/google/models"):
        for answer in reached(rest, base):
            assert error_of(answer) == (404, 404, "NOT_FOUND")
            assert "v1beta1" in answer.json()["error"]["message"]


@pytest.mark.parametrize("base", [GEMINI, EXPRESS, PROJECT.format("global")])
@pytest.mark.parametrize(
    ("method", "suffix"),
    [
        *(
            ("POST", f"/{MODEL}:{verb}")
            for verb in (
                *("batchGenerateContent", "predict", "predictLongRunning", "rawPredict", "embedContent"),
                *("computeTokens", "GenerateContent", "generate_content", "generateContent:generateContent"),
            )
        ),
        ("POST", f"/{MODEL}"),
        ("POST", ""),
        ("PUT", f"/{MODEL}:generateContent"),
        ("DELETE", f"/{MODEL}"),
        ("PATCH", f"/{MODEL}"),
        ("GET", f"/{MODEL}:generateContent"),
        ("GET", f"/{MODEL}/operations/1"),
    ],
)
def test_a_method_that_is_not_served_is_not_found(rest: Rest, base: str, method: str, suffix: str) -> None:
    headers = {"x-goog-api-key": rest.key}
    answer = httpx2.request(method, f"{rest.url}/gemini{base}{suffix}", json={}, headers=headers)
    assert error_of(answer) == (404, 404, "NOT_FOUND")
    assert "allow" not in answer.headers


def test_what_is_there_for_other_methods_says_so(rest: Rest) -> None:
    answer = httpx2.post(f"{rest.url}/v1/images/img_{'0' * 64}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, DELETE")
