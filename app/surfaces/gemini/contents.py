"""Reads turns, parts and their bytes, and decides whether an ordinary request can express them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from app.domain.errors import Violation
from app.domain.media_types import classify_media_type, get_declared_type
from app.surfaces.gemini.fields import Fields, ensure_list
from app.surfaces.http.inputs import build_uri_input, detect_kind, inspect_input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.request import Input
    from app.media.lifting import Lifted
    from app.surfaces.http.context import Service

_ROLES: Final = frozenset({"user", "model", "function"})
# The gateway's own requests put inputs in this order, and the text last (app/upstream/google/sdk.py).
_RANKS: Final = {"image": 0, "document": 1, "video": 2}
_RANK_OF_WORDS: Final = 3
_HOLDS_ONE: Final = (
    *("text", "inlineData", "fileData", "functionCall", "functionResponse"),
    *("executableCode", "codeExecutionResult"),
)
_FPS_MAX: Final = 24.0
_RESOLUTION: Final = "MEDIA_RESOLUTION_"


@dataclass
class Conversation:
    """The parsed turns of a request, or its system instruction.

    Attributes:
        texts: All texts of all turns.
        inputs: All files, in order, from the user's and the model's turns.
        plain: Whether it is a single user turn, in the form that the gateway itself would send.
    """

    texts: list[str] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    plain: bool = True


def normalize_turns(contents: object) -> list[Any]:
    """Return the turns of ``contents``, each with a role and a list of parts.

    Google accepts a single turn or part without a list. The role is required by one of its two services and
    optional in the other.
    """
    return [
        {"role": "user", **turn, "parts": ensure_list(turn.get("parts"))} if isinstance(turn, dict) else turn
        for turn in ensure_list(contents)
    ]


def _parse_resolution(word: object) -> str | None:
    """Return the card's word for a resolution, or None where it is left to the model."""
    level = str(word or "").removeprefix(_RESOLUTION).lower()
    if level in {"", "unspecified"}:
        return None
    return level


class ContentsReader:
    """Reads turns, and collects violations in ``faults``.

    Args:
        resolution: ``mediaResolution`` of the whole request, or None.
    """

    def __init__(
        self,
        service: Service,
        blobs: Mapping[str, Lifted],
        faults: list[Violation],
        resolution: object = None,
    ) -> None:
        self._service = service
        self._blobs = blobs
        self._faults = faults
        self._resolution = resolution
        self._conversation = Conversation()

    async def read(self, turns: list[Any], pointer: str = "/contents") -> Conversation:
        """Read the turns that ``normalize_turns`` returns."""
        self._conversation = Conversation()
        if not turns:
            self._faults.append(Violation(pointer, "required", "contents is not specified."))
        if len(turns) > 1:
            self._conversation.plain = False
        for at, turn in enumerate(turns):
            await self._read_turn(turn, f"{pointer}/{at}")
        return self._conversation

    async def read_instruction(self, system: object, pointer: str = "/systemInstruction") -> Conversation:
        """Read the system instruction; it is plain if it is a single text."""
        self._conversation = instruction = Conversation()
        if system is None:
            return instruction
        fields = Fields(system, pointer, self._faults)
        self._check_role(fields, _ROLES | {"system"})
        parts = ensure_list(fields.rest.pop("parts", None))
        ranks = [await self._read_part(part, f"{pointer}/parts/{at}") for at, part in enumerate(parts)]
        instruction.plain = instruction.plain and not fields.rest and ranks == [_RANK_OF_WORDS]
        return instruction

    async def _read_turn(self, turn: object, pointer: str) -> None:
        fields = Fields(turn, pointer, self._faults)
        role = self._check_role(fields, _ROLES)
        parts = fields.rest.pop("parts", [])
        if not parts:
            self._faults.append(
                Violation(f"{pointer}/parts", "required", "A turn must have at least one part.")
            )
        if role != "user" or fields.rest:
            self._conversation.plain = False
        rank = -1
        for at, part in enumerate(parts):
            part_rank = await self._read_part(part, f"{pointer}/parts/{at}", by_model=role == "model")
            # The gateway's own requests end with a single text, which follows all inputs.
            if part_rank < rank or rank == _RANK_OF_WORDS:
                self._conversation.plain = False
            rank = part_rank
        if rank != _RANK_OF_WORDS:
            self._conversation.plain = False

    def _check_role(self, fields: Fields, known: frozenset[str]) -> str:
        role = fields.take_text("role") or "user"
        if role not in known:
            detail, allowed = "The role must be user or model.", ("user", "model")
            self._faults.append(Violation(f"{fields.pointer}/role", "unknown_role", detail, allowed))
        return role

    async def _read_part(self, part: object, pointer: str, *, by_model: bool = False) -> int:
        """Read a part, and return its rank in the order of the gateway's own requests; -1 for neither."""
        fields = Fields(part, pointer, self._faults)
        if len(fields.rest.keys() & set(_HOLDS_ONE)) > 1:
            detail = "A part must hold one thing; use a part for each."
            self._faults.append(Violation(pointer, "ambiguous_part", detail, _HOLDS_ONE))
        is_drawn = by_model and self._is_models_own(fields)
        answer = Fields(fields.rest.get("functionResponse"), f"{pointer}/functionResponse", self._faults)
        for at, inner in enumerate(ensure_list(answer.rest.get("parts"))):
            inner_fields = Fields(inner, f"{answer.pointer}/parts/{at}", self._faults)
            await self._read_files(inner_fields, drawn=False)
        text = fields.take_text("text")
        if text is not None:
            self._conversation.texts.append(text)
        items = await self._read_files(fields, drawn=is_drawn)
        if fields.rest:
            self._conversation.plain = False
        if items:
            return _RANKS[items[0].kind]
        if text is None:
            return -1
        return _RANK_OF_WORDS

    def _is_models_own(self, fields: Fields) -> bool:
        """Whether the model generated this part. It signs what it generates, except for thoughts."""
        signature = fields.rest.get("thoughtSignature")
        signed = isinstance(signature, str) and signature in self._blobs and self._blobs[signature].data
        return bool(signed) or fields.rest.get("thought") is True

    async def _read_files(self, fields: Fields, *, drawn: bool) -> list[Input]:
        """Read the files of a part; a valid part has at most one."""
        items = []
        messages = [fields.rest.get(name) for name in ("inlineData", "fileData") if name in fields.rest]
        if "inlineData" in fields.rest:
            items.append(await self._read_inline(fields.take_message("inlineData")))
        if "fileData" in fields.rest:
            items.append(self._read_file(fields.take_message("fileData")))
        for message, item in zip(messages, items, strict=True):
            if isinstance(message, dict) and item is not None:
                # A body that is passed through declares the detected type of the file.
                message["mimeType"] = item.mime_type or get_declared_type(item) or item.declared_mime_type
        inputs = [self._add_view(item, fields, drawn=drawn) for item in items if item is not None]
        self._conversation.inputs += inputs
        return inputs

    def _add_view(self, item: Input, fields: Fields, *, drawn: bool) -> Input:
        """Return the file with its resolution and frame rate, on which its tokens depend."""
        own = fields.rest.get("mediaResolution")
        level = _parse_resolution(own.get("level") if isinstance(own, dict) else None)
        metadata = Fields(fields.rest.get("videoMetadata"), f"{fields.pointer}/videoMetadata", self._faults)
        fps = metadata.take_number("fps")
        if fps is not None and not 0 < fps <= _FPS_MAX:
            detail = f"This must be above 0 and at most {_FPS_MAX:g}."
            self._faults.append(Violation(f"{metadata.pointer}/fps", "fps_out_of_range", detail))
            fps = None
        return replace(
            item,
            resolution=level or _parse_resolution(self._resolution),
            fps=1 if fps is None else fps,
            drawn=drawn and item.kind == "image",
        )

    async def _read_inline(self, blob: Fields) -> Input | None:
        lifted = self._blobs.get(blob.take_text("data") or "")
        declared = blob.take_text("mimeType") or (lifted.media_type if lifted is not None else "")
        if blob.rest:
            self._conversation.plain = False
        if lifted is None:
            detail = "This must hold bytes as base64."
            self._faults.append(Violation(f"{blob.pointer}/data", "required", detail))
            return None
        if not lifted.has_all_bytes:
            return None
        kind = detect_kind(lifted.data, declared)
        item = await inspect_input(self._service, kind, blob.pointer, lifted.data, declared or None)
        return replace(item, plain=lifted.plain)

    def _read_file(self, file: Fields) -> Input | None:
        declared, uri = file.take_text("mimeType"), file.take_text("fileUri")
        if not declared:
            detail = "Name the media type of the file, such as image/png: the gateway does not open it."
            self._faults.append(Violation(f"{file.pointer}/mimeType", "mime_type_required", detail))
        if file.rest:
            self._conversation.plain = False
        if uri is None:
            self._faults.append(Violation(f"{file.pointer}/fileUri", "required", "This field is required."))
        if uri is None or not declared:
            return None
        return build_uri_input(classify_media_type(declared), file.pointer, uri, declared)
