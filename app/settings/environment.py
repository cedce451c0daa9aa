"""Loads the settings, and says what would be accepted in place of each variable that cannot be used."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from app.domain.errors import ConfigurationError
from app.domain.requirements import describe_requirement
from app.settings import Settings
from app.settings.variables import PREFIX, Setting, list_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

SETTINGS: Final[Mapping[str, Setting]] = dict(list_settings(Settings))

CONSTANT: Final = "is no longer a setting; remove it, its value is a constant now"
MOVED: Final[Mapping[str, str]] = {
    "FLASHGATE_AMBIGUOUS_CHARGE": "is now FLASHGATE_UNKNOWN_OUTCOME",
    "FLASHGATE_AMNESIA": "is now FLASHGATE_DATA_LOSS_POLICY",
    "FLASHGATE_EMBEDDED_OK": "is now FLASHGATE_ALLOW_EMBEDDED_STORE",
    "FLASHGATE_EMULATOR_PACE": "is now FLASHGATE_EMULATOR_LATENCY_FACTOR",
    "FLASHGATE_STREAM_PATIENCE_S": "is now FLASHGATE_STREAM_STATUS_WAIT_S",
    "FLASHGATE_UPSTREAM_ATTEMPTS": "is now FLASHGATE_UPSTREAM_RETRY_ATTEMPTS",
    "FLASHGATE_UPSTREAM_BASE_URL": "is now FLASHGATE_EMULATOR_BASE_URL, FLASHGATE_GEMINI_BASE_URL or "
    "FLASHGATE_VERTEX_BASE_URL",
    "FLASHGATE_UPSTREAM_KEPT_FOR_CRITICAL": "is now FLASHGATE_UPSTREAM_SLOTS_RESERVED_FOR_CRITICAL",
    "FLASHGATE_UPSTREAM_KEPT_FROM_BATCH": "is now FLASHGATE_UPSTREAM_SLOTS_RESERVED_FOR_INTERACTIVE",
    "FLASHGATE_UPSTREAM_QUEUE": "is now FLASHGATE_UPSTREAM_SLOTS_QUEUE_MAX",
    "FLASHGATE_UPSTREAM_QUEUE_S": "is now FLASHGATE_UPSTREAM_SLOTS_QUEUE_S",
    "FLASHGATE_PORT": "is now PORT",
    **dict.fromkeys(
        (
            "FLASHGATE_CACHE_FULL_SHARE", "FLASHGATE_CACHE_PICTURE_MB", "FLASHGATE_CHUNKED_ABOVE_BYTES",
            "FLASHGATE_CONVERSATION_TURNS_MAX", "FLASHGATE_IAP_CERTS_URL", "FLASHGATE_IDENTITY_CERTS_URL",
            "FLASHGATE_IDENTITY_SKEW_S", "FLASHGATE_INPUTS_PER_REQUEST_MAX", "FLASHGATE_INPUT_PIXELS_MAX",
            "FLASHGATE_JOURNAL_MB", "FLASHGATE_LIGHT_BYTES_MAX", "FLASHGATE_METADATA_URL",
            "FLASHGATE_METRICS_TENANTS_MAX", "FLASHGATE_OPERATION_KEEP_S", "FLASHGATE_UPSTREAM_API_VERSION",
            "FLASHGATE_UPSTREAM_BREAKER_CALLS", "FLASHGATE_UPSTREAM_BREAKER_PAUSE_S",
            "FLASHGATE_UPSTREAM_BREAKER_RATIO", "FLASHGATE_UPSTREAM_BREAKER_WINDOW_S",
            "FLASHGATE_UPSTREAM_CONNECTIONS", "FLASHGATE_UPSTREAM_QUOTA_PROBE_S",
            "FLASHGATE_UPSTREAM_RETRY_RATIO", "FLASHGATE_UPSTREAM_RETRY_RESERVE",
            "FLASHGATE_UPSTREAM_SLOTS_MIN", "FLASHGATE_UPSTREAM_SLOW_S", "FLASHGATE_USAGE_LABELS_MAX",
        ),
        CONSTANT,
    ),
}  # fmt: skip
"""What became of the variables that were settings once."""


def load_settings(**options: object) -> Settings:
    """Return the settings that the environment holds; options outrank it.

    Raises:
        ConfigurationError: With every variable that is unknown or cannot be read, never with its value.
    """
    try:
        return Settings(**options)  # type: ignore[arg-type]
    except ValidationError as error:
        errors = sorted(error.errors(include_url=False), key=_is_known)
        raise ConfigurationError("the environment", tuple(map(_describe_fault, errors))) from None


def _is_known(error: ErrorDetails) -> bool:
    return error["type"] != "extra_forbidden"


def _describe_fault(error: ErrorDetails) -> str:
    place = error["loc"]
    if not _is_known(error):
        return f"{place[0]} {_describe_unknown(str(place[0]))}"
    phrase = describe_requirement(error["type"], error.get("ctx"))
    for variable, setting in SETTINGS.items():
        if place[: len(setting.path)] == setting.path:
            return f"{variable} {phrase}"
    return phrase


def _describe_unknown(name: str) -> str:
    if name in MOVED:
        return MOVED[name]
    bare = {variable.removeprefix(PREFIX): variable for variable in SETTINGS}
    nearest = difflib.get_close_matches(name.upper().removeprefix(PREFIX), bare, 1)
    hint = "REFERENCE.md lists all settings"
    if nearest:
        hint = f"did you mean {bare[nearest[0]]}?"
    return f"is no setting; {hint}"
