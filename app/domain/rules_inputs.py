"""The card's rules about files: how many, of what kind, how large, and how much context they take.

What a file is, was read from its bytes before (``Input``); a caller's claim is only compared with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain import addresses
from app.domain.errors import Violation
from app.domain.estimate import (
    count_earlier_document_tokens,
    count_known_document_tokens,
    count_known_video_tokens,
    count_other_tokens,
    count_picture_tokens,
    estimate_text_tokens,
)
from app.domain.media_types import get_declared_type, quote_media_type
from app.domain.request import Input
from app.domain.rules import is_unicode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.domain.request import GenerationRequest, InputKind
    from app.domain.rules import Case


def _source(case: Case, item: Input) -> Iterator[Violation]:
    """Bytes, or an address in an allowed bucket; one of the two."""
    if item.data is not None and item.uri is not None:
        yield Violation(item.pointer, "ambiguous_input", "Give either bytes or an address, not both.")
    if item.data is None and item.uri is None and not item.faults:
        yield Violation(item.pointer, "missing_input", "There are neither bytes nor an address.")
    if item.uri is None:
        return
    try:
        address = addresses.parse(item.uri)
    except addresses.InvalidAddress as invalid:
        yield Violation(item.pointer, "invalid_address", str(invalid))
        return
    if "cloud_storage" not in case.policy.capabilities:
        detail = "The upstream reads no files from Cloud Storage; send the bytes."
        yield Violation(item.pointer, "address_not_available", detail)
    elif address.bucket not in case.policy.buckets:
        allowed = tuple(f"gs://{bucket}/" for bucket in sorted(case.policy.buckets))
        detail = "Inputs may not come from this bucket." if allowed else "Inputs from Cloud Storage are off."
        yield Violation(item.pointer, "bucket_not_allowed", detail, allowed)


def _type(item: Input, allowed: tuple[str, ...]) -> Iterator[Violation]:
    """What the bytes are is one of the card's types; what the caller calls them does not matter.

    Of a file elsewhere only the claim is known, and the upstream needs it.
    """
    kind = item.kind
    real = item.mime_type if item.data is not None else get_declared_type(item)
    if item.data is None and item.uri is None:
        return
    if real is None and item.data is None:
        detail = "An address needs a mime_type beside it."
        yield Violation(item.pointer, "mime_type_required", detail, allowed or None)
    elif real is None and not item.faults:
        detail = f"The bytes are of no known type; {_reads(kind, allowed)}."
        yield Violation(item.pointer, f"unknown_{kind}_type", detail, allowed or None)
    elif real is not None and not _is_allowed(real, allowed, kind):
        subject = "The bytes are" if item.data is not None else "The file is said to be"
        detail = f"{subject} {quote_media_type(real)}; {_reads(kind, allowed)}."
        yield Violation(item.pointer, f"unsupported_{kind}_type", detail, allowed or None)


def _reads(kind: InputKind, allowed: tuple[str, ...]) -> str:
    names = ", ".join(name.removeprefix(f"{kind}/") for name in allowed) or "other types"
    return f"as {_WITH_ARTICLE[kind]} the model reads {names}"


_WITH_ARTICLE = {"image": "an image", "document": "a document", "video": "a video"}


def _is_allowed(real: str, allowed: tuple[str, ...], kind: str) -> bool:
    """In the card's list; where the card has none, of the kind at all."""
    return real in allowed if allowed else real.startswith(f"{kind}/")


_KINDS = frozenset(_WITH_ARTICLE)


def _faults(item: Input) -> Iterator[Violation]:
    """What is wrong with the bytes; of a text in place of a picture, that it is a text is enough."""
    for code, sentence in item.faults:
        if code.rpartition("_")[2] not in _KINDS - {item.kind}:
            yield Violation(item.pointer, code, sentence)


def _size(item: Input, most: int) -> Iterator[Violation]:
    if item.length > most:
        detail = f"The {item.kind} has {item.length} bytes; the limit is {most}."
        yield Violation(item.pointer, f"{item.kind}_too_large", detail)


def images(case: Case) -> Iterator[Violation]:
    """As many as the card takes, each of a known type, whole, and neither too heavy nor too large."""
    limits, found = case.card.images, _references(case.request)
    if _images_before(case) + len(found) > limits.count_max:
        over = max(0, limits.count_max - _images_before(case))
        place = found[over].pointer if over < len(found) else "/continue_from"
        together = f" and {_images_before(case)} of the earlier turns" if _images_before(case) else ""
        detail = f"{len(found)} images{together}; {limits.count_max} at most."
        yield Violation(place, "too_many_images", detail)
    for item in case.request.images:
        yield from _source(case, item)
        yield from _type(item, limits.mime_types)
        if not item.drawn:
            yield from _size(item, limits.inline_bytes_max)
        yield from _faults(item)
        pixels = (item.width or 0) * (item.height or 0)
        if pixels > case.policy.pixels_max and "too_many_pixels" not in dict(item.faults):
            most = case.policy.pixels_max
            detail = f"The image has {pixels} pixels; {most} is the limit of this gateway, not of the model."
            yield Violation(item.pointer, "too_many_pixels", detail)


def _references(request: GenerationRequest) -> tuple[Input, ...]:
    """Images, except for those that the model itself drew in earlier turns.

    Those are judged by their bytes and paid for as input, but the limits on number and size of references do
    not apply: a chat would end after 14 pictures, or after its first large PNG. ``continue_from`` is alike.
    """
    return tuple(item for item in request.images if not item.drawn)


def _images_before(case: Case) -> int:
    """Reference images of earlier turns: the model reads them again, so they count again."""
    return case.request.earlier.conversation.images if case.request.earlier is not None else 0


def documents(case: Case) -> Iterator[Violation]:
    """Types, bytes and tokens of every document, and the tokens of all together."""
    limits, found = case.card.documents, case.request.documents
    if found and not limits.mime_types:
        detail = f"{case.card.title} reads no documents."
        yield Violation("/documents", "documents_not_supported", detail)
        return
    total = 0
    for item in found:
        yield from _source(case, item)
        yield from _type(item, limits.mime_types)
        yield from _size(item, limits.bytes_max)
        yield from _faults(item)
        tokens = count_known_document_tokens(item, case.card)
        total += tokens
        if tokens > limits.tokens_per_file_max:
            detail = (
                f"The document has about {tokens} tokens; the limit is {limits.tokens_per_file_max} a file."
            )
            yield Violation(item.pointer, "document_too_many_tokens", detail)
    if total > limits.tokens_total_max:
        detail = f"The documents have about {total} tokens; the limit is {limits.tokens_total_max} in all."
        yield Violation("/documents", "documents_too_many_tokens", detail)


def videos(case: Case) -> Iterator[Violation]:
    """A Preview feature of some models."""
    if not case.request.videos:
        return
    if "video" not in case.card.input_modalities:
        yield Violation("/videos", "videos_not_supported", f"{case.card.title} reads no videos.")
        return
    if case.card.video.preview and not case.policy.allows_preview("video"):
        detail = "Video input is a Preview feature, which is not enabled for this caller."
        yield Violation("/videos", "preview_not_allowed", detail)
    for item in case.request.videos:
        yield from _source(case, item)
        yield from _type(item, case.card.video.mime_types)
        yield from _faults(item)


def input_tokens(case: Case) -> Iterator[Violation]:
    """Prompt, images, documents and videos of one call fit into the model's context."""
    request, card = case.request, case.card
    most = card.tokens.input_max
    place = "/prompt" if request.earlier is None else "/continue_from"
    words = sum(
        estimate_text_tokens(text) for text in _texts(request) if is_unicode(text)
    ) + count_other_tokens(request)
    if words > most:
        detail = f"The prompt has about {words} tokens; the model reads {most}."
        yield Violation(place, "input_tokens_over_limit", detail)
        return
    pictures = count_picture_tokens(request, card)
    pages = sum(count_known_document_tokens(item, card) for item in request.documents)
    clips = sum(count_known_video_tokens(item, card) for item in request.videos)
    total = words + pictures + pages + clips + count_earlier_document_tokens(request)
    if (
        total > most
        and len(_references(request)) <= card.images.count_max
        and pages <= card.documents.tokens_total_max
    ):
        detail = f"The request has about {total} input tokens; the model reads {most}."
        heavy = "/videos" if clips else "/documents" if pages else place
        yield Violation(heavy, "input_tokens_over_limit", detail)


def _texts(request: GenerationRequest) -> tuple[str, str]:
    return request.prompt, request.system_instruction or ""


def earlier_addresses(case: Case) -> Iterator[Violation]:
    """What earlier turns read from Cloud Storage is read again, so its bucket must still be allowed."""
    earlier = case.request.earlier
    for address in earlier.conversation.addresses if earlier is not None else ():
        yield from _source(case, Input("document", "/continue_from", uri=address))


RULES: tuple[Callable[[Case], Iterator[Violation]], ...] = (
    images,
    documents,
    videos,
    input_tokens,
    earlier_addresses,
)
