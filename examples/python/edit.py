"""Changes a picture by a prompt; the file is sent as a form, the response is the new picture.

python examples/python/edit.py "The same at night" lighthouse.jpg night.jpg
"""

import os
import secrets
import sys
import urllib.request
from pathlib import Path

URL = os.environ.get("FLASHGATE_URL", "http://127.0.0.1:8080")
KEY = os.environ["FLASHGATE_API_KEY"]
prompt, source, target = sys.argv[1:4]

boundary = secrets.token_hex(16)
form = b"\r\n".join(
    [
        f'--{boundary}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n{prompt}'.encode(),
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n'.encode(),
        Path(source).read_bytes(),
        f"--{boundary}--\r\n".encode(),
    ]
)
request = urllib.request.Request(
    f"{URL}/v1/images:edit",
    form,
    {
        "X-API-Key": KEY,
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Accept": "image/*",
        "Idempotency-Key": secrets.token_hex(16),  # a repeat of this request is never paid again
    },
)
with urllib.request.urlopen(request, timeout=120) as response:
    Path(target).write_bytes(response.read())
    print(f"{target}: {response.headers['Content-Type']}, {response.headers['X-Flashgate-Generation']}")
