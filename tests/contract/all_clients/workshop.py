"""Installs the clients from their locks into ``.clients`` and runs their scripts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

from tests.contract.recorder import KEY, PICTURE, recorder
from tests.environments import ROOT, environment, run

HERE: Final = Path(__file__).parent
RECORDED: Final = HERE.parent / "recorded" / "all.json"
WORKSHOP: Final = ROOT / ".clients" / "all"

SCRIPTS: Final[dict[str, tuple[str, ...]]] = {
    "ai-sdk-google": ("ai_sdk.mjs", "google"),
    "ai-sdk-openai": ("ai_sdk.mjs", "openai"),
    "ai-sdk-openai-compatible": ("ai_sdk.mjs", "compatible"),
    "langchain-js": ("langchain.mjs",),
    "genkit": ("genkit.mjs",),
    "google-generative-ai-js": ("generative_ai.mjs",),
    "google-generativeai": ("generativeai.py",),
    "langchain-python": ("langchain_google.py",),
    "litellm-gemini": ("litellm_sdk.py", "gemini"),
    "litellm-openai": ("litellm_sdk.py", "openai"),
    "nanobanana-mcp-server": ("nanobanana.py",),
}
"""The script of each client and what tells it which of several it is."""

PROMPTS: Final = {"generate": "A fox", "edit": "Make it blue", "four": "Four foxes"}


def run_client(client: str, url: str, key: str) -> dict[str, Any]:
    """What a client got for each question: pictures in base64, or ``{"error": text}``."""
    script, *which = SCRIPTS[client]
    for path in (HERE / "scripts").iterdir():
        shutil.copy(path, WORKSHOP)
    program: object = "node"
    if script.endswith(".py"):
        program = WORKSHOP / "venv/bin/python"
    lines = run([program, script, *which, url, key, PICTURE], WORKSHOP).splitlines()
    return dict(json.loads(lines[-1]))


def record_client(client: str) -> dict[str, list[dict[str, Any]]]:
    """The requests that a client sends, by question."""
    with recorder() as (url, seen):
        run_client(client, url, KEY)
    texts = [json.dumps(each) for each in seen]
    return {
        question: [each for each, text in zip(seen, texts, strict=True) if prompt in text]
        for question, prompt in PROMPTS.items()
    }


def install() -> None:
    """Install what the locks name, unless it is there."""
    WORKSHOP.mkdir(parents=True, exist_ok=True)
    environment(WORKSHOP / "venv", HERE / "requirements.txt")
    locks = ("package.json", "package-lock.json")
    copies = [WORKSHOP / name for name in locks]
    if not all(copy.exists() and copy.read_bytes() == (HERE / copy.name).read_bytes() for copy in copies):
        for name in locks:
            shutil.copy(HERE / name, WORKSHOP)
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], WORKSHOP)
