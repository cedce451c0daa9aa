"""Which back ends may serve a request: those that can, and for a conversation the one that made it.

Thought signatures mean nothing to another back end (docs/model.md#signatures), so a request that carries some
is not failed over. It stays on the back end that made them: a conversation of the gateway's own knows it; a
body in Google's dialect is recognised where this replica saw one of its signatures being made, and otherwise
goes to the first back end (docs/decisions/0023).
"""

from __future__ import annotations

import base64
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from app.domain.errors import UpstreamInvalidRequest
from app.domain.fingerprint import compute_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from app.domain.generation import ModelAnswer
    from app.domain.passthrough import Passthrough
    from app.domain.request import GenerationRequest
    from app.upstream.back_end import GuardedBackEnd

SIGNATURES_REMEMBERED: Final = 20_000
_SIGNATURE: Final = re.compile(r'"thought(?:S|_s)ignature"\s*:\s*"([^"]+)"')
_STANDARD: Final = str.maketrans("-_", "+/")


class SignatureOrigins:
    """Remembers for the latest thought signatures which back end made them."""

    def __init__(self, size_max: int = SIGNATURES_REMEMBERED) -> None:
        self._size_max = size_max
        self._origins: OrderedDict[str, str] = OrderedDict()

    def learn(self, answer: ModelAnswer) -> None:
        """Remember the signatures of an answer."""
        for signature in _find_signatures(answer.verbatim, {}):
            self._origins[signature] = answer.back_end
        while len(self._origins) > self._size_max:
            self._origins.popitem(last=False)

    def find_origin(self, verbatim: Passthrough) -> str | None:
        """The back end that made the last known signature of a body; empty where none is known.

        None where there are no signatures at all.
        """
        signatures = list(_find_signatures(verbatim.skeleton.decode(errors="replace"), verbatim.blobs))
        known = (self._origins.get(signature) for signature in reversed(signatures))
        return next(filter(None, known), "") if signatures else None


def _find_signatures(text: str, blobs: Mapping[str, bytes]) -> Iterator[str]:
    """Digests of the signatures in a JSON text, one after the other; some may be in the blobs."""
    for match in _SIGNATURE.finditer(text):
        yield compute_digest(blobs[match[1]] if match[1] in blobs else _decode_signature(match[1]))


def _decode_signature(signature: str) -> bytes:
    """The bytes of base64 in either alphabet, with escaped slashes or without padding."""
    standard = signature.replace("\\", "").translate(_STANDARD).rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except ValueError:
        return standard.encode(errors="replace")


def compute_needs(request: GenerationRequest) -> frozenset[str]:
    """What a back end must be able to do beyond the common ground."""
    needs = set()
    if request.output_mime_type is not None or request.output_compression_quality is not None:
        needs.add("output_mime_type")
    if any(item.data is None for item in request.inputs):
        needs.add("cloud_storage")
    return frozenset(needs)


def select_back_ends(
    request: GenerationRequest, back_ends: Sequence[GuardedBackEnd], origins: SignatureOrigins
) -> tuple[GuardedBackEnd, ...]:
    """The lanes that may serve a request, in their order.

    Raises:
        UpstreamInvalidRequest: None can, with a sentence that says why.
    """
    needs = compute_needs(request)
    able = tuple(back_end for back_end in back_ends if needs <= back_end.capabilities)
    if not able:
        missing = ", ".join(sorted(needs))
        raise UpstreamInvalidRequest(f"No back end of this model offers what is asked for: {missing}.")
    made_by: str | None = None
    if request.earlier is not None:
        made_by = request.earlier.conversation.back_end
    elif request.verbatim is not None:
        made_by = origins.find_origin(request.verbatim)
    if made_by is None:
        return able
    if not made_by:
        return able[:1]
    own = tuple(back_end for back_end in able if back_end.name == made_by)
    if not own:
        sentence = f"The back end {made_by} made this conversation and cannot go on with it here; begin anew."
        raise UpstreamInvalidRequest(sentence)
    return own
