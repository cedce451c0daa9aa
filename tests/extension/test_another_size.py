"""A made-up size, 8K, that stands on a card alone, is understood wherever sizes are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from app.cards import Catalogue, load_catalogue
from app.domain.card import Card
from app.domain.estimate import estimate
from app.domain.policy import Policy, TimeConfig
from app.domain.request import GenerationRequest
from app.domain.size_words import format_size_word, parse_size_word
from app.domain.tenancy import Caller, Key
from app.domain.validation import normalize_request, validate
from app.emulator.latency import Latency
from app.observability.metrics import Metrics
from app.surfaces.gemini.sizes import parse_size
from app.surfaces.openai.sizes import find_nearest_cell, find_quality
from app.tenants.documents import parse_tenant
from app.upstream.google.backend import BackEnd
from app.upstream.google.options import build_response_format

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = Path(__file__).parents[2] / "app"
SIZE_LITERAL = re.compile(r"""["'](?:512|1K|2K|4K)["']|_(?:512|1k|2k|4k)\b""")
MAY_NAME_SIZES = {
    "domain/size_words.py",  # how Google spells sizes that are no whole number of K
    "emulator/bill.py",  # what Google bills, by hand, so that cards can be compared with it
    "surfaces/gemini/sizes.py",  # the numbers of Google's enumeration
    "surfaces/openapi.py",  # an example in the document
}


@pytest.fixture(scope="module")
def card() -> Card:
    """The card of the model with one more size."""
    facts = next(card for card in load_catalogue() if card.id == "gemini-3.1-flash-image").model_dump()
    facts["image_sizes"]["8K"] = {
        **facts["image_sizes"]["4K"],
        "tokens": 5040, "megapixels": 64, "spellings": ["8192"], "qualities": ["ultra"],
        "seconds": (120, 240), "timeout_s": 290, "preview": True,
    }  # fmt: skip
    for ratio in facts["pixels"].values():
        ratio["8K"] = tuple(2 * edge for edge in ratio["4K"])
    return Card.model_validate(facts)


def asked(**fields: object) -> GenerationRequest:
    return GenerationRequest(**{"model": "gemini-3.1-flash-image", "prompt": "x", **fields})  # type: ignore[arg-type]


def test_it_is_valid_in_every_spelling_and_has_its_price(card: Card) -> None:
    for spelling in ("8K", "8k", "8192"):
        request = asked(image_size=spelling)
        assert validate(request, card, Policy()) == ()
        assert normalize_request(request, card).image_size == "8K"
    assert estimate(asked(image_size="8K"), card).image_output == 5040


def test_a_tenant_can_be_limited_to_it_and_may_use_it_by_default(card: Card) -> None:
    document = {"id": "a", "max_image_size": "8k", "preview": ["8K"], "keys": []}
    tenant = parse_tenant(document, Catalogue((card,)))
    assert (tenant.max_image_size, tenant.preview) == ("8K", frozenset({"8K"}))
    plain = parse_tenant({"id": "b"}, Catalogue((card,)))
    caller = Caller(plain, Key("k", "", frozenset({"images"})))
    assert validate(asked(image_size="8K"), card, Policy().restrict_to(caller)) == ()
    assert plain.time_zone == ZoneInfo("UTC")


def test_every_dialect_and_back_end_has_its_words_for_it(card: Card) -> None:
    assert (format_size_word("8K"), parse_size_word("IMAGE_SIZE_EIGHT_K")) == ("IMAGE_SIZE_EIGHT_K", "8K")
    assert parse_size("IMAGE_SIZE_EIGHT_K") == "8K"
    body = build_response_format(
        BackEnd(kind="gemini", api_key="key", image_style="response_format"), asked(image_size="8K")
    )
    assert body["generationConfig"]["responseFormat"]["image"]["imageSize"] == "IMAGE_SIZE_EIGHT_K"
    assert card.find_size_of_quality("ultra") == "8K"
    cell = find_nearest_cell(card, 8192, 8192)
    assert (cell.image_size, find_quality(card, 8192, 8192)) == ("8K", "ultra")


def test_it_has_times_and_metrics(card: Card) -> None:
    assert TimeConfig().get_work_s(card, "8K") == 290
    assert TimeConfig(timeout_by_size={"8K": 280}).get_work_s(card, "8K") == 280
    assert 120 <= Latency(1).draw_seconds(card.image_sizes["8K"].seconds, "d", 1) <= 240
    assert Metrics(10).render()


def named_sizes() -> Iterator[str]:
    """Modules that name a size in code; comments, docstrings and examples of documentation do not count."""
    for path in sorted(APP.rglob("*.py")):
        code = re.sub(r'"""(?:.|\n)*?"""|#[^\n]*|examples?=\[[^\]]*\]', "", path.read_text())
        if SIZE_LITERAL.search(code):
            yield path.relative_to(APP).as_posix()


def test_no_other_module_names_a_size() -> None:
    assert set(named_sizes()) == MAY_NAME_SIZES
