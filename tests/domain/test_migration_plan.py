"""What is recorded of a request's parameters, and what follows from it for another model."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from app.cards import load_catalogue
from app.domain.migration_plan import compare_cards, find_refusals, plan_migration
from app.domain.parameters import list_parameters
from app.domain.policy import Policy
from app.domain.report import Row, Spent
from app.domain.request import GenerationRequest, Grounding, Input
from app.domain.validation import normalize_request, validate

CATALOGUE = load_catalogue()
FLASH, NEXT = (CATALOGUE.names[name] for name in ("gemini-3.1-flash-image", "gemini-nano-banana-2.1"))
LITE = CATALOGUE.names["gemini-3.1-flash-lite-image"]
PNG = Input("image", "/images/0", data=b"x", mime_type="image/png", width=8, height=8)
PDF = Input("document", "/documents/0", data=b"x", mime_type="application/pdf", pages=1)
CLIP = Input("video", "/videos/0", data=b"x", mime_type="video/mp4", seconds=1.0)


def asked(**fields: Any) -> GenerationRequest:
    return GenerationRequest(**{"model": FLASH.id, "prompt": "A secret fox", **fields})


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({}, ()),
        ({"aspect_ratio": "9:21", "seed": 7}, ("aspect_ratio=9:21", "seed")),
        ({"thinking_level": "high", "service_tier": "flex"}, ("thinking_level=high", "service_tier=flex")),
        ({"grounding": Grounding(image_search=True)}, ("grounding=image_search",)),
        ({"temperature": 0.2, "top_p": 0.9, "n": 3}, ("temperature", "top_p", "n")),
        ({"max_output_tokens": 3000}, ("max_output_tokens=4096",)),
        ({"max_output_tokens": 3000, "bounded": True}, ()),
        ({"images": (PNG,) * 5}, ("images=8",)),
        ({"documents": (PDF,), "videos": (CLIP,)}, ("documents=application/pdf", "videos=video/mp4")),
        ({"images": (replace(PNG, resolution="low"),)}, ("images=1", "media_resolution=low")),
        ({"response_modalities": ("TEXT", "IMAGE")}, ("response_modalities=TEXT+IMAGE",)),
    ],
)
def test_what_a_request_used_is_recorded_without_its_words(
    fields: dict[str, Any], parameters: tuple[str, ...]
) -> None:
    assert list_parameters(asked(**fields), FLASH) == ("image_size=1K", *parameters)


@pytest.mark.parametrize(
    "card", [NEXT, LITE, CATALOGUE.names["gemini-3-pro-image"]], ids=lambda card: card.id
)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"image_size": "512"},
        {"image_size": "4K"},
        {"aspect_ratio": "9:21"},
        {"aspect_ratio": "1:8"},
        {"seed": 7},
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"thinking_level": "minimal"},
        {"thinking_level": "high"},
        {"service_tier": "flex"},
        {"service_tier": "priority"},
        {"grounding": Grounding(web_search=True)},
        {"grounding": Grounding(image_search=True)},
        {"max_output_tokens": 8192},
        {"documents": (PDF,)},
        {"videos": (CLIP,)},
        {"images": (PNG,) * 14},
    ],
    ids=str,
)
def test_a_plan_refuses_what_the_rules_refuse(card: Any, fields: dict[str, Any]) -> None:
    request = asked(**fields)
    assert validate(request, FLASH, Policy()) == ()
    parameters = list_parameters(normalize_request(request, FLASH), FLASH)
    refused = [parameter.partition("=")[0] for parameter, _ in find_refusals(parameters, card)]
    violations = validate(replace(request, model=card.id), card, Policy())
    assert bool(refused) == bool(violations)
    for name in refused:
        assert any(name in violation.pointer for violation in violations), violations


def row(tenant: str, spent: Spent, *parameters: str, model: str = FLASH.id) -> Row:
    return Row(tenant, date(2026, 11, 1), spent, model=model, parameters=parameters)


def test_what_is_served_has_the_other_cards_price_and_what_is_refused_has_none() -> None:
    spent = Spent(3, 3 * 2520, 3 * 2520 + 1000 + 400, 3, 1, text_input=400, text_output=1000)
    plans = plan_migration(
        [
            row("a", spent, "image_size=4K"),
            row("a", Spent(2, 2240, 3000, 2, 500), "image_size=1K", "seed", "aspect_ratio=9:21"),
            row("a", Spent(0, hits=7), "image_size=1K"),
            row("b", Spent(1, 1120, 1200, 1, 5), "image_size=1K", model=NEXT.id),
        ],
        FLASH,
        NEXT,
    )
    (plan,) = plans.values()
    assert (plan.requests, plan.refused, plan.refused_images, plan.refused_usd) == (5, 2, 2, 500)
    assert plan.planned_image_tokens == 3 * 3780
    assert plan.planned_usd == (3 * 3780 * 30 + 1000 * 7.5 + 400 * 1.5) * 1000
    refusals = {name: (each.requests, each.why) for name, each in plan.refusals.items()}
    assert refusals["seed"] == (2, "not offered")
    assert refusals["aspect_ratio=9:21"][0] == 2


def test_only_what_differs_is_listed() -> None:
    differences = {each.fact: (each.now, each.planned) for each in compare_cards(FLASH, NEXT)}
    assert differences["picture of 4K"] == ("2520 tokens, $0.1512", "3780 tokens, $0.1134")
    assert differences["picture of 512"] == ("747 tokens, $0.0448", "")
    assert differences["not offered"] == ("top_k", "seed temperature top_k top_p")
    assert "input_max" not in differences
    assert list(compare_cards(FLASH, FLASH)) == []
