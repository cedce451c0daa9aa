"""The list of codes is whole: every violation that the application can give is in it, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from app.cards import load_catalogue
from app.domain.acceptance import list_acceptances
from app.domain.violation_codes import NOTICES, VIOLATIONS
from app.surfaces.openai.request import _UNSUPPORTED as NEVER
from tests.domain.validation_cases import BAD

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = Path(__file__).parents[2] / "app"
CODE = re.compile(r"[a-z]+(_[a-z0-9]+)+|required|repeated")
NO_CODES = {
    "app/media/lifting.py": "faults of base64 text, which surfaces give as invalid_base64 or input_too_large",
    "app/media/base64_text.py": "the same",
}


def _strings(node: ast.expr) -> Iterator[str]:
    """The codes that an expression can be, as patterns; those of a variable are found where it is set."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield re.escape(node.value)
    elif isinstance(node, ast.IfExp):
        yield from _strings(node.body)
        yield from _strings(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "[a-z0-9_]+" for part in node.values)
        yield "".join(str(part) for part in parts)


def _is_sentence(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr):
        return bool(node.values) and _is_sentence(node.values[-1])
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and node.value.endswith(".") and " " in str(node.value)
    return False


def _given(path: Path) -> Iterator[str]:
    """Patterns of the codes in a file: arguments of violations, and pairs of a code and a sentence."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in {"Violation", "fault"} and len(node.args) > 1:
                yield from _strings(node.args[1])
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and _is_sentence(node.elts[1]):
            yield from _strings(node.elts[0])


def given() -> set[str]:
    """Patterns of all codes that the application gives."""
    files = (
        path for path in sorted(APP.rglob("*.py")) if path.relative_to(APP.parent).as_posix() not in NO_CODES
    )
    return {
        pattern
        for path in files
        if path.name != "violation_codes.py"
        for pattern in _given(path)
        if "[a-z0-9_]+" in pattern or CODE.fullmatch(pattern)
    }


def test_every_code_that_is_given_is_in_the_list() -> None:
    patterns = given()
    assert len(patterns) > 70
    assert [each for each in patterns if not any(re.fullmatch(each, code) for code in VIOLATIONS)] == []
    assert {f"unsupported_{name}" for name in NEVER} | {case.code for case in BAD} <= VIOLATIONS.keys()
    of_rules = {code for card in load_catalogue() for row in list_acceptances(card) for code in row.codes}
    assert of_rules - VIOLATIONS.keys() == set()


def test_every_notice_is_in_the_list_and_no_other() -> None:
    calls = (
        node
        for path in APP.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Notice"
    )
    patterns = {pattern for node in calls for pattern in _strings(node.args[0])}
    assert len(patterns) > 10
    for pattern in patterns:
        assert any(re.fullmatch(pattern, code) for code in NOTICES), pattern
    for code in NOTICES:
        assert any(re.fullmatch(pattern, code) for pattern in patterns), code


def test_nothing_else_is_in_the_list() -> None:
    """Codes that are made up of parts, or looked up by the kind of a fault, stand as strings somewhere."""
    text = "".join(
        path.read_text(encoding="utf-8") for path in APP.rglob("*.py") if path.name != "violation_codes.py"
    )
    patterns = given()
    unused = [
        code
        for code in VIOLATIONS
        if f'"{code}"' not in text and not any(re.fullmatch(each, code) for each in patterns)
    ]
    assert unused == []


def test_the_list_is_in_the_reference() -> None:
    reference = (APP.parent / "REFERENCE.md").read_text(encoding="utf-8")
    assert [code for code in (*VIOLATIONS, *NOTICES) if f"| `{code}` |" not in reference] == []
