"""The wheel holds every file of the package that is not Python, and the licences of what it brings along."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from zipfile import ZipFile

from tests.environments import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    names = {*ZipFile(wheel).namelist()}
    files = [path for path in (ROOT / "app").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.relative_to(ROOT).as_posix() for path in files} - names == set()
    licences = {name.partition("licenses/")[2] for name in names if "dist-info/licenses/" in name}
    swagger = "app/surfaces/swagger"
    assert {"LICENSE", f"{swagger}/LICENSE", f"{swagger}/NOTICE"} < licences
