"""How much the model answers: the pictures that fit below ``maxOutputTokens``, words and thoughts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.emulator.bill import get_picture_tokens

if TYPE_CHECKING:
    from app.emulator.behaviour import Behaviour
    from app.emulator.requests import ModelRequest

# Output tokens without a modality were observed from 414 to 482 beside a picture.
_REMAINDER_MIN, _REMAINDER_MAX = 414, 482
_THOUGHTS_MIN, _THOUGHTS_SPREAD = 1100, 600


@dataclass(frozen=True, slots=True)
class Output:
    """What one answer with pictures consists of.

    Attributes:
        pictures: How many are delivered.
        words: Output tokens without a modality.
        thoughts: Thought tokens.
        cut: Whether the bound left no room for a picture that was begun.
    """

    pictures: int
    words: int
    thoughts: int
    cut: bool = False


def plan_output(request: ModelRequest, behaviour: Behaviour) -> Output:
    """The output of an answer: pictures come first, then thoughts, then words, until the bound is reached."""
    bound, picture = request.output_tokens_max, get_picture_tokens(request.card, request.image_size)
    if behaviour.appetite != "usual" and behaviour.pictures:
        fitting = bound // picture
        if behaviour.appetite == "over":
            return Output(fitting + 1, bound, 0)
        return Output(fitting, bound - fitting * picture, 0)
    drawn = int(request.digest[:8], 16)
    thoughts = _THOUGHTS_MIN + drawn % _THOUGHTS_SPREAD if request.thinks_hard else 0
    fitting = min(behaviour.pictures, bound // picture)
    left = bound - fitting * picture
    thoughts = min(thoughts, left)
    if fitting < behaviour.pictures:
        return Output(fitting, left - thoughts, thoughts, cut=True)
    words = _REMAINDER_MIN + drawn % (_REMAINDER_MAX - _REMAINDER_MIN + 1)
    return Output(fitting, min(words, left - thoughts), thoughts)
