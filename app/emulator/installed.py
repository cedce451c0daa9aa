"""Whether the packages of the extra ``emulator`` are installed; the gateway itself runs without them."""

from __future__ import annotations

import importlib.util
from typing import Final

from app.domain.errors import ConfigurationError

_PACKAGES: Final = {"PIL": "pillow", "pillow_heif": "pillow-heif", "httptools": "httptools"}


def check_installed() -> None:
    """Check that the emulator can run here.

    Raises:
        ConfigurationError: With the packages that are missing, and how to install them.
    """
    missing = [name for module, name in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        advice = (
            f"{', '.join(missing)} not installed; install the extra `emulator`: "
            "pip install 'flashgate[emulator]', or set FLASHGATE_UPSTREAM to vertex or gemini"
        )
        raise ConfigurationError("the emulator", (advice,))
