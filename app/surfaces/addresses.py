"""Addresses of the original APIs: those that clients put together wrongly, and where each dialect is served.

Clients differ in what they append to a base URL: some add the API's version although the base URL ends with
one, others leave it out. Where such a path can mean only one route, it is served; any other gets a 404 in its
dialect that says which base URL to set.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable

_VERSION: Final = r"v1(?:alpha|beta1?)?"
_REWRITES: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    # Google serves OpenAI's dialect below /v1beta/openai.
    (re.compile(rf"/gemini/{_VERSION}/openai(?:/v1)?/(?=images/|models)"), "/openai/v1/"),
    (re.compile(r"/gemini/(?=models(?:/|$))"), "/gemini/v1beta/"),
    (re.compile(rf"/gemini/(?:{_VERSION}/)+({_VERSION}/)(?=models|publishers|projects)"), r"/gemini/\1"),
    (re.compile(r"/openai(?:/v1)*/(?=images/|models)"), "/openai/v1/"),
)
_DEPLOYMENT: Final = re.compile(r"/openai/deployments/([^/]+)/(images/(?:generations|edits))/?")

# Only paths that no route of the native API has.
_VERBS: Final = r"(?:(?:stream|batch)?[gG]enerateContent|countTokens|predict|embedContent)"
_GOOGLES: Final = re.compile(
    rf"(?:/{_VERSION})*(?:/projects/[^/]+/locations/[^/]+)?(?:/publishers/google)?/models/[^/]+:{_VERBS}"
    r"|/v1(?:alpha|beta1?)(?:/.*)?"
)
_OPENAIS: Final = re.compile(
    r"(?:/v1)*/(?:images/(?:generations|edits|variations)|(?:chat/)?completions|responses|embeddings)/?"
)
_GOOGLE_BASE: Final = "Google's dialect is served below /gemini: use that as the base URL of the client."
_OPENAI_BASE: Final = "OpenAI's dialect is served below /openai/v1: use that as the base URL of the client."
_OPENAI_ROUTES: Final = (
    "No such route. OpenAI's dialect has POST /openai/v1/images/generations and /openai/v1/images/edits, and"
    " GET /openai/v1/models and /openai/v1/models/{model}."
)


def resolve_address(path: str) -> tuple[str, str]:
    """Return the path of the route that is meant, and the deployment of Azure's form of the API, or empty."""
    deployment = _DEPLOYMENT.fullmatch(path)
    if deployment:
        return f"/openai/v1/{deployment[2]}", unquote(deployment[1])
    for pattern, replacement in _REWRITES:
        if pattern.match(path):
            path = pattern.sub(replacement, path, count=1)
    if path.startswith("/openai/"):
        path = path.rstrip("/")
    return path, ""


def find_dialect(path: str) -> str:
    """Return the prefix of the dialect that a path belongs to, or empty for the native API."""
    for prefix, pattern in (("/gemini", _GOOGLES), ("/openai", _OPENAIS)):
        if path == prefix or path.startswith(f"{prefix}/") or pattern.fullmatch(path):
            return prefix
    return ""


def describe_base(path: str) -> str:
    """Return where the dialect of a path that is not served has its routes; empty for the native API."""
    if path.startswith("/openai/"):
        return _OPENAI_ROUTES
    return {"/gemini": _GOOGLE_BASE, "/openai": _OPENAI_BASE}.get(find_dialect(path), "")
