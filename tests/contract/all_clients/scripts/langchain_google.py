"""LangChain for Python on its package for Google."""

from __future__ import annotations

import base64
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asking import ask
from langchain_core.messages import HumanMessage
from langchain_google_genai import ChatGoogleGenerativeAI, HarmBlockThreshold, HarmCategory, Modality

url, key, file = sys.argv[1:]


def draw(prompt: str, picture: Path | None = None, size: str = "512") -> list[str]:
    model = ChatGoogleGenerativeAI(
        model="gemini-3.1-flash-image", api_key=key, base_url=f"{url}/gemini", max_retries=0,
        temperature=0.5, top_p=0.9, max_output_tokens=8000, seed=7 if picture else None,
        response_modalities=[Modality.TEXT, Modality.IMAGE],
        image_config={"aspect_ratio": "16:9", "image_size": size},
        safety_settings={HarmCategory.HARM_CATEGORY_HATE_SPEECH: HarmBlockThreshold.BLOCK_ONLY_HIGH},
    )  # fmt: skip
    content: list[dict[str, object]] = [{"type": "text", "text": prompt}]
    if picture is not None:
        data = base64.b64encode(picture.read_bytes()).decode()
        content.append({"type": "image_url", "image_url": f"data:image/png;base64,{data}"})
    answer = model.invoke([HumanMessage(content=content)])
    blocks = answer.content if isinstance(answer.content, list) else []
    urls = [each["image_url"]["url"] for each in blocks if isinstance(each, dict) and "image_url" in each]
    return [each.partition(",")[2] for each in urls]


def repeat(prompt: str) -> list[str]:
    with ThreadPoolExecutor(4) as threads:
        return [text for drawn in threads.map(draw, [prompt] * 4) for text in drawn]


ask(
    {
        "generate": lambda: draw("A fox"),
        "edit": lambda: draw("Make it blue", Path(file)),
        "four": lambda: repeat("Four foxes"),
        "invalid": lambda: draw("A wolf", size="9K"),
    }
)
