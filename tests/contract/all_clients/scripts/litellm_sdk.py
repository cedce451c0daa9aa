"""LiteLLM's SDK: image generation and editing by its OpenAI route, and completion by its Gemini route."""

from __future__ import annotations

import base64
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import litellm
from asking import ask

route, url, key, file = sys.argv[1:]
MODEL = "gemini-3.1-flash-image"


def draw(prompt: str, picture: Path | None = None, size: str = "512x512", n: int = 1) -> list[str]:
    common = {
        "model": f"openai/{MODEL}", "prompt": prompt, "api_base": f"{url}/openai/v1", "api_key": key,
        "size": size, "n": n, "max_retries": 0,
    }  # fmt: skip
    if picture is not None:
        with picture.open("rb") as image:
            answer = litellm.image_edit(image=[image], **common)
    else:
        answer = litellm.image_generation(quality="low", **common)
    return [each.b64_json for each in answer.data]


def complete(prompt: str, picture: Path | None = None, size: str = "512") -> list[str]:
    content: list[dict[str, object]] = [{"type": "text", "text": prompt}]
    if picture is not None:
        data = base64.b64encode(picture.read_bytes()).decode()
        content.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
    answer = litellm.completion(
        model=f"gemini/{MODEL}", messages=[{"role": "user", "content": content}],
        api_base=f"{url}/gemini/v1beta", api_key=key, modalities=["image", "text"], temperature=0.5,
        top_p=0.9, imageConfig={"aspectRatio": "16:9", "imageSize": size}, num_retries=0, max_tokens=8000,
    )  # fmt: skip
    return [each["image_url"]["url"].partition(",")[2] for each in answer.choices[0].message.images]


def repeat(prompt: str) -> list[str]:
    with ThreadPoolExecutor(4) as threads:
        return [text for drawn in threads.map(complete, [prompt] * 4) for text in drawn]


if route == "openai":
    ask(
        {
            "generate": lambda: draw("A fox"),
            "edit": lambda: draw("Make it blue", Path(file)),
            "four": lambda: draw("Four foxes", n=4),
            "invalid": lambda: draw("A wolf", size="9x9x9"),
        }
    )
else:
    ask(
        {
            "generate": lambda: complete("A fox"),
            "edit": lambda: complete("Make it blue", Path(file)),
            "four": lambda: repeat("Four foxes"),
            "invalid": lambda: complete("A wolf", size="9K"),
        }
    )
