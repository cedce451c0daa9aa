"""A copy of the stored tenants on this disk, for a store that has lost them while nobody was running."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class LocalCopy:
    """A file that replicas of one machine may share: whichever writes last, its copy is whole.

    Args:
        path: Readable by this user alone; it holds hashes of secrets, and no secret.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[int, dict[str, str]]:
        """The version of the copy and its documents by tenant; version 0 where there is none."""
        try:
            copy = json.loads(self._path.read_text(encoding="utf-8"))
            return int(copy["version"]), {str(name): str(raw) for name, raw in copy["tenants"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return 0, {}

    def write(self, version: int, documents: dict[str, str]) -> None:
        """Replace the copy. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}.draft")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as text:
            json.dump({"version": version, "tenants": documents}, text)
        draft.replace(self._path)
