"""The code's shape: every rule of ``tests/architecture/rules.py`` over every file."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.observability.log_fields import FIELDS
from tests.architecture import naming, rules
from tests.architecture.rules import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.architecture.rules import Breach

ROOT = Path(__file__).parents[2]
APP = [Source.read(ROOT, path) for path in sorted((ROOT / "app").rglob("*.py"))]
TESTS = [Source.read(ROOT, path) for path in sorted((ROOT / "tests").rglob("*.py"))]


VENDORED = "app/surfaces/swagger/"
"""Files of others, which are not ours to change."""


def committed() -> list[tuple[str, str]]:
    """Every text file of our own that is committed or would be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    names = listed.stdout.decode().split("\0")
    if listed.returncode != 0:  # an unpacked archive is no repository
        inside = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        names = [path.as_posix() for path in inside if not path.parts[0].startswith(".")]
    found = []
    for name in sorted(names):
        path = ROOT / name
        if path.is_file() and not name.startswith(VENDORED):
            raw = path.read_bytes()
            if b"\0" not in raw:
                found.append((name, raw.decode("utf-8", "replace")))
    return found


def report(breaches: Iterable[Breach]) -> str:
    return "\n".join(str(breach) for breach in breaches)


def test_no_lua_script_has_a_name_that_says_nothing() -> None:
    bad = "local found, a = 1, 2\nlocal function f(told)\nfor _, asked in ipairs(x) do\nlocal stored = found"
    assert [breach.line for breach in naming.forbidden_lua_words("bad.lua", bad)] == [1, 2, 3]
    scripts = sorted((ROOT / "app").rglob("*.lua"))
    assert scripts
    texts = ((path.relative_to(ROOT).as_posix(), path.read_text()) for path in scripts)
    breaches = [breach for path, text in texts for breach in naming.forbidden_lua_words(path, text)]
    assert not breaches, report(breaches)


@pytest.mark.parametrize(
    "rule",
    [
        rules.layers,
        rules.libraries,
        rules.environment,
        rules.sizes,
        rules.globals_,
        rules.late_imports,
        rules.names,
        naming.forbidden_words,
        rules.log_calls,
        rules.changed_errors,
        rules.timeouts,
        rules.possessive_groups,
        rules.log_fields(frozenset(FIELDS) | {"http_request", "diagnosis"}),
    ],
    ids=lambda rule: rule.__qualname__.partition(".")[0],
)
def test_the_application_keeps_the_rule(rule: Callable[[Source], Iterator[Breach]]) -> None:
    assert len(APP) > 30
    found = report(breach for source in APP for breach in rule(source))
    assert not found, f"\n{found}"


def test_nothing_imports_in_a_circle_and_few_modules_stand_beside_the_folders() -> None:
    found = report([*rules.circles(APP), *rules.start_up(source.path for source in APP)])
    assert not found, f"\n{found}"


def test_functions_begin_with_verbs() -> None:
    found = report(naming.verbless(APP))
    assert not found, f"\n{found}"


def test_the_rows_are_those_of_the_document() -> None:
    rows = "\n".join("  ".join(row) for row in rules.ROWS)
    assert f"```\n{rows}\n```" in (ROOT / "ARCHITECTURE.md").read_text()


@pytest.mark.parametrize("rule", [rules.sizes, rules.globals_], ids=lambda rule: rule.__name__)
def test_the_tests_keep_the_rule(rule: Callable[[Source], Iterator[Breach]]) -> None:
    found = report(breach for source in TESTS for breach in rule(source))
    assert not found, f"\n{found}"


def test_the_scripts_keep_the_rule_on_sizes() -> None:
    scripts = [(name, text) for name, text in committed() if name.endswith(".lua")]
    assert any(name.endswith("_common.lua") for name, _ in scripts)
    found = report(breach for name, text in scripts for breach in rules.lua_sizes(name, text))
    assert not found, f"\n{found}"


@pytest.mark.parametrize("rule", [rules.marks, rules.registries], ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Callable[[str, str], Iterator[Breach]]) -> None:
    files = committed()
    assert any(name == "requirements.txt" for name, _ in files)
    found = report(breach for name, text in files for breach in rule(name, text))
    assert not found, f"\n{found}"
