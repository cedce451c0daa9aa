"""Labels of calls, which Vertex AI checks (docs/model.md#labels)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.emulator.errors import FieldFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.emulator.messages import Dialect

_LABELS_MAX = 64
_LENGTH_MAX = 63
# International letters are allowed; what has upper and lower case must be in lower case.
_NAME = re.compile(r"[^\W\d_][\w-]*")
_VALUE = re.compile(r"[\w-]*")


def check_labels(labels: object, dialect: Dialect) -> Iterator[FieldFault]:
    """What Vertex AI refuses of labels; the Gemini Developer API does not look at them."""
    if dialect == "gemini":
        return
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        yield FieldFault("labels", "Invalid value at 'labels' (map of strings)")
        return
    if len(labels) > _LABELS_MAX:
        yield FieldFault("labels", f"A request can have at most {_LABELS_MAX} labels.")
    for name, value in labels.items():
        if not _is_taken(name, _NAME):
            yield FieldFault("labels", f"Label key '{name}' is not valid.")
        if not _is_taken(value, _VALUE):
            yield FieldFault("labels", f"Label value '{value}' is not valid.")


def _is_taken(text: str, pattern: re.Pattern[str]) -> bool:
    return len(text) <= _LENGTH_MAX and text == text.lower() and pattern.fullmatch(text) is not None
