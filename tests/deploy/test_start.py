"""What a cold start has to load. Counted, because seconds on a busy machine say little."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

MODULES_MAX = 950
"""A start loads some 815, in about 0.8 s of CPU; google-genai alone would be 700 more, and another second."""

# Loaded later by a thread, or by a process of their own, or never.
LATER = (
    "google",
    "PIL",
    "pillow_heif",
    "httptools",
    "valkey",
    "pypdfium2",
    "pypdfium2_raw",
    "requests",
    "openai",
    "opentelemetry",
    "aiohttp",
    "numpy",
    "hypothesis",
)

LOADED = """
import json, sys
before = {*sys.modules}
import app.__main__
print(json.dumps(sorted({*sys.modules} - before)))
"""


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    """The modules that the command has loaded before it does anything."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def test_a_start_loads_no_more_modules_than_its_budget(loaded: list[str]) -> None:
    assert len(loaded) <= MODULES_MAX, f"{len(loaded)} modules; what was added to the start path?"


@pytest.mark.parametrize("package", LATER)
def test_what_is_needed_later_is_loaded_later(loaded: list[str], package: str) -> None:
    assert [name for name in loaded if name.partition(".")[0] == package] == []
