"""How a response of the emulator differs from the normal one, as data."""

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
Appetite = Literal["usual", "greedy", "over"]


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An HTTP error in place of a generation. An empty ``status`` is a front end's HTML page."""

    code: int
    status: str
    message: str
    details: tuple[Mapping[str, Any], ...] = ()

    def build_exception(self) -> GoogleError:
        """Build the exception that produces the error."""
        return GoogleError(self.code, self.status, self.message, tuple(dict(item) for item in self.details))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a response differs from the normal one; the defaults are the normal response.

    Attributes:
        error: Error to return instead of generating, or None.
        block_reason: Reason why the prompt was blocked, without candidates, or None.
        finish_reason: Finish reason of the candidate.
        support_code: Google's number of the safety rule, beside the finish or block reason, or None.
        words: Text instead of an image, or None.
        pictures: Number of delivered images.
        thoughts: Number of interim images in thoughts, even if the request excludes thoughts.
        only_thought: Whether the image is delivered only as a thought.
        other_size: Whether the requested size is ignored.
        mime_type: Format of the images, whatever was requested, or None.
        label: Declared MIME type of the images, whatever their format, or None.
        damaged: Whether the delivered bytes are no image.
        ballast_mib: MiB of zero bytes after the end of each image.
        usage: Whether the response reports usage.
        model_stage: Stage to report as ``modelStatus``, or None.
        model_version: Model to report in place of the requested one, or None.
        delivery: How the bytes are sent.
        pretty: Whether JSON has line breaks and an indentation of two spaces.
        escaped_padding: Whether ``=`` in base64 is written as an escape.
        url_safe: Whether base64 uses the URL-safe alphabet.
        delay_s: Seconds before the response.
        gate: Name of the gate that must be released before the response, or None.
        appetite: Amount of output: the usual one, all that the bound on output allows, or more.
        queries: Number of queries, if the request allows searches.
        cached: Whether half of the prompt is reported as read from a cache.
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
    model_version: str | None = None
    delivery: Delivery = "whole"
    pretty: bool = False
    escaped_padding: bool = False
    url_safe: bool = False
    delay_s: float = 0.0
    gate: str | None = None
    appetite: Appetite = "usual"
    queries: int = 1
    cached: bool = False

    def overlay(self, above: Behaviour) -> Behaviour:
        """Combine two behaviours. If both differ from the normal response, ``above`` wins."""
        changed: dict[str, Any] = {
            field.name: getattr(above, field.name)
            for field in dataclasses.fields(Behaviour)
            if getattr(above, field.name) != getattr(PLAIN, field.name)
        }
        return dataclasses.replace(self, **changed)


PLAIN = Behaviour()
