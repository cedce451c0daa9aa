"""Generates a picture and prints what it cost.

python examples/python/generate.py "A lighthouse at dusk" lighthouse.jpg
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.request

URL = os.environ.get("FLASHGATE_URL", "http://127.0.0.1:8080")
KEY = os.environ["FLASHGATE_API_KEY"]
prompt, path = sys.argv[1:3]

request = urllib.request.Request(
    f"{URL}/v1/images:generate",
    json.dumps({"prompt": prompt, "aspect_ratio": "16:9", "image_size": "1K"}).encode(),
    {"X-API-Key": KEY, "Content-Type": "application/json"},
)
try:
    with urllib.request.urlopen(request, timeout=120) as response:
        answer = json.load(response)
except urllib.error.HTTPError as error:
    problem = json.load(error)  # application/problem+json, with all "violations" of the request
    for violation in problem.get("violations", []):
        print(f"{violation['pointer']}: {violation['detail']}", file=sys.stderr)
    sys.exit(f"{problem['code']}: {problem['detail']}")

with open(path, "wb") as file:
    file.write(base64.b64decode(answer["images"][0]["data"]))
print(f"{path}: {answer['usage']['image_tokens']} image tokens, ${answer['usage']['cost_usd']:.4f}")
