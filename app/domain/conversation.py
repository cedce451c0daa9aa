"""Turns of a conversation: what was asked and answered so far, and goes to the model again before the next.

A turn is kept as the model's own JSON, in which every file is named by a placeholder: so thought signatures
come back as they were, to the last letter, and the files' bytes are never encoded again
(docs/model.md#signatures, docs/decisions/0007).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns that a generation ends, itself included.

    Attributes:
        id: Of that generation.
        model: Card id. Thought signatures mean nothing to another model.
        back_end: Which back end made it. They mean nothing to another back end either.
        turns: Requests that were answered.
        contents: Google's ``Content`` objects as JSON, one behind the other with commas between them.
        places: Each file in them: its placeholder, and the id under which its bytes are kept.
        images: Reference images of the callers.
        pictures: All pictures in them, which the model reads as input.
        text_bytes: UTF-8 bytes of all words in them.
        document_tokens: Of the documents and videos in them.
        length: Bytes of all files in them.
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
    """A conversation that a request goes on with, and the bytes of its files by placeholder."""

    conversation: Conversation
    blobs: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Replied:
    """What a turn was answered with.

    Attributes:
        id: Of the generation.
        back_end: Which one answered.
        verbatim: The upstream's answer, JSON with a picture's id wherever its bytes were.
        lengths: Bytes of each picture in it, by id.
        text_input: Tokens of words, documents and videos that Google has read for it, where it said so.
    """

    id: str
    back_end: str
    verbatim: str
    lengths: Mapping[str, int]
    text_input: int = 0
