"""The cache directives of a request: its ``Cache-Control`` (RFC 9111 section 5.2.1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.domain.request import CacheDirective

if TYPE_CHECKING:
    from fastapi import Request

_MAX_AGE = re.compile(r"max-age=\"?(\d{1,20})\"?", re.ASCII)
_MAX_AGE_S = 2**31
"""Larger ages are capped at this value (RFC 9111 section 1.2.2)."""


def read_cache_control(request: Request) -> str:
    """Return the request's ``Cache-Control``, joined from all its header lines."""
    return ",".join(request.headers.getlist("cache-control"))


def parse_cache_control(cache_control: str | None) -> CacheDirective | None:
    """Return the directive of a header, or None if it has none; ``max-age=0`` means ``no-cache``."""
    directives = {item.strip().lower() for item in (cache_control or "").split(",")}
    ages = [min(int(match[1]), _MAX_AGE_S) for match in map(_MAX_AGE.fullmatch, directives) if match]
    max_age_s = min(ages, default=None)
    if "no-store" in directives:
        return CacheDirective("bypass")
    if "only-if-cached" in directives:
        return CacheDirective("only_if_cached", max_age_s)
    if "no-cache" in directives or max_age_s == 0:
        return CacheDirective("refresh")
    if max_age_s is None:
        return None
    return CacheDirective("use", max_age_s)
