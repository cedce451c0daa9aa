"""Counts the tokens of a request's input, from tables that no card fills."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from app.emulator.published import (
    FRAME_TOKENS_AT,
    IMAGE_TOKENS_AT,
    PAGE_TOKENS_AT,
    SOUND_TOKENS,
    get_image_tokens,
)
from app.media.inspection import inspect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.card import Card
    from app.emulator.messages import Dialect

_CHARACTERS_PER_TOKEN = 4


def count_tokens(
    contents: list[dict[str, Any]],
    system: dict[str, Any] | None,
    card: Card,
    dialect: Dialect,
    resolution: str = "",
) -> tuple[tuple[str, int], ...]:
    """Input tokens by modality, in Google's order; modalities without tokens are left out.

    ``resolution`` is ``mediaResolution`` of the whole request, which a part's own takes the place of.
    """
    each_image = get_image_tokens(card.id, dialect)
    counted: Counter[str] = Counter()
    for part in iterate_parts([*contents, *([system] if system else [])]):
        counted["TEXT"] += _count_text_tokens(part.get("text", "")) + _count_text_tokens(
            _render_other_parts(part)
        )
        blob = part.get("inlineData") or part.get("fileData") or {}
        family = blob.get("mimeType", "").partition("/")[0]
        level = (part.get("mediaResolution", {}).get("level") or resolution).removeprefix("MEDIA_RESOLUTION_")
        if family == "image":
            counted["IMAGE"] += IMAGE_TOKENS_AT.get(level, each_image)
        elif family == "video":
            counted["VIDEO"] += _count_video_tokens(part, level)
        elif family == "application":
            pages = max(1, blob.get("data", b"").count(b"/Type /Page\n"))
            counted["DOCUMENT"] += pages * PAGE_TOKENS_AT.get(level, PAGE_TOKENS_AT[""])
        elif family == "text":
            counted["TEXT"] += len(blob.get("data", b"")) // _CHARACTERS_PER_TOKEN + 1
    return tuple((name, counted[name]) for name in ("TEXT", "IMAGE", "VIDEO", "DOCUMENT") if counted[name])


def _count_video_tokens(part: dict[str, Any], level: str) -> int:
    """Tokens of a video: its frames, and its sound."""
    seconds = inspect(part.get("inlineData", {}).get("data", b""), pixels_max=1).seconds or 1.0
    frames: float = seconds * part.get("videoMetadata", {}).get("fps", 1)
    return math.ceil(frames * FRAME_TOKENS_AT.get(level, FRAME_TOKENS_AT[""]) + seconds * SOUND_TOKENS)


def _count_text_tokens(text: str) -> int:
    return math.ceil(len(text) / _CHARACTERS_PER_TOKEN)


def iterate_parts(contents: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every part, and the files that functions returned."""
    for content in contents:
        for part in content.get("parts", []):
            yield part
            yield from part.get("functionResponse", {}).get("parts", [])


def _render_other_parts(part: dict[str, Any]) -> str:
    """The contents of a part beside text and files, as JSON."""
    names = ("functionCall", "functionResponse", "executableCode", "codeExecutionResult")
    parts = {name: {**part[name], "parts": None} for name in names if name in part}
    if not parts:
        return ""
    return json.dumps(parts, default=str, ensure_ascii=False)
