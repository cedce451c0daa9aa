"""What a program does with the generated Python client. Prints what it saw, as JSON.

Arguments: base URL, key, a key whose budget is one picture, two files of reference images.
"""

from __future__ import annotations

import hashlib
import json
import sys
from io import BytesIO
from pathlib import Path

import httpx
from flashgate_client import AuthenticatedClient
from flashgate_client.api.native import edit_images, generate_images, get_image
from flashgate_client.models import EditForm, GenerateRequest, GenerateResponse, Problem
from flashgate_client.types import UNSET, File


def client_of(url: str, key: str) -> AuthenticatedClient:
    """A client that sends its key in X-API-Key."""
    return AuthenticatedClient(base_url=url, token=key, prefix="", auth_header_name="X-API-Key", timeout=httpx.Timeout(60))


def generated(client: AuthenticatedClient) -> GenerateResponse:
    """A picture, by its address."""
    request = GenerateRequest(prompt="A lighthouse, for Python", image_size="512", delivery="uri")
    answer = generate_images.sync(client=client, body=request)
    assert isinstance(answer, GenerateResponse), answer
    return answer


def downloaded(client: AuthenticatedClient, image_id: str) -> bytes:
    """The bytes of a picture."""
    found = get_image.sync(client=client, image_id=image_id)
    assert isinstance(found, File), found
    data = found.payload.read()
    assert isinstance(data, bytes)
    return data


def edited(client: AuthenticatedClient, paths: list[Path]) -> GenerateResponse:
    """A picture made of two files, with the bytes in the answer."""
    files = [File(BytesIO(path.read_bytes()), path.name) for path in paths]
    form = EditForm(prompt="Both as one: \u00e9t\u00e9, \u590f", image=files, image_size="512")
    answer = edit_images.sync(client=client, body=form)
    assert isinstance(answer, GenerateResponse), answer
    return answer


def refused(client: AuthenticatedClient) -> Problem:
    """What a caller is told whose budget is used up."""
    request = GenerateRequest(prompt="More than there is left, for Python", image_size="4K")
    answer = generate_images.sync(client=client, body=request)
    assert isinstance(answer, Problem), answer
    return answer


def main(url: str, key: str, poor_key: str, *paths: str) -> None:
    """Do all of it and print what was seen."""
    client = client_of(url, key)
    made = generated(client)
    data = downloaded(client, made.images[0].id)
    mixed = edited(client, [Path(path) for path in paths])
    problem = refused(client_of(url, poor_key))
    inline = mixed.images[0].data
    seen = {
        "made": {"id": made.images[0].id, "tokens": made.usage.image_tokens, "width": made.images[0].width},
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "edited": {"tokens": mixed.usage.image_tokens, "inputs": mixed.usage.image_input, "data": inline},
        "refused": {
            "status": problem.status,
            "code": problem.code,
            "policies": None if problem.violated_policies is UNSET else problem.violated_policies,
        },
    }
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
