"""Google's former SDK for Python, google-generativeai, over REST."""

from __future__ import annotations

import base64
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google.generativeai as genai
from asking import ask

url, key, file = sys.argv[1:]
genai.configure(api_key=key, transport="rest", client_options={"api_endpoint": f"{url}/gemini"})


def draw(prompt: str, picture: Path | None = None, name: str = "gemini-3.1-flash-image") -> list[str]:
    model = genai.GenerativeModel(
        name, system_instruction="Be calm",
        generation_config={"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 8000},
        safety_settings={"HARM_CATEGORY_HATE_SPEECH": "BLOCK_ONLY_HIGH"},
    )  # fmt: skip
    contents: list[object] = [prompt]
    if picture is not None:
        contents.append({"mime_type": "image/png", "data": picture.read_bytes()})
    answer = model.generate_content(contents, request_options={"retry": None, "timeout": 60})
    parts = answer.candidates[0].content.parts
    return [base64.b64encode(part.inline_data.data).decode() for part in parts if part.inline_data.data]


def repeat(prompt: str) -> list[str]:
    with ThreadPoolExecutor(4) as threads:
        return [text for drawn in threads.map(draw, [prompt] * 4) for text in drawn]


ask(
    {
        "generate": lambda: draw("A fox"),
        "edit": lambda: draw("Make it blue", Path(file)),
        "four": lambda: repeat("Four foxes"),
        "invalid": lambda: draw("A wolf", name="gemini-9-image"),
    }
)
