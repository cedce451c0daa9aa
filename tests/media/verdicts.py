"""What the gateway says of a file, without a server: the same reading and the same rules."""

from __future__ import annotations

import mimetypes
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from app.cards import load_catalogue
from app.domain.policy import PIXELS_MAX, Policy
from app.domain.request import GenerationRequest
from app.domain.validation import find_notices, normalize_request, validate
from app.media.pdf import PageCounter
from app.surfaces.http.inputs import detect_kind, inspect_input

if TYPE_CHECKING:
    from app.domain.request import Input, InputKind

CARD = load_catalogue().names["gemini-3.1-flash-image"]
_PATIENT_S = 60.0


class Verdict(NamedTuple):
    """The codes of what is wrong, empty for a file that is accepted; its facts; and the notices."""

    codes: tuple[str, ...]
    sentence: str
    item: Input
    notices: tuple[str, ...]

    @property
    def word(self) -> str:
        """``accept``, or the first code."""
        return self.codes[0] if self.codes else "accept"


def service() -> Any:
    """As much of the open gateway as reading a file takes; a busy machine is given time to count pages."""
    limits = SimpleNamespace(input_pixels_max=PIXELS_MAX, input_bytes_max=100_000_000)
    return SimpleNamespace(limits=limits, page_counter=PageCounter(wall_s=_PATIENT_S))


def declared_by(name: str) -> str:
    """The type that a client derives from a file's name, as SDKs do."""
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


async def verdict_of(data: bytes, declared: str, kind: InputKind | None = None) -> Verdict:
    """What comes of one file in a request of its own."""
    item = await inspect_input(service(), kind or detect_kind(data, declared), "/file", data, declared)
    inputs: dict[str, Any] = {f"{item.kind}s": (item,)}
    request = GenerationRequest(model=CARD.id, prompt="Draw", **inputs)
    found = validate(request, CARD, Policy())
    told = find_notices(request, normalize_request(request, CARD), CARD) if not found else ()
    sentence = " ".join(each.detail for each in found)
    return Verdict(tuple(each.code for each in found), sentence, item, tuple(each.code for each in told))
