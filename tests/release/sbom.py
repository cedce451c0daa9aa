"""``make sbom``: what the image holds, as a CycloneDX document and as a table of licences, in ``dist``.

Both tell of the packages that the lock names for the Python that runs this, and of what the repository brings
along. The base image has a bill of its own.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from tests.deploy.tools import TOOLS, programs
from tests.environments import ROOT, environment, run
from tests.release.licences import RUN_TIME, VENDORED, Licensed, everything_in_the_image, table

if TYPE_CHECKING:
    from pathlib import Path

DIST = ROOT / "dist"


def write(folder: Path = DIST) -> tuple[Path, Path]:
    """Write both; returns where they are."""
    folder.mkdir(exist_ok=True)
    python = environment(TOOLS / "image", RUN_TIME) / "python"
    run([python, "-m", "pip", "uninstall", "-q", "-y", "pip", "setuptools"], ROOT)
    (TOOLS / "image/requirements.txt").unlink()  # without pip, the next time begins with a new environment
    bill, report = folder / "sbom.cdx.json", folder / "licences.md"
    options = ["--pyproject", ROOT / "pyproject.toml", "--mc-type", "application", "--output-reproducible"]
    run([programs("release") / "cyclonedx-py", "environment", *options, "-o", bill, python], ROOT)
    add_vendored(bill)
    report.write_text(table(everything_in_the_image()), encoding="utf-8")
    return bill, report


def add_vendored(bill: Path) -> None:
    """Add what the repository holds a copy of, which no environment shows."""
    document = json.loads(bill.read_text(encoding="utf-8"))
    document["components"] += [vendored_component(each) for each in VENDORED]
    bill.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def vendored_component(package: Licensed) -> dict[str, object]:
    """A package of npm as a component of CycloneDX 1.6."""
    address = f"pkg:npm/{package.name}@{package.version}"
    return {
        "bom-ref": address,
        "type": "library",
        "name": package.name,
        "version": package.version,
        "purl": address,
        "licenses": [{"expression": package.licence}],
    }


if __name__ == "__main__":
    for path in write():
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
