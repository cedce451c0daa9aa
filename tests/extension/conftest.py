"""A store of its own for a test that runs another version of the code."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.storeserver import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.storeserver import ServerProcess


@pytest.fixture
def own_server() -> Iterator[ServerProcess]:
    """A server that no other test uses."""
    with tempfile.TemporaryDirectory(prefix="fg") as folder, running_server(Path(folder)) as found:
        yield found
