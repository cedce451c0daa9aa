"""What a body that is passed on may not do, because Google would do it with the gateway's rights.

A caller of Google has rights of its own; a caller of the gateway borrows the gateway's. So files, buckets and
stores of data are judged here and never passed on unseen, and nothing may choose another model than the one
whose card was applied. Everything else that is not known is Google's to judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from app.domain.errors import Violation
from app.domain.rules import pointer_token
from app.surfaces.gemini.fields import lower_camel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_ANOTHER_MODEL: Final = "The model is chosen by the address alone, because its card judges the request."
_THEIR_DATA: Final = "It would read data with the gateway's rights, which are not the caller's."
_THEIR_FILE: Final = (
    "A file is read or written with the gateway's rights, which are not the caller's. Give inputs as"
    " file_data of a part of contents."
)
_CONFIG: Final[Mapping[str, str]] = {
    "routingConfig": _ANOTHER_MODEL,
    "modelConfig": _ANOTHER_MODEL,
    "modelSelectionConfig": _ANOTHER_MODEL,
}
_TOOLS: Final[Mapping[str, str]] = {"retrieval": _THEIR_DATA, "fileSearch": _THEIR_DATA}


def forbidden(members: Mapping[str, Any], judged: Collection[str]) -> Iterator[Violation]:
    """The faults of a folded body in this respect.

    Args:
        members: The whole body.
        judged: Addresses of inputs, which the card's rules judge.
    """
    config = members.get("generationConfig")
    yield from _named(config, "/generationConfig", _CONFIG)
    for at, tool in enumerate(tools if isinstance(tools := members.get("tools"), list) else [tools]):
        yield from _named(tool, f"/tools/{at}", _TOOLS)
    for pointer in _addresses(members, judged):
        yield Violation(pointer, "address_not_allowed", _THEIR_FILE)


def _named(message: object, pointer: str, reasons: Mapping[str, str]) -> Iterator[Violation]:
    if isinstance(message, dict):
        for name in message.keys() & reasons.keys():
            yield Violation(f"{pointer}/{name}", "field_not_allowed", reasons[name])


def _addresses(members: Mapping[str, Any], judged: Collection[str]) -> Iterator[str]:
    """Pointers to addresses of files at any depth; words may hold what they like."""
    pending: list[tuple[str, str, object]] = [("", "", members)]
    while pending:
        pointer, name, value = pending.pop()
        if isinstance(value, dict):
            pending += [
                (f"{pointer}/{pointer_token(key)}", lower_camel(key), item) for key, item in value.items()
            ]
        elif isinstance(value, list):
            pending += [(f"{pointer}/{at}", name, item) for at, item in enumerate(value)]
        elif isinstance(value, str) and name != "text" and value not in judged and _is_address(name, value):
            yield pointer


def _is_address(name: str, value: str) -> bool:
    return name == "fileUri" or value.strip().lower().startswith("gs:")
