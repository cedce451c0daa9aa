"""``make release-check``: whether the tree as it stands may become the release that it says it is.

A release is a commit whose version stands in ``pyproject.toml`` alone, whose changelog has a section of that
version, and whose OpenAPI document was copied to ``openapi/released.json``; then it is tagged ``v<version>``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from tests.clients.compatibility import breaking_changes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
_SECTION = re.compile(r"^## (?P<title>.+)$", re.MULTILINE)
_TITLE = re.compile(r"(?P<version>\S+) \((?P<day>\d{4}-\d\d-\d\d)\)")


def project_version(root: Path = ROOT) -> str:
    """The one place that says it."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def git(root: Path, *arguments: str) -> str:
    """What git answers."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def sections(changelog: str) -> dict[str, str]:
    """The changelog's sections by title, in their order."""
    found = list(_SECTION.finditer(changelog))
    ends = [*(section.start() for section in found[1:]), len(changelog)]
    return {
        section["title"]: changelog[section.end() : end].strip()
        for section, end in zip(found, ends, strict=True)
    }


def faults(root: Path = ROOT) -> list[str]:
    """Everything that keeps the tree from being a release, a sentence each."""
    version = project_version(root)
    if found := [*_of_version(root, version)]:
        return found
    return [*_of_changelog(root, version), *_of_document(root, version), *_of_tree(root, version)]


def _of_version(root: Path, version: str) -> Iterator[str]:
    try:
        found = Version(version)
    except InvalidVersion:
        yield f"pyproject.toml: {version} is no version."
        return
    if found.is_prerelease or found.is_devrelease or str(found) != version:
        yield f"pyproject.toml: {version} is no version of a release."
    if root == ROOT and metadata.version("flashgate") != version:
        yield f"The environment has {metadata.version('flashgate')}, not {version}; make .venv/dev renews it."


def _of_changelog(root: Path, version: str) -> Iterator[str]:
    found = sections((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    if found.get("Unreleased"):
        yield f"CHANGELOG.md: something stands under Unreleased; move it under {version} ({date.today()})."  # noqa: DTZ011 - the day of whoever releases
    titles = [match for title in found if (match := _TITLE.fullmatch(title))]
    released = [match["version"] for match in titles]
    if version not in released:
        yield f"CHANGELOG.md: there is no section {version} (with its day)."
    elif released[0] != version:
        yield f"CHANGELOG.md: {released[0]} stands above {version}."
    elif not found[titles[0][0]]:
        yield f"CHANGELOG.md: the section {version} says nothing."


def _of_document(root: Path, version: str) -> Iterator[str]:
    current, released = (
        json.loads((root / "openapi" / name).read_text(encoding="utf-8"))
        for name in ("openapi.json", "released.json")
    )
    if current["info"]["version"] != version:
        yield f"openapi/openapi.json: it is of {current['info']['version']}; make openapi renews it."
    if released != current:
        yield "openapi/released.json: it is not openapi/openapi.json; copy it."
    before = _released_before(root)
    if before and not _may_break(Version(before["info"]["version"]), Version(version)):
        broken = breaking_changes(before, current)
        yield from (
            f"openapi/openapi.json: {version} may not break callers of {before['info']['version']}: {each}"
            for each in broken
        )


def _released_before(root: Path) -> dict[str, Any] | None:
    """The document of the last tagged release, or None before the first."""
    tags = git(root, "tag", "--list", "v*", "--sort=-version:refname", "--merged").splitlines()
    if not tags:
        return None
    found: dict[str, Any] = json.loads(git(root, "show", f"{tags[0]}:openapi/released.json"))
    return found


def _may_break(before: Version, after: Version) -> bool:
    """Whether semantic versioning lets it: a greater major version, below 1 a greater minor one."""
    return after.major > before.major or (after.major == before.major == 0 and after.minor > before.minor)


def _of_tree(root: Path, version: str) -> Iterator[str]:
    if changed := git(root, "status", "--porcelain").splitlines():
        yield f"The tree is not clean: {len(changed)} files differ from the commit."
    if git(root, "tag", "--list", f"v{version}"):
        yield f"The tag v{version} is there already."


def main() -> int:
    """Print every fault; the exit status is 1 where there is any."""
    version = project_version()
    found = faults()
    for fault in found:
        sys.stderr.write(f"{fault}\n")
    if not found:
        sys.stdout.write(f"This commit may be tagged: git tag -a v{version} -m v{version}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
