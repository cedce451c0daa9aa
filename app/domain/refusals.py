"""Google's finish reasons, block reasons and support codes, mapped to categories.

The reasons are those of docs/model.md#refusals, the numbers those of Google's responsible-AI page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Side = Literal["prompt", "picture"]
"""What a filter refused."""

FINISHED: Final = frozenset({"STOP", "FINISH_REASON_UNSPECIFIED"})
"""Finish reasons that do not say why there is no picture."""

FILTERED: Final[Mapping[str, str]] = {
    "SAFETY": "safety",
    "RECITATION": "recitation",
    "LANGUAGE": "language",
    "BLOCKLIST": "blocklist",
    "PROHIBITED_CONTENT": "prohibited",
    "SPII": "personal_information",
    "MODEL_ARMOR": "model_armor",
    "IMAGE_SAFETY": "safety",
    "IMAGE_PROHIBITED_CONTENT": "prohibited",
    "IMAGE_RECITATION": "recitation",
}
"""Finish reasons of Google's filters, each with its category."""

UNFINISHED: Final = frozenset({
    "OTHER", "IMAGE_OTHER", "NO_IMAGE", "MAX_TOKENS", "CONTINUATION", "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE",
    "ESCALATION", "PUP_LIMITED_DISABLED",
})  # fmt: skip
"""Finish reasons of answers that are neither complete nor refused."""

BLOCKED: Final[Mapping[str, str]] = {
    "BLOCKED_REASON_UNSPECIFIED": "other",
    "SAFETY": "safety",
    "OTHER": "other",
    "BLOCKLIST": "blocklist",
    "PROHIBITED_CONTENT": "prohibited",
    "IMAGE_SAFETY": "safety",
    "MODEL_ARMOR": "model_armor",
    "JAILBREAK": "jailbreak",
}
"""Reasons for which a prompt is blocked, each with its category."""

KNOWN: Final = FINISHED | FILTERED.keys() | UNFINISHED | BLOCKED.keys()


class SupportCode(NamedTuple):
    """The category of one of Google's numbers, and the side that it refuses; None for either."""

    category: str
    side: Side | None


SUPPORT_CODES: Final[Mapping[str, SupportCode]] = {
    "58061214": SupportCode("child", "prompt"),
    "17301594": SupportCode("child", "picture"),
    "29310472": SupportCode("celebrity", "prompt"),
    "15236754": SupportCode("celebrity", "picture"),
    "64151117": SupportCode("celebrity_or_child", None),
    "62263041": SupportCode("dangerous", "prompt"),
    "57734940": SupportCode("hate", "prompt"),
    "22137204": SupportCode("hate", "picture"),
    "42876398": SupportCode("other", "prompt"),
    "29578790": SupportCode("other", "picture"),
    "74803281": SupportCode("other", "picture"),
    "39322892": SupportCode("people", "picture"),
    "92201652": SupportCode("personal_information", "prompt"),
    "89371032": SupportCode("prohibited", "prompt"),
    "49114662": SupportCode("prohibited", "picture"),
    "72817394": SupportCode("prohibited", "picture"),
    "11030041": SupportCode("prohibited", "picture"),
    "90789179": SupportCode("sexual", "prompt"),
    "63429089": SupportCode("sexual", "picture"),
    "43188360": SupportCode("sexual", "picture"),
    "78610348": SupportCode("toxic", "prompt"),
    "61493863": SupportCode("violence", "prompt"),
    "56562880": SupportCode("violence", "picture"),
    "32635315": SupportCode("vulgar", "prompt"),
}
"""11030041 is not on that page; it was seen with IMAGE_PROHIBITED_CONTENT."""


def find_category(reason: str, support_code: str | None) -> str:
    """The category by the support code, which is more precise, else by the reason."""
    entry = SUPPORT_CODES.get(support_code or "")
    if entry is not None:
        return entry.category
    return FILTERED.get(reason) or BLOCKED.get(reason) or "other"


def classify_reason(reason: str) -> str:
    """The metric label of a finish reason: ``none`` without one, ``unknown`` for a new one."""
    if not reason:
        return "none"
    return reason if reason in KNOWN else "unknown"
