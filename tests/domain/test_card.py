"""The seed's card, number by number, from the YAML; and what must hold on every card."""

from __future__ import annotations

import copy
import json
from datetime import date
from importlib import resources
from itertools import pairwise
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from app.cards import Catalogue, build_card_schema, load_catalogue
from app.domain.card import Card, Range, SeedRange, strip_model_prefix
from app.domain.estimate import price_nano_usd
from app.domain.generation import Usage
from tests.domain.test_facts import facts_of

CARDS = tuple(load_catalogue())
SEED = next(card for card in CARDS if card.id == "gemini-3.1-flash-image")
PRO = next(card for card in CARDS if card.id == "gemini-3-pro-image")
NEXT = next(card for card in CARDS if card.id == "gemini-nano-banana-2.1")
FILES = sorted(
    (file for file in resources.files("app.cards").iterdir() if file.name.endswith(".yaml")),
    key=lambda file: file.name,
)
SCHEMA_FILE = resources.files("app.cards") / "card.schema.json"

# The documentation prints 792x168 here, which is neither 21:9 nor a quarter of a megapixel.
MISPRINTED = {("21:9", "512")}


def _raw(card: Card) -> dict[str, Any]:
    text = next(file.read_text() for file in FILES if file.name == f"{card.id}.yaml")
    return dict(yaml.safe_load(text))


def test_the_seed_reads_and_writes_what_its_card_says() -> None:
    assert SEED.title == "Gemini 3.1 Flash Image"
    assert SEED.input_modalities == ("text", "image", "video")
    assert SEED.output_modalities == ("text", "image")
    assert SEED.video.preview
    assert (SEED.tokens.input_max, SEED.tokens.output_max) == (131_072, 32_768)
    assert SEED.locations == ("global",)
    assert SEED.lifecycle.stage == "ga"
    assert SEED.lifecycle.released == date(2026, 5, 28)
    days = {back_end: (each.day, each.status) for back_end, each in SEED.lifecycle.retires.items()}
    assert days == {"gemini": (date(2026, 10, 29), "lifted"), "vertex": (date(2027, 5, 28), "announced")}
    assert SEED.security_controls == ("data residency", "CMEK", "VPC-SC", "AXT")


def test_the_seeds_limits_on_images_are_the_cards() -> None:
    assert SEED.images.count_max == 14
    assert SEED.images.inline_bytes_max == 7_000_000
    assert SEED.images.cloud_storage_bytes_max == 30_000_000
    assert SEED.images.mime_types == tuple(
        f"image/{kind}" for kind in ("png", "jpeg", "webp", "heic", "heif")
    )
    assert SEED.images.tokens_each == 1120


def test_the_seeds_limits_on_documents_are_the_cards() -> None:
    assert SEED.documents.mime_types == ("application/pdf", "text/plain")
    assert SEED.documents.bytes_max == 50_000_000
    assert SEED.documents.console_bytes_max == 7_000_000
    assert SEED.documents.tokens_per_file_max == 65_536
    assert SEED.documents.tokens_total_max == 128 * 1024


def test_the_seeds_ratios_are_the_cards_fifteen() -> None:
    printed = "1:1, 3:2, 2:3, 3:4, 1:4, 4:1, 4:3, 4:5, 5:4, 1:8, 8:1, 9:16, 16:9, 21:9, 9:21"
    assert SEED.aspect_ratios == tuple(printed.split(", "))


@pytest.mark.parametrize(
    ("size", "tokens", "megapixels", "preview", "usd"),
    [
        ("512", 747, 0.25, False, 0.04482),
        ("1K", 1120, 1, False, 0.0672),
        ("2K", 1680, 4, False, 0.1008),
        ("4K", 2520, 16, True, 0.1512),
    ],
)
def test_the_seeds_sizes_cost_what_the_card_says(
    size: str, tokens: int, megapixels: float, preview: bool, usd: float
) -> None:
    assert SEED.image_tokens(size) == tokens
    assert SEED.image_sizes[size].megapixels == megapixels
    assert SEED.image_sizes[size].preview is preview
    assert price_nano_usd(SEED, Usage(image_output=tokens)) == round(usd * 1e9)


def test_the_seeds_sizes_are_these_four_and_1k_is_the_default() -> None:
    assert tuple(SEED.image_sizes) == ("512", "1K", "2K", "4K")
    assert SEED.image_size_default == "1K"


def test_the_seeds_parameters_are_the_cards() -> None:
    parameters = SEED.parameters
    assert parameters.temperature == Range(min=0.0, max=2.0, default=1.0)
    assert parameters.top_p == Range(min=0.0, max=1.0, default=0.95)
    assert parameters.top_k_offered is False
    assert parameters.candidate_count_max == 1
    assert parameters.seed == SeedRange(min=-(2**31), max=2**31 - 1)
    assert parameters.thinking_levels == ("minimal", "high")
    assert parameters.thinking_level_default == "minimal"
    assert parameters.response_modalities == (("IMAGE",), ("TEXT", "IMAGE"))


@pytest.mark.parametrize(
    ("card", "size", "usd"), [(PRO, "1K", 0.134), (PRO, "2K", 0.134), (PRO, "4K", 0.24), (NEXT, "1K", 0.0336)]
)
def test_the_other_cards_pictures_cost_what_is_published(card: Card, size: str, usd: float) -> None:
    nano_usd = price_nano_usd(card, Usage(image_output=card.image_tokens(size)))
    assert nano_usd / 1e9 == pytest.approx(usd, rel=0.004)


def test_the_other_cards_draw_only_what_is_published() -> None:
    assert len(PRO.aspect_ratios) == 10
    assert not {"1:4", "4:1", "1:8", "8:1", "9:21"} & set(PRO.aspect_ratios)
    assert tuple(PRO.image_sizes) == ("1K", "2K", "4K")
    assert len(NEXT.aspect_ratios) == 14
    assert NEXT.parameters.thinking_levels == ("minimal", "medium", "high")
    assert NEXT.parameters.thinking_level_default == "medium"
    assert SEED.lifecycle.replacement == NEXT.id


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_every_ratio_is_drawn_in_every_size(card: Card) -> None:
    cells = [(ratio, size) for ratio in card.aspect_ratios for size in card.image_sizes]
    assert [(r, s) for r, row in card.pixels.items() for s in row] != []
    assert {(r, s) for r, row in card.pixels.items() for s in row} == set(cells)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_every_cell_has_the_shape_and_the_area_that_it_is_named_for(card: Card) -> None:
    off = set()
    for ratio, row in card.pixels.items():
        across, down = map(int, ratio.split(":"))
        for size, (width, height) in row.items():
            shape = (width / height) / (across / down)
            area = width * height / (card.image_sizes[size].megapixels * 1024 * 1024)
            if not (0.98 < shape < 1.02 and 0.98 < area < 1.13):
                off.add((ratio, size))
    assert off == (MISPRINTED if card is SEED else set())


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_each_size_has_twice_the_sides_of_the_one_before(card: Card) -> None:
    sizes = list(card.image_sizes)
    off = {
        (ratio, small)
        for ratio, row in card.pixels.items()
        for small, large in pairwise(sizes)
        if (row[small][0] * 2, row[small][1] * 2) != row[large]
    }
    assert off == (MISPRINTED if card is SEED else set())


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_a_turned_ratio_is_the_turned_picture(card: Card) -> None:
    off = set()
    for ratio in card.aspect_ratios:
        turned = ":".join(reversed(ratio.split(":")))
        for size in card.image_sizes:
            if turned in card.pixels and card.pixels[turned][size] != card.pixels[ratio][size][::-1]:
                off.add((ratio, size))
    assert off == ({("21:9", "512"), ("9:21", "512")} if card is SEED else set())


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_a_larger_picture_never_costs_less(card: Card) -> None:
    tokens = [size.tokens for size in card.image_sizes.values()]
    assert tokens == sorted(tokens)
    assert max(tokens) + max(card.text_allowance.per_image.values()) <= card.tokens.output_max


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_every_fact_of_a_card_rests_on_something(card: Card) -> None:
    paths = [path for each in card.evidence for path in each.facts]
    known, raw = set(facts_of(Card)), _raw(card)

    def is_fact(path: str) -> bool:
        place: Any = raw
        for step in path.split("."):
            if not isinstance(place, dict) or step not in place:
                break
            place = place[step]
        else:
            return True
        return any(fact == path or fact.startswith(f"{path}.") for fact in known)

    assert [path for path in paths if not is_fact(path)] == []
    assert len(set(paths)) == len(paths)
    assert {source for each in card.evidence for source in each.sources} == set(card.sources)
    described = {"id", "title", "sources", "evidence", "model_ids"}
    covered = {fact for fact in known if any(fact == path or fact.startswith(f"{path}.") for path in paths)}
    missing = sorted(known - covered - described)
    assert missing == []


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_every_card_names_its_sources_and_when_they_were_read(card: Card) -> None:
    assert card.sources
    assert all(source.checked >= date(2026, 11, 1) for source in card.sources.values())
    assert card.prices_usd_per_million.as_of >= date(2026, 11, 1)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_card_matches_the_schema_beside_it(file: Any) -> None:
    facts = json.loads(json.dumps(yaml.safe_load(file.read_text()), default=str))
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    assert [error.message for error in checker.iter_errors(facts)] == []
    assert f"{facts['id']}.yaml" == file.name


def test_the_schema_is_the_models() -> None:
    committed = json.loads(SCHEMA_FILE.read_text())
    assert committed == build_card_schema(), "write build_card_schema() to app/cards/card.schema.json"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tokens", "output_max"), 0),
        (("tokens", "output_max"), "many"),
        (("unheard_of",), 1),
        (("image_sizes", "3.5K"), {"tokens": 1, "megapixels": 1}),
        (("aspect_ratios",), ["0:1"]),
        (("lifecycle", "stage"), "resting"),
        (("prices_usd_per_million", "input"), -1),
        (("parameters", "temperature"), {"min": 0, "max": 1}),
        (("evidence",), [{"facts": ["tokens"], "confidence": "rumoured"}]),
    ],
)
def test_a_malformed_card_fits_neither_the_model_nor_the_schema(path: tuple[str, ...], value: object) -> None:
    facts = copy.deepcopy(_raw(SEED))
    place = facts
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValidationError):
        Card.model_validate(facts)
    as_json = json.loads(json.dumps(facts, default=str))
    assert not jsonschema.Draft202012Validator(build_card_schema()).is_valid(as_json)


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (("image_size_default",), "8K", "image_size_default"),
        (("parameters", "thinking_level_default"), "low", "thinking_level_default"),
        (("parameters", "thinking_levels"), ["minimal"], "text_allowance"),
        (("parameters", "top_p", "default"), 2.0, "is not in"),
        (("aspect_ratios",), ["1:1"], "different ratios"),
        (("pixels", "1:1"), {"1K": [1, 1]}, "pixels of 1:1"),
        (("image_sizes", "2K", "spellings"), ["1k"], "share a spelling"),
        (("evidence", 0, "sources"), ["a rumour"], "unknown sources"),
        (("evidence", 0, "sources"), [], "names its sources"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(
    path: tuple[str | int, ...], value: object, why: str
) -> None:
    facts = copy.deepcopy(_raw(SEED))
    place: Any = facts
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValidationError, match=why):
        Card.model_validate(facts)


@pytest.mark.parametrize(
    "name",
    [
        "gemini-3.1-flash-image",
        "nano-banana-2",
        "gemini-3.1-flash-image-preview",
        "models/gemini-3.1-flash-image",
        "google/gemini-3.1-flash-image",
        "publishers/google/models/nano-banana-2",
    ],
)
def test_every_name_of_the_seed_leads_to_it(name: str) -> None:
    assert load_catalogue().resolve(name) == SEED


@pytest.mark.parametrize("name", ["", "models/", "models/models/nano-banana-2", "NANO-BANANA-2", "gemini-9"])
def test_an_unknown_name_leads_nowhere(name: str) -> None:
    assert load_catalogue().resolve(name) is None


def test_a_bare_name_has_no_prefix() -> None:
    assert strip_model_prefix("models/x") == strip_model_prefix("google/x") == strip_model_prefix("x") == "x"


def test_two_cards_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="two cards"):
        Catalogue((SEED, PRO.model_copy(update={"aliases": SEED.aliases})))


def test_sizes_up_to_a_limit() -> None:
    assert SEED.list_sizes_up_to("1K") == ("512", "1K")
    assert SEED.list_sizes_up_to("4K") == ("512", "1K", "2K", "4K")
    assert PRO.list_sizes_up_to("2K") == ("1K", "2K")
