"""What files are estimated at: texts by bytes, PDFs by pages, videos by seconds, what is unknown at most."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from app.domain.estimate import (
    count_known_document_tokens,
    estimate,
    estimate_document_tokens,
    price_nano_usd,
)
from app.domain.generation import Usage
from app.domain.request import Grounding
from tests.domain.test_bound import bounds_of
from tests.domain.validation_cases import CARD, STORED_PDF, bytes_input, request

if TYPE_CHECKING:
    from app.domain.request import Input


def pdf(length: int, pages: int | None = None) -> Input:
    """A PDF of so many bytes."""
    return bytes_input("document", data=bytes(length), mime_type="application/pdf", pages=pages)


@pytest.mark.parametrize(
    ("item", "known", "reserved"),
    [
        (bytes_input("document", data=b"a" * 3000), 1000, 1000),
        (bytes_input("document", data=b"a" * 3001), 1001, 1001),
        (pdf(9, pages=10), 2580, 5600),
        (pdf(50_000_000, pages=10), 2580, 5600),
        (replace(pdf(9, pages=10), resolution="low"), 2800, 2800),
        (replace(pdf(9, pages=10), resolution="high"), 11_200, 11_200),
        (replace(pdf(9, pages=10), resolution="unknown"), 2580, 22_400),
        (pdf(9), 258, 560),
        (pdf(30_000), 258, 10_000),
        (pdf(50_000_000), 258, 65_536),
        (STORED_PDF, 258, 65_536),
        (replace(STORED_PDF, declared_mime_type="text/plain"), 258, 65_536),
    ],
)
def test_a_document_is_held_to_what_is_known_and_reserved_at_what_it_may_be(
    item: Input, known: int, reserved: int
) -> None:
    assert count_known_document_tokens(item, CARD) == known
    assert estimate_document_tokens(item, CARD) == reserved


def test_every_call_reads_the_documents_anew() -> None:
    asked = request(n=3, documents=(pdf(9, pages=10), bytes_input("document", data=b"a" * 300)))
    assert estimate(asked, CARD).document_input == 3 * (5600 + 100)


LEVELS = ("low", "medium", "high", "ultra_high", "unknown")
CLIP = bytes_input("video", seconds=10.0)
UNKNOWN = bytes_input("video")


def test_a_video_is_reserved_by_its_seconds_for_each_picture() -> None:
    asked = replace(request(), videos=(CLIP, replace(CLIP, seconds=0.001)), n=2)
    assert estimate(asked, CARD).video_input == 2 * (3000 + 1)
    assert estimate(request(), CARD).video_input == 0


@pytest.mark.parametrize("videos", [(UNKNOWN,), (CLIP, UNKNOWN)])
def test_a_video_of_unknown_length_is_reserved_at_all_that_the_context_has_left(
    videos: tuple[Input, ...],
) -> None:
    asked = replace(request(), images=(bytes_input(),), videos=videos, n=3)
    assert estimate(asked, CARD).input_tokens == 3 * CARD.tokens.input_max


@pytest.mark.parametrize("grounding", [Grounding(web_search=True), Grounding(image_search=True)])
def test_what_a_search_finds_is_reserved_for_a_strict_tenant(grounding: Grounding) -> None:
    """Google reports it as input, and nobody knows before how much it is."""
    asked = replace(request(), images=(bytes_input(),), grounding=grounding, n=2)
    assert estimate(asked, CARD, strict=True).input_tokens == 2 * CARD.tokens.input_max
    assert (
        estimate(replace(asked, videos=(CLIP,)), CARD, strict=True).input_tokens == 2 * CARD.tokens.input_max
    )
    assert CARD.searches is not None
    found, plain = (estimate(each, CARD) for each in (asked, replace(asked, grounding=Grounding())))
    assert found.text_input - plain.text_input == 2 * CARD.searches.tokens_per_call
    assert found.search_queries == 2 * CARD.searches.queries_per_call
    tokens_usd = 2 * CARD.searches.tokens_per_call * 500
    assert found.usd - plain.usd == tokens_usd + found.search_queries * 14_000_000


def test_a_strict_tenants_reservation_believes_no_header() -> None:
    asked = replace(request(), videos=(CLIP,))
    assert estimate(asked, CARD, strict=True).input_tokens == CARD.tokens.input_max
    asked = replace(request(), documents=(pdf(9, pages=1),))
    assert estimate(asked, CARD, strict=True).document_input == CARD.documents.tokens_per_file_max


def test_a_strict_tenants_reservation_believes_no_low_resolution() -> None:
    asked = replace(request(), images=tuple(replace(bytes_input(), resolution=level) for level in LEVELS))
    assert estimate(asked, CARD).image_input == 280 + 560 + 1120 + 2240 + 2240
    assert estimate(asked, CARD, strict=True).image_input == 3 * 1120 + 2240 + 2240


def test_no_call_reads_more_than_the_context() -> None:
    asked = replace(request(), documents=(pdf(9, pages=1),) * 3, prompt="a" * 300_000, n=2)
    strict = estimate(asked, CARD, strict=True)
    assert strict.input_tokens == 2 * CARD.tokens.input_max
    assert strict.document_input == 2 * CARD.tokens.input_max


def test_every_query_of_a_search_is_settled() -> None:
    plain = Usage(text_input=100, image_output=1120)
    searched = replace(plain, search_queries=3, tool_use=200)
    assert price_nano_usd(CARD, searched) - price_nano_usd(CARD, plain) == 3 * 14_000_000 + 200 * 500
    assert (searched + searched).search_queries == 6


def test_a_search_is_part_of_the_worst_that_a_call_can_cost() -> None:
    asked = request(grounding=Grounding(web_search=True))
    for with_search, without in zip(bounds_of(asked, CARD), bounds_of(request(), CARD), strict=True):
        assert with_search.worst.usd - without.worst.usd >= 10 * 14_000_000
