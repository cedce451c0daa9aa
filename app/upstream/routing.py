"""Selects the back ends that may serve a request: by capability, and by origin for a conversation.

Thought signatures mean nothing to another back end or project (docs/model.md#signatures), so a request that
carries some never fails over. It goes to the credential that made them. The gateway's own conversations
record it; a body in Google's dialect is recognised if this replica has seen one of its signatures, and
otherwise goes to the credential of the first back end that its first turn chooses (docs/decisions/0023,
docs/decisions/0059).
"""

from __future__ import annotations

import base64
import logging
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from app.domain.errors import UpstreamInvalidRequest, UpstreamRejected
from app.domain.fingerprint import compute_digest
from app.upstream.pools import rank_by_opening

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from app.domain.generation import ModelAnswer
    from app.domain.passthrough import Passthrough
    from app.domain.request import GenerationRequest
    from app.upstream.back_end import GuardedBackEnd

log = logging.getLogger(__name__)

SIGNATURES_REMEMBERED: Final = 20_000
_SIGNATURE: Final = re.compile(r'"thought(?:S|_s)ignature"\s*:\s*"([^"]+)"')
_STANDARD: Final = str.maketrans("-_", "+/")


class SignatureOrigins:
    """Remembers which back end made each of the latest thought signatures."""

    def __init__(self, size_max: int = SIGNATURES_REMEMBERED) -> None:
        self._size_max = size_max
        self._origins: OrderedDict[str, str] = OrderedDict()

    def learn(self, answer: ModelAnswer) -> None:
        """Record the back end of an answer's signatures."""
        for signature in _find_signatures(answer.verbatim, {}):
            self._origins[signature] = answer.back_end
        while len(self._origins) > self._size_max:
            self._origins.popitem(last=False)

    def find_origin(self, verbatim: Passthrough) -> str | None:
        """The back end that made the last known signature of a body.

        Empty if the body has signatures but none is known, and None if it has no signatures.
        """
        signatures = list(_find_signatures(verbatim.skeleton.decode(errors="replace"), verbatim.blobs))
        if not signatures:
            return None
        for signature in reversed(signatures):
            origin = self._origins.get(signature)
            if origin:
                return origin
        return ""


def _find_signatures(text: str, blobs: Mapping[str, bytes]) -> Iterator[str]:
    """Digests of the signatures in a JSON text, in order. Large ones may have been lifted into the blobs."""
    for match in _SIGNATURE.finditer(text):
        signature = blobs.get(match[1])
        if signature is None:
            signature = _decode_signature(match[1])
        yield compute_digest(signature)


def _decode_signature(signature: str) -> bytes:
    """Decode base64 in either alphabet, with escaped slashes, with or without padding."""
    standard = signature.replace("\\", "").translate(_STANDARD).rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except ValueError:
        return standard.encode(errors="replace")


def compute_needs(request: GenerationRequest) -> frozenset[str]:
    """The optional features that a back end must offer to serve the request."""
    needs = set()
    chooses = request.output_mime_type is not None or request.output_compression_quality is not None
    if chooses and not request.is_usual_jpeg:
        needs.add("output_mime_type")
    if any(item.data is None for item in request.inputs):
        needs.add("cloud_storage")
    return frozenset(needs)


def select_back_ends(
    request: GenerationRequest, pool: str, back_ends: Sequence[GuardedBackEnd], origins: SignatureOrigins
) -> tuple[GuardedBackEnd, ...]:
    """The back ends of a pool that may serve a request, in order.

    Raises:
        UpstreamInvalidRequest: No back end may serve it; the message says why.
        UpstreamRejected: The pool has no credential for this model.
    """
    members = tuple(back_end for back_end in back_ends if pool in back_end.pools)
    if not members:
        log.error("no credential of the pool serves the model", extra={"pool": pool, "model": request.model})
        raise UpstreamRejected("The tenant's pool has no credential for this model.", billed="no")
    needs = compute_needs(request)
    able = tuple(back_end for back_end in members if needs <= back_end.capabilities)
    if not able:
        missing = ", ".join(sorted(needs))
        raise UpstreamInvalidRequest(f"No back end of this model offers: {missing}.")
    made_by: str | None = None
    if request.earlier is not None:
        made_by = request.earlier.conversation.back_end
    elif request.verbatim is not None:
        made_by = origins.find_origin(request.verbatim)
    if made_by is None:
        return able
    if not made_by:
        first = [back_end for back_end in able if back_end.kind == able[0].kind]
        return (rank_by_opening(first, request.opening)[0],)
    own = tuple(back_end for back_end in able if back_end.name == made_by)
    if not own:
        kind, _, credential = made_by.partition("/")
        word = "credential" if credential else "back end"
        sentence = f"Only the {word} {credential or kind} can continue this conversation; start a new one."
        raise UpstreamInvalidRequest(sentence)
    return own
