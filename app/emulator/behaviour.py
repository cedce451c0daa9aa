"""How one answer of the emulator departs from the plain one, as data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from app.emulator.errors import GoogleError

if TYPE_CHECKING:
    from collections.abc import Mapping

Delivery = Literal[
    "whole", "truncated", "reset", "dropped", "broken", "trickled", "stream-error", "stream-cut"
]


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An HTTP error in place of a generation. An empty ``status`` is a front end's HTML page."""

    code: int
    status: str
    message: str
    details: tuple[Mapping[str, Any], ...] = ()

    def build_exception(self) -> GoogleError:
        """The exception that produces it."""
        return GoogleError(self.code, self.status, self.message, tuple(dict(item) for item in self.details))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one answer departs from the plain one; the defaults are the plain one.

    Attributes:
        error: Answered instead of generating.
        block_reason: The prompt was blocked: no candidates at all.
        finish_reason: Of the one candidate.
        support_code: Google's number for the rule, told beside the finish or the block reason, or None.
        words: The text instead of a picture, or None.
        pictures: How many are delivered.
        thoughts: Interim pictures shown in thoughts, though nobody asked for thoughts.
        only_thought: The picture is delivered as a thought and not again.
        other_size: The size asked for is ignored.
        mime_type: What pictures are encoded as, whatever was asked for, or None.
        label: The MIME type that stands beside a picture, whatever it is, or None.
        damaged: What is delivered as a picture is none.
        ballast_mib: MiB of nothing behind the end of each picture.
        usage: Whether the answer reports any.
        model_stage: Reported as ``modelStatus``, or None.
        delivery: How the bytes leave.
        pretty: JSON with line breaks and two spaces.
        escaped_padding: ``=`` in base64 is written as its escape.
        url_safe: Base64 is written in its other alphabet.
        delay_s: Seconds before the answer.
        gate: The answer is held until this gate is released.
    """

    error: ErrorAnswer | None = None
    block_reason: str | None = None
    finish_reason: str = "STOP"
    support_code: str | None = None
    words: str | None = None
    pictures: int = 1
    thoughts: int = 0
    only_thought: bool = False
    other_size: bool = False
    mime_type: str | None = None
    label: str | None = None
    damaged: bool = False
    ballast_mib: int = 0
    usage: bool = True
    model_stage: str | None = None
    delivery: Delivery = "whole"
    pretty: bool = False
    escaped_padding: bool = False
    url_safe: bool = False
    delay_s: float = 0.0
    gate: str | None = None

    def overlay(self, above: Behaviour) -> Behaviour:
        """Both together; where both depart from the plain answer, ``above`` wins."""
        changed: dict[str, Any] = {
            field.name: getattr(above, field.name)
            for field in dataclasses.fields(Behaviour)
            if getattr(above, field.name) != getattr(PLAIN, field.name)
        }
        return dataclasses.replace(self, **changed)


PLAIN = Behaviour()
