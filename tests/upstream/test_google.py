"""GoogleImageModel against a real server: what is sent, what comes of it, what it may have cost."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.cards import load_catalogue
from app.domain.errors import (
    ContentBlocked,
    DeadlineExceeded,
    GatewayError,
    InternalError,
    InvalidHistory,
    MaxTokens,
    ModelRefused,
    UpstreamError,
    UpstreamInvalidRequest,
    UpstreamNoImage,
    UpstreamQuota,
    UpstreamRejected,
    UpstreamUnavailable,
)
from app.domain.fingerprint import compute_digest
from app.domain.generation import ModelAnswer, Usage
from app.domain.request import Grounding, Input, SafetySetting
from app.upstream.google.backend import BackEnd
from app.upstream.google.client import GoogleImageModel
from tests.upstream.conftest import MODEL, PNG, USAGE, answer, asked, calling, large_png, lasting, part
from tests.upstream.server import Received, Upstream, answering, dropping, head, png, silence, trickling

if TYPE_CHECKING:
    from pathlib import Path

    from app.domain.request import GenerationRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "a purple elephant on my lawn"
FINISH_MESSAGE = "Unable to show the generated image. It violated the policy. Support code: 11030041."


async def answered(
    server: Upstream, model: GoogleImageModel, body: Any, request: GenerationRequest | None = None
) -> ModelAnswer:
    server.reply = answering(body)
    return await model.generate(request or asked(), None, lasting(20))


async def failed(
    server: Upstream, model: GoogleImageModel, reply: Any, timeout_s: float = 20
) -> GatewayError:
    server.reply = reply
    with pytest.raises(GatewayError) as raised:
        await model.generate(asked(prompt=SECRET), None, lasting(timeout_s))
    return raised.value


# --- what is sent ----------------------------------------------------------------------------------------


async def test_every_parameter_of_a_request_is_sent(server: Upstream, model: GoogleImageModel) -> None:
    request = asked(
        PNG,
        aspect_ratio="16:9",
        image_size="2K",
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=4000,
        thinking_level="high",
        system_instruction="be kind",
        response_modalities=("TEXT", "IMAGE"),
        output_mime_type="image/jpeg",
        output_compression_quality=80,
        safety_settings=(SafetySetting("HARM_CATEGORY_HARASSMENT", "BLOCK_NONE"),),
        grounding=Grounding(web_search=True),
        seed=1,
    )
    server.reply = answering(answer(part()))
    await model.generate(request, 7, lasting(20))
    sent = server.received[0].json
    assert sent["contents"] == [
        {
            "role": "user",
            "parts": [
                {"inlineData": {"data": base64.b64encode(PNG).decode(), "mime_type": "image/png"}},
                {"text": "a cat"},
            ],
        }
    ]
    assert sent["generationConfig"] == {
        "temperature": 0.5,
        "topP": 0.9,
        "maxOutputTokens": 4000,
        "seed": 7,
        "responseModalities": ["TEXT", "IMAGE"],
        "thinkingConfig": {"thinking_level": "HIGH"},
        "imageConfig": {
            "aspectRatio": "16:9",
            "imageSize": "2K",
            "imageOutputOptions": {"mimeType": "image/jpeg", "compressionQuality": 80},
        },
    }
    assert sent["systemInstruction"]["parts"] == [{"text": "be kind"}]
    assert sent["safetySettings"] == [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    assert [list(tool) for tool in sent["tools"]] == [["googleSearch"]]


async def test_what_the_caller_left_open_is_left_to_the_model(
    server: Upstream, model: GoogleImageModel
) -> None:
    await answered(server, model, answer(part()))
    sent = server.received[0].json
    assert sent["generationConfig"] == {"responseModalities": ["IMAGE"]}
    assert set(sent) == {"contents", "generationConfig"}


async def test_inputs_come_in_order_before_the_prompt(server: Upstream, model: GoogleImageModel) -> None:
    request = asked(
        b"one",
        b"two",
        documents=(
            Input("document", "/documents/0", uri="gs://b/a.pdf", declared_mime_type="application/pdf"),
            Input("document", "/documents/1", data=b"words", mime_type="text/plain"),
        ),
    )
    await answered(server, model, answer(part()), request)
    parts = server.received[0].json["contents"][0]["parts"]
    assert [item.get("inlineData", {}).get("data") for item in parts] == [
        "b25l",
        "dHdv",
        None,
        "d29yZHM=",
        None,
    ]
    assert list(parts[2].values()) == [{"file_uri": "gs://b/a.pdf", "mime_type": "application/pdf"}]
    assert parts[4] == {"text": "a cat"}


@pytest.mark.parametrize(
    ("kind", "path", "key"),
    [
        ("emulator", f"/v1beta1/publishers/google/models/{MODEL}:generateContent", "emulator"),
        ("gemini", f"/v1beta/models/{MODEL}:generateContent", "the-key"),
        ("vertex", f"/v1beta1/publishers/google/models/{MODEL}:generateContent", "the-key"),
    ],
)
async def test_each_back_end_has_its_address_whatever_the_environment_says(
    server: Upstream, kind: Any, path: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "GOOGLE_API_KEY": "from-the-environment",
        "GEMINI_API_KEY": "from-the-environment",
        "GOOGLE_CLOUD_PROJECT": "from-the-environment",
        "GOOGLE_CLOUD_LOCATION": "mars",
        "GOOGLE_GENAI_API_VERSION": "v9",
        "GOOGLE_GENAI_USE_VERTEXAI": "false" if kind != "gemini" else "true",
        "GOOGLE_GEMINI_BASE_URL": "http://192.0.2.1",
        "GOOGLE_VERTEX_BASE_URL": "http://192.0.2.1",
        "GOOGLE_GENAI_CLIENT_MODE": "replay",
        "HTTP_PROXY": "http://192.0.2.1:3128",
        "ALL_PROXY": "http://192.0.2.1:3128",
    }.items():
        monkeypatch.setenv(name, value)
    async with calling(server.url, kind) as model:
        await answered(server, model, answer(part()))
    [received] = server.received
    assert (received.path, received.headers["x-goog-api-key"]) == (path, key)
    assert "from-the-environment" not in str(received)


async def test_the_upstream_is_told_how_long_it_has(server: Upstream, model: GoogleImageModel) -> None:
    await answered(server, model, answer(part()))
    assert server.received[0].headers["x-server-timeout"] == "20"


# --- pictures --------------------------------------------------------------------------------------------


async def test_a_picture_is_what_its_bytes_say(server: Upstream, model: GoogleImageModel) -> None:
    data = png(1376, 768)
    came = await answered(server, model, answer(part(data, thoughtSignature="c2ln")))
    [picture] = came.pictures
    assert (picture.mime_type, picture.width, picture.height) == ("image/png", 1376, 768)
    assert picture.data == data
    assert picture.id == "img_" + compute_digest(data)
    assert came.signatures == ("c2ln",)
    assert (came.finish_reason, came.model_version, came.response_id) == (
        "STOP",
        f"{MODEL}-001",
        "response-1",
    )


async def test_a_large_picture_has_the_same_kind_of_id(server: Upstream, model: GoogleImageModel) -> None:
    data = large_png(2_000_000)
    came = await answered(server, model, answer(part(data)))
    assert came.pictures[0].id == "img_" + compute_digest(data)


async def test_thoughts_are_no_result(server: Upstream, model: GoogleImageModel) -> None:
    body = answer(
        {"text": "let me think", "thought": True},
        part(png(1, 1), thought=True),
        {"text": "Here "},
        part(png(2, 2)),
        {"text": "it is."},
        part(png(3, 3)),
    )
    came = await answered(server, model, body)
    assert [picture.width for picture in came.pictures] == [2, 3]
    assert came.text == "Here it is."


async def test_a_picture_that_came_only_as_a_thought_is_the_result(
    server: Upstream, model: GoogleImageModel
) -> None:
    came = await answered(server, model, answer(part(png(1, 1), thought=True), part(png(2, 2), thought=True)))
    assert [picture.width for picture in came.pictures] == [2]


@pytest.mark.parametrize("finish_reason", ["STOP", "A_REASON_OF_2027", "MAX_TOKENS", None, 7])
async def test_a_picture_is_delivered_whatever_the_finish_reason(
    server: Upstream, model: GoogleImageModel, finish_reason: Any
) -> None:
    came = await answered(server, model, answer(part(), finishReason=finish_reason))
    assert came.pictures[0].data == PNG
    assert came.finish_reason == (finish_reason if isinstance(finish_reason, str) else "")


async def test_fields_of_odd_types_do_not_cost_the_picture(server: Upstream, model: GoogleImageModel) -> None:
    body = answer("no part", None, {"inlineData": 5}, {"text": 5}, {"inlineData": {"data": 5}}, part())
    body |= {"usageMetadata": "none", "modelVersion": 5, "promptFeedback": [], "news": {"a": [1]}}
    came = await answered(server, model, body)
    assert came.pictures[0].data == PNG
    assert (came.model_version, came.usage.estimated) == (MODEL, True)


@pytest.mark.parametrize(
    "data", [b"", b"this is no image", PNG[:20]], ids=["empty", "not_an_image", "cut_in_its_header"]
)
async def test_a_damaged_picture_was_paid_for_and_is_not_delivered(
    server: Upstream, model: GoogleImageModel, data: bytes
) -> None:
    error = await failed(server, model, answering(answer(part(data))))
    assert type(error) is UpstreamError
    assert (error.billed, error.usage and error.usage.image_output) == ("yes", 1120)


async def test_a_picture_cut_at_its_end_is_delivered_as_it_came(
    server: Upstream, model: GoogleImageModel
) -> None:
    came = await answered(server, model, answer(part(PNG[:-12])))
    assert came.pictures[0].data == PNG[:-12]


async def test_text_that_is_no_base64_is_a_damaged_picture(server: Upstream, model: GoogleImageModel) -> None:
    error = await failed(server, model, answering(answer({"inlineData": {"data": "no base64!"}})))
    assert isinstance(error, UpstreamError)
    assert error.billed == "yes"


# --- usage -----------------------------------------------------------------------------------------------


async def test_usage_is_what_google_reports(server: Upstream, model: GoogleImageModel) -> None:
    body = answer(part())
    body["usageMetadata"] = {**USAGE, "thoughtsTokenCount": 30, "toolUsePromptTokenCount": 4,
                             "cachedContentTokenCount": 20}  # fmt: skip
    came = await answered(server, model, body)
    assert came.usage == Usage(
        text_input=47,
        image_input=258,
        image_output=1120,
        text_output=482,
        thinking=30,
        tool_use=4,
        cached_input=20,
    )


async def test_usage_that_was_not_reported_is_the_tables(server: Upstream, model: GoogleImageModel) -> None:
    body = answer(part())
    del body["usageMetadata"]
    came = await answered(server, model, body, asked(PNG, image_size="4K", n=3))
    assert came.usage == Usage(
        text_input=2, image_input=1120, image_output=2520, text_output=600, estimated=True
    )


async def test_a_report_without_modalities_is_split_by_the_table(
    server: Upstream, model: GoogleImageModel
) -> None:
    body = answer(part())
    body["usageMetadata"] = {"promptTokenCount": 24, "candidatesTokenCount": 1602}
    came = await answered(server, model, body)
    assert came.usage == Usage(text_input=24, image_output=1120, text_output=482, estimated=True)


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["IMAGE_PROHIBITED_CONTENT", "IMAGE_SAFETY", "SAFETY", "IMAGE_RECITATION"])
async def test_a_filtered_picture_is_blocked_content_with_its_code_and_cost(
    server: Upstream, model: GoogleImageModel, reason: str
) -> None:
    body = {
        "candidates": [
            {"content": {"role": "model"}, "finishReason": reason, "finishMessage": FINISH_MESSAGE}
        ],
        "usageMetadata": {"promptTokenCount": 2658, "totalTokenCount": 2658},
    }
    error = await failed(server, model, answering(body))
    assert type(error) is ContentBlocked
    assert (error.reason, error.support_code, error.usage) == (reason, "11030041", Usage(text_input=2658))


async def test_a_filtered_prompt_is_blocked_content(server: Upstream, model: GoogleImageModel) -> None:
    message = f"{SECRET}. Support codes: 89371032, 92201652"
    body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": message}}
    error = await failed(server, model, answering(body))
    assert type(error) is ContentBlocked
    assert (error.reason, error.support_code, error.usage) == ("PROHIBITED_CONTENT", "89371032", None)
    assert "the prompt: PROHIBITED_CONTENT, support code 89371032 (prohibited)" in error.detail
    assert (error.category, error.side) == ("prohibited", "prompt")


async def test_words_alone_are_the_model_declining(server: Upstream, model: GoogleImageModel) -> None:
    error = await failed(server, model, answering(answer({"text": f"I cannot draw {SECRET}"})))
    assert type(error) is ModelRefused
    assert (error.reason, error.usage and error.usage.text_output) == ("STOP", 482)


@pytest.mark.parametrize(
    ("finish_reason", "kind"),
    [
        ("NO_IMAGE", UpstreamNoImage),
        ("IMAGE_OTHER", UpstreamNoImage),
        ("MAX_TOKENS", MaxTokens),
        ("MISSING_THOUGHT_SIGNATURE", InvalidHistory),
        ("STOP", UpstreamNoImage),
        ("A_REASON_OF_2027", UpstreamNoImage),
        ("MALFORMED_RESPONSE", UpstreamError),
        ("ESCALATION", UpstreamRejected),
    ],
)
async def test_an_answer_without_anything_is_told_by_its_finish_reason(
    server: Upstream, model: GoogleImageModel, finish_reason: str, kind: type[UpstreamError]
) -> None:
    error = await failed(server, model, answering(answer(finishReason=finish_reason)))
    assert isinstance(error, UpstreamError)
    assert (type(error), error.reason, error.billed) == (kind, finish_reason, "yes")


@pytest.mark.parametrize("body", [{}, {"candidates": []}, {"candidates": "oops"}, {"candidates": [None]}])
async def test_an_empty_answer_has_no_picture(server: Upstream, model: GoogleImageModel, body: Any) -> None:
    error = await failed(server, model, answering(body))
    assert isinstance(error, UpstreamNoImage)
    assert error.billed == "maybe"


# --- failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "billed"),
    [
        (302, UpstreamRejected, "no"),
        (400, UpstreamRejected, "no"),
        (401, UpstreamRejected, "no"),
        (403, UpstreamRejected, "no"),
        (404, UpstreamRejected, "no"),
        (413, UpstreamInvalidRequest, "no"),
        (418, UpstreamRejected, "no"),
        (429, UpstreamQuota, "no"),
        (499, UpstreamError, "maybe"),
        (500, UpstreamError, "no"),
        (502, UpstreamError, "maybe"),
        (503, UpstreamUnavailable, "no"),
        (504, DeadlineExceeded, "maybe"),
        (529, UpstreamUnavailable, "no"),
        (599, UpstreamError, "maybe"),
    ],
)
@pytest.mark.parametrize("body", [b"<html>\xff " + SECRET.encode(), {"error": {"message": SECRET}}, [None]])
async def test_each_status_has_its_meaning_whatever_its_body(
    server: Upstream, model: GoogleImageModel, status: int, kind: type[UpstreamError], billed: str, body: Any
) -> None:
    error = await failed(server, model, answering(body, status))
    assert isinstance(error, UpstreamError)
    assert (type(error), error.upstream_status, error.billed) == (kind, status, billed)
    assert len(server.received) == 1
    assert SECRET not in str(error.__dict__)


@pytest.mark.parametrize(
    ("reply", "kind", "billed"),
    [
        (dropping(), UpstreamError, "maybe"),
        (dropping(head(200, 1000)), UpstreamError, "maybe"),
        (dropping(head(200, 1000) + b'{"candidates": [{"content": {"parts": [{"inlineData": {"data": "iVBO'),
         UpstreamError, "maybe"),
        (dropping(b"this is no HTTP\r\n\r\n"), UpstreamError, "maybe"),
        (answering(b'{"candidates": ['), UpstreamError, "maybe"),
        (answering(b"[1]"), UpstreamError, "maybe"),
        (answering(b"\xff\xfe"), UpstreamError, "maybe"),
        (answering(b"[" * 100_000), UpstreamError, "maybe"),
        (answering({"error": {"status": "INTERNAL", "message": SECRET}}), UpstreamError, "maybe"),
    ],
    ids=["dropped", "head_only", "cut_body", "no_http", "broken", "list", "no_text", "deep", "error_in_200"],
)  # fmt: skip
async def test_an_answer_that_breaks_may_have_been_billed_and_is_asked_for_once(
    server: Upstream, model: GoogleImageModel, reply: Any, kind: type[UpstreamError], billed: str
) -> None:
    error = await failed(server, model, reply)
    assert isinstance(error, UpstreamError)
    assert (type(error), error.billed) == (kind, billed)
    assert len(server.received) == 1
    assert SECRET not in error.detail


@pytest.mark.parametrize("reply", [silence, trickling])
async def test_an_upstream_that_does_not_finish_runs_into_the_deadline_and_may_have_charged(
    server: Upstream, model: GoogleImageModel, reply: Any
) -> None:
    await answered(server, model, answer(part()))  # opened, so that the deadline is the call's alone
    error = await failed(server, model, reply, timeout_s=0.3)
    assert isinstance(error, DeadlineExceeded)
    assert error.billed == "maybe"
    assert len(server.received) == 2


async def test_an_upstream_that_is_not_there_costs_nothing() -> None:
    async with calling("http://127.0.0.1:9") as model:
        with pytest.raises(UpstreamUnavailable) as raised:
            await model.generate(asked(), None, lasting(20))
        assert await model.find_fault() == "No emulator listens at 127.0.0.1:9."
    assert raised.value.billed == "no"


async def test_quota_says_which_and_when(server: Upstream, model: GoogleImageModel) -> None:
    body = {
        "error": {
            "code": 429,
            "message": SECRET,
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.QuotaFailure",
                 "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"},
            ],
        }
    }  # fmt: skip
    error = await failed(server, model, answering(body, 429, retry_after="7"))
    assert isinstance(error, UpstreamQuota)
    assert (error.retry_after_s, error.reason) == (35, "RESOURCE_EXHAUSTED")
    assert "GenerateRequestsPerMinutePerProjectPerModel" in error.detail


async def test_nothing_of_a_prompt_or_an_answer_is_logged(
    server: Upstream, model: GoogleImageModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await failed(server, model, answering({"error": {"message": SECRET, "status": "INTERNAL"}}, 500))
    await failed(server, model, answering({"error": {"message": SECRET}}))
    await failed(server, model, answering(f'{{"text": "{SECRET}'.encode()))
    written = caplog.text + str([record.__dict__ for record in caplog.records])
    assert "a call of the model failed" in written
    assert SECRET not in written


async def test_nothing_holds_on_to_the_bytes_of_a_call_that_is_over(
    server: Upstream, model: GoogleImageModel
) -> None:
    """Not a reference cycle, and not a timer of the event loop that has not come due."""
    server.reply = answering(answer(part(large_png(900_000))), chunk=65_536)
    await model.generate(asked(), None, lasting(300))
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(3):
            await model.generate(asked(bytes(900_000)), None, lasting(300))
            server.received.clear()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert left < 500_000


# --- opening and closing ---------------------------------------------------------------------------------


async def test_the_sdk_is_not_imported_on_the_start_path() -> None:
    code = "import sys, app.upstream.google.client; sys.exit('google.genai' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


async def test_it_is_ready_when_it_is_open_and_the_emulator_listens(server: Upstream) -> None:
    async with calling(server.url) as model:
        await answered(server, model, answer(part()))
        assert await model.find_fault() is None


async def test_calls_made_before_it_is_open_wait_and_share_one_opening(server: Upstream) -> None:
    server.reply = answering(answer(part()))
    async with calling(server.url) as model:
        both = await asyncio.gather(*(model.generate(asked(), None, lasting(20)) for _ in range(2)))
    assert [came.pictures[0].data for came in both] == [PNG, PNG]


def service_account(path: Path, token_url: str) -> str:
    """A service account's key file that fetches its tokens from a test server."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    fields = {"type": "service_account", "client_email": "gateway@p.example", "private_key": pem,
              "private_key_id": "1", "project_id": "another", "token_uri": token_url}  # fmt: skip
    path.write_text(json.dumps(fields))
    return str(path)


async def test_vertex_is_called_in_its_project_with_a_token_fetched_once(
    server: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def reply(received: Received, writer: asyncio.StreamWriter) -> None:
        token = {"access_token": "the-token", "expires_in": 3600, "token_type": "Bearer"}
        await answering(token if received.path == "/token" else answer(part()))(received, writer)

    server.reply = reply
    key_file = await asyncio.to_thread(service_account, tmp_path / "key.json", server.url + "/token")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", key_file)
    back_end = BackEnd("vertex", base_url=server.url, project="p", api_key="not used")
    async with GoogleImageModel(back_end, load_catalogue()) as model:
        for _ in range(2):
            await model.generate(asked(), None, lasting(20))
    path = f"/v1beta1/projects/p/locations/global/publishers/google/models/{MODEL}:generateContent"
    assert [received.path for received in server.received] == ["/token", path, path]
    assert {received.headers.get("authorization") for received in server.received[1:]} == {"Bearer the-token"}
    assert "x-goog-api-key" not in server.received[1].headers


async def test_a_token_that_is_refused_is_the_operators_to_mend_and_costs_nothing(
    server: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.reply = answering({"error": "invalid_grant"}, 400)
    key_file = await asyncio.to_thread(service_account, tmp_path / "key.json", server.url + "/token")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", key_file)
    back_end = BackEnd("vertex", base_url=server.url, project="p")
    async with GoogleImageModel(back_end, load_catalogue()) as model:
        with pytest.raises(UpstreamRejected) as raised:
            await model.generate(asked(), None, lasting(20))
    assert raised.value.billed == "no"
    assert {received.path for received in server.received} == {"/token"}


async def test_without_credentials_it_is_not_ready_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    async with GoogleImageModel(BackEnd("vertex", project="p"), load_catalogue()) as model:
        with pytest.raises(UpstreamRejected) as raised:
            await model.generate(asked(), None, lasting(20))
        assert "application default credentials" in str(await model.find_fault())
    assert raised.value.billed == "no"


async def test_an_sdk_that_does_not_open_is_said_and_tried_again(
    server: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_GENAI_HTTP_CLIENT", "httpx")  # is not installed
    server.reply = answering(answer(part()))
    async with calling(server.url) as model:
        with pytest.raises(UpstreamRejected, match="ImportError"):
            await model.generate(asked(), None, lasting(20))
        assert "ImportError" in str(await model.find_fault())
        monkeypatch.delenv("GOOGLE_GENAI_HTTP_CLIENT")
        assert (await model.generate(asked(), None, lasting(20))).pictures


async def test_a_model_without_a_card_is_the_gateways_own_fault(
    server: Upstream, model: GoogleImageModel
) -> None:
    with pytest.raises(InternalError):
        await model.generate(asked(model="unheard-of"), None, lasting(20))
    assert server.received == []
