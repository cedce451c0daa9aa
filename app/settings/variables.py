"""The environment as a source of the settings: which variable is which field."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic_settings import PydanticBaseSettingsSource

from app.domain.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

FLAT: Final = "flat"
"""Marks a group whose fields are named in the environment without the group's name."""

PREFIX: Final = "FLASHGATE_"
_OF_THE_PLATFORM: Final = {
    "port": "PORT", "cloud_run_service": "K_SERVICE", "otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
}  # fmt: skip

OTHERS: Final = frozenset({
    "FLASHGATE_CLIENTS", "FLASHGATE_DOCUMENT", "FLASHGATE_FUZZ_S", "FLASHGATE_OUTPUT", "FLASHGATE_RECORD",
})  # fmt: skip
"""Variables of this name that examples, generated clients and tests read."""

_SERVICE_LINK: Final = re.compile(PREFIX + r"(.+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP)(_\w+)?)")

_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp)://")
"""Kubernetes sets such variables for services that are called flashgate or flashgate-metrics."""


class Setting(NamedTuple):
    """A field that is read from the environment: whose it is, and where it stands in ``Settings``."""

    owner: type[BaseModel]
    path: tuple[str, ...]
    field: FieldInfo


def list_settings(
    config: type[BaseModel], path: tuple[str, ...] = (), prefix: str = PREFIX
) -> Iterator[tuple[str, Setting]]:
    """Every setting by its variable, in the order of the configs."""
    for name, field in config.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Config):
            own = prefix
            if FLAT not in field.metadata:
                own = f"{prefix}{name.upper()}_"
            yield from list_settings(inner, (*path, name), own)
        elif field.description:
            variable = _OF_THE_PLATFORM.get(name) or f"{prefix}{name.upper()}"
            yield variable, Setting(config, (*path, name), field)


class EnvironmentSource(PydanticBaseSettingsSource):
    """Sorts the variables into the groups; one that is no setting keeps its name, and so is refused.

    The library's own source cannot leave out the name of a group, and ignores what it does not know. An empty
    variable counts as unset, as deployment files leave what nobody filled in.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Find no single fields: a variable may belong to a group's field."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        """Return the values of the environment, nested as the groups are."""
        settings = dict(list_settings(self.settings_cls))
        values: dict[str, Any] = {}
        for variable, text in os.environ.items():
            if not text.strip() or _SERVICE_LINK.fullmatch(variable) or _SERVICE_ADDRESS.match(text):
                continue
            if variable in settings:
                *groups, name = settings[variable].path
                group = values
                for step in groups:
                    group = group.setdefault(step, {})
                group[name] = text
            elif variable.upper().startswith(PREFIX) and variable not in OTHERS:
                values[variable] = text
        return values
