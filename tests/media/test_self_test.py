"""The self-test passes on a sound Python, and finds what would lose a picture."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from app.media import lifting
from app.media.lifting import LiftedBody, Lifter
from app.media.self_test import LiftingBroken, check_lifting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORGETFUL = """
import sys
from app.__main__ import main
from app.media.lifting import Lifter
Lifter._hold = lambda self, chunk, position: len(chunk)
sys.exit(main(["serve"]))
"""


def test_lifting_works_on_this_python() -> None:
    check_lifting()


class Truncating(Lifter):
    """Loses the end of the last picture."""

    def close(self) -> LiftedBody:
        body = super().close()
        *first, last = body.blobs
        shorter = lifting.Lifted(last.placeholder, last.data[:-1], last.text_length)
        return LiftedBody(body.skeleton, (*first, shorter))


class Deaf(Lifter):
    """Lifts nothing."""

    def feed(self, chunk: bytes) -> None:
        self._skeleton += chunk


class Overeager(Lifter):
    """Takes bytes of the text away with a picture."""

    def close(self) -> LiftedBody:
        body = super().close()
        return LiftedBody(body.skeleton.replace(b"\t", b""), body.blobs)


@pytest.mark.parametrize("broken", [Truncating, Deaf, Overeager])
def test_a_scanner_that_loses_bytes_is_found(broken: Callable[[], Lifter]) -> None:
    with pytest.raises(LiftingBroken, match=r"re module of this Python .*install flashgate with another"):
        check_lifting(broken)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("_STRING_REST", rb'[^"]*+'),  # what an engine that misreads escapes would match
        ("_ESCAPED_RUN", rb'[^"\\]*+(?:\\.[^"\\]*+){0,2000}'),  # one that does not see where a chunk ends
        ("_WHITESPACE", rb" *+"),
    ],
)
def test_a_pattern_that_matches_something_else_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, pattern: bytes
) -> None:
    monkeypatch.setattr(lifting, name, re.compile(pattern, re.DOTALL))
    with pytest.raises(LiftingBroken):
        check_lifting()


def test_no_gateway_serves_where_lifting_is_broken(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORGETFUL],
        env={"FLASHGATE_STATE_DIR": str(tmp_path / "state"), "PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "flashgate cannot start: pictures would be paid for and lost" in done.stderr
    assert f"CPython {sys.version.split()[0]}" in done.stderr
    assert not (tmp_path / "state").exists(), "it went on to start its store"
