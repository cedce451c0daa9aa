"""YAML of a tenants' file, parsed by the C library and split into entries.

A file in block style is split into the texts of its entries, so that unchanged entries need not be parsed.
Any other file, such as one with anchors or in JSON, is parsed completely, but its nodes are never in memory
all at
once: garbage collecting them would stall the process.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import yaml
from yaml.composer import Composer

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

REPARSE_CHARACTERS_MAX = 200_000
"""Largest invalid text that is parsed again in Python, whose error messages are better."""


class InvalidYaml(Exception):
    """The text is not valid YAML, or repeats a key; the message begins with the place."""


class UnsupportedLayout(Exception):
    """The file does not have the layout that this way of reading supports."""


class _StrictConstructor:
    """Refuses repeated keys and reads decimal numbers exactly; shared by both loaders."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - the base class's signature
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key_node.value!r}", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)  # type: ignore[misc, no-any-return]


def _construct_decimal(_loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal:
    try:
        return Decimal(node.value.replace("_", ""))
    except InvalidOperation:
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.value!r} is not a decimal number", node.start_mark
        ) from None


class _Loader(_StrictConstructor, yaml.SafeLoader):
    """Safe YAML, parsed in Python."""


class _FastLoader(_StrictConstructor, getattr(yaml, "CSafeLoader", yaml.SafeLoader), Composer):  # type: ignore[misc]
    """Safe YAML, parsed by the C library.

    Nodes are composed in Python: the library only composes whole documents, and overflows the stack, which
    ends the process, if a text is nested some ten thousand levels deep.
    """

    check_node = Composer.check_node
    get_node = Composer.get_node
    get_single_node = Composer.get_single_node

    def __init__(self, stream: str) -> None:
        super().__init__(stream)  # type: ignore[call-arg]
        self.anchors: dict[str, yaml.Node] = {}  # the Composer's


_Loader.add_constructor("tag:yaml.org,2002:float", _construct_decimal)
_FastLoader.add_constructor("tag:yaml.org,2002:float", _construct_decimal)


def load(text: str) -> Any:
    """Load a text. Raises InvalidYaml."""
    try:
        with _convert_errors():
            return yaml.load(text, _FastLoader)  # noqa: S506 - it is a SafeLoader
    except InvalidYaml:
        if len(text) > REPARSE_CHARACTERS_MAX:
            raise
    with _convert_errors():
        return yaml.load(text, _Loader)  # noqa: S506 - it is a SafeLoader


@contextmanager
def _convert_errors() -> Iterator[None]:
    try:
        yield
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "the file"
        if mark:
            where = f"line {mark.line + 1}, column {mark.column + 1}"
        words = [getattr(error, name, None) for name in ("context", "problem")]
        raise InvalidYaml(f"{where}: {', '.join(filter(None, words)) or 'not valid YAML'}") from None
    except RecursionError:
        raise InvalidYaml("the file: it is nested too deeply") from None
    except ValueError as error:  # such as a date with a thirteenth month
        raise InvalidYaml(f"the file: {error}") from None


_HEAD = re.compile(r"tenants:(?: +#.*| *)")
# YAML's other line breaks, tabs, and references between entries: anchors and aliases.
_NOT_PLAIN = re.compile(r"[\r\t\x85\u2028\u2029\ufeff]|(?:^|[\s,\[{:-])[&*]\S", re.MULTILINE)


def split_entries(text: str) -> Iterator[str]:
    """Yield the texts of the entries under ``tenants:`` of a file in block style; each is a list of one.

    Raises:
        UnsupportedLayout: The entries cannot be separated; some may have been yielded before.
    """
    lines = text.split("\n")
    start = indent = -1
    for number, line in enumerate(lines):
        content = line.lstrip(" ")
        if not content or content[0] == "#":
            continue
        depth = len(line) - len(content)
        if start < 0:
            if not _HEAD.fullmatch(line):
                raise UnsupportedLayout
            start = number
        elif content.startswith("- ") and indent in {-1, depth}:
            if indent >= 0:
                yield "\n".join((*lines[start:number], ""))
            elif _NOT_PLAIN.search("\n".join(lines[:number])):
                raise UnsupportedLayout
            start, indent = number, depth
        elif indent < 0 or depth <= indent:
            raise UnsupportedLayout
    if indent < 0:
        raise UnsupportedLayout
    yield "\n".join(lines[start:])


def load_entry(text: str) -> Any:
    """Load the text of an entry.

    Raises:
        UnsupportedLayout: It might mean something else in the file, such as within a multi-line string.
    """
    if _NOT_PLAIN.search(text):
        raise UnsupportedLayout
    try:
        with _convert_errors():
            entries = yaml.load(text, _FastLoader)  # noqa: S506 - it is a SafeLoader
    except InvalidYaml:
        raise UnsupportedLayout from None
    if not isinstance(entries, list) or len(entries) != 1:
        raise UnsupportedLayout
    return entries[0]


def iterate_entries(text: str) -> Iterator[Any]:
    """Yield the entries of a file whose only key is ``tenants``.

    Raises:
        InvalidYaml: The rest of the file is not valid YAML.
        UnsupportedLayout: It is another document; some entries may have been yielded before.
    """
    loader = _FastLoader(text)
    try:
        with _convert_errors():
            _take(loader, yaml.StreamStartEvent)
            _take(loader, yaml.DocumentStartEvent)
            _take(loader, yaml.MappingStartEvent)
            if _take(loader, yaml.ScalarEvent).value != "tenants":
                raise UnsupportedLayout
            _take(loader, yaml.SequenceStartEvent)
        while True:
            with _convert_errors():
                if loader.check_event(yaml.SequenceEndEvent):
                    break
                entry = loader.construct_document(loader.compose_node(None, 0))
            yield entry
        with _convert_errors():
            _take(loader, yaml.SequenceEndEvent)
            _take(loader, yaml.MappingEndEvent)
            _take(loader, yaml.DocumentEndEvent)
            _take(loader, yaml.StreamEndEvent)
    finally:
        loader.dispose()


def _take(loader: _FastLoader, kind: type[yaml.Event]) -> Any:
    event = loader.get_event()
    if not isinstance(event, kind) or getattr(event, "anchor", None) or getattr(event, "tag", None):
        raise UnsupportedLayout
    return event
