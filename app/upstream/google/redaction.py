"""Redacts what Google's messages reveal about the deployment: projects, accounts and keys."""

from __future__ import annotations

import re
from typing import Final

WITHHELD: Final = "(withheld)"

_QUOTE: Final = r"""["'`]|\\["']"""
_MEMBER: Final = r"(?:project(?:_?[iI]d|_?[nN]umber)?|consumer|containerInfo)"
_PATTERNS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # Resource names; JSON may escape the solidus.
        r"(?P<kept>\bprojects(?:/|\\/))[A-Za-z0-9_.:-]+",
        # Addresses of consoles, and members such as "projectId": "…".
        r"(?P<kept>[?&]project=)[A-Za-z0-9_.:-]+",
        rf"(?P<kept>(?:{_QUOTE}){_MEMBER}(?:{_QUOTE})\s*:\s*(?:{_QUOTE}))[^\"'`\\]+",
        # Sentences: project 123456789012, project number "123456789012", project 'my-project'.
        r"(?P<kept>(?i:\bproject)(?:[ _](?i:id|number|name))?[\s:=#]{1,3})\d{5,}",
        rf"(?P<kept>(?i:\bproject)(?:[ _](?i:id|number|name))?[\s:=#]{{1,3}}(?:{_QUOTE}))[^\"'`\\]+",
        r"(?P<kept>)\b[A-Za-z0-9_.-]+@[A-Za-z0-9.-]*gserviceaccount\.com\b",
        r"(?P<kept>)\bAIza[A-Za-z0-9_-]{20,}",
    )
)


def redact(text: str, project: str | None = None) -> str:
    """Redact a text, JSON or not.

    Args:
        text: An error message or body from Google.
        project: The deployment's own project id, which is redacted everywhere.
    """
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<kept>{WITHHELD}", text)
    if project:
        text = re.sub(rf"(?<![\w-]){re.escape(project)}(?![\w-])", WITHHELD, text)
    return text
