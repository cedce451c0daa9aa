"""The turns of a conversation so far, which are sent to the model again before the next one.

A turn is stored as the model's own JSON with a placeholder for each file. So thought signatures come back
exactly as they were, and the bytes of files are never encoded again (docs/model.md#signatures,
docs/decisions/0007).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns up to a generation, its own included.

    Attributes:
        id: The id of that generation.
        model: Card id. Thought signatures mean nothing to another model.
        back_end: The back end that made it. Signatures mean nothing to another back end either.
        turns: The number of answered requests.
        contents: Google's ``Content`` objects as JSON, separated by commas.
        places: For each file its placeholder and the id under which its bytes are stored.
        images: The number of callers' reference images.
        pictures: The number of all pictures, which the model reads as input.
        text_bytes: UTF-8 bytes of all texts.
        document_tokens: Tokens of the documents and videos.
        length: Bytes of all files.
        addresses: Files in Cloud Storage, which the model reads again with each turn.
    """

    id: str
    model: str
    back_end: str
    turns: int
    contents: str
    places: tuple[tuple[str, str], ...]
    images: int
    pictures: int
    text_bytes: int
    document_tokens: int
    length: int
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Earlier:
    """The conversation that a request continues, and the bytes of its files by placeholder."""

    conversation: Conversation
    blobs: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Replied:
    """The answer to a turn.

    Attributes:
        id: The id of the generation.
        back_end: The back end that answered.
        verbatim: The upstream's answer, JSON with a picture's id in place of its bytes.
        lengths: Bytes of each picture in it, by id.
        text_input: Tokens of texts, documents and videos that Google reported as read, else 0.
    """

    id: str
    back_end: str
    verbatim: str
    lengths: Mapping[str, int]
    text_input: int = 0
