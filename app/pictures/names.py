"""Names of images in stores that have names instead of keys: ``<tenant>/<two digits>/<id>``.

Every part is checked, so that a name never holds what a caller wrote. The digits spread a tenant's images
over 256 folders.
"""

from __future__ import annotations

import re

_NAME = re.compile(r"([a-z0-9][a-z0-9-]{0,62})/([0-9a-f]{2})/(img_\2[0-9a-f]{62})")


def build_name(tenant_id: str, image_id: str) -> str:
    """The name of an image. Raises ValueError for what is no tenant id, or no image id."""
    name = f"{tenant_id}/{image_id[4:6]}/{image_id}"
    if _NAME.fullmatch(name) is None:
        raise ValueError("This is no tenant id, or no image id.")
    return name


def parse_name(name: str) -> tuple[str, str]:
    """The tenant and the id of an image's name, both empty for another name."""
    parsed = _NAME.fullmatch(name)
    return ("", "") if parsed is None else (parsed[1], parsed[3])
