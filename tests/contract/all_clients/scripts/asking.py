"""Runs the questions one after the other, and prints what came of each as one line of JSON."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def ask(questions: dict[str, Callable[[], list[str]]]) -> None:
    """Print the pictures, in base64, or the error's text, by question; then end the process at once."""
    found: dict[str, object] = {}
    for name, question in questions.items():
        try:
            found[name] = question()
        except Exception as error:  # noqa: BLE001 - what a client shows is the answer
            found[name] = {"error": str(error)}
    print(json.dumps(found), flush=True)  # noqa: T201 - the test reads it
    os._exit(0)
