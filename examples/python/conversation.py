"""Draws a picture and changes it twice; each turn continues the generation before it.

python examples/python/conversation.py
"""

import json
import os
import urllib.request

URL = os.environ.get("FLASHGATE_URL", "http://127.0.0.1:8080")
KEY = os.environ["FLASHGATE_API_KEY"]


def draw(prompt: str, continue_from: str | None = None) -> dict:
    """One turn; the gateway sends the earlier ones, with their signatures, to the model again."""
    body = {"prompt": prompt, "delivery": "uri", "image_size": "512"}
    if continue_from:
        body["continue_from"] = continue_from
    request = urllib.request.Request(
        f"{URL}/v1/images:generate",
        json.dumps(body).encode(),
        {"X-API-Key": KEY, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


turn = draw("A lighthouse on a rock, in pencil")
for prompt in ("Now in watercolour", "Add a small boat in the foreground"):
    print(turn["id"], turn["images"][0]["uri"])
    turn = draw(prompt, continue_from=turn["id"])
print(turn["id"], turn["images"][0]["uri"])
