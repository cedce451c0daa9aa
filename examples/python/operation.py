"""Starts a picture, closes the connection, and fetches the result when it is ready.

python examples/python/operation.py "A lighthouse at dusk" lighthouse.jpg
"""

import json
import os
import sys
import time
import urllib.request
from urllib.parse import urljoin

URL = os.environ.get("FLASHGATE_URL", "http://127.0.0.1:8080")
KEY = os.environ["FLASHGATE_API_KEY"]
prompt, path = sys.argv[1:3]


def call(url: str, body: dict | None = None, **headers: str):
    """Return the open response to a GET, or to a POST if there is a body."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {"X-API-Key": KEY, "Content-Type": "application/json", **headers}
    return urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60)


started = call(f"{URL}/v1/images:generate", {"prompt": prompt, "delivery": "uri"}, Prefer="respond-async")
operation = json.load(started)
address = urljoin(URL, started.headers["Location"])
while operation["state"] in ("waiting", "running"):
    time.sleep(int(started.headers.get("Retry-After", 1)))
    operation = json.load(call(address))
if operation["state"] != "done":
    sys.exit(f"{operation['state']}: {operation['problem']}")

picture = operation["result"]["images"][0]
with open(path, "wb") as file:
    file.write(call(picture["uri"]).read())
print(f"{path}: {picture['width']}x{picture['height']}, {operation['result']['id']}")
