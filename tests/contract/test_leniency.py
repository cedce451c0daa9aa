"""What is read although it is written differently, and what of it reaches the upstream."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.tap import Tap, tapped
from tests.contract.test_gemini_rest import Rest, words
from tests.fixtures import image_bytes
from tests.processes import HTTP, running_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from tests.processes import Running
    from tests.server.conftest import Tenants

PICTURE = base64.b64encode(image_bytes("harbour.png")).decode()
SENTINELS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")


@pytest.fixture(scope="module")
def tap(emulator: Running) -> Iterator[Tap]:
    with tapped(emulator.url) as found:
        yield found


@pytest.fixture(scope="module")
def lenient(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str], tenants: Tenants, tap: Tap
) -> Iterator[Rest]:
    """A gateway whose upstream is behind the tap."""
    more = {**settings, "emulator_base_url": tap.url}
    with running_gateway(tmp_path_factory.mktemp("lenient"), **more) as process:
        yield Rest(process.url, tenants.keys["gemini"])


@pytest.fixture(scope="module")
def choiceless(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str], tenants: Tenants, emulator: Running
) -> Iterator[dict[str, Rest]]:
    """Gateways in front of the Gemini Developer API, which lets nobody choose a format, by setting."""
    folder, key = tmp_path_factory.mktemp("choiceless"), tenants.keys["openai"]
    base = {name: value for name, value in settings.items() if name != "emulator_base_url"}
    base |= {"upstream": "gemini", "gemini_api_key": "a-key", "gemini_base_url": emulator.url}
    with (
        running_gateway(folder / "exact", **base) as exact,
        running_gateway(folder / "jpeg", **base, openai_formats="jpeg") as jpeg,
    ):
        yield {"exact": Rest(exact.url, key), "jpeg": Rest(jpeg.url, key)}


def draw(rest: Rest, **members: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {rest.key}"}
    return HTTP.post(
        f"{rest.url}/openai/v1/images/generations", json={"prompt": "A", **members}, headers=headers
    )


def with_part(part: dict[str, Any]) -> dict[str, Any]:
    body = words("Lenient")
    body["contents"][0]["parts"].append(part)
    return body


@pytest.mark.parametrize("sentinel", SENTINELS)
def test_what_stands_for_a_signature_is_sent_as_it_was_written(
    lenient: Rest, tap: Tap, sentinel: str
) -> None:
    body = words("Signed")
    drawn = {"inlineData": {"mimeType": "image/png", "data": PICTURE}, "thoughtSignature": sentinel}
    body["contents"] += [{"role": "model", "parts": [drawn]}, {"role": "user", "parts": [{"text": "More"}]}]
    assert lenient.generate(body).status_code == 200
    assert tap.calls[-1].body["contents"][1]["parts"] == [drawn]


@pytest.mark.parametrize(
    ("blob", "told"),
    [
        ({"mimeType": "image/png", "data": PICTURE}, None),
        ({"mimeType": "image/png", "data": f"data:image/png;base64,{PICTURE}"}, "normalised_base64"),
        ({"data": f"data:image/png;base64,{PICTURE}"}, "normalised_base64"),
        ({"mimeType": "image/png", "data": "\r\n".join([PICTURE[:76], PICTURE[76:]])}, "normalised_base64"),
        ({"mimeType": "image/png", "data": PICTURE.replace("+", "-").replace("/", "_").rstrip("=")}, None),
        ({"data": PICTURE}, None),
        ({"mimeType": "", "data": PICTURE}, None),
        ({"mimeType": "image/jpeg", "data": PICTURE}, "corrected_mime_type"),
    ],
)
def test_bytes_reach_the_upstream_as_one_base64_with_the_right_type(
    lenient: Rest, tap: Tap, blob: dict[str, str], told: str | None
) -> None:
    answer = lenient.generate(with_part({"inlineData": blob}))
    assert answer.status_code == 200, answer.text
    assert answer.headers.get("x-flashgate-notices") == told
    parts = tap.calls[-1].body["contents"][0]["parts"]
    assert {"inlineData": {"mimeType": "image/png", "data": PICTURE}} in parts


def test_a_file_elsewhere_needs_its_type_and_the_error_says_why(lenient: Rest) -> None:
    answer = lenient.generate(with_part({"fileData": {"fileUri": "gs://b/a.png"}}))
    assert answer.status_code == 400
    assert "the gateway does not open it" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("config", "sent"),
    [
        ({"temperature": "0.5"}, {"temperature": 0.5}),
        ({"seed": "9"}, {"seed": 9}),
        (
            {"responseFormat": {"image": {"mimeType": "image/jpeg"}}},
            {"responseFormat": [{"image": {"mimeType": "IMAGE_JPEG"}}]},
        ),
        ({"imageConfig": {"imageSize": "512", "aspectRatio": ""}}, {"imageConfig": {"imageSize": "512"}}),
        (
            {"imageConfig": {"image_size": "", "aspect_ratio": "16:9"}},
            {"imageConfig": {"aspectRatio": "16:9"}},
        ),
    ],
)
def test_protobufs_other_spellings_are_read(
    lenient: Rest, tap: Tap, config: dict[str, Any], sent: dict[str, Any]
) -> None:
    body = words("Spelt")
    body["generationConfig"] = {"responseModalities": ["IMAGE"], **config}
    assert lenient.generate(body).status_code == 200
    reached = tap.calls[-1].body["generationConfig"]
    for name, value in sent.items():
        assert reached[name] == value or (isinstance(value, dict) and value.items() <= reached[name].items())


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"size": "", "quality": "", "style": "", "background": ""}, []),
        ({"quality": "HIGH", "background": "Auto", "response_format": "B64_JSON"}, []),
        ({"output_format": "JPG"}, []),
        ({"size": "16:9 ", "style": "Vivid"}, ["default_without_effect"]),
        ({"size": "1000x1000"}, ["size_mapped"]),
        ({"size": "512x512", "quality": "low"}, ["quality_without_effect"]),
    ],
)
def test_words_of_openais_dialect_are_read_in_any_case_and_told_in_body_and_header(
    lenient: Rest, members: dict[str, Any], told: list[str]
) -> None:
    answer = draw(lenient, **members)
    assert answer.status_code == 200, answer.text
    assert [item["code"] for item in answer.json()["warnings"]] == told
    assert answer.headers.get("x-flashgate-notices", "") == ", ".join(told)


@pytest.mark.parametrize("name", ["size", "quality", "background", "output_format", "style"])
def test_a_word_that_openai_does_not_have_is_still_refused(lenient: Rest, name: str) -> None:
    answer = draw(lenient, **{name: "nonsense"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)


def test_where_google_refuses_contents_its_answer_names_the_files_too(lenient: Rest) -> None:
    body = words("[[emulate:invalid]]")
    body["contents"][0]["parts"] += [{"inlineData": {"mimeType": "image/png", "data": PICTURE}}] * 2
    error = lenient.generate(body).json()["error"]
    assert error["message"] == "Request contains an invalid argument."
    google, ours = error["details"]
    assert google["fieldViolations"][0]["field"] == "contents"
    assert ours["domain"] == "flashgate"
    for part in (1, 2):
        assert f"/contents/0/parts/{part}/inlineData (image/png" in ours["metadata"]["explanation"]


@pytest.mark.parametrize(
    ("formats", "members", "told"),
    [
        ("exact", {"output_format": "png"}, None),
        ("exact", {"output_format": "jpeg"}, ""),
        ("exact", {"output_format": "jpeg", "output_compression": 100}, "default_without_effect"),
        ("jpeg", {"output_format": "png"}, "mime_mismatch"),
        ("jpeg", {"output_format": "webp"}, "mime_mismatch"),
        ("jpeg", {"output_format": "svg"}, None),
        ("jpeg", {"output_format": "jpeg"}, ""),
    ],
)
def test_where_no_format_can_be_chosen_the_operator_may_have_jpeg_delivered(
    choiceless: dict[str, Rest], formats: str, members: dict[str, Any], told: str | None
) -> None:
    answer = draw(choiceless[formats], **members)
    if told is None:
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "output_format")
        return
    assert answer.status_code == 200, answer.text
    assert answer.json()["output_format"] == "jpeg"
    assert answer.headers.get("x-flashgate-notices", "") == told
