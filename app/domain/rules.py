"""The card's rules: one function for each row of the card, from a case to its violations.

A rule yields every violation that it finds and never raises; it leaves out what another rule reports. Facts
about a file were read from its bytes earlier (``Input``); the declared type is only compared with them.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, NamedTuple

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
from app.domain.pointers import build_pointer
from app.domain.request import SEEDS_PER_VARIANT, Input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.domain.card import Card, Range
    from app.domain.policy import Policy
    from app.domain.request import GenerationRequest, InputKind

LABELS_MAX = 8
LABEL_LENGTH_MAX = 63
VARIANT_MAX = 2**32 // SEEDS_PER_VARIANT - 1
"""The last variant before seeds repeat."""
QUALITY_MIN, QUALITY_MAX = 0, 100

_INVISIBLE = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})


class Case(NamedTuple):
    """One request and what it is validated against.

    Attributes:
        image_size: The card's literal for the requested size, or None if there is none.
        thinking_level: The card's spelling of the requested level, or None if there is none.
    """

    request: GenerationRequest
    card: Card
    policy: Policy
    image_size: str | None
    thinking_level: str | None


def is_unicode(text: str) -> bool:
    """Whether the text can be sent at all: a lone half of a surrogate pair has no encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_blank(text: str) -> bool:
    """Whether the text is only spaces, control characters and invisible marks.

    Each character is looked up once, however often it occurs: a megabyte of blanks costs little.
    """
    rest = text.lstrip()
    return not rest or (
        unicodedata.category(rest[0]) in _INVISIBLE
        and all(unicodedata.category(character) in _INVISIBLE for character in set(rest))
    )


def check_model(case: Case) -> Iterator[Violation]:
    """A model that the caller may use and that has not been retired."""
    models, card = case.policy.models, case.card
    if models and card.id not in models:
        yield Violation(
            "/model", "model_not_allowed", f"This caller may not use {card.id}.", tuple(sorted(models))
        )
    if card.lifecycle.stage == "retired":
        successor = f" Use {card.lifecycle.replacement}." if card.lifecycle.replacement else ""
        yield Violation("/model", "model_retired", f"{card.title} is no longer offered.{successor}")


def check_texts(case: Case) -> Iterator[Violation]:
    """A prompt that is not blank, and only valid Unicode."""
    texts = (("/prompt", case.request.prompt), ("/system_instruction", case.request.system_instruction or ""))
    for pointer, text in texts:
        if not is_unicode(text):
            yield Violation(pointer, "invalid_text", "The text has a lone surrogate: not valid Unicode.")
    if _is_blank(case.request.prompt):
        yield Violation("/prompt", "empty_prompt", "The prompt is empty.")


def check_aspect_ratio(case: Case) -> Iterator[Violation]:
    """One of the card's ratios, or none."""
    ratio, card = case.request.aspect_ratio, case.card
    if ratio is not None and ratio not in card.aspect_ratios:
        detail = f"{card.title} does not draw this aspect ratio."
        yield Violation("/aspect_ratio", "unsupported_aspect_ratio", detail, card.aspect_ratios)


def check_image_size(case: Case) -> Iterator[Violation]:
    """One of the card's sizes in any accepted spelling, within the caller's rights."""
    sizes = tuple(case.card.image_sizes)
    size = case.image_size
    if size is None:
        detail = f"{case.card.title} does not draw this size."
        yield Violation("/image_size", "unsupported_image_size", detail, sizes)
        return
    largest = case.policy.max_image_size
    within = sizes if largest is None else case.card.list_sizes_up_to(largest)
    if size not in within:
        detail = f"This caller may ask for {largest} at most."
        yield Violation("/image_size", "image_size_not_allowed", detail, within)
    if case.card.image_sizes[size].preview and not case.policy.allows_preview(size):
        detail = f"{size} is a Preview feature, which is not enabled for this caller."
        allowed = tuple(
            name
            for name in within
            if not case.card.image_sizes[name].preview or case.policy.allows_preview(name)
        )
        yield Violation("/image_size", "preview_not_allowed", detail, allowed)


def check_count(case: Case) -> Iterator[Violation]:
    """At least one picture, and no more than the gateway makes for one request."""
    most = case.policy.request.images_per_request_max
    if not 1 <= case.request.n <= most:
        yield Violation("/n", "n_out_of_range", f"Between 1 and {most} pictures can be asked for at once.")


def check_candidate_count(case: Case) -> Iterator[Violation]:
    """One candidate, which is all that the model makes in a call."""
    count, most = case.request.candidate_count, case.card.parameters.candidate_count_max
    if count is not None and not 1 <= count <= most:
        detail = f"The model makes {most} candidate a call; more pictures take more calls."
        yield Violation("/candidate_count", "unsupported_candidate_count", detail, tuple(range(1, most + 1)))


def check_response_modalities(case: Case) -> Iterator[Violation]:
    """A picture, with or without words, in any order."""
    offered = case.card.parameters.response_modalities
    modalities = sorted(case.request.response_modalities)
    if modalities not in [sorted(each) for each in offered]:
        detail = "The answer can be a picture, or words and a picture."
        allowed = tuple("+".join(each) for each in offered)
        yield Violation("/response_modalities", "unsupported_response_modalities", detail, allowed)


def _report_unsupported(case: Case, name: str, hint: str = "") -> Iterator[Violation]:
    detail = f"{case.card.title} does not offer {name}; leave it out{hint}."
    yield Violation(f"/{name}", f"unsupported_{name}", detail)


def _check_range(case: Case, name: str, value: float | None, limits: Range | None) -> Iterator[Violation]:
    if value is None:
        return
    if limits is None:
        yield from _report_unsupported(case, name)
    elif not limits.min <= value <= limits.max:  # NaN compares as outside any range
        detail = f"A number from {limits.min} to {limits.max} is expected."
        yield Violation(f"/{name}", f"{name}_out_of_range", detail)


def check_temperature(case: Case) -> Iterator[Violation]:
    """A number within the card's range, if the model offers it; NaN is refused."""
    yield from _check_range(case, "temperature", case.request.temperature, case.card.parameters.temperature)


def check_top_p(case: Case) -> Iterator[Violation]:
    """A number within the card's range, if the model offers it."""
    yield from _check_range(case, "top_p", case.request.top_p, case.card.parameters.top_p)


def check_top_k(case: Case) -> Iterator[Violation]:
    """A value only if the card offers the parameter; otherwise it is refused, not dropped."""
    if case.request.top_k is not None and not case.card.parameters.top_k_offered:
        yield from _report_unsupported(case, "top_k")


def check_seed(case: Case) -> Iterator[Violation]:
    """A 32-bit number, if the model offers seeds."""
    seed, limits = case.request.seed, case.card.parameters.seed
    if seed is None:
        return
    if limits is None:
        yield from _report_unsupported(case, "seed", "; n and variant draw different pictures without one")
    elif not limits.min <= seed <= limits.max:
        detail = f"A whole number from {limits.min} to {limits.max} is expected."
        yield Violation("/seed", "seed_out_of_range", detail)


def check_variant(case: Case) -> Iterator[Violation]:
    """A number so small that the seeds of all variants differ."""
    if not 0 <= case.request.variant <= VARIANT_MAX:
        detail = f"A whole number from 0 to {VARIANT_MAX} is expected."
        yield Violation("/variant", "variant_out_of_range", detail)


def check_max_output_tokens(case: Case) -> Iterator[Violation]:
    """A number within the card's limit that leaves room for the requested picture."""
    bound, most = case.request.max_output_tokens, case.card.tokens.output_max
    if bound is None:
        return
    if not 1 <= bound <= most:
        detail = f"A whole number from 1 to {most} is expected."
        yield Violation("/max_output_tokens", "max_output_tokens_out_of_range", detail)
    elif case.image_size is not None and bound < case.card.image_tokens(case.image_size):
        needed = case.card.image_tokens(case.image_size)
        detail = f"A picture of size {case.image_size} takes {needed} image tokens."
        yield Violation("/max_output_tokens", "max_output_tokens_too_small", detail)


def check_output_tokens(case: Case) -> Iterator[Violation]:
    """A picture, words and thoughts that together fit into the model's output in one call."""
    if case.image_size is None or case.thinking_level is None:
        return
    needed = case.card.image_tokens(case.image_size) + case.card.text_allowance.per_image[case.thinking_level]
    if needed > case.card.tokens.output_max:
        detail = f"About {needed} output tokens are needed; the model has {case.card.tokens.output_max}."
        yield Violation("/image_size", "output_tokens_over_limit", detail)


def check_thinking_level(case: Case) -> Iterator[Violation]:
    """One of the card's levels, in upper or lower case."""
    if case.thinking_level is None:
        levels = case.card.parameters.thinking_levels
        detail = f"{case.card.title} does not offer this thinking level."
        yield Violation("/thinking_level", "unsupported_thinking_level", detail, levels)


def check_safety_settings(case: Case) -> Iterator[Violation]:
    """Known categories and thresholds, each category once."""
    parameters = case.card.parameters
    seen: set[str] = set()
    for index, setting in enumerate(case.request.safety_settings):
        pointer = f"/safety_settings/{index}"
        if setting.category not in parameters.safety_categories:
            detail = "There is no such harm category for this model."
            yield Violation(
                f"{pointer}/category", "unsupported_safety_category", detail, parameters.safety_categories
            )
        elif setting.category in seen:
            detail = "The category has been set before."
            yield Violation(f"{pointer}/category", "duplicate_safety_category", detail)
        if setting.threshold not in parameters.safety_thresholds:
            detail = "There is no such threshold."
            yield Violation(
                f"{pointer}/threshold", "unsupported_safety_threshold", detail, parameters.safety_thresholds
            )
        seen.add(setting.category)


def check_output_format(case: Case) -> Iterator[Violation]:
    """A format only if the back end offers a choice; the gateway never re-encodes pictures."""
    mime_type, quality = case.request.output_mime_type, case.request.output_compression_quality
    offered = case.card.parameters.output_mime_types
    available = "output_mime_type" in case.policy.capabilities
    if case.request.is_usual_jpeg and not available:
        return
    unavailable = "The upstream chooses the format of its pictures, and the gateway never re-encodes them."
    if mime_type is not None and not available:
        yield Violation("/output_mime_type", "output_mime_type_not_available", unavailable)
    elif mime_type is not None and mime_type not in offered:
        detail = "The upstream does not deliver this format."
        yield Violation("/output_mime_type", "unsupported_output_mime_type", detail, offered)
    pointer = "/output_compression_quality"
    if quality is None:
        return
    if not available:
        yield Violation(pointer, "output_compression_quality_not_available", unavailable)
        return
    if not QUALITY_MIN <= quality <= QUALITY_MAX:
        detail = f"A whole number from {QUALITY_MIN} to {QUALITY_MAX} is expected."
        yield Violation(pointer, "output_compression_quality_out_of_range", detail)
    if mime_type != "image/jpeg":
        detail = "Only JPEG has a compression quality; ask for JPEG as the format as well."
        yield Violation(pointer, "output_compression_quality_needs_jpeg", detail)


def check_grounding(case: Case) -> Iterator[Violation]:
    """Only searches that the model can make."""
    for name in ("web_search", "image_search"):
        if getattr(case.request.grounding, name) and name not in case.card.grounding:
            detail = f"{case.card.title} does not offer this kind of search."
            yield Violation(f"/grounding/{name}", "unsupported_grounding", detail, case.card.grounding)


def check_prices(case: Case) -> Iterator[Violation]:
    """Everything has a price where budgets must hold whatever happens."""
    for pointer in case.request.unpriced if case.policy.needs_prices else ():
        detail = (
            "This member has no price here, and the tenant is strict with an enforced budget in total_tokens"
            " or usd. Leave it out, or ask the operator to give it a price."
        )
        yield Violation(pointer, "unpriced_member", detail)


def check_service_tier(case: Case) -> Iterator[Violation]:
    """Only service tiers whose prices the card has."""
    tier, priced = case.request.service_tier, case.card.list_service_tiers()
    if tier is not None and tier not in priced:
        detail = f"The price of this service tier is not known for {case.card.title}."
        yield Violation("/service_tier", "unsupported_service_tier", detail, priced)


def check_labels(case: Case) -> Iterator[Violation]:
    """Labels within the limits on number and length, each name once."""
    labels = case.request.labels
    if len(labels) > LABELS_MAX:
        yield Violation("/labels", "too_many_labels", f"{len(labels)} labels; {LABELS_MAX} at most.")
    seen: set[str] = set()
    for name, value in labels[: LABELS_MAX + 1]:
        pointer = build_pointer("labels", name)
        if not 1 <= len(name) <= LABEL_LENGTH_MAX or len(value) > LABEL_LENGTH_MAX:
            detail = f"A label has 1 to {LABEL_LENGTH_MAX} characters, its value at most {LABEL_LENGTH_MAX}."
            yield Violation(pointer, "label_too_long" if name else "empty_label", detail)
        elif not (name + value).isprintable():
            yield Violation(pointer, "invalid_label", "A label may only contain printable characters.")
        if name in seen:
            yield Violation(pointer, "duplicate_label", "The label has been set before.")
        seen.add(name)


def check_conversation(case: Case) -> Iterator[Violation]:
    """The model that began the conversation, because signatures are bound to it."""
    earlier = case.request.earlier
    if earlier is not None and earlier.conversation.model != case.card.id:
        began = earlier.conversation.model
        detail = f"The conversation was started with {began}; other models cannot read its signatures."
        yield Violation("/continue_from", "other_model", detail, (began,))


# files


def _check_source(case: Case, item: Input) -> Iterator[Violation]:
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
    elif address.bucket not in case.policy.request.gcs_buckets:
        allowed = tuple(f"gs://{bucket}/" for bucket in sorted(case.policy.request.gcs_buckets))
        detail = "Inputs may not come from this bucket." if allowed else "Inputs from Cloud Storage are off."
        yield Violation(item.pointer, "bucket_not_allowed", detail, allowed)


def _check_type(item: Input, allowed: tuple[str, ...]) -> Iterator[Violation]:
    """The type of the bytes is one of the card's types; the declared type does not matter.

    For a file given by address only the declared type is known, and the upstream needs it.
    """
    kind = item.kind
    real = item.mime_type if item.data is not None else get_declared_type(item)
    if item.data is None and item.uri is None:
        return
    if real is None and item.data is None:
        detail = "A file given by address requires a mime_type."
        yield Violation(item.pointer, "mime_type_required", detail, allowed or None)
    elif real is None and not item.faults:
        detail = f"The bytes are of no known type; {_describe_types(kind, allowed)}."
        yield Violation(item.pointer, f"unknown_{kind}_type", detail, allowed or None)
    elif real is not None and not _is_allowed(real, allowed, kind):
        subject = "The bytes are" if item.data is not None else "The file is said to be"
        detail = f"{subject} {quote_media_type(real)}; {_describe_types(kind, allowed)}."
        yield Violation(item.pointer, f"unsupported_{kind}_type", detail, allowed or None)


def _describe_types(kind: InputKind, allowed: tuple[str, ...]) -> str:
    names = ", ".join(name.removeprefix(f"{kind}/") for name in allowed) or "other types"
    return f"as {_WITH_ARTICLE[kind]} the model reads {names}"


_WITH_ARTICLE = {"image": "an image", "document": "a document", "video": "a video"}


def _is_allowed(real: str, allowed: tuple[str, ...], kind: str) -> bool:
    """Whether the type is on the card's list or, if the card has no list, of the right kind."""
    return real in allowed if allowed else real.startswith(f"{kind}/")


_KINDS = frozenset(_WITH_ARTICLE)


def _report_faults(item: Input) -> Iterator[Violation]:
    """Faults of the bytes; faults of another kind of file are left out, because its type is reported."""
    for code, sentence in item.faults:
        if code.rpartition("_")[2] not in _KINDS - {item.kind}:
            yield Violation(item.pointer, code, sentence)


def _check_size(item: Input, most: int) -> Iterator[Violation]:
    if item.length > most:
        detail = f"The {item.kind} has {item.length} bytes; the limit is {most}."
        yield Violation(item.pointer, f"{item.kind}_too_large", detail)


def check_images(case: Case) -> Iterator[Violation]:
    """Complete files of the card's types, within its limits and the gateway's own on pixels."""
    limits, references, earlier = (
        case.card.images,
        _list_references(case.request),
        _count_earlier_images(case),
    )
    if earlier + len(references) > limits.count_max:
        first_over = max(0, limits.count_max - earlier)
        pointer = references[first_over].pointer if first_over < len(references) else "/continue_from"
        of_turns = f" and {earlier} of the earlier turns" if earlier else ""
        detail = f"{len(references)} images{of_turns}; {limits.count_max} at most."
        yield Violation(pointer, "too_many_images", detail)
    for item in case.request.images:
        yield from _check_source(case, item)
        yield from _check_type(item, limits.mime_types)
        if not item.drawn:
            yield from _check_size(item, limits.inline_bytes_max)
        yield from _report_faults(item)
        pixels = (item.width or 0) * (item.height or 0)
        if pixels > case.policy.request.input_pixels_max and "too_many_pixels" not in dict(item.faults):
            most = case.policy.request.input_pixels_max
            detail = f"The image has {pixels} pixels; {most} is the limit of this gateway, not of the model."
            yield Violation(item.pointer, "too_many_pixels", detail)


def _list_references(request: GenerationRequest) -> tuple[Input, ...]:
    """Images, except those that the model drew in earlier turns.

    Those are validated by their bytes and paid for as input, but the limits on number and size of references
    do not apply, or a chat would end after 14 pictures or its first large PNG. The same goes for
    ``continue_from``.
    """
    return tuple(item for item in request.images if not item.drawn)


def _count_earlier_images(case: Case) -> int:
    """Reference images of earlier turns: the model reads them again, so they count again."""
    return case.request.earlier.conversation.images if case.request.earlier is not None else 0


def check_documents(case: Case) -> Iterator[Violation]:
    """Documents of the card's types, within the limits on bytes and tokens a file and tokens in total."""
    limits, documents = case.card.documents, case.request.documents
    if documents and not limits.mime_types:
        detail = f"{case.card.title} reads no documents."
        yield Violation("/documents", "documents_not_supported", detail)
        return
    total = 0
    for item in documents:
        yield from _check_source(case, item)
        yield from _check_type(item, limits.mime_types)
        yield from _check_size(item, limits.bytes_max)
        yield from _report_faults(item)
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


def check_videos(case: Case) -> Iterator[Violation]:
    """Playable videos of the card's types, if the caller may use this Preview feature."""
    if not case.request.videos:
        return
    if "video" not in case.card.input_modalities:
        yield Violation("/videos", "videos_not_supported", f"{case.card.title} reads no videos.")
        return
    if case.card.video.preview and not case.policy.allows_preview("video"):
        detail = "Video input is a Preview feature, which is not enabled for this caller."
        yield Violation("/videos", "preview_not_allowed", detail)
    for item in case.request.videos:
        yield from _check_source(case, item)
        yield from _check_type(item, case.card.video.mime_types)
        yield from _report_faults(item)


def check_input_tokens(case: Case) -> Iterator[Violation]:
    """A prompt, images, documents and videos that together fit into the model's context in one call."""
    request, card = case.request, case.card
    most = card.tokens.input_max
    pointer = "/prompt" if request.earlier is None else "/continue_from"
    words = sum(
        estimate_text_tokens(text) for text in _list_texts(request) if is_unicode(text)
    ) + count_other_tokens(request)
    if words > most:
        detail = f"The prompt has about {words} tokens; the model reads {most}."
        yield Violation(pointer, "input_tokens_over_limit", detail)
        return
    pictures = count_picture_tokens(request, card)
    pages = sum(count_known_document_tokens(item, card) for item in request.documents)
    clips = sum(count_known_video_tokens(item, card) for item in request.videos)
    total = words + pictures + pages + clips + count_earlier_document_tokens(request)
    if (
        total > most
        and len(_list_references(request)) <= card.images.count_max
        and pages <= card.documents.tokens_total_max
    ):
        detail = f"The request has about {total} input tokens; the model reads {most}."
        if clips:
            pointer = "/videos"
        elif pages:
            pointer = "/documents"
        yield Violation(pointer, "input_tokens_over_limit", detail)


def _list_texts(request: GenerationRequest) -> tuple[str, str]:
    return request.prompt, request.system_instruction or ""


def check_earlier_addresses(case: Case) -> Iterator[Violation]:
    """Files of earlier turns in buckets that are still allowed, because Google reads them again."""
    earlier = case.request.earlier
    for address in earlier.conversation.addresses if earlier is not None else ():
        yield from _check_source(case, Input("document", "/continue_from", uri=address))


RULES: tuple[Callable[[Case], Iterator[Violation]], ...] = (
    check_model,
    check_conversation,
    check_texts,
    check_aspect_ratio,
    check_image_size,
    check_count,
    check_candidate_count,
    check_response_modalities,
    check_temperature,
    check_top_p,
    check_top_k,
    check_seed,
    check_variant,
    check_max_output_tokens,
    check_output_tokens,
    check_thinking_level,
    check_safety_settings,
    check_output_format,
    check_grounding,
    check_prices,
    check_service_tier,
    check_labels,
    check_images,
    check_documents,
    check_videos,
    check_input_tokens,
    check_earlier_addresses,
)
