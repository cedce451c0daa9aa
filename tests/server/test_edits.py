"""Reference images: real files of every accepted format, as JSON and as form parts."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from tests.fixtures import image_bytes
from tests.processes import HTTP
from tests.server.conftest import Client, Tenants, calls_of

if TYPE_CHECKING:
    import httpx2

    from tests.processes import Running

FILES = {
    "harbour.png": "image/png",
    "harbour.jpg": "image/jpeg",
    "orchard.webp": "image/webp",
    "orchard.heic": "image/heic",
    "orchard.heif": "image/heif",
}


@pytest.fixture
def client(gateway: Running, tenants: Tenants) -> Client:
    return Client(gateway.url, tenants.keys["edits"])


def edit(client: Client, files: list[tuple[str, tuple[str, bytes, str]]], **fields: str) -> httpx2.Response:
    return HTTP.post(
        f"{client.url}/v1/images:edit",
        data=fields,
        files=files,
        headers={"X-API-Key": client.key},
        timeout=60,
    )


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_of_each_format_is_edited(client: Client, name: str) -> None:
    part = ("image", (name, image_bytes(name), FILES[name]))
    answer = edit(client, [part], prompt=f"In oil, {name}", delivery="uri", image_size="512")
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["image_input"] > 0


def test_several_references_as_json_and_as_a_form_are_the_same_work(
    client: Client, emulator: Running
) -> None:
    names = list(FILES)
    parts = [("image", (name, image_bytes(name), "application/octet-stream")) for name in names]
    made = edit(client, parts, prompt="All together", image_size="512", n="1", delivery="uri")
    assert made.json()["usage"]["image_input"] == 1120 * len(names)
    calls = calls_of(emulator)
    images = [{"data": base64.b64encode(image_bytes(name)).decode()} for name in names]
    again = client.post({"prompt": "All together", "image_size": "512", "images": images, "delivery": "uri"})
    assert again.json()["cache"]["status"] == "hit"
    assert again.json()["images"] == made.json()["images"]
    assert calls_of(emulator) == calls


def test_the_order_of_references_matters(client: Client) -> None:
    parts = [("image", (name, image_bytes(name), FILES[name])) for name in ("harbour.png", "harbour.jpg")]
    answers = [
        edit(client, order, prompt="Order", image_size="512", delivery="uri")
        for order in (parts, parts[::-1])
    ]
    assert len({answer.json()["images"][0]["id"] for answer in answers}) == 2


def test_a_delivered_picture_is_edited_by_its_id(client: Client) -> None:
    first = client.post({"prompt": "To be edited", "image_size": "512", "delivery": "uri"}).json()["images"][
        0
    ]
    answer = client.post({"prompt": "Edit it", "images": [{"image_id": first["id"]}], "delivery": "uri"})
    assert answer.status_code == 200
    assert answer.json()["usage"]["image_input"] == 1120


def test_an_edit_without_a_file_names_the_part_and_the_other_faults(client: Client) -> None:
    answer = HTTP.post(
        f"{client.url}/v1/images:edit",
        data={"prompt": "x", "aspect_ratio": "7:3", "colour": "red"},
        files=[("mask", ("m.png", image_bytes("harbour.png"), "image/png"))],
        headers={"X-API-Key": client.key},
    )
    found = {(item["pointer"], item["code"]) for item in answer.json()["violations"]}
    assert answer.status_code == 422
    assert found == {
        ("/image", "required"),
        ("/mask", "unknown_field"),
        ("/colour", "unknown_field"),
        ("/aspect_ratio", "unsupported_aspect_ratio"),
    }


@pytest.mark.parametrize("claim", ["image/png", "image/gif", "png", "application/octet-stream", "binary/x"])
def test_a_picture_under_a_wrong_name_is_read_as_what_it_is(client: Client, claim: str) -> None:
    answer = edit(client, [("image", ("x.png", image_bytes("harbour.jpg"), claim))], prompt=f"Named {claim}")
    assert answer.status_code == 200, answer.text
    notices = [item for item in answer.json()["warnings"] if item["code"] == "corrected_mime_type"]
    says_nothing = claim in {"application/octet-stream", "binary/x"}
    assert len(notices) == (0 if says_nothing else 1)
    assert says_nothing or "image/jpeg" in notices[0]["detail"]


def test_json_sent_to_the_form_route_is_415(client: Client) -> None:
    answer = HTTP.post(
        f"{client.url}/v1/images:edit", json={"prompt": "x"}, headers={"X-API-Key": client.key}
    )
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
