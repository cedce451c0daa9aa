"""Puts a bound on output into a request, whichever words it is in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from app.domain.generation import Notice

if TYPE_CHECKING:
    from app.domain.card import Card
    from app.domain.passthrough import Passthrough
    from app.domain.request import GenerationRequest


def bound_request(request: GenerationRequest, card: Card, bound: int) -> GenerationRequest:
    """Return the request with ``bound`` as the upstream's limit on output tokens."""
    if request.max_output_tokens == bound:
        return request
    verbatim = request.verbatim and _insert_bound(request.verbatim, bound)
    tighter = bound < card.tokens.output_max
    return replace(request, max_output_tokens=bound, bounded=tighter, verbatim=verbatim)


def build_lowered_notice(own: int, bound: int) -> Notice:
    """Return the notice for a caller whose own bound was lowered."""
    detail = f"max_output_tokens was lowered from {own} to {bound}, which is what the reservation covers."
    return Notice("output_bounded", detail)


def _insert_bound(verbatim: Passthrough, bound: int) -> Passthrough:
    """Google's own words with the bound in them, in the place of one that may be there."""
    body = json.loads(verbatim.skeleton)
    name = "generation_config" if "generation_config" in body else "generationConfig"
    config = body[name] = body.get(name) or {}
    config.pop("max_output_tokens", None)
    config["maxOutputTokens"] = bound
    return replace(verbatim, skeleton=json.dumps(body, ensure_ascii=False).encode(errors="surrogatepass"))
