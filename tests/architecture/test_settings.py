"""A default is written once, in the config that a part takes, and every setting is used."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import app.main  # noqa: F401 - brings the configs of all parts
from app.domain.config import Config
from app.settings.environment import SETTINGS
from tests.architecture.rules import Breach, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCES = [Source.read(ROOT, path) for path in sorted((ROOT / "app").rglob("*.py"))]
PROGRAM = "app/emulator/"
"""The emulator is a program of its own, with options of its own."""
EMPTY = {"None", "()", "{}", "''", "False"}


def find_configs(config: type[Config] = Config) -> set[type[Config]]:
    """Every class of configs that the settings bring with them."""
    below = set(config.__subclasses__())
    return below.union(*(find_configs(each) for each in below))


CONFIGS = {config.__name__: config for config in find_configs()}


def find_defaults(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Parameters, and attributes of classes that are no configs, whose default is written out."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            positional = [*node.args.posonlyargs, *node.args.args]
            by_place = zip(reversed(positional), reversed(node.args.defaults), strict=False)
            for argument, value in (
                *by_place,
                *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
            ):
                if is_written_out(value):
                    yield argument, argument.arg
        elif isinstance(node, ast.ClassDef) and node.name not in CONFIGS:
            for line in (line for line in node.body if isinstance(line, ast.AnnAssign)):
                if is_written_out(line.value):
                    yield line, ast.unparse(line.target)


def is_written_out(value: ast.AST | None) -> bool:
    """Whether a default is a number or a text, and no name of one; what is empty is no value."""
    if value is None or ast.unparse(value) in EMPTY:
        return False
    return not any(isinstance(each, ast.Name | ast.Attribute | ast.Call) for each in ast.walk(value))


def find_second_defaults(source: Source) -> list[Breach]:
    """Defaults of what has one in a config already; names of a single word stand for many things."""
    names = {name for config in CONFIGS.values() for name in config.model_fields}
    names |= {variable.removeprefix("FLASHGATE_").lower() for variable in SETTINGS}
    telling = {name for name in names if "_" in re.sub("_(s|mb|max)$", "", name)}
    return [
        Breach(
            source.path, getattr(node, "lineno", 1), f"{name} has its default in a config; take the config"
        )
        for node, name in find_defaults(source)
        if name in telling
    ]


def find_uses(source: Source) -> set[str]:
    """The names of the attributes that are read."""
    reads = (node for node in ast.walk(source.tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in reads if isinstance(node.ctx, ast.Load)}


def test_a_second_default_is_found() -> None:
    for text in ("def f(usage_days: int = 92): ...", "class A:\n    usage_days: int = 92"):
        source = Source("app/ledger/redis.py", text)
        assert [breach.path for breach in find_second_defaults(source)] == ["app/ledger/redis.py"]


def test_no_default_is_written_a_second_time() -> None:
    found = [
        breach for source in SOURCES if PROGRAM not in source.path for breach in find_second_defaults(source)
    ]
    assert not found, "\n".join(map(str, found))


def test_every_setting_is_used() -> None:
    used = set().union(*(find_uses(source) for source in SOURCES))
    unused = [variable for variable, setting in SETTINGS.items() if not set(setting.path) <= used]
    assert not unused
