"""``flashgate tenants check`` and ``schema``: a tenants' file before a gateway reads it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from app.cards import load_catalogue
from app.domain.errors import ConfigurationError
from app.tenants.file import read_tenants
from app.tenants.schema import TenantsFile

if TYPE_CHECKING:
    from pathlib import Path


def check_tenants(path: Path) -> int:
    """Print every fault of a file, or what is in it; return 1 if it has faults, 2 if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"flashgate: {path} cannot be read: {error}\n")
        return 2
    try:
        tenants = read_tenants(str(path), text, load_catalogue())
    except ConfigurationError as error:
        sys.stderr.write(f"flashgate: {error}\n")
        return 1
    keys = sum(len(tenant.keys) for tenant in tenants)
    sys.stdout.write(f"{path}: {len(tenants)} tenants, {keys} keys, no fault.\n")
    for tenant in tenants:
        if not tenant.is_limited:
            sys.stdout.write(f"  {tenant.id} has a key that no enforced budget limits\n")
        if not tenant.keys:
            sys.stdout.write(f"  {tenant.id} has no key, so nobody can use it\n")
    return 0


def build_schema() -> dict[str, object]:
    """The JSON Schema of the file, as editors use it."""
    schema = TenantsFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "flashgate tenants", **schema}


def print_schema() -> int:
    """Print the JSON Schema of the file."""
    sys.stdout.write(json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n")
    return 0
