"""Compares answers with the request: another model may answer, and pictures may be others than requested."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.domain.generation import Notice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.domain.card import Card
    from app.domain.generation import ModelAnswer, Picture
    from app.domain.request import GenerationRequest

# Real pictures differ from the published table by up to 2 % a side (docs/model.md#picture-sizes).
SIDE_TOLERANCE = 0.02
AREA_FACTOR = 2.0
_MEGAPIXEL = 1024 * 1024
_VERSION = re.compile(r"[\w./-]{1,100}", re.ASCII)


def find_other_models(answers: Iterable[ModelAnswer], card: Card) -> tuple[Notice, ...]:
    """What to tell of other models that answered: ``other_model_answered``, ``unknown_model_answered``."""
    others = {each.answered_by: each.model_version for each in answers if each.answered_by is not None}
    return tuple(_describe_other_model(*other, card) for other in others.items())


def _describe_other_model(answered_by: str, version: str, card: Card) -> Notice:
    shown = version if _VERSION.fullmatch(version) else "its name is malformed"
    if answered_by:
        detail = f"{answered_by} ({shown}) answered in place of {card.id}, and its prices apply."
        return Notice("other_model_answered", detail)
    detail = (
        f"A model without a card ({shown}) answered in place of {card.id}; the highest known price applies."
    )
    return Notice("unknown_model_answered", detail)


def find_mismatches(
    request: GenerationRequest, card: Card, pictures: Iterable[Picture]
) -> tuple[Notice, ...]:
    """Differences between the pictures and a normalised request: ``size_mismatch``, ``mime_mismatch``.

    With a requested ratio the sides are compared with the card's. Without one, and for cells whose pixels the
    card leaves open, the area is compared.
    """
    notices = dict.fromkeys(notice for picture in pictures for notice in _compare(request, card, picture))
    return tuple(notices)


def _compare(request: GenerationRequest, card: Card, picture: Picture) -> Iterator[Notice]:
    size = request.image_size or card.image_size_default
    delivered = f"{picture.width}x{picture.height}"
    cell = (request.aspect_ratio, size)
    if request.aspect_ratio is not None and cell not in card.pixels_unsettled:
        width, height = card.pixels[request.aspect_ratio][size]
        if not (_is_near(picture.width, width) and _is_near(picture.height, height)):
            expected = f"{request.aspect_ratio} at {size} is {width}x{height}"
            yield Notice("size_mismatch", f"{expected}; the model delivered {delivered}.")
    else:
        area = picture.width * picture.height / (card.image_sizes[size].megapixels * _MEGAPIXEL)
        if not 1 / AREA_FACTOR <= area <= AREA_FACTOR:
            yield Notice("size_mismatch", f"{size} was asked; the model delivered {delivered}.")
    if request.output_mime_type not in {None, picture.mime_type}:
        detail = f"{request.output_mime_type} was asked; the model delivered {picture.mime_type}."
        yield Notice("mime_mismatch", detail)


def _is_near(side: int, published: int) -> bool:
    return abs(side - published) <= published * SIDE_TOLERANCE
