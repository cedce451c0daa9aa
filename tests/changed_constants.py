"""``flashgate`` with some constants of its parts changed, for tests that cannot wait for the real ones.

``CHANGED_CONSTANTS`` holds them as JSON, each under its place in the settings, such as
``{"upstream_breaker.calls_min": 1000}``.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import app.commands.serve
from app.__main__ import main
from app.settings.environment import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.settings import Settings

VARIABLE = "CHANGED_CONSTANTS"


def environment_of(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a gateway.

    Settings are named by their variable without its prefix, in any case, and constants by their place.
    """
    constants = {name: json.loads(value) for name, value in settings.items() if "." in name}
    variables = {f"FLASHGATE_{name.upper()}": value for name, value in settings.items() if "." not in name}
    if "FLASHGATE_PORT" in variables:
        variables["PORT"] = variables.pop("FLASHGATE_PORT")
    return variables | ({VARIABLE: json.dumps(constants)} if constants else {})


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings of such an environment."""
    with patch.dict(os.environ, dict(environment), clear=True):
        settings = load_settings()
    for place, value in json.loads(environment.get(VARIABLE, "{}")).items():
        settings = _change(settings, place.split("."), value)
    return settings


def _change(config: Any, place: list[str], value: Any) -> Any:
    name, *rest = place
    kept = getattr(config, name)
    return config.model_copy(update={name: _change(kept, rest, value) if rest else type(kept)(value)})


if __name__ == "__main__":
    vars(app.commands.serve)["load_settings"] = lambda: settings_of(os.environ)
    sys.exit(main())
