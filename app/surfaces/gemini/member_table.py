"""The members of Google's bodies that pass, with how each is counted, as rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.surfaces.gemini.members import GENERATE, Enumeration, Leaf, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ROOT: Final = "the body"
_SEARCH: Final = "tools.googleSearch"


def list_members() -> Iterator[tuple[str, str, str]]:
    """Yield a row for the members of a message that are counted alike: the message, its members, how."""
    yield from _list_message(GENERATE[True], "")


def _list_message(shape: Mapping[str, Shape], path: str) -> Iterator[tuple[str, str, str]]:
    counts: dict[str, list[str]] = {}
    for name, inner in shape.items():
        if isinstance(inner, Leaf):
            counts.setdefault(inner.value, []).append(name)
        elif isinstance(inner, Enumeration):
            counts.setdefault(inner.count, []).append(name)
        elif not inner:
            counts.setdefault("a search; see `tools.googleSearch`", []).append(name)
    if path == _SEARCH:
        yield (
            path,
            "",
            "a search: the card's queries and tokens a call; strictly all that the context has left",
        )
    for count, names in counts.items():
        yield path or _ROOT, ", ".join(f"`{name}`" for name in names), count
    for name, inner in shape.items():
        if name == "systemInstruction":
            yield name, "", "as `contents`"
        elif not isinstance(inner, Leaf | Enumeration):
            yield from _list_message(inner, f"{path}.{name}".lstrip("."))
