"""Prints what is left of each budget, and what a 4K picture would cost; nothing is spent.

python examples/python/budgets.py
"""

import json
import os
import urllib.request

URL = os.environ.get("FLASHGATE_URL", "http://127.0.0.1:8080")
KEY = os.environ["FLASHGATE_API_KEY"]


def call(path: str, body: dict | None = None) -> dict:
    """Return the JSON of a GET, or of a POST if there is a body."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(URL + path, data, {"X-API-Key": KEY, "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


for budget in call("/v1/usage")["budgets"]:
    print(f"{budget['name']}: {budget['remaining']} of {budget['limit']} left until {budget['resets_at']}")

quote = call("/v1/images:estimate", {"prompt": "A lighthouse at dusk", "image_size": "4K"})
verdict = "would be served" if quote["would_be_admitted"] else f"would be refused by {quote['refused_by']}"
print(
    f"4K: {quote['estimate']['image_tokens']} image tokens, ${quote['estimate']['cost_usd']:.4f}, {verdict}"
)
