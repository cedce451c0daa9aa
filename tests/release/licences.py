"""``python -m tests.release.licences``: under which licences the packages of a lock are, as a table.

A package tells its licence as an SPDX expression (PEP 639), in the older field of free text, or as a
classifier. The three are brought to SPDX names here; what cannot be told is a fault, not a guess.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from app.surfaces.docs import SWAGGER_UI_VERSION

ROOT = Path(__file__).parents[2]
RUN_TIME = ROOT / "requirements.txt"

ALLOWED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "MPL-2.0",  # by file: what we do not change and do not link statically puts nothing on us
        "PSF-2.0",
        "Unlicense",
        "Zlib",
        # Of what is inside PDFium: permissive too, and the notices lie beside it in its wheel.
        "FTL",
        "IJG",
        "LicenseRef-AGG-2.3",
        "Unicode-3.0",
        "libpng-2.0",
        "libtiff",
    }
)
"""Licences that let the image be passed on with a notice alone. No other enters without a decision."""

_SPDX = {
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "3-Clause BSD License": "BSD-3-Clause",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
_BUNDLED = {
    # A wheel that holds more than its own code, as its authors say in the files beside it.
    "pypdfium2": "BSD-3-Clause AND Apache-2.0 AND MIT AND BSD-2-Clause AND Zlib AND FTL AND IJG"
    " AND LicenseRef-AGG-2.3 AND Unicode-3.0 AND libpng-2.0 AND libtiff",
}


class Licensed(NamedTuple):
    """One package of a lock. ``licence`` is an SPDX expression, or empty where the package tells none."""

    name: str
    version: str
    licence: str

    @property
    def is_allowed(self) -> bool:
        """Whether one may choose licences of the list and keep all that are joined."""
        choices = re.split(r"\s+OR\s+", self.licence.replace("(", " ").replace(")", " ").strip())
        return any(all(each in ALLOWED for each in re.split(r"\s+AND\s+", choice)) for choice in choices)


VENDORED = [Licensed("swagger-ui-dist", SWAGGER_UI_VERSION, "Apache-2.0 AND MIT AND BSD-3-Clause")]
"""What no lock names, because a copy of it is in the repository: packages of npm."""


def locked(lock: Path = RUN_TIME) -> list[Requirement]:
    """The packages that a lock installs on this machine."""
    lines = re.findall(r"^([A-Za-z0-9][^\\\n]*)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    found = [Requirement(line.strip()) for line in lines]
    return [each for each in found if each.marker is None or each.marker.evaluate()]


def everything_in_the_image() -> list[Licensed]:
    """Its packages, and what the repository brings along."""
    return [licensed(each) for each in locked()] + VENDORED


def licensed(requirement: Requirement) -> Licensed:
    """A package with its licence, as it is installed here."""
    found = metadata.distribution(requirement.name)
    licence = _BUNDLED.get(requirement.name) or _licence(found.metadata)
    return Licensed(requirement.name, found.version, licence)


def _licence(said: metadata.PackageMetadata) -> str:
    expression, text = (
        " ".join(said.get_all(name, [])).strip() for name in ("License-Expression", "License")
    )
    if expression:
        return expression
    # The field may hold the whole text of a licence, which says nothing that a name does not.
    if text and "\n" not in text and len(text) < 60:
        return _SPDX.get(text, text)
    names = [
        line.split(" :: ")[-1] for line in said.get_all("Classifier", []) if line.startswith("License :: ")
    ]
    return " OR ".join(_SPDX.get(name, name) for name in names)


def table(packages: list[Licensed]) -> str:
    """The report as Markdown, a line each."""
    rows = [f"| {each.name} | {each.version} | {each.licence or 'unknown'} |" for each in packages]
    return "\n".join(["# Licences", "", "| package | version | licence |", "|---|---|---|", *rows, ""])


if __name__ == "__main__":
    sys.stdout.write(table(everything_in_the_image()))
