"""Google's REST API as scripts call it: keys anywhere, any version, bodies and answers to the byte."""

from __future__ import annotations

import json
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.server.conftest import Tenants, calls_of, wait_for

if TYPE_CHECKING:
    from tests.processes import Running

MODEL = "gemini-3.1-flash-image"
OF_THE_CALL = re.compile(rb'("(?:responseId|createTime)": ?)"[^"]*"')


@dataclass(frozen=True)
class Rest:
    """A script with one key."""

    url: str
    key: str

    def post(
        self, path: str, body: dict[str, Any] | str, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        """POST to a path below ``/gemini``; the key goes in Google's header unless others are given."""
        return httpx2.post(
            f"{self.url}/gemini{path}",
            content=body if isinstance(body, str) else json.dumps(body),
            headers={"content-type": "application/json", **(headers or {"x-goog-api-key": self.key})},
            timeout=60,
        )

    def generate(self, body: dict[str, Any] | str, verb: str = "generateContent") -> httpx2.Response:
        """Call a method of the model."""
        return self.post(f"/v1beta/models/{MODEL}:{verb}", body)


@pytest.fixture
def rest(gateway: Running, tenants: Tenants) -> Rest:
    return Rest(gateway.url, tenants.keys["gemini"])


def words(text: str) -> dict[str, Any]:
    """A request that nobody made before, for a small picture; its seed lets equal ones be shared."""
    prompt = f"{text} {secrets.token_hex(4)}"
    config = {"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "512"}, "seed": 7}
    return {"contents": [{"parts": [{"text": prompt}]}], "generationConfig": config}


def error_of(answer: httpx2.Response) -> tuple[int, int, str]:
    """HTTP status, and code and status of the body; every error has details."""
    error = answer.json()["error"]
    assert error["details"]
    return answer.status_code, error["code"], error["status"]


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/models/{MODEL}:generateContent",
        f"/v1beta/models/{MODEL}:generateContent",
        "/v1beta/models/nano-banana-2:generateContent",
        f"/v1beta1/publishers/google/models/{MODEL}:generateContent",
        f"/v1/projects/p/locations/global/publishers/google/models/{MODEL}:generateContent",
        f"/v1beta1/projects/p/locations/global/publishers/google/models/{MODEL}:generateContent",
    ],
)
def test_every_form_of_the_path_is_served(rest: Rest, path: str) -> None:
    answer = rest.post(path, {"contents": {"parts": {"text": "Any path"}}})
    assert answer.status_code == 200
    assert answer.json()["candidates"][0]["finishReason"] == "STOP"


def test_a_key_is_taken_from_every_place_and_never_logged(rest: Rest, gateway: Running) -> None:
    path = f"/v1beta/models/{MODEL}:countTokens"
    body = words("Keys")
    nowhere = {"x-nothing": "here"}
    answers = [
        rest.post(path, body, {"x-goog-api-key": rest.key}),
        rest.post(path, body, {"authorization": f"Bearer {rest.key}"}),
        rest.post(path, body, {"x-api-key": rest.key}),
        rest.post(f"{path}?key={rest.key}", body, nowhere),
        rest.post(f"{path}?key=fg_wrong_key", body, nowhere),
        rest.post(path, body, nowhere),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 400, 400]
    log = Path(f"/proc/{gateway.process.pid}/fd/1").readlink().read_text()
    assert '"/gemini/{version}/models/{model}:countTokens"' in log
    assert rest.key not in log
    assert "fg_wrong_key" not in log


@pytest.mark.parametrize("rehearsal", ["", "[[emulate:pretty]]", "[[emulate:escaped-padding]]"])
def test_the_answer_is_the_upstreams_to_the_byte(rest: Rest, emulator: Running, rehearsal: str) -> None:
    body = words(f"Bytes {rehearsal}")
    body["generationConfig"]["thinkingConfig"] = {"includeThoughts": True, "thinkingLevel": "HIGH"}
    body["contents"][0]["role"] = "user"
    straight = httpx2.post(
        f"{emulator.url}/v1beta1/publishers/google/models/{MODEL}:generateContent",
        json=body,
        headers={"x-goog-api-key": "a-key"},
        timeout=60,
    ).content
    through = rest.generate(body)
    kept = rest.generate(body)
    assert through.headers["cache-status"].startswith("flashgate; fwd=miss")
    assert kept.headers["cache-status"].startswith("flashgate; hit")
    assert kept.content == through.content
    # Base64 has one spelling here; the escape that some front ends write for = means the same.
    expected = OF_THE_CALL.sub(rb"\1", straight).replace(rb"\u003d", b"=")
    assert OF_THE_CALL.sub(rb"\1", through.content).replace(rb"\u003d", b"=") == expected
    assert through.content.count(b'"thought": true' if "pretty" in rehearsal else b'"thought":true') == 2


@pytest.mark.parametrize("rehearsal", ["", "[[emulate:pretty]]"])
def test_a_stream_is_one_event_or_an_array_of_one(rest: Rest, rehearsal: str) -> None:
    body = words(f"Events {rehearsal}")
    whole = rest.generate(body).json()
    events = rest.generate(body, "streamGenerateContent?alt=sse")
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.text.startswith("data: ")
    assert events.text.endswith("\r\n\r\n")
    (line,) = [line for line in events.text.splitlines() if line]
    assert json.loads(line.removeprefix("data: ")) == whole
    array = rest.generate(body, "streamGenerateContent")
    assert array.headers["content-type"] == "application/json"
    assert array.json() == [whole]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1beta/models/gemini-9:generateContent", (404, 404, "NOT_FOUND")),
        (f"/v9/models/{MODEL}:generateContent", (404, 404, "NOT_FOUND")),
        (f"/v1beta/models/{MODEL}:embedContent", (404, 404, "NOT_FOUND")),
        ("/v1beta/files", (404, 404, "NOT_FOUND")),
        (f"/v1beta/models/{MODEL}", (404, 404, "NOT_FOUND")),
    ],
)
def test_what_is_not_there_is_answered_in_googles_words(
    rest: Rest, path: str, expected: tuple[int, int, str]
) -> None:
    assert error_of(rest.post(path, words("Nowhere"))) == expected


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        ("{", {}, (400, 400, "INVALID_ARGUMENT")),
        ("[]", {}, (400, 400, "INVALID_ARGUMENT")),
        ("{}", {"content-type": "text/plain"}, (400, 400, "INVALID_ARGUMENT")),
        ("{}", {"x-server-timeout": "5"}, (400, 400, "INVALID_ARGUMENT")),
        (json.dumps({"contents": "x" * 1_100_000}), {}, (413, 413, "INVALID_ARGUMENT")),
    ],
    ids=["cut", "list", "type", "deadline", "large"],
)
def test_unreadable_requests_are_answered_in_googles_words(
    rest: Rest, body: str, headers: dict[str, str], expected: tuple[int, int, str]
) -> None:
    path = f"/v1beta/models/{MODEL}:generateContent"
    named = {"x-goog-api-key": rest.key, "content-type": "application/json", **headers}
    assert error_of(rest.post(path, body, named)) == expected


@pytest.mark.parametrize(
    ("rehearsal", "expected"),
    [
        ("invalid", (400, 400, "INVALID_ARGUMENT")),
        ("deadline", (504, 504, "DEADLINE_EXCEEDED")),
        ("reset", (500, 500, "INTERNAL")),
        ("bad-key", (500, 500, "INTERNAL")),
        ("not-found", (500, 500, "INTERNAL")),
    ],
)
def test_failures_behind_the_gateway_are_answered_in_googles_words(
    rest: Rest, rehearsal: str, expected: tuple[int, int, str]
) -> None:
    answer = rest.generate(words(f"[[emulate:{rehearsal}]]"))
    assert error_of(answer) == expected
    assert "emulate" not in answer.text, "nobody's prompt is repeated"


def test_who_waited_for_a_blocked_prompt_gets_the_same_answer(
    rest: Rest, gateway: Running, emulator: Running
) -> None:
    gate = secrets.token_hex(4)
    body = words(f"[[emulate:blocked-prompt]] [[emulate:hold:{gate}]]")
    calls = calls_of(emulator)

    def waiting() -> bool:
        return 'flashgate_in_flight{stage="waiting"} 1.0' in httpx2.get(gateway.metrics_url).text

    def held() -> bool:
        return bool(httpx2.get(f"{emulator.url}/emulator/held/{gate}").json()["held"])

    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(rest.generate, body) for _ in range(2)]
        try:
            wait_for(held, "one of the two is being made")
            wait_for(waiting, "the other one waits for it")
        finally:
            httpx2.post(f"{emulator.url}/emulator/release/{gate}")
        seen = [answer.result() for answer in answers]
    assert [answer.status_code for answer in seen] == [200, 200]
    assert seen[0].content == seen[1].content
    assert seen[0].json()["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT"}
    assert calls_of(emulator) - calls == 1


def test_a_request_that_has_a_name_is_made_once_streamed_or_whole(rest: Rest, emulator: Running) -> None:
    path = f"/v1beta/models/{MODEL}"
    body = words("Named")
    headers = {
        "x-goog-api-key": rest.key,
        "idempotency-key": secrets.token_hex(8),
        "cache-control": "no-store",
    }
    calls = calls_of(emulator)
    first = rest.post(f"{path}:generateContent", body, headers)
    again = rest.post(f"{path}:generateContent", body, headers)
    streamed = rest.post(f"{path}:streamGenerateContent", body, headers)
    assert calls_of(emulator) - calls == 1
    assert again.content == first.content
    assert streamed.json() == [first.json()]
    seen = [answer.headers.get("idempotency-replayed") for answer in (first, again, streamed)]
    assert seen == [None, "true", "true"]
    other = rest.post(f"{path}:generateContent", words("Another"), headers)
    assert error_of(other) == (400, 400, "INVALID_ARGUMENT")
    assert other.json()["error"]["details"][0]["reason"] == "IDEMPOTENCY_MISMATCH"


@pytest.mark.parametrize(
    ("path", "around"),
    [
        ("/v1beta/models", "generateContentRequest"),
        ("/v1beta/models", "generate_content_request"),
        ("/v1beta1/publishers/google/models", None),
    ],
)
def test_tokens_are_counted_in_every_form(rest: Rest, path: str, around: str | None) -> None:
    counted = {"contents": [{"parts": [{"text": "abc"}]}], "systemInstruction": {"parts": [{"text": "def"}]}}
    body = {around: {"model": f"models/{MODEL}", **counted}} if around else counted
    answer = rest.post(f"{path}/{MODEL}:countTokens", body).json()
    assert answer["totalTokens"] == 2
    assert answer["promptTokensDetails"] == [{"modality": "TEXT", "tokenCount": 2}]


def test_models_come_in_pages(rest: Rest) -> None:
    def page(query: str) -> dict[str, Any]:
        answer = httpx2.get(f"{rest.url}/gemini/v1beta/models{query}", headers={"x-goog-api-key": rest.key})
        return dict(answer.json())

    first = page("?pageSize=3")
    second = page(f"?pageSize=3&pageToken={first['nextPageToken']}")
    assert [len(first["models"]), len(second["models"])] == [3, 1]
    assert "nextPageToken" not in second
    assert page("?pageSize=0")["models"] == first["models"] + second["models"]
    assert page("?pageSize=-1")["error"]["code"] == 400
