"""``flashgate keys new``: generates gateway keys for the tenants' file."""

from __future__ import annotations

import secrets
import sys

from app.domain.keys import ENTROPY_BYTES, hash_secret, mint
from app.settings.environment import load_settings
from app.tenants.directory import load_pepper


def print_new_key(env: str) -> int:
    """Print a new key and its line for the tenants' file."""
    settings = load_settings()
    configured = settings.key_pepper
    pepper = configured.get_secret_value().encode() if configured else load_pepper(settings.state_dir)
    key = mint(env, secrets.token_bytes(ENTROPY_BYTES))
    sys.stdout.write(
        f"key:  {key.text}\n"
        "file: "
        f'- {{id: {key.key_id}, hash: "hmac-sha256:{hash_secret(pepper, key.secret)}", scopes: [images]}}\n'
        "The key is shown only once. The hash is only valid with the pepper of this deployment.\n"
    )
    return 0
