"""YAML of a tenants' file, parsed by the C library and taken apart entry by entry.

A file in block style can be cut into the texts of its entries, so that what did not change need not even be
parsed. Any other file, such as one with anchors or in JSON, is parsed from its beginning to its end, but its
nodes are never in memory all at once: collecting them as garbage would hold up the process.
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
"""Up to so many characters a faulty text is parsed once more in Python, which names faults better."""


class InvalidYaml(Exception):
    """The text is no YAML, or says something twice; the message begins with the place."""


class UnsupportedLayout(Exception):
    """The file is not what this way of reading is for."""


class _StrictConstructor:
    """What both loaders have in common: a repeated key is refused, and decimal numbers are read exactly."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - the base class's signature
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} stands here twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)  # type: ignore[misc, no-any-return]


def _construct_decimal(_loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal:
    try:
        return Decimal(node.value.replace("_", ""))
    except InvalidOperation:
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.value!r} is no decimal number", node.start_mark
        ) from None


class _Loader(_StrictConstructor, yaml.SafeLoader):
    """Safe YAML, in Python."""


class _FastLoader(_StrictConstructor, getattr(yaml, "CSafeLoader", yaml.SafeLoader), Composer):  # type: ignore[misc]
    """The same, parsed by the C library.

    Its nodes are composed in Python: the library itself composes whole documents only, and ends the process
    for want of stack where a text is nested some ten thousand deep.
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
    """What a text says. Raises FaultyYaml."""
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
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the file"
        words = [getattr(error, name, None) for name in ("context", "problem")]
        raise InvalidYaml(f"{where}: {', '.join(filter(None, words)) or 'no YAML'}") from None
    except RecursionError:
        raise InvalidYaml("the file: it is nested too deep") from None
    except ValueError as error:  # such as a date with a thirteenth month
        raise InvalidYaml(f"the file: {error}") from None


_HEAD = re.compile(r"tenants:(?: +#.*| *)")
# Other line breaks of YAML, tabs, and what may refer to another entry: an anchor or an alias.
_NOT_PLAIN = re.compile(r"[\r\t\x85\u2028\u2029\ufeff]|(?:^|[\s,\[{:-])[&*]\S", re.MULTILINE)


def split_entries(text: str) -> Iterator[str]:
    """The texts of the entries under ``tenants:`` of a file in block style; each is a list of one.

    Raises:
        OtherShape: The entries cannot be told apart; some may have come before.
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
    """What one of these texts says.

    Raises:
        OtherShape: It is not certain to say the same as among the others, such as where a quotation goes on.
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
    """What the entries of any file say that holds nothing beside ``tenants``, one after the other.

    Raises:
        FaultyYaml: From there on it is no YAML.
        OtherShape: It is another document; some entries may have come before.
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
