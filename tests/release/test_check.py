"""The check of a release, on a small repository of its own that is broken in one way at a time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.release.check import ROOT, faults, git, project_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DOCUMENT = {"openapi": "3.1.0", "info": {"version": "1.2.0"}, "paths": {"/a": {"get": {"responses": {}}}}}
CHANGELOG = (
    "# Changelog\n\n## Unreleased\n\n## 1.2.0 (2026-11-26)\n\n- More.\n\n## 1.1.0 (2026-10-01)\n\n- Some.\n"
)


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "x")


def write(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text, encoding="utf-8")


def write_document(root: Path, **changed: object) -> None:
    for name in ("openapi.json", "released.json"):
        write(root, f"openapi/{name}", json.dumps({**DOCUMENT, **changed}))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with the release 1.1.0, ready to be 1.2.0."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "openapi").mkdir()
    write(tmp_path, "pyproject.toml", '[project]\nversion = "1.2.0"\n')
    write(tmp_path, "CHANGELOG.md", CHANGELOG)
    write_document(tmp_path, info={"version": "1.1.0"})
    commit(tmp_path)
    git(tmp_path, "tag", "v1.1.0")
    write_document(tmp_path)
    commit(tmp_path)
    return tmp_path


def test_a_tree_that_is_ready_has_no_fault(tree: Path) -> None:
    assert faults(tree) == []


BROKEN: dict[str, Callable[[Path], object]] = {
    "pyproject.toml: 1.2 beta is no version.": lambda root: write(
        root, "pyproject.toml", '[project]\nversion = "1.2 beta"\n'
    ),
    "pyproject.toml: 1.2.0.dev1 is no version of a release.": lambda root: write(
        root, "pyproject.toml", '[project]\nversion = "1.2.0.dev1"\n'
    ),
    "CHANGELOG.md: something stands under Unreleased": lambda root: write(
        root, "CHANGELOG.md", CHANGELOG.replace("Unreleased\n", "Unreleased\n\n- And more.\n")
    ),
    "CHANGELOG.md: there is no section 1.2.0": lambda root: write(
        root, "CHANGELOG.md", CHANGELOG.replace("1.2.0 (2026-11-26)", "1.2.0")
    ),
    "CHANGELOG.md: 1.3.0 stands above 1.2.0.": lambda root: write(
        root, "CHANGELOG.md", CHANGELOG.replace("## 1.2", "## 1.3.0 (2026-11-27)\n\n- Later.\n\n## 1.2")
    ),
    "CHANGELOG.md: the section 1.2.0 says nothing.": lambda root: write(
        root, "CHANGELOG.md", CHANGELOG.replace("- More.", "")
    ),
    "openapi/openapi.json: it is of 1.1.0": lambda root: write_document(root, info={"version": "1.1.0"}),
    "openapi/released.json: it is not openapi/openapi.json": lambda root: write(
        root, "openapi/released.json", "{}"
    ),
    "may not break callers of 1.1.0: GET /a": lambda root: write_document(root, paths={}),
    "The tag v1.2.0 is there already.": lambda root: git(root, "tag", "v1.2.0"),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_each_fault_is_said(tree: Path, sentence: str) -> None:
    BROKEN[sentence](tree)
    if git(tree, "status", "--porcelain"):
        commit(tree)
    assert sentence in "\n".join(faults(tree))


def test_a_tree_that_is_not_clean_is_no_release(tree: Path) -> None:
    write(tree, "forgotten", "")
    assert faults(tree) == ["The tree is not clean: 1 files differ from the commit."]


def test_a_greater_major_version_may_break(tree: Path) -> None:
    write(tree, "pyproject.toml", '[project]\nversion = "2.0.0"\n')
    write(tree, "CHANGELOG.md", CHANGELOG.replace("1.2.0", "2.0.0"))
    write_document(tree, info={"version": "2.0.0"}, paths={})
    commit(tree)
    assert faults(tree) == []


def test_the_version_stands_in_one_place() -> None:
    version = re.escape(project_version())
    files = [path for path in git(ROOT, "ls-files").splitlines() if "lock" not in path]
    said = re.compile(rf"version\W{{1,4}}{version}", re.IGNORECASE)
    texts = [
        path
        for path in files
        if path.endswith((".py", ".toml", ".yaml", ".yml", ".sh", ".tf", "file", ".json"))
    ]
    found = [path for path in texts if said.search((ROOT / path).read_text(encoding="utf-8"))]
    # The documents are written from it, the released one at the release.
    assert {*found} - {"openapi/openapi.json", "openapi/released.json"} == {"pyproject.toml"}
