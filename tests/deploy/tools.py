"""The tools that judge the deployment's files, in environments of their own: ``make deploy-check``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.deploy.files import DEPLOY, ROOT
from tests.environments import environment

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = ROOT / ".deploy"

needs_tools = pytest.mark.skipif(
    not os.environ.get("DEPLOY_TOOLS"),
    reason="installs linters and message classes of the platform: make deploy-check",
)


def programs(lock: str) -> Path:
    """The folder of the programs of one lock in ``deploy/tools``."""
    TOOLS.mkdir(exist_ok=True)
    return environment(TOOLS / lock, DEPLOY / f"tools/{lock}.txt")
