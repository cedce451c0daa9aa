"""Reads the settings from the environment, and says of everything it cannot use what would be accepted."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_origin

from pydantic import ValidationError

from app.domain.config import Config
from app.domain.errors import ConfigurationError
from app.domain.requirements import describe_requirement
from app.settings import FLAT, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

PREFIX: Final = "FLASHGATE_"
_OF_THE_PLATFORM: Final = {"port": "PORT", "cloud_run_service": "K_SERVICE"}

OTHERS: Final = frozenset({
    "FLASHGATE_API_KEY", "FLASHGATE_CLIENTS", "FLASHGATE_DOCUMENT", "FLASHGATE_FUZZ_S", "FLASHGATE_OUTPUT",
    "FLASHGATE_RECORD", "FLASHGATE_URL",
})  # fmt: skip
"""Variables of this name that examples, generated clients and tests read."""

_SERVICE_LINK: Final = re.compile(PREFIX + r"(.+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP)(_\w+)?)")

_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp)://")
"""Kubernetes sets such variables for services that are called flashgate or flashgate-metrics."""

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


class Setting(NamedTuple):
    """A field that is read from the environment: whose it is, and where it stands in ``Settings``."""

    owner: type[Config]
    path: tuple[str, ...]
    field: FieldInfo


def list_settings(
    config: type[Config] = Settings, path: tuple[str, ...] = (), prefix: str = PREFIX
) -> Iterator[tuple[str, Setting]]:
    """Every setting by its variable, in the order of the configs."""
    for name, field in config.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Config):
            own = prefix if FLAT in field.metadata else f"{prefix}{name.upper()}_"
            yield from list_settings(inner, (*path, name), own)
        elif field.description:
            variable = _OF_THE_PLATFORM.get(name) or f"{prefix}{name.upper()}"
            yield variable, Setting(config, (*path, name), field)


SETTINGS: Final[Mapping[str, Setting]] = dict(list_settings())


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings that the environment holds; an empty variable counts as unset.

    Raises:
        ConfigurationError: With every variable that is unknown or cannot be read, never with its value.
    """
    source = os.environ if environment is None else environment
    variables = {
        name: value
        for name, value in source.items()
        if value.strip() and not (_SERVICE_LINK.fullmatch(name) or _SERVICE_ADDRESS.match(value))
    }
    faults = list(_unknown(variables))
    values: dict[str, Any] = {}
    for variable, setting in SETTINGS.items():
        if variable in variables:
            try:
                value = _parse(variables[variable], setting.field)
            except ValueError as error:
                faults.append(f"{variable} {error}")
                continue
            *groups, name = setting.path
            inner = values
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[name] = value
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults += [
            _fault(each["loc"], each["type"], each.get("ctx")) for each in error.errors(include_url=False)
        ]
    if faults:
        raise ConfigurationError("the environment", tuple(faults))
    return settings


def _unknown(variables: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(variables):
        if not name.upper().startswith(PREFIX) or name in SETTINGS or name in OTHERS:
            continue
        if name in MOVED:
            yield f"{name} {MOVED[name]}"
            continue
        bare = {variable.removeprefix(PREFIX): variable for variable in SETTINGS}
        nearest = difflib.get_close_matches(name.upper().removeprefix(PREFIX), bare, 1)
        hint = f"did you mean {bare[nearest[0]]}?" if nearest else "REFERENCE.md lists all settings"
        yield f"{name} is no setting; {hint}"


def _parse(text: str, field: FieldInfo) -> Any:
    """The text, or the list or object that it stands for: as JSON, or separated by commas.

    Raises:
        ValueError: It is neither; the message follows the variable's name.
    """
    kind = get_origin(field.annotation)
    if kind not in {frozenset, Mapping}:
        return text
    is_list = kind is frozenset
    if text.lstrip().startswith(("[", "{")):
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None
        if not isinstance(parsed, list if is_list else dict):
            raise ValueError(_LIST if is_list else _PAIRS)
        return parsed
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return parts if is_list else _parse_pairs(parts)


_LIST: Final = 'must be a list such as a,b or, as JSON, ["a", "b"]'
_PAIRS: Final = 'must be pairs such as a=1,b=2 or, as JSON, {"a": 1, "b": 2}'


def _parse_pairs(parts: list[str]) -> dict[str, str]:
    """Names and values; what has no equals sign goes on with the value before: ``a=vertex,gemini``."""
    pairs: dict[str, str] = {}
    name = ""
    for part in parts:
        before, sign, value = part.partition("=")
        if sign:
            name = before.strip()
            pairs[name] = value.strip()
        elif name:
            pairs[name] += f",{part}"
        else:
            raise ValueError(_PAIRS)
    return pairs


def _fault(place: tuple[int | str, ...], kind: str, context: Mapping[str, Any] | None) -> str:
    phrase = describe_requirement(kind, context)
    for variable, setting in SETTINGS.items():
        if place[: len(setting.path)] == setting.path:
            return f"{variable} {phrase}"
    return phrase
