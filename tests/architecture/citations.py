"""Finds citations that lead nowhere, in comments, docstrings and documents.

A citation is the name of a document, with or without an anchor; a path or a module; a test; a requirement, as
``docs/reliability.md`` followed by its number; or a decision, as ``docs/decisions/`` followed by its number.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from tests.architecture.rules import Breach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REQUIREMENTS = "docs/reliability.md"
ANCHORED = "docs/model.md"
"""Too long to be cited as a whole."""
SUFFIXES = "conf|in|java|json|lua|md|mjs|png|py|sh|tf|toml|ts|yaml|yml"
TOP = "app|deploy|docs|examples|openapi|tests"

_PATH = re.compile(
    rf"""(?<![\w/.:<{{$~*@-])
    (?P<path>
        (?:(?:\.\./)+|(?:{TOP})/)[\w./-]*[\w/-]                  # below the project, or a link
        | (?:[\w.-]+/)+[\w-][\w.-]*\.(?:{SUFFIXES})                  # any file by its path
        | [\w-][\w.-]*\.(?:lua|md|py)                            # the project's own by its bare name
    )
    (?![\w<*{{-]|/|\(|\.\w|`?\]\()                              # the text of a link is no citation
    (?:::(?P<test>\w+) | \#(?P<anchor>[\w-]+))?""",
    re.VERBOSE,
)
_OWN_ANCHOR = re.compile(r"\]\(#([\w-]+)\)")
_MODULE = re.compile(r"(?<![\w/.-])(app|tests)\.(\w+)")
_FINDING = re.compile(r"\b[Ff]indings? [A-Z]?\d+\b")
_NUMBER = r"R\d{1,3}"
_CITED_NUMBERS = re.compile(
    rf"{re.escape(REQUIREMENTS)}\s+(?:{_NUMBER}(?:(?:(?:,| and|, and| to)\s+|-)(?={_NUMBER}))?)+"
)
_DECISION = re.compile(r"(?:docs/decisions/|[Dd]ecision )(\d{4})(?![\w-])")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


class Prose(NamedTuple):
    """What a file says in words, from this line on."""

    line: int
    text: str


def prose_of(path: str, text: str) -> Iterator[Prose]:
    """The comments and docstrings of code, and all of any other file."""
    suffix = PurePosixPath(path).suffix
    if suffix == ".py":
        yield from _comments_of_python(text)
        yield from _strings_of_python(text, messages=path.startswith("app/"))
    elif suffix == ".lua":
        lines = ((n, line.partition("--")) for n, line in enumerate(text.splitlines(), 1))
        yield from _joined((n, comment) for n, (_, mark, comment) in lines if mark)
    else:
        yield Prose(1, text)


def _comments_of_python(text: str) -> Iterator[Prose]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = ((t.start[0], t.string.lstrip("# ")) for t in tokens if t.type == tokenize.COMMENT)
    return _joined(comments)


def _joined(comments: Iterator[tuple[int, str]]) -> Iterator[Prose]:
    """Comments on lines that follow each other are one text."""
    first, last, parts = 0, -1, list[str]()
    for line, comment in comments:
        if line != last + 1 and parts:
            yield Prose(first, "\n".join(parts))
            parts = []
        first, last = (first if parts else line), line
        parts.append(comment)
    if parts:
        yield Prose(first, "\n".join(parts))


def _strings_of_python(text: str, *, messages: bool) -> Iterator[Prose]:
    """Docstrings, also those behind a constant, and messages that name a document."""
    nodes = list(ast.walk(ast.parse(text)))
    docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if node in docstrings or (messages and ".md" in node.value):
            yield Prose(node.lineno, node.value)


def broken(root: Path, path: str, text: str) -> Iterator[Breach]:
    """Citations in one file that lead nowhere."""
    for prose in prose_of(path, text):

        def breach(position: int, sentence: str, prose: Prose = prose) -> Breach:
            return Breach(path, prose.line + prose.text.count("\n", 0, position), sentence)

        yield from _paths(root, path, prose.text, breach)
        yield from _numbers(root, path, prose.text, breach)
        for match in _OWN_ANCHOR.finditer(prose.text if path.endswith(".md") else ""):
            if match[1] not in anchors_in(prose.text):
                yield breach(match.start(), f"there is no heading #{match[1]} on this page")
        for match in _FINDING.finditer(prose.text):
            yield breach(match.start(), f"nobody can look up {match[0]}; cite a document of the project")
        for match in _MODULE.finditer(prose.text):
            if not any((root / match[1]).glob(f"{match[2]}*")):
                yield breach(match.start(), f"there is no module {match[0]}")
        for match in _DECISION.finditer(prose.text):
            if len(list((root / "docs/decisions").glob(f"{match[1]}-*.md"))) != 1:
                yield breach(match.start(), f"there is no decision {match[1]} in docs/decisions")


def _paths(root: Path, path: str, text: str, breach: Callable[[int, str], Breach]) -> Iterator[Breach]:
    for match in _PATH.finditer(text):
        cited = match["path"].rstrip("/.")
        if re.fullmatch(r"docs/decisions/\d{4}", cited):
            continue
        places = [root / cited]
        if not cited.endswith(".py") or path.endswith(".md"):
            places.append((root / path).parent / cited)
        target = next((place for place in places if place.exists()), None)
        if target is None:
            yield breach(match.start(), f"there is no {cited}; cite a file by its path in the project")
        elif match["test"] and match["test"] not in functions_of(target):
            yield breach(match.start(), f"{cited} has no {match['test']}")
        elif match["anchor"] and match["anchor"] not in anchors_of(target):
            yield breach(match.start(), f"{cited} has no heading #{match['anchor']}")
        elif cited == ANCHORED and not match["anchor"] and not path.endswith(".md"):
            yield breach(match.start(), f"say which part of {cited}: {cited}#usage")


def _numbers(root: Path, path: str, text: str, breach: Callable[[int, str], Breach]) -> Iterator[Breach]:
    cited = [range(*match.span()) for match in _CITED_NUMBERS.finditer(text)]
    for match in re.finditer(rf"\b{_NUMBER}\b", text):
        if match[0] not in requirements_of(root / REQUIREMENTS):
            yield breach(match.start(), f"there is no {match[0]} in {REQUIREMENTS}")
        elif not path.endswith(".md") and not any(match.start() in span for span in cited):
            yield breach(match.start(), f"say where {match[0]} stands: {REQUIREMENTS} {match[0]}")


@cache
def functions_of(path: Path) -> frozenset[str]:
    """Functions at the top of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions)


@cache
def anchors_of(path: Path) -> frozenset[str]:
    """Anchors of a document's headings."""
    return anchors_in(path.read_text(encoding="utf-8"))


def anchors_in(text: str) -> frozenset[str]:
    """Anchors of headings, as GitHub makes them."""
    headings = _HEADING.findall(text)
    return frozenset(
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    )


@cache
def requirements_of(path: Path) -> frozenset[str]:
    """Numbers of the requirements in the document."""
    return frozenset(re.findall(rf"^### ({_NUMBER})\. ", path.read_text(encoding="utf-8"), re.MULTILINE))
