"""Images as files of one folder, which only the gateway's user may read.

A file is written elsewhere and renamed, so it is whole or absent. It is not synced to the disk: after a power
failure a file may be empty or cut, which its hash reveals, and an image may be lost at no cost to a promise.
"""

from __future__ import annotations

import math
import os
import secrets
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, TypeVar

from app.domain.errors import ConfigurationError, StoreUnavailable
from app.pictures.diagnosis import diagnose
from app.pictures.header import build_header, decode_value
from app.pictures.names import build_name, parse_name
from app.pictures.ports import StoredObject
from app.resilience.tasks import run_in_thread
from app.store.client import FailureLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from app.domain.generation import ImageData, Picture

T = TypeVar("T")

PARTIAL = ".partial"
"""Folder of files that are being written; no tenant id begins with a dot."""

TRIES = 3


class FilePictures:
    """``PictureStore`` in a folder, which is made if it is missing.

    Args:
        folder: Shared by all replicas that use it.
        setting: The name of the setting, for errors.
    """

    expires = False

    def __init__(self, folder: Path, setting: str) -> None:
        self.folder = folder
        self._setting = setting
        self._log = FailureLog("pictures", str(folder), diagnose=diagnose)

    async def put(self, tenant_id: str, picture: Picture, ttl_ms: int) -> None:  # noqa: ARG002
        """Write an image, or only its time if it is there already."""
        path = self._locate(build_name(tenant_id, picture.id))
        pieces = build_header(tenant_id, picture).encode(), picture.data
        await self._run(lambda: _write(self.folder / PARTIAL, path, pieces))

    async def get(self, tenant_id: str, image_id: str) -> Picture | None:
        """Read an image into one buffer; symbolic links are not followed."""
        path = self._locate(build_name(tenant_id, image_id))
        value = await self._run(lambda: _read(path))
        if value is None:
            return None
        return await decode_value(tenant_id, image_id, memoryview(value))

    async def exists(self, tenant_id: str, image_id: str) -> bool:
        """Look for an image's file."""
        return await self._run(self._locate(build_name(tenant_id, image_id)).exists)

    async def delete(self, tenant_id: str, image_ids: Sequence[str]) -> None:
        """Delete images, and folders that are empty then."""
        paths = [self._locate(build_name(tenant_id, image_id)) for image_id in image_ids]
        await self._run(lambda: _unlink(self.folder, paths))

    async def get_ttl_ms(self, tenant_id: str, image_id: str) -> int:  # noqa: ARG002
        """0, because no image expires by itself."""
        return 0

    async def list_objects(self, after: str = "") -> AsyncIterator[Sequence[StoredObject]]:
        """List all files, one folder of them at a time; links and what is no file are left alone."""
        for first in await self._run(lambda: _list_names(self.folder)):
            if first < after.partition("/")[0]:
                continue
            inner = [""]
            if first != PARTIAL:
                inner = await self._run(lambda: _list_names(self.folder / first))  # noqa: B023
            for second in inner:
                folder = "/".join(filter(None, (first, second)))
                if folder >= after.rpartition("/")[0]:
                    yield await self._run(lambda: _list_files(self.folder, folder, after))  # noqa: B023

    async def delete_object(self, stored: StoredObject) -> None:
        """Delete a listed file, unless it was written again since."""
        await self._run(lambda: _unlink(self.folder, [self._locate(stored.name)], stored.modified_s))

    async def check(self) -> None:
        """Write and delete a file. Raises ConfigurationError."""
        try:
            await self._run(lambda: _write_partial(self.folder / PARTIAL, (b"",)).unlink())
        except StoreUnavailable as error:
            diagnosis = diagnose(error.__cause__ or error, str(self.folder))
            raise ConfigurationError(self._setting, (str(diagnosis),)) from None

    def _locate(self, name: str) -> Path:
        return self.folder / name

    async def _run(self, call: Callable[[], T]) -> T:
        """Call in a thread. Raises StoreUnavailable."""
        try:
            result = await run_in_thread(call)
        except OSError as error:
            self._log.failed(error)
            raise StoreUnavailable("The folder of pictures cannot be used.", retry_after_s=1) from error
        self._log.over()
        return result


def _write(partial: Path, path: Path, pieces: tuple[ImageData, ...]) -> None:
    with suppress(FileNotFoundError):
        if path.lstat().st_size == sum(map(len, pieces)):
            os.utime(path, follow_symlinks=False)
            return
    written = _write_partial(partial, pieces)
    try:
        for _ in range(TRIES - 1):
            _make_folder(path.parent)
            # Somebody may delete the last file of that folder now, and the folder.
            with suppress(FileNotFoundError):
                written.replace(path)
                return
        _make_folder(path.parent)
        written.replace(path)
    except OSError:
        written.unlink(missing_ok=True)
        raise


def _write_partial(partial: Path, pieces: tuple[ImageData, ...]) -> Path:
    """Write a new file that only the gateway's user may read, and return its path."""
    _make_folder(partial)
    written = partial / secrets.token_hex(16)
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for piece in pieces:
                left = memoryview(piece)
                while left:
                    left = left[file.write(left) :]
    except OSError:
        written.unlink(missing_ok=True)
        raise
    return written


def _make_folder(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        with suppress(FileExistsError):
            each.mkdir(0o700)


def _read(path: Path) -> bytes | None:
    """The file's bytes in one buffer of its size, or None without one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return file.read()


def _unlink(root: Path, paths: Sequence[Path], modified_s: float = math.inf) -> None:
    """Delete files that were not written later, and the folders in which nothing is left."""
    for path in paths:
        with suppress(FileNotFoundError):
            if path.lstat().st_mtime <= modified_s:
                path.unlink()
        for folder in takewhile(lambda each: each != root, path.parents):
            with suppress(OSError):
                folder.rmdir()


def _list_names(folder: Path) -> list[str]:
    """The names of a folder's folders in order; none if there is no such folder."""
    try:
        with os.scandir(folder) as listing:
            return sorted(each.name for each in listing if each.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _list_files(root: Path, folder: str, after: str) -> list[StoredObject]:
    listed = []
    with suppress(FileNotFoundError), os.scandir(root / folder) as listing:
        for each in sorted(listing, key=lambda entry: entry.name):
            name = f"{folder}/{each.name}"
            if name > after and each.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    modified_s = each.stat(follow_symlinks=False).st_mtime
                    listed.append(StoredObject(name, *parse_name(name), modified_s))
    return listed
