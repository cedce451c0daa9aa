"""Every way in which a call of the model can end, and what becomes of it: tables, and nothing else.

One row each for the statuses of docs/model.md#errors, for the SDK's finish and block reasons, and for the
answers of docs/model.md#unusual-answers. What a row expects is written out here and not taken from the
gateway's own tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Booked = Literal["nothing", "usage", "input", "estimate"]


@dataclass(frozen=True)
class Ending:
    """One way in which a request ends.

    Attributes:
        rehearse: What the emulator does, in a rule's words.
        status: Of the answer.
        code: The problem's, or empty for pictures.
        booked: ``nothing``; the ``usage`` that the answer itself tells; the ``input`` alone; or the
            ``estimate`` of one call, because nobody knows whether it was billed.
        pictures: How many are booked.
        calls: How often the upstream is called for one request.
        again: The same for an equal second one; 0 where the first is kept. None where there is no second.
        tells: Members of the answer, by their path.
        asks: Members of the request beside the prompt.
    """

    rehearse: tuple[str, ...]
    status: int = 200
    code: str = ""
    booked: Booked = "usage"
    pictures: int = 0
    calls: int = 1
    again: int | None = 1
    tells: Mapping[str, Any] = field(default_factory=dict)
    asks: Mapping[str, Any] = field(default_factory=dict)


def drawn(*rehearse: str, pictures: int = 1, kept: bool = True, asks: Any = None, **tells: Any) -> Ending:
    """It ends well, and is kept unless its finish reason is a new word."""
    told = {path.replace("__", "."): value for path, value in tells.items()}
    return Ending(rehearse, pictures=pictures, again=0 if kept else 1, tells=told, asks=asks or {})


def refused(*rehearse: str, code: str = "content_blocked", **upstream: Any) -> Ending:
    """A filter, or the model itself, refuses; what was read is paid, and nothing is kept."""
    return Ending(rehearse, 422, code, tells={f"upstream.{name}": value for name, value in upstream.items()})


def rejected(name: str, reason: str | None, status: int, upstream_status: int) -> Ending:
    """Google refuses the call before it works; 400 where the caller can mend it."""
    code = "upstream_rejected" if status == 502 else "upstream_invalid_request"
    tells = {"upstream.status": upstream_status, "upstream.billed": "no", "retryable": False}
    return Ending(
        (name,), status, code, "nothing", tells=tells | ({"upstream.reason": reason} if reason else {})
    )


def quota(name: str, calls: int = 1, **tells: Any) -> Ending:
    """A quota is used up; nothing was billed, and the caller learns when to come back."""
    told = {"upstream.reason": "RESOURCE_EXHAUSTED", "upstream.billed": "no", **tells}
    return Ending((name,), 429, "upstream_quota", "nothing", calls=calls, again=calls, tells=told)


def spent(name: str) -> Ending:
    """A spending cap is reached: no retry helps, and no time is known."""
    told = {"upstream.status": 429, "upstream.billed": "no", "retryable": False}
    return Ending((name,), 503, "upstream_spending_cap", "nothing", tells=told)


def passing(name: str) -> Ending:
    """An overload: tried three times, because it cannot have been billed."""
    return Ending((name,), 503, "upstream_unavailable", "nothing", calls=3, again=None)


def unknown(
    name: str, upstream_status: int | None, *, status: int = 502, code: str = "upstream_error"
) -> Ending:
    """Nobody knows whether it was billed: called once, and booked at the estimate."""
    tells: dict[str, Any] = {"upstream.billed": "maybe"}
    if upstream_status is not None:
        tells["upstream.status"] = upstream_status
    return Ending((name,), status, code, "estimate", pictures=1, tells=tells)


STATUSES: Mapping[str, Ending] = {
    "400 INVALID_ARGUMENT": rejected("invalid", "INVALID_ARGUMENT", 400, 400),
    "400 API_KEY_INVALID": rejected("bad-key", "API_KEY_INVALID", 502, 400),
    "400 FAILED_PRECONDITION": rejected("precondition", "FAILED_PRECONDITION", 502, 400),
    "401 UNAUTHENTICATED": rejected("unauthenticated", "UNAUTHENTICATED", 502, 401),
    "403 PERMISSION_DENIED": rejected("permission-denied", "SERVICE_DISABLED", 502, 403),
    "404 NOT_FOUND": rejected("not-found", "NOT_FOUND", 502, 404),
    "408": unknown("timeout", 408),
    "413": rejected("too-large", None, 400, 413),
    "429 a minute's quota": quota("quota", retry_after_s=35),
    "429 a day's quota": quota("quota-day"),
    "429 no quota at all": quota("quota-zero"),
    "429 the project's spending cap": spent("spending-cap"),
    "429 the account's spending cap": spent("spending-cap-account"),
    "429 no credit left": spent("credits-depleted"),
    "429 shared capacity": quota("exhausted", calls=3),
    "499 CANCELLED": unknown("cancelled", 499),
    "500 INTERNAL": Ending(("internal",), 502, "upstream_error", "nothing", tells={"upstream.billed": "no"}),
    "502 HTML": unknown("bad-gateway", 502),
    "503 UNAVAILABLE": passing("unavailable"),
    "504 DEADLINE_EXCEEDED": unknown("deadline", 504, status=504, code="deadline_exceeded"),
    "529": passing("overloaded-proxy"),
}


def finished(reason: str, status: int, code: str) -> Ending:
    """An answer that is neither a picture nor a refusal; what it used is paid."""
    tells = {"upstream.reason": reason, "upstream.billed": "yes", "upstream.status": 200}
    return Ending((f"finish:{reason}",), status, code, tells=tells)


FINISHES: Mapping[str, Ending] = {
    "FINISH_REASON_UNSPECIFIED": finished("FINISH_REASON_UNSPECIFIED", 502, "upstream_no_image"),
    "STOP": finished("STOP", 502, "upstream_no_image"),
    "MAX_TOKENS": finished("MAX_TOKENS", 502, "answer_cut"),
    "SAFETY": refused("finish:SAFETY", reason="SAFETY", category="safety", side="picture"),
    "RECITATION": refused("finish:RECITATION", reason="RECITATION", category="recitation"),
    "LANGUAGE": refused("finish:LANGUAGE", reason="LANGUAGE", category="language"),
    "OTHER": finished("OTHER", 502, "upstream_no_image"),
    "BLOCKLIST": refused("finish:BLOCKLIST", reason="BLOCKLIST", category="blocklist"),
    "PROHIBITED_CONTENT": refused(
        "finish:PROHIBITED_CONTENT", "support-code:17301594",
        reason="PROHIBITED_CONTENT", support_code="17301594", category="child", side="picture",
    ),
    "SPII": refused("finish:SPII", reason="SPII", category="personal_information"),
    "MALFORMED_FUNCTION_CALL": finished("MALFORMED_FUNCTION_CALL", 502, "upstream_error"),
    "UNEXPECTED_TOOL_CALL": finished("UNEXPECTED_TOOL_CALL", 502, "upstream_error"),
    "TOO_MANY_TOOL_CALLS": finished("TOO_MANY_TOOL_CALLS", 502, "upstream_error"),
    "MALFORMED_RESPONSE": finished("MALFORMED_RESPONSE", 502, "upstream_error"),
    "IMAGE_SAFETY": refused(
        "finish:IMAGE_SAFETY", "support-code:56562880",
        reason="IMAGE_SAFETY", support_code="56562880", category="violence", side="picture",
    ),
    "IMAGE_PROHIBITED_CONTENT": refused(
        "finish:IMAGE_PROHIBITED_CONTENT", "support-code:11030041",
        reason="IMAGE_PROHIBITED_CONTENT", support_code="11030041", category="prohibited",
    ),
    "IMAGE_OTHER": finished("IMAGE_OTHER", 502, "upstream_no_image"),
    "NO_IMAGE": finished("NO_IMAGE", 502, "upstream_no_image"),
    "IMAGE_RECITATION": refused("finish:IMAGE_RECITATION", reason="IMAGE_RECITATION", category="recitation"),
    "MISSING_THOUGHT_SIGNATURE": finished("MISSING_THOUGHT_SIGNATURE", 400, "invalid_history"),
    "ESCALATION": finished("ESCALATION", 502, "upstream_rejected"),
    "PUP_LIMITED_DISABLED": finished("PUP_LIMITED_DISABLED", 502, "upstream_rejected"),
    "CONTINUATION": finished("CONTINUATION", 502, "upstream_no_image"),
    "MODEL_ARMOR": refused("finish:MODEL_ARMOR", reason="MODEL_ARMOR", category="model_armor"),
}  # fmt: skip
BLOCKS: Mapping[str, Ending] = {
    "BLOCKED_REASON_UNSPECIFIED": refused("block:BLOCKED_REASON_UNSPECIFIED", side="prompt"),
    "SAFETY": refused("block:SAFETY", reason="SAFETY", category="safety", side="prompt"),
    "OTHER": refused("block:OTHER", reason="OTHER", category="other", side="prompt"),
    "BLOCKLIST": refused("block:BLOCKLIST", reason="BLOCKLIST", category="blocklist", side="prompt"),
    "PROHIBITED_CONTENT": refused(
        "block:PROHIBITED_CONTENT", "support-code:29310472",
        reason="PROHIBITED_CONTENT", support_code="29310472", category="celebrity", side="prompt",
    ),
    "IMAGE_SAFETY": refused("block:IMAGE_SAFETY", reason="IMAGE_SAFETY", category="safety", side="prompt"),
    "MODEL_ARMOR": refused("block:MODEL_ARMOR", reason="MODEL_ARMOR", category="model_armor", side="prompt"),
    "JAILBREAK": refused("block:JAILBREAK", reason="JAILBREAK", category="jailbreak", side="prompt"),
}  # fmt: skip

PNG = {"output_mime_type": "image/png"}
BEHAVIOURS: Mapping[str, Ending] = {
    "a picture": drawn("pretty"),
    "a finish message beside a picture": drawn("support-code:63429089"),
    "thoughts and one interim picture": drawn("thoughts"),
    "thoughts and two interim pictures": drawn("thoughts:2"),
    "words alone": refused("text-only", code="model_refused", reason="STOP", category="refusal"),
    "image safety": refused("image-safety", category="sexual", support_code="63429089"),
    "a prohibited image": refused("image-prohibited", category="prohibited"),
    "recitation": refused("image-recitation", category="other", support_code="29578790"),
    "no picture, IMAGE_OTHER": Ending(("image-other",), 502, "upstream_no_image"),
    "no picture, NO_IMAGE": Ending(("no-image",), 502, "upstream_no_image"),
    "no picture, OTHER": Ending(("other",), 502, "upstream_no_image"),
    "no picture, SAFETY": refused("safety", category="safety"),
    "no picture, MAX_TOKENS": Ending(("max-tokens",), 502, "answer_cut", tells={"retryable": True}),
    "a blocked prompt": refused("blocked-prompt", category="prohibited", side="prompt"),
    "a prompt blocked as SAFETY": refused("blocked-safety", category="safety", side="prompt"),
    "a new block reason": refused("block:A_REASON_OF_2028", reason="A_REASON_OF_2028", category="other"),
    "a blocked picture without usage": Ending(("image-safety", "no-usage"), 422, "content_blocked", "input"),
    "a picture without usage": drawn("no-usage", usage__estimated=True, usage__image_tokens=747),
    "a picture with a new finish reason": drawn("unknown-finish-reason", kept=False),
    "no picture with a new finish reason": Ending(("unknown-no-image",), 502, "upstream_no_image"),
    "a picture in a thought alone": drawn("thought-only-image"),
    "more searches than usual": drawn(
        "searches:12", kept=False, usage__search_queries=12, asks={"grounding": {"web_search": True}}
    ),
    "two pictures": drawn("two-images", pictures=2),
    "another size": drawn("wrong-size", images__0__width=1024, warnings__0__code="size_mismatch"),
    "PNG": drawn("png", images__0__mime_type="image/png"),
    "WebP where PNG was asked": drawn(
        "webp", images__0__mime_type="image/webp", warnings__0__code="mime_mismatch", asks=PNG
    ),
    "WebP that is called PNG": drawn("mislabelled", images__0__mime_type="image/webp"),
    "escaped padding": drawn("escaped-padding"),
    "url-safe base64": drawn("url-safe"),
    "a deprecated model": drawn("model-deprecated"),
    "a slow first byte": drawn("slow:0.01"),
    "a held answer": drawn("hold:the-tables"),
    "a trickled body": drawn("trickled"),
    "a fault of streams alone": drawn("stream-error"),
    "a cut of streams alone": drawn("stream-cut"),
    "bytes that are no picture": Ending(
        ("damaged",), 502, "upstream_error", tells={"upstream.billed": "yes", "usage.image_tokens": 747}
    ),
    "an answer beyond its limit": unknown("huge:4", 200),
    "broken JSON": unknown("broken-json", 200),
    "a truncated body": unknown("truncated", None),
    "a reset in mid-body": unknown("reset", None),
    "no byte at all": unknown("dropped", None),
}

ENDINGS: Mapping[str, Ending] = {
    # Refusals first: the breaker, which counts failures among all calls, must not open half way.
    **{f"finish {name}": ending for name, ending in FINISHES.items()},
    **{f"block {name}": ending for name, ending in BLOCKS.items()},
    **BEHAVIOURS,
    **STATUSES,
}
