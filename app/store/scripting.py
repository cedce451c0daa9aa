"""Lua scripts that stand alone, beside the module that runs them."""

from __future__ import annotations

from pathlib import Path


def read_script(module_file: str, name: str) -> str:
    """The text of ``scripts/<name>.lua`` beside a module, which passes its ``__file__``."""
    return (Path(module_file).parent / "scripts" / f"{name}.lua").read_text(encoding="utf-8")
