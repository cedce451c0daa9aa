"""Adds a turn to a conversation: the request and its answer as Google's ``Content`` objects."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.domain.conversation import Conversation
from app.domain.estimate import count_known_document_tokens, count_known_video_tokens, estimate_bytes_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.domain.card import Card
    from app.domain.conversation import Replied
    from app.domain.request import GenerationRequest, Input


def _build_part(item: Input, placeholder: str) -> dict[str, Any]:
    mime_type = item.mime_type or item.declared_mime_type
    if item.data is None:
        return {"fileData": {"mimeType": mime_type, "fileUri": item.uri}}
    return {"inlineData": {"mimeType": mime_type, "data": placeholder}}


def _insert_placeholders(value: Any, names: Mapping[str, str]) -> Any:
    """The same JSON with placeholders in place of pictures' bytes."""
    if isinstance(value, dict):
        return {
            key: names[item] if key == "data" and isinstance(item, str) and item in names
            else _insert_placeholders(item, names)
            for key, item in value.items()
        }  # fmt: skip
    return [_insert_placeholders(item, names) for item in value] if isinstance(value, list) else value


def _parse_content(verbatim: str) -> dict[str, Any] | None:
    """The model's ``Content``, or None if the answer has none."""
    try:
        content = json.loads(verbatim)["candidates"][0]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    has_parts = isinstance(content, dict) and isinstance(content.get("parts"), list) and content["parts"]
    return {**content, "role": "model"} if has_parts else None


def _count_text_bytes(content: Mapping[str, Any]) -> int:
    texts = (part.get("text") for part in content["parts"] if isinstance(part, dict))
    return sum(len(text.encode(errors="replace")) for text in texts if isinstance(text, str))


def add_turn(
    request: GenerationRequest, replied: Replied, card: Card, names: Iterator[str]
) -> Conversation | None:
    """The conversation with one more turn; None if the answer cannot be sent again.

    Args:
        request: The request for this turn, normalised, for one picture.
        replied: The answer.
        card: The card of the model.
        names: Unguessable placeholders that no earlier turn uses.
    """
    content = _parse_content(replied.verbatim)
    if content is None:
        return None
    before = request.earlier.conversation if request.earlier is not None else None
    inputs = [(item, next(names)) for item in request.inputs]
    parts = [*(_build_part(item, name) for item, name in inputs), {"text": request.prompt}]
    drawn = {picture_id: next(names) for picture_id in replied.lengths}
    contents = {"role": "user", "parts": parts}, _insert_placeholders(content, drawn)
    input_places = tuple((name, f"img_{item.digest}") for item, name in inputs if item.data is not None)
    turn = Conversation(
        id=replied.id,
        model=card.id,
        back_end=replied.back_end,
        turns=1,
        contents=",".join(json.dumps(each) for each in contents),
        places=(*input_places, *((name, picture_id) for picture_id, name in drawn.items())),
        images=len(request.images),
        pictures=len(request.images) + len(drawn),
        text_bytes=len(request.prompt.encode(errors="replace")) + _count_text_bytes(content),
        document_tokens=sum(count_known_document_tokens(item, card) for item in request.documents)
        + sum(count_known_video_tokens(item, card) for item in request.videos),
        length=sum(item.length for item in request.inputs) + sum(replied.lengths.values()),
        addresses=tuple(item.uri for item in request.inputs if item.uri is not None),
    )
    conversation = turn if before is None else _join(before, turn)
    return _correct_document_tokens(
        conversation, replied.text_input - estimate_bytes_tokens(conversation.text_bytes)
    )


def _correct_document_tokens(conversation: Conversation, tokens: int) -> Conversation:
    """Raise the tokens of documents and videos to what Google counted; they may have been unknown before."""
    if not conversation.document_tokens:
        return conversation
    return replace(conversation, document_tokens=max(conversation.document_tokens, tokens))


def _join(before: Conversation, turn: Conversation) -> Conversation:
    return replace(
        turn,
        turns=before.turns + turn.turns,
        contents=f"{before.contents},{turn.contents}",
        places=before.places + turn.places,
        images=before.images + turn.images,
        pictures=before.pictures + turn.pictures,
        text_bytes=before.text_bytes + turn.text_bytes,
        document_tokens=before.document_tokens + turn.document_tokens,
        length=before.length + turn.length,
        addresses=before.addresses + turn.addresses,
    )
