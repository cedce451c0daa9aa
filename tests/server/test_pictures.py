"""A picture through the whole gateway, with the books kept."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pillow_heif
import pytest
from PIL import Image

from app.cards import load_catalogue
from tests.server.conftest import Client, Tenants, calls_of

if TYPE_CHECKING:
    import httpx2

    from tests.processes import Running

CARD = load_catalogue().resolve("gemini-3.1-flash-image")
assert CARD is not None
CELLS = [(ratio, size) for ratio in CARD.aspect_ratios for size in CARD.image_sizes]
pillow_heif.register_heif_opener()


@pytest.fixture
def client(gateway: Running, tenants: Tenants) -> Client:
    return Client(gateway.url, tenants.keys["pictures"])


@pytest.mark.timeout(300)
def test_each_of_the_60_cells_has_the_cards_pixels_and_tokens(client: Client) -> None:
    assert CARD is not None
    assert len(CELLS) == 60
    before = client.budget()["settled"]

    def ask(cell: tuple[str, str]) -> httpx2.Response:
        return client.post(
            {"prompt": "Sixty cells", "aspect_ratio": cell[0], "image_size": cell[1]}, accept="image/*"
        )

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(ask, CELLS))
    for (ratio, size), answer in zip(CELLS, answers, strict=True):
        assert answer.status_code == 200, answer.text
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert picture.size == CARD.pixels[ratio][size]
            assert Image.MIME[picture.format or ""] == answer.headers["content-type"]
        assert answer.headers["x-flashgate-image-tokens"] == str(CARD.image_tokens(size))
    spent = client.budget()["settled"] - before
    assert spent == sum(CARD.image_tokens(size) for _, size in CELLS)
    assert client.budget()["held"] == 0


def test_the_json_answer_holds_the_very_bytes_that_the_uri_serves(client: Client) -> None:
    answer = client.post({"prompt": "Bytes", "output_mime_type": "image/png"}).json()
    image = answer["images"][0]
    kept = client.get(f"/v1/images/{image['id']}")
    assert kept.status_code == 200
    assert kept.content.startswith(b"\x89PNG\r\n\x1a\n")
    assert base64.b64decode(image["data"], validate=True) == kept.content
    assert len(kept.content) == image["bytes"]
    assert (image["width"], image["height"]) == (1024, 1024)
    assert image["mime_type"] == kept.headers["content-type"] == "image/png"


def test_n_pictures_are_n_calls_and_n_prices(client: Client, emulator: Running) -> None:
    before = calls_of(emulator)
    answer = client.post({"prompt": "Four of them", "n": 4, "delivery": "uri"}).json()
    assert len({image["id"] for image in answer["images"]}) == 4
    assert all("data" not in image for image in answer["images"])
    assert answer["usage"]["image_tokens"] == 4 * 1120
    assert answer["effective"]["seeds"] == [None] * 4
    assert calls_of(emulator) - before == 4


def test_pictures_of_one_seed_count_on_from_it(client: Client) -> None:
    body = {"prompt": "Two of them", "n": 2, "seed": 7, "image_size": "512", "delivery": "uri"}
    answer, variant = client.post(body).json(), client.post({**body, "variant": 1}).json()
    assert (answer["effective"]["seeds"], variant["effective"]["seeds"]) == ([7, 8], [1007, 1008])
    assert len({image["id"] for image in (*answer["images"], *variant["images"])}) == 4


def test_the_answer_echoes_every_parameter_as_used(client: Client) -> None:
    answer = client.post({"prompt": "Echo", "image_size": "512px", "seed": 7, "delivery": "uri"}).json()
    assert answer["effective"]["image_size"] == "512"
    assert answer["effective"]["temperature"] == 1.0
    assert answer["effective"]["seeds"] == [7]
    assert "normalised_image_size" in {warning["code"] for warning in answer["warnings"]}
    assert answer["images"][0]["width"] == 512


def test_every_budget_unit_is_settled_with_what_was_used(gateway: Running, tenants: Tenants) -> None:
    client = Client(gateway.url, tenants.keys["units"])
    answer = client.post({"prompt": "All units", "delivery": "uri"}).json()
    usage, budgets = answer["usage"], {item["name"]: item for item in answer["budgets"]}
    assert budgets["tenant-day-image_tokens"]["settled"] == 1120
    assert usage["image_tokens"] == 1120
    assert usage["output_tokens"] == 1120 + usage["text_output"] + usage["thinking"] > 1120
    assert budgets["tenant-day-all_output_tokens"]["settled"] == usage["output_tokens"]
    assert budgets["tenant-month-total_tokens"]["settled"] == usage["input_tokens"] + usage["output_tokens"]
    assert budgets["tenant-day-images"]["settled"] == 1
    assert budgets["tenant-month-usd"]["settled"] == pytest.approx(usage["cost_usd"])
    assert usage["cost_usd"] > 0.0672
    assert {item["held"] for item in budgets.values()} == {0}


def test_models_are_listed_with_their_whole_grid(client: Client) -> None:
    assert CARD is not None
    listed = {model["id"]: model for model in client.get("/v1/models").json()["models"]}
    seed = listed["gemini-3.1-flash-image"]
    assert len(seed["grid"]) == 60
    assert client.get("/v1/models/nano-banana-2").json() == seed
    assert seed["deprecated_aliases"] == ["gemini-3.1-flash-image-preview"]
    assert (seed["deprecated"], seed["replacement"]) == ({"gemini": "2026-10-06"}, "gemini-nano-banana-2.1")
    assert seed["input_modalities"] == ["text", "image", "video"]
    assert (seed["document_tokens_max"], seed["documents_tokens_max"]) == (65_536, 131_072)
    assert client.get("/v1/models/none").status_code == 404
