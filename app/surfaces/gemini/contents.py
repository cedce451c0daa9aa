"""Turns, parts and their bytes: what the card judges of them, and whether our own words say it all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from app.domain.errors import Violation
from app.domain.rules import pointer_token
from app.surfaces.gemini.fields import Fields, listed
from app.surfaces.inputs import base64_violation, from_bytes, from_uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.domain.request import Input, InputKind
    from app.media.lifting import Lifted
    from app.surfaces.context import Service

_ROLES: Final = frozenset({"user", "model", "function"})
# Our own requests put inputs in this order and the words last (app/upstream/sdk.py).
_RANKS: Final = {"image": 0, "document": 1, "video": 2}
_RANK_OF_WORDS: Final = 3
_SAME_BYTES: Final = "not_canonical"


@dataclass
class Conversation:
    """The turns of a request, read.

    Attributes:
        texts: Every text of every turn.
        inputs: Files of the user's turns, in order.
        pictures_before: Pictures of the model's turns.
        plain: Whether it is one user turn just as the gateway itself would write it.
    """

    texts: list[str] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    pictures_before: int = 0
    plain: bool = True

    def of_kind(self, kind: InputKind) -> tuple[Input, ...]:
        """The files of one kind, in order."""
        return tuple(item for item in self.inputs if item.kind == kind)


def places(value: object, cargo: Mapping[str, Lifted], pointer: str = "") -> Iterator[tuple[str, Lifted]]:
    """Every lifted string of a JSON value, with its pointer."""
    pending: list[tuple[str, object]] = [(pointer, value)]
    while pending:
        place, item = pending.pop()
        if isinstance(item, dict):
            pending += [(f"{place}/{pointer_token(name)}", inner) for name, inner in item.items()]
        elif isinstance(item, list):
            pending += [(f"{place}/{at}", inner) for at, inner in enumerate(item)]
        elif isinstance(item, str) and item in cargo:
            yield place, cargo[item]


def base64_faults(value: object, cargo: Mapping[str, Lifted], bytes_max: int) -> list[Violation]:
    """What is wrong with base64 anywhere in a JSON value.

    Set bits behind the last byte are let pass, as Google lets them: the bytes are the same.
    """
    found = (
        base64_violation(lifted, place, bytes_max)
        for place, lifted in places(value, cargo)
        if lifted.fault is None or lifted.fault.code != _SAME_BYTES
    )
    return [fault for fault in found if fault is not None]


def turns_of(contents: object) -> list[Any]:
    """The turns of a folded ``contents``, each with a role and a list of parts.

    Google takes a single turn or part without its list; one of its two services demands the role, which the
    other has a default for.
    """
    return [
        {"role": "user", **turn, "parts": listed(turn.get("parts"))} if isinstance(turn, dict) else turn
        for turn in listed(contents)
    ]


class ContentsReader:
    """Reads ``contents``; ``faults`` fills on the way."""

    def __init__(self, service: Service, cargo: Mapping[str, Lifted], faults: list[Violation]) -> None:
        self._service = service
        self._cargo = cargo
        self._faults = faults
        self._found = Conversation()

    async def read(self, turns: list[Any], pointer: str = "/contents") -> Conversation:
        """The conversation of what ``turns_of`` gives."""
        if not turns:
            self._faults.append(Violation(pointer, "required", "contents is not specified."))
        if len(turns) > 1:
            self._found.plain = False
        for at, turn in enumerate(turns):
            await self._turn(turn, f"{pointer}/{at}")
        return self._found

    async def _turn(self, turn: object, pointer: str) -> None:
        fields = Fields(turn, pointer, self._faults)
        role = fields.text("role") or "user"
        if role not in _ROLES:
            allowed = ("user", "model")
            self._faults.append(Violation(f"{pointer}/role", "unknown_role", "Use user or model.", allowed))
        parts = fields.rest.pop("parts", [])
        if not parts:
            self._faults.append(Violation(f"{pointer}/parts", "required", "A turn has at least one part."))
        if role != "user" or fields.rest:
            self._found.plain = False
        rank = -1
        for at, part in enumerate(parts):
            found = await self._part(part, f"{pointer}/parts/{at}", by_model=role == "model")
            # Words end the turn, so nothing of ours has them twice or before anything else.
            if found < rank or rank == _RANK_OF_WORDS:
                self._found.plain = False
            rank = found
        if rank != _RANK_OF_WORDS:
            self._found.plain = False

    async def _part(self, part: object, pointer: str, *, by_model: bool) -> int:
        """Take in one part; gives its rank in the order of the gateway's own requests."""
        fields = Fields(part, pointer, self._faults)
        text = fields.text("text")
        item: Input | None = None
        if text is not None:
            self._found.texts.append(text)
        elif "inlineData" in fields.rest:
            item = await self._inline(fields.message("inlineData"), by_model=by_model)
        elif "fileData" in fields.rest:
            item = self._file(fields.message("fileData"), by_model=by_model)
        if fields.rest:
            self._found.plain = False
        if item is not None:
            self._found.inputs.append(item)
            return _RANKS[item.kind]
        return _RANK_OF_WORDS if text is not None else -1

    async def _inline(self, blob: Fields, *, by_model: bool) -> Input | None:
        declared = self._mime_type(blob)
        lifted = self._cargo.get(blob.text("data") or "")
        if blob.rest:
            self._found.plain = False
        if lifted is None:
            detail = "There are no bytes in base64."
            self._faults.append(Violation(f"{blob.pointer}/data", "required", detail))
            return None
        if declared is None or (lifted.fault is not None and lifted.fault.code != _SAME_BYTES):
            return None
        kind = _kind_of(declared)
        if by_model:
            self._found.pictures_before += kind == "image"
            return None
        return await from_bytes(self._service, kind, blob.pointer, lifted.data, declared)

    def _file(self, file: Fields, *, by_model: bool) -> Input | None:
        declared, uri = self._mime_type(file), file.text("fileUri")
        if file.rest:
            self._found.plain = False
        if uri is None:
            self._faults.append(Violation(f"{file.pointer}/fileUri", "required", "There is no address."))
        if uri is None or declared is None:
            return None
        # Addresses are judged whoever's turn they stand in: Google reads them with the gateway's rights.
        item = from_uri(_kind_of(declared), file.pointer, uri, declared)
        self._found.plain = self._found.plain and not by_model
        return item

    def _mime_type(self, fields: Fields) -> str | None:
        declared = fields.text("mimeType")
        if not declared:
            detail = "Say what the bytes are, such as image/png."
            self._faults.append(Violation(f"{fields.pointer}/mimeType", "required", detail))
        return declared or None


def _kind_of(mime_type: str) -> InputKind:
    family = mime_type.partition("/")[0].strip().lower()
    if family == "image":
        return "image"
    return "video" if family == "video" else "document"


def words_of(system: Any, faults: list[Violation]) -> tuple[str | None, bool]:
    """The words of a system instruction, and whether they are all of it."""
    if system is None:
        return None, True
    if isinstance(system, str):
        return system, True
    fields = Fields(system, "/systemInstruction", faults)
    fields.text("role")
    parts = listed(fields.rest.pop("parts", None))
    texts: list[str] = []
    plain = not fields.rest and len(parts) == 1
    for at, part in enumerate(parts):
        inner = Fields(part, f"/systemInstruction/parts/{at}", faults)
        text = inner.text("text")
        plain = plain and text is not None and not inner.rest
        texts.append(text or "")
    return "\n".join(texts) or None, plain
