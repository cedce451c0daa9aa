"""OpenAI's Python SDK against the gateway, with nothing changed but its base URL and its key."""

from __future__ import annotations

import asyncio
import base64
import io
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from app.domain.policy import PIXELS_MAX
from app.media.inspection import inspect
from tests.fixtures import image_bytes
from tests.server.conftest import Client, Tenants, calls_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types import ImageEditCompletedEvent, ImageGenCompletedEvent, ImagesResponse
    from openai.types.image_edit_partial_image_event import ImageEditPartialImageEvent
    from openai.types.image_gen_partial_image_event import ImageGenPartialImageEvent

    from tests.contract.conftest import Gate
    from tests.processes import Running

    Event = (
        ImageGenCompletedEvent
        | ImageGenPartialImageEvent
        | ImageEditCompletedEvent
        | ImageEditPartialImageEvent
    )

SMALL: dict[str, Any] = {"image_size": "512", "aspect_ratio": "1:1"}
SEEDED: dict[str, Any] = {"seed": 7}
"""Equal requests with a seed are the same work; without one each is its own."""


class Counted(httpx2.HTTPTransport):
    """Sends requests on, and remembers their ``x-stainless-retry-count``."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str | None] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(request.headers.get("x-stainless-retry-count"))
        return super().handle_request(request)


def base_url(gateway: Running) -> str:
    return f"{gateway.url}/openai/v1"


@pytest.fixture
def client(gateway: Running, tenants: Tenants) -> Iterator[OpenAI]:
    with OpenAI(base_url=base_url(gateway), api_key=tenants.keys["openai"], max_retries=0) as client:
        yield client


@pytest.fixture
def native(gateway: Running, tenants: Tenants) -> Client:
    return Client(gateway.url, tenants.keys["openai"])


def pictures(answer: ImagesResponse) -> list[bytes]:
    """The bytes of an answer's pictures."""
    return [base64.b64decode(item.b64_json or "", validate=True) for item in answer.data or []]


def pixels(data: bytes) -> str:
    """WIDTHxHEIGHT, from the picture's own header."""
    facts = inspect(data, pixels_max=PIXELS_MAX)
    return f"{facts.width}x{facts.height}"


def refusal(error: openai.APIStatusError) -> tuple[str | None, str | None]:
    """Code and param."""
    return error.code, error.param


def test_a_picture_comes_with_what_its_bytes_say(client: OpenAI) -> None:
    answer = client.images.generate(prompt="A lighthouse", model="gemini-3.1-flash-image", size="1264x848")
    (picture,) = pictures(answer)
    facts = inspect(picture, pixels_max=PIXELS_MAX)
    assert answer.size == pixels(picture) == "1264x848"
    assert f"image/{answer.output_format}" == facts.mime_type
    assert (answer.quality, answer.background) == ("medium", "opaque")
    assert answer.created > 1_700_000_000
    usage = answer.usage
    assert usage is not None
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.image_tokens == 1120
    assert usage.output_tokens == 1120 + usage.output_tokens_details.text_tokens
    assert usage.input_tokens == usage.input_tokens_details.text_tokens > 0
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


@pytest.mark.parametrize(
    ("asked", "size", "quality"),
    [
        ({"size": "512x512"}, "512x512", "low"),
        ({"size": "792x168"}, "792x168", "low"),
        ({"size": "1536x1024"}, "2528x1696", "high"),
        ({"size": "768x1300"}, "768x1376", "medium"),
        ({"size": "1024*1024"}, "1024x1024", "medium"),
        ({"size": "1024X1024"}, "1024x1024", "medium"),
        ({"size": "2K"}, "2048x2048", "high"),
        ({"size": "16:9", "extra_body": {"image_size": "512"}}, "688x384", "low"),
        ({"size": "256x256", "quality": "max"}, "512x512", "low"),
        ({"quality": "low", "extra_body": {"aspect_ratio": "4:1"}}, "1024x256", "low"),
        ({"size": "auto", "quality": "hd", "extra_body": {"aspect_ratio": "16:9"}}, "2752x1536", "high"),
        ({"extra_body": {"aspect_ratio": "9:16", "image_size": "0.5K"}}, "384x688", "low"),
    ],
    ids=str,
)
def test_size_and_quality_pick_a_cell_of_the_grid(
    client: OpenAI, asked: dict[str, Any], size: str, quality: str
) -> None:
    answer = client.images.generate(prompt="A cell", **asked)
    assert answer.size == pixels(pictures(answer)[0]) == size
    assert answer.quality == quality


def test_a_size_that_is_no_cell_is_drawn_near_and_said_so(client: OpenAI) -> None:
    answer = client.images.generate(prompt="Near", size="760x1376", quality="hd", extra_body=SEEDED)
    warnings = (answer.model_extra or {})["warnings"]
    assert {item["code"] for item in warnings} == {"size_mapped", "quality_without_effect"}
    exact = client.images.generate(prompt="Near", size="768x1376", extra_body=SEEDED)
    assert (exact.model_extra or {})["warnings"] == []
    assert pictures(exact) == pictures(answer)


def test_what_the_original_has_by_default_is_accepted_and_said(client: OpenAI) -> None:
    answer = client.images.generate(
        prompt="Defaults", style="vivid", quality="standard", background="auto", moderation="auto",
        output_compression=100, user="",
    )  # fmt: skip
    details = [item["detail"] for item in (answer.model_extra or {})["warnings"]]
    assert [detail.split(" ")[0] for detail in details] == ["output_compression", "style"]


def web_form(fields: dict[str, str], **files: tuple[str, bytes]) -> bytes:
    """A form as browsers send it: a file field that nobody filled in has an empty name and no bytes."""
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts += [
        f'name="{name}"; filename="{file}"\r\nContent-Type: image/png\r\n\r\n'.encode() + data
        for name, (file, data) in files.items()
    ]
    return b"".join(b"--x\r\nContent-Disposition: form-data; %b\r\n" % part for part in parts) + b"--x--\r\n"


def test_a_web_form_may_send_what_nobody_filled_in(native: Client) -> None:
    fields = {"prompt": "A form", "size": "1920x1080", "style": "vivid", "quality": "", "user": "", "n": ""}
    picture = ("a.png", image_bytes("harbour.png"))
    headers = {"X-API-Key": native.key, "Content-Type": "multipart/form-data; boundary=x"}
    url = f"{native.url}/openai/v1/images/edits"
    answer = httpx2.post(url, content=web_form(fields, image=picture, mask=("", b"")), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["size"] == "2752x1536"
    assert {item["code"] for item in answer.json()["warnings"]} == {"size_mapped", "default_without_effect"}
    refused = httpx2.post(url, content=web_form(fields, image=picture, mask=picture), headers=headers)
    assert refused.json()["error"]["param"] == "mask"


def test_several_pictures_are_different_and_all_paid(client: OpenAI, emulator: Running) -> None:
    calls = calls_of(emulator)
    answer = client.images.generate(prompt="Several", n=3, quality="low")
    assert len(set(pictures(answer))) == 3
    assert calls_of(emulator) - calls == 3
    assert answer.usage is not None
    assert answer.usage.output_tokens_details is not None
    assert answer.usage.output_tokens_details.image_tokens == 3 * 747


def test_an_address_gives_the_same_bytes_to_the_same_key_alone(
    client: OpenAI, native: Client, gateway: Running
) -> None:
    inline = client.images.generate(prompt="Address", quality="low", extra_body=SEEDED)
    answer = client.images.generate(prompt="Address", quality="low", response_format="url", extra_body=SEEDED)
    (item,) = answer.data or []
    assert item.b64_json is None
    assert item.url is not None
    assert item.url.startswith(f"{gateway.url}/v1/images/img_")
    assert [httpx2.get(item.url, headers={"X-API-Key": native.key}).content] == pictures(inline)
    assert httpx2.get(item.url).status_code == 401


def test_the_same_work_in_both_dialects_is_one_generation(
    client: OpenAI, native: Client, emulator: Running
) -> None:
    calls = calls_of(emulator)
    made = native.post({"prompt": "Both dialects", "n": 2, **SMALL, **SEEDED}).json()
    raw = client.images.with_raw_response.generate(
        prompt="Both dialects", size="512x512", n=2, user="somebody", background="auto", moderation="auto",
        extra_body=SEEDED,
    )  # fmt: skip
    answer = raw.parse()
    assert calls_of(emulator) - calls == 2
    assert raw.headers["cache-status"].startswith("flashgate; hit")
    assert [base64.b64encode(each).decode() for each in pictures(answer)] == [
        item["data"] for item in made["images"]
    ]
    assert answer.usage is not None
    assert answer.usage.total_tokens == 0
    assert answer.model_extra is not None
    assert answer.model_extra["id"] == made["id"]


def test_two_references_arrive_in_order_and_are_the_work_of_the_native_form(
    client: OpenAI, native: Client, emulator: Running
) -> None:
    names = ("harbour.png", "orchard.webp")
    files = [image_bytes("harbour.png"), image_bytes("orchard.webp")]
    seeded = {**SMALL, **SEEDED}
    made = client.images.edit(image=files, prompt="Side by side", extra_body=seeded)
    assert made.usage is not None
    assert made.usage.input_tokens_details.image_tokens == 2 * 1120
    calls = calls_of(emulator)
    again = httpx2.post(
        f"{native.url}/v1/images:edit",
        data={"prompt": "Side by side", **seeded},
        files=[("image", (name, data)) for name, data in zip(names, files, strict=True)],
        headers={"X-API-Key": native.key},
        timeout=60,
    ).json()
    assert again["cache"]["status"] == "hit"
    assert calls_of(emulator) == calls
    turned = client.images.edit(image=files[::-1], prompt="Side by side", extra_body=seeded)
    assert pictures(turned) != pictures(made)


@pytest.mark.parametrize("name", ["harbour.png", "harbour.jpg", "orchard.heic"])
def test_one_reference_without_a_name_or_type_is_known_by_its_bytes(client: OpenAI, name: Any) -> None:
    answer = client.images.edit(image=io.BytesIO(image_bytes(name)), prompt="Untyped", size="512x512")
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 1120


def test_native_fields_of_any_shape_travel_in_a_form(client: OpenAI, native: Client) -> None:
    fields = {**SMALL, "seed": 7, "labels": {"team": "search"}, "response_modalities": ["TEXT", "IMAGE"]}
    made = client.images.edit(image=image_bytes("harbour.png"), prompt="Fields", extra_body=fields)
    image = {"data": base64.b64encode(image_bytes("harbour.png")).decode()}
    again = native.post({"prompt": "Fields", "images": [image], **fields}).json()
    assert again["cache"]["status"] == "hit"
    assert [base64.b64decode(item["data"]) for item in again["images"]] == pictures(made)


@pytest.mark.parametrize(("cache", "drawn"), [("use", 1), ("bypass", 2)])
def test_a_native_cache_directive_is_kept(client: OpenAI, emulator: Running, cache: str, drawn: int) -> None:
    calls = calls_of(emulator)
    for _ in range(2):
        client.images.generate(prompt="Anew", extra_body={**SMALL, "cache": cache})
    assert calls_of(emulator) - calls == drawn


def test_three_turns_of_editing_send_the_picture_back(client: OpenAI) -> None:
    answer = client.images.generate(prompt="A boat", size="512x512")
    seen = pictures(answer)
    for turn in ("Make it night", "Add a moon", "In oil"):
        answer = client.images.edit(image=("turn", io.BytesIO(seen[-1])), prompt=turn, size="512x512")
        seen += pictures(answer)
        assert answer.usage is not None
        assert answer.usage.input_tokens_details.image_tokens == 1120
    assert len(set(seen)) == 4


def test_a_stream_ends_with_every_picture_and_the_cost_once(client: OpenAI) -> None:
    events: list[Event] = list(
        client.images.generate(
            prompt="Stream", n=2, quality="low", stream=True, partial_images=3, extra_body=SEEDED
        )
    )
    assert [event.type for event in events] == ["image_generation.completed"] * 2
    costs = [event.usage.total_tokens for event in events if event.type == "image_generation.completed"]
    assert costs[0] == 0 < costs[1]
    whole = client.images.generate(prompt="Stream", n=2, quality="low", extra_body=SEEDED)
    assert [base64.b64decode(event.b64_json) for event in events] == pictures(whole)
    assert [event.size for event in events] == [pixels(data) for data in pictures(whole)]


def test_an_edit_streams_events_of_its_own(client: OpenAI) -> None:
    (event,) = client.images.edit(
        image=image_bytes("harbour.png"), prompt="Stream", size="512x512", stream=True
    )
    assert event.type == "image_edit.completed"
    assert pixels(base64.b64decode(event.b64_json)) == event.size == "512x512"


def test_a_stream_that_is_refused_has_a_status(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="Blocked [[emulate:image-prohibited]]", stream=True)
    assert caught.value.code == "moderation_blocked"
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="", stream=True)
    assert refusal(caught.value) == ("invalid_value", "prompt")


def test_a_stream_that_is_refused_late_tells_it_by_an_event(client: OpenAI, emulator: Running) -> None:
    prompt = "Late [[emulate:hold:late]] [[emulate:image-safety]]"
    calls = calls_of(emulator)
    stream = client.images.generate(prompt=prompt, stream=True)  # returns with the status line
    wait_for(lambda: calls_of(emulator) > calls, "the call is upstream")
    httpx2.post(f"{emulator.url}/emulator/release/late").raise_for_status()
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert not isinstance(caught.value, openai.APIStatusError)
    assert caught.value.code == "moderation_blocked"


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"size": "large"}, "size", "invalid_value"),
        ({"size": "0x512"}, "size", "invalid_value"),
        ({"size": "90000x90000"}, "size", "invalid_value"),
        ({"size": "512x512", "extra_body": {"image_size": "1K"}}, "size", "invalid_value"),
        ({"quality": "low", "model": "gemini-3-pro-image"}, "quality", "invalid_value"),
        ({"n": 9}, "n", "invalid_value"),
        ({"n": "two"}, "n", "invalid_type"),
        ({"quality": "superb"}, "quality", "invalid_value"),
        ({"background": "transparent"}, "background", "invalid_value"),
        ({"output_format": "webp"}, "output_format", "invalid_value"),
        ({"output_format": "svg", "svg": {"model": "x"}}, "svg", "invalid_value"),
        ({"output_format": "png", "output_compression": 50}, "output_compression", "invalid_value"),
        ({"style": "natural"}, "style", "invalid_value"),
        ({"size": "big"}, "size", "invalid_value"),
        ({"complexity": "high"}, "complexity", "invalid_value"),
        ({"partial_images": 4}, "partial_images", "invalid_value"),
        ({"user": "line\nbreak"}, "user", "invalid_value"),
        ({"extra_body": {"mask": "x"}}, "mask", "invalid_value"),
        ({"extra_body": {"colour": "red"}}, "colour", "unknown_parameter"),
        ({"extra_body": {"prompt": None}}, "prompt", "missing_required_parameter"),
        ({"extra_body": {"aspect_ratio": "7:3"}}, "aspect_ratio", "invalid_value"),
    ],
    ids=str,
)
def test_what_cannot_be_honoured_is_refused_by_name(
    client: OpenAI, emulator: Running, asked: dict[str, Any], param: str, code: str
) -> None:
    calls = calls_of(emulator)
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="Refused", **asked)
    assert refusal(caught.value) == (code, param)
    assert caught.value.type == "invalid_request_error"
    assert calls_of(emulator) == calls


def test_every_fault_of_a_form_is_named_at_once(client: OpenAI) -> None:
    png = image_bytes("harbour.png")
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(
            image=[png, b"no picture"], mask=png, prompt=" ", n=0, input_fidelity="high", size="9x9",
            extra_body={"image_size": "8K"},
        )  # fmt: skip
    body = caught.value.body
    assert isinstance(body, dict)
    found = {(item["pointer"], item["code"]) for item in body["violations"]}
    assert found == {
        ("/mask", "unsupported_mask"),
        ("/input_fidelity", "unsupported_input_fidelity"),
        ("/size", "unsupported_size"),
        ("/image_size", "unsupported_image_size"),
        ("/image/1", "unsupported_image_type"),
        ("/prompt", "empty_prompt"),
        ("/n", "n_out_of_range"),
    }
    assert all(item["detail"] in body["message"] for item in body["violations"])


def test_a_model_of_openais_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.images.generate(prompt="x", model="gpt-image-1", size="1024x1024")
    assert refusal(caught.value) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-image-1")
    assert refusal(caught.value) == ("model_not_found", "model")


def test_the_models_are_the_cards(client: OpenAI, native: Client) -> None:
    cards = {item["id"]: item for item in native.get("/v1/models").json()["models"]}
    found = {model.id: model for model in client.models.list()}
    assert set(found) == set(cards)
    assert found["gemini-3.1-flash-image"].shutdown_date == "2027-05-28"
    for name in ("nano-banana-2", "google/gemini-3.1-flash-image"):
        assert client.models.retrieve(name) == found["gemini-3.1-flash-image"]


def test_a_model_that_the_tenant_may_not_use_is_not_there(client: OpenAI, tenants: Tenants) -> None:
    limited = client.with_options(api_key=tenants.keys["one-model"])
    assert [model.id for model in limited.models.list()] == ["gemini-3.1-flash-image"]
    for ask in (
        lambda: limited.models.retrieve("gemini-3-pro-image"),
        lambda: limited.images.generate(prompt="x", model="gemini-3-pro-image"),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            ask()
        assert refusal(caught.value) == ("model_not_found", "model")


@pytest.mark.parametrize("rehearsal", ["blocked-prompt", "image-safety"])
def test_a_blocked_prompt_or_picture_is_the_users_error_and_not_repeated(
    client: OpenAI, emulator: Running, rehearsal: str
) -> None:
    calls = calls_of(emulator)
    with pytest.raises(openai.BadRequestError) as caught:
        client.with_options(max_retries=2).images.generate(prompt=f"Blocked [[emulate:{rehearsal}]]")
    assert caught.value.code == "moderation_blocked"
    assert caught.value.type == "image_generation_user_error"
    assert calls_of(emulator) - calls == 1


def test_a_wrong_key_is_an_authentication_error(client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="fg_test_0000_wrong_00000000").images.generate(prompt="x")
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id


def test_a_used_up_budget_is_asked_once(gateway: Running, tenants: Tenants, emulator: Running) -> None:
    transport = Counted()
    with OpenAI(
        base_url=base_url(gateway),
        api_key=tenants.keys["poor"],
        http_client=httpx2.Client(transport=transport),
    ) as client:
        client.images.generate(prompt="All there is", extra_body=SEEDED)
        calls, transport.seen[:] = calls_of(emulator), []
        with pytest.raises(openai.RateLimitError) as caught:
            client.images.generate(prompt="One more")
        again = client.images.generate(prompt="All there is", extra_body=SEEDED)
    assert caught.value.code == caught.value.type == "insufficient_quota"
    assert int(caught.value.response.headers["retry-after"]) > 0
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert transport.seen == ["0", "0"]
    assert calls_of(emulator) == calls
    assert again.usage is not None
    assert again.usage.total_tokens == 0


@pytest.mark.parametrize(
    ("rehearsal", "status", "sent"), [("unavailable", 503, ["0", "1"]), ("reset", 502, ["0"])]
)
def test_only_what_cannot_have_been_billed_is_repeated(
    gateway: Running, tenants: Tenants, rehearsal: str, status: int, sent: list[str]
) -> None:
    transport = Counted()
    with OpenAI(
        base_url=base_url(gateway),
        api_key=tenants.keys["counted"],
        http_client=httpx2.Client(transport=transport),
        max_retries=1,
    ) as client, pytest.raises(openai.InternalServerError) as caught:  # fmt: skip
        client.images.generate(prompt=f"Broken [[emulate:{rehearsal}]]")
    assert caught.value.status_code == status
    assert transport.seen == sent


async def test_four_at_once_are_four_pictures_and_asking_again_draws_a_fifth(
    gateway: Running, tenants: Tenants, gate: Gate, emulator: Running
) -> None:
    prompt, calls = f"Together {gate.word}", calls_of(emulator)
    async with AsyncOpenAI(base_url=base_url(gateway), api_key=tenants.keys["openai"]) as client:

        async def ask() -> ImagesResponse:
            return await client.images.generate(prompt=prompt, quality="low")

        asked = [asyncio.create_task(ask()) for _ in range(4)]
        await asyncio.to_thread(gate.wait, 4)
        gate.open()
        answers = [*await asyncio.gather(*asked), await ask()]
    assert len({picture for answer in answers for picture in pictures(answer)}) == 5
    assert calls_of(emulator) - calls == 5


async def test_a_timed_out_call_and_the_sdks_retry_are_one_generation(
    gateway: Running, tenants: Tenants, emulator: Running
) -> None:
    caller = Client(gateway.url, tenants.keys["timeouts"])
    calls, before = calls_of(emulator), followers(gateway)
    async with AsyncOpenAI(
        base_url=base_url(gateway), api_key=caller.key, timeout=0.7, max_retries=20
    ) as client:
        asked = asyncio.ensure_future(
            client.images.with_raw_response.generate(prompt="Slow [[emulate:hold:sdk]]", quality="low")
        )
        await asyncio.to_thread(wait_for, lambda: followers(gateway) > before, "the retry follows")
        await asyncio.to_thread(wait_for, lambda: calls_of(emulator) > calls, "the first call is upstream")
        httpx2.post(f"{emulator.url}/emulator/release/sdk").raise_for_status()
        raw = await asked
    assert int(raw.retries_taken) >= 1
    assert raw.headers["cache-status"].split("; ")[1] in {"hit", "fwd=miss"}
    assert calls_of(emulator) - calls == 1
    assert caller.budget()["settled"] == 747
    answer = raw.parse()
    assert answer.usage is not None
    assert answer.usage.total_tokens == 0


def followers(gateway: Running) -> float:
    """Admissions that were told to follow."""
    name = 'flashgate_admissions_total{decision="follow"} '
    lines = httpx2.get(gateway.metrics_url).text.splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


async def test_a_cancelled_call_is_paid_once_and_found_later(
    gateway: Running, tenants: Tenants, emulator: Running
) -> None:
    caller = Client(gateway.url, tenants.keys["leaving"])
    calls, before = calls_of(emulator), caller.budget()["settled"]
    async with AsyncOpenAI(base_url=base_url(gateway), api_key=caller.key, max_retries=0) as client:
        prompt = "Left [[emulate:hold:cancelled]]"
        asked = asyncio.create_task(client.images.generate(prompt=prompt, quality="low", extra_body=SEEDED))
        await asyncio.to_thread(wait_for, lambda: calls_of(emulator) - calls == 1, "the call is upstream")
        asked.cancel()
        with suppress(asyncio.CancelledError):
            await asked
        assert caller.budget()["held"] >= 747
        httpx2.post(f"{emulator.url}/emulator/release/cancelled").raise_for_status()
        await asyncio.to_thread(
            wait_for, lambda: caller.budget()["settled"] == before + 747, "the picture is paid"
        )
        raw = await client.images.with_raw_response.generate(prompt=prompt, quality="low", extra_body=SEEDED)
    assert raw.headers["cache-status"].startswith("flashgate; hit")
    assert calls_of(emulator) - calls == 1
    assert caller.budget()["settled"] == before + 747
