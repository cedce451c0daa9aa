"""A process that is killed at any step leaves no half picture that is served, and nothing that stays."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from app.pictures.bucket import BucketPictures
from app.pictures.folder import FilePictures
from app.store import keys
from tests.pictures.conftest import build_store
from tests.pictures.killed import IMAGE, STEPS
from tests.pictures.test_results import open_results
from tests.pictures.test_sweeping import Sweeps

if TYPE_CHECKING:
    from pathlib import Path

    from app.store.client import StoreClients
    from tests.storeserver import ServerProcess

SERVED_AFTER = {"they are listed", "before they are unlisted"}
ONLY_FILES = {"half of the file is written"}


@pytest.mark.parametrize("kind", ["file", "s3"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_process_that_is_killed_leaves_a_whole_picture_or_none(
    kind: str,
    step: str,
    request: pytest.FixtureRequest,
    server: ServerProcess,
    clients: StoreClients,
    tenant: str,
    tmp_path: Path,
) -> None:
    monkeypatch = request.getfixturevalue("monkeypatch")
    if kind == "s3" and step in ONLY_FILES:
        pytest.skip("a bucket's server writes by itself")
    pictures = build_store(kind, request, clients, tmp_path, monkeypatch)
    assert isinstance(pictures, FilePictures | BucketPictures)
    url = pictures.url if isinstance(pictures, BucketPictures) else f"file://{pictures.folder}"
    command = [sys.executable, "-m", "tests.pictures.killed", step, server.url, url, tenant]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == -signal.SIGKILL
    served = await open_results(clients, pictures).get_picture(tenant, IMAGE.id)
    assert (served == IMAGE) is (step in SERVED_AFTER)
    await clients.ledger.delete(keys.SWEEP)
    sweeps = Sweeps(clients, pictures)
    await sweeps.run()
    left = [each.image_id async for page in pictures.list_objects() for each in page]
    assert left == ([IMAGE.id] if step in SERVED_AFTER else [])
    assert (await open_results(clients, pictures).get_picture(tenant, IMAGE.id) is None) is (not left)
