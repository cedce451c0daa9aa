"""Parses requests in the OpenAI dialect: translates its fields to native ones and builds an order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from app.domain.errors import Violation
from app.domain.generation import Notice
from app.domain.pointers import build_pointer
from app.surfaces.native.request import (
    FILES,
    NO_FILE,
    build_order,
    parse_fields,
    parse_members,
    read_form_inputs,
    read_json_inputs,
    restore_texts,
)
from app.surfaces.native.wire import SafetySettingWire
from app.surfaces.openai.sizes import find_covering_cell, list_cells_of_ratio
from app.surfaces.openai.wire import OpenAIImageEdit, OpenAIImageGeneration, OpenAIParameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import UploadFile

    from app.domain.card import Card
    from app.domain.tenancy import Caller
    from app.generation.order import ClientTimeout, Order
    from app.surfaces.http.body import FormBody, JsonBody
    from app.surfaces.http.context import Limits, Service

_SIZE: Final = re.compile(r"([1-9][0-9]{0,4}) ?[xX*\u00d7] ?([1-9][0-9]{0,4})")
_BRACKETS: Final = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]")
_FORMATS: Final = {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "webp": "image/webp"}
_WORDS: Final = frozenset(
    {
        "background",
        "input_fidelity",
        "moderation",
        "output_format",
        "quality",
        "response_format",
        "size",
        "style",
    }
)
"""Fields whose values are words, of which an empty one stands for no choice."""
_NO_COMPRESSION: Final = 100
_DEFAULTS: Final = {"style": "vivid", "input_fidelity": "low"}
"""Values that the original has by default, of fields that the model does not have."""
_UNSUPPORTED: Final = {
    "style": "The model has no styles; describe the style in the prompt.",
    "input_fidelity": "The model has no such setting.",
    "complexity": "The model has no such setting; thinking_level is the closest.",
    "svg": "The model does not generate vector graphics.",
    "frame_count": "The model does not generate animations.",
    "frame_duration_ms": "The model does not generate animations.",
    "mask": "The model does not support masks; say in the prompt what should change.",
    "markup": "The model does not support overlays; draw on the image, or describe them in the prompt.",
}


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """An order, and what the response needs in addition.

    Attributes:
        places: Pointers of the caller's fields, by the pointers of the native fields that they became.
        safety_identifier: Echoed in the response, or None.
    """

    order: Order
    delivery: Literal["inline", "uri"]
    stream: bool
    safety_identifier: str | None
    places: Mapping[str, str]

    def with_timeout(self, patience: ClientTimeout | None) -> ParsedRequest:
        """Return the request with the caller's timeout."""
        return replace(self, order=replace(self.order, patience=patience))


@dataclass(slots=True)
class _Translation:
    """Native fields, collected while OpenAI's fields are translated one by one."""

    parameters: OpenAIParameters
    card: Card | None
    limits: Limits
    native: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def report(self, name: str, code: str, detail: str, allowed: tuple[str, ...] | None = None) -> None:
        """Add a violation of one of the caller's fields."""
        self.violations.append(Violation(f"/{name}", code, detail, allowed))

    def note_default(self, name: str) -> None:
        """Accept a value that the original has by default, because leaving it out changes nothing."""
        detail = f"{name} is OpenAI's default and has no effect here."
        self.notices.append(Notice("default_without_effect", detail))

    def set_native(self, native: str, value: object, name: str) -> None:
        """Set a native field in place of one of OpenAI's; giving both is a violation."""
        if native in self.parameters.model_fields_set:
            self.report(name, "conflicting_fields", f"Give either {name} or {native}, not both.")
            return
        self.native[native] = value
        self.places[f"/{native}"] = f"/{name}"


async def parse_json_request(
    service: Service, caller: Caller, body: JsonBody, cache_control: str | None
) -> ParsedRequest:
    """Parse a JSON request; the order carries its violations."""
    members = _fold_words(_drop_nulls(restore_texts(body), OpenAIImageGeneration))
    parameters, violations = parse_members(OpenAIImageGeneration, members, strict=True)
    inputs, input_violations = await read_json_inputs(service, caller, parameters, body, violations)
    translation = _translate(service, parameters)
    all_violations = (*violations, *input_violations, *translation.violations)
    native = parameters.model_copy(update=translation.native)
    order = await build_order(service, caller, native, inputs, all_violations, cache_control)
    return _build_request(order, parameters, translation)


async def parse_form_request(
    service: Service, caller: Caller, form: FormBody, cache_control: str | None
) -> ParsedRequest:
    """Parse a multipart request; the order carries its violations."""
    fields, structured, bracket_violations = _expand_brackets(form.fields)
    members, field_violations = parse_fields(fields)
    members = _fold_words({**members, **structured})
    parameters, violations = parse_members(OpenAIImageEdit, members, strict=False)
    parts, part_violations = _collect_parts(form.files)
    inputs, input_violations = await read_form_inputs(
        service, parts, required=not FILES & {*fields, *structured}
    )
    translation = _translate(service, parameters)
    for name in ("image", "document", "video"):
        if getattr(parameters, name):
            translation.report(name, "wrong_type", NO_FILE)
    all_violations = (
        *bracket_violations,
        *field_violations,
        *violations,
        *part_violations,
        *input_violations,
        *translation.violations,
    )
    native = parameters.model_copy(update=translation.native)
    order = await build_order(service, caller, native, inputs, all_violations, cache_control)
    return _build_request(order, parameters, translation)


def _build_request(order: Order, parameters: OpenAIParameters, translation: _Translation) -> ParsedRequest:
    return ParsedRequest(
        order=replace(order, drop_in=True, notices=tuple(translation.notices)),
        delivery="uri" if (translation.native.get("delivery") or parameters.delivery) == "uri" else "inline",
        stream=bool(parameters.stream),
        safety_identifier=parameters.safety_identifier or parameters.user or None,
        places=translation.places,
    )


def translate_violations(
    violations: tuple[Violation, ...], places: Mapping[str, str]
) -> tuple[Violation, ...]:
    """Return the violations with pointers to the fields that the caller used."""
    return tuple(dict.fromkeys(_translate_violation(item, places) for item in violations))


def _translate_violation(item: Violation, places: Mapping[str, str]) -> Violation:
    place = places.get(item.pointer)
    if place is None:
        return item
    allowed = item.allowed
    if place == "/output_format" and allowed is not None:
        allowed = tuple(str(each).removeprefix("image/") for each in allowed)
    if place in {"/size", "/quality"}:
        allowed = None  # the values of the native field do not apply to this one
    return replace(item, pointer=place, allowed=allowed)


def _drop_nulls(members: Mapping[str, Any], model: type[OpenAIParameters]) -> dict[str, Any]:
    """Drop nulls and empty words, which SDKs send for omitted fields; those of unknown fields are refused."""
    fields = model.model_fields
    return {
        name: value
        for name, value in members.items()
        if name not in fields or (value is not None and not (name in _WORDS and value == ""))
    }


def _fold_words(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members with the words of OpenAI's enumerations in lower case."""
    return {
        name: value.strip().lower() if name in _WORDS and isinstance(value, str) else value
        for name, value in members.items()
    }


def _expand_brackets(
    fields: Mapping[str, list[str]],
) -> tuple[dict[str, list[str]], dict[str, Any], list[Violation]]:
    """Return plain fields, structured fields put together from brackets, and violations.

    SDKs flatten maps and lists: ``labels[team]=search``, ``response_modalities[]=TEXT``.
    """
    plain: dict[str, list[str]] = {}
    structured: dict[str, Any] = {}
    violations: list[Violation] = []
    for name, values in fields.items():
        inside = _BRACKETS.fullmatch(name)
        if inside is None:
            plain[name] = values
            continue
        outer, inner = inside.groups()
        place = structured.setdefault(outer, {} if inner else values)
        if inner and isinstance(place, dict) and len(values) == 1:
            place[inner] = values[0]
        elif place is not values:
            violations.append(Violation(build_pointer(name), "repeated_field", "Send this field once."))
    violations += [
        Violation(build_pointer(name), "repeated_field", "Send this field once.")
        for name in plain.keys() & structured.keys()
    ]
    return plain, structured, violations


def _collect_parts(
    files: Mapping[str, list[UploadFile]],
) -> tuple[dict[str, list[UploadFile]], list[Violation]]:
    """Return file parts under native names; SDKs send several images as ``image[]``."""
    parts: dict[str, list[UploadFile]] = {}
    violations: list[Violation] = []
    for name, uploads in files.items():
        bare = name.removesuffix("[]")
        if bare in _UNSUPPORTED and all(upload.size == 0 for upload in uploads):
            continue  # a web form sends a file field that nobody filled in
        if bare in _UNSUPPORTED:
            violations.append(Violation(f"/{bare}", f"unsupported_{bare}", _UNSUPPORTED[bare]))
        else:
            parts.setdefault(bare, []).extend(uploads)
    return parts, violations


def _translate(service: Service, parameters: OpenAIParameters) -> _Translation:
    """Translate all of OpenAI's fields."""
    card = service.gateway.catalogue.resolve(parameters.model or service.limits.default_model)
    translation = _Translation(parameters, card, service.limits)
    for translate in (
        _translate_size,
        _translate_format,
        _translate_moderation,
        _translate_user,
        _refuse_unsupported,
    ):
        translate(translation)
    return translation


def _translate_size(translation: _Translation) -> None:
    """Translate ``size``, or ``quality`` if neither ``size`` nor ``image_size`` is given."""
    parameters = translation.parameters
    open_size = parameters.size in {None, "auto"}
    quality = None
    if parameters.quality not in {None, "auto"}:
        quality = parameters.quality
    if not open_size:
        _translate_pixels(translation, parameters.size or "")
    elif quality is not None and parameters.image_size is None:
        _translate_quality(translation, quality)
        return
    if quality is not None:
        decided = "size"
        if open_size:
            decided = "image_size"
        detail = f"quality has no effect because {decided} determines the size of the picture."
        translation.notices.append(Notice("quality_without_effect", detail))


def _translate_quality(translation: _Translation, quality: str) -> None:
    """Translate a quality to the card's image size."""
    size = None
    if translation.card is not None:
        size = translation.card.find_size_of_quality(quality)
    if size is not None:
        translation.set_native("image_size", size, "quality")
    elif translation.card is not None:
        qualities = tuple(word for size in translation.card.image_sizes.values() for word in size.qualities)
        detail = "The model has no size for this quality."
        translation.report("quality", "unsupported_quality", detail, ("auto", *qualities))


def _translate_pixels(translation: _Translation, size: str) -> None:
    """Translate pixels to a cell of the card's grid that covers them; take the card's own words as well."""
    match, card = _SIZE.fullmatch(size), translation.card
    if card is None:
        return
    if match is None:
        _translate_size_word(translation, card, size)
        return
    width, height = int(match[1]), int(match[2])
    cell = find_covering_cell(card, width, height)
    if cell is None:
        allowed = tuple(f"{each.width}x{each.height}" for each in list_cells_of_ratio(card, width, height))
        translation.report("size", "unsupported_size", "The model supports no size near this one.", allowed)
        return
    translation.set_native("aspect_ratio", cell.aspect_ratio, "size")
    translation.set_native("image_size", cell.image_size, "size")
    if (cell.width, cell.height) != (width, height):
        pixels = f"{cell.width}x{cell.height}"
        detail = f"size {size} was mapped to {cell.aspect_ratio} at {cell.image_size}, which is {pixels}."
        translation.notices.append(Notice("size_mapped", detail))


def _translate_size_word(translation: _Translation, card: Card, size: str) -> None:
    """Translate an image size or an aspect ratio of the card, such as ``2K`` or ``16:9``."""
    literal = card.normalise_image_size(size)
    if literal is not None:
        translation.set_native("image_size", literal, "size")
    elif size in card.aspect_ratios:
        translation.set_native("aspect_ratio", size, "size")
    else:
        detail = "The size must be WIDTHxHEIGHT, an image size, an aspect ratio or auto."
        allowed = ("auto", "1024x1024", *card.image_sizes, *card.aspect_ratios)
        translation.report("size", "invalid_size", detail, allowed)


def _translate_format(translation: _Translation) -> None:
    parameters, limits = translation.parameters, translation.limits
    name = parameters.output_format
    mime_type = _FORMATS.get(name or "", f"image/{name}")  # the card's rules refuse an unknown one
    if name in {"png", "webp"} and not limits.has_format_choice and limits.openai_formats == "jpeg":
        detail = f"{name} was requested; the back end writes JPEG."
        translation.notices.append(Notice("mime_mismatch", detail))
    elif name is not None:
        translation.set_native("output_mime_type", mime_type, "output_format")
    is_choice = mime_type == "image/jpeg" and limits.has_format_choice
    if parameters.output_compression == _NO_COMPRESSION and not is_choice:
        translation.note_default("output_compression")
    elif parameters.output_compression is not None:
        translation.set_native(
            "output_compression_quality", parameters.output_compression, "output_compression"
        )
    if parameters.response_format is not None:
        delivery = "inline"
        if parameters.response_format == "url":
            delivery = "uri"
        translation.set_native("delivery", delivery, "response_format")
    if parameters.partial_images:
        detail = "partial_images has no effect: the model sends no partial pictures."
        translation.notices.append(Notice("parameter_without_effect", detail))
    if parameters.background == "transparent":
        detail = "The model does not generate transparent pictures."
        translation.report("background", "unsupported_background", detail, ("auto", "opaque"))


def _translate_moderation(translation: _Translation) -> None:
    if translation.parameters.moderation == "low" and translation.card is not None:
        categories = translation.card.parameters.safety_categories
        settings = [SafetySettingWire(category=each, threshold="BLOCK_ONLY_HIGH") for each in categories]
        translation.set_native("safety_settings", settings, "moderation")


def _translate_user(translation: _Translation) -> None:
    """Take the end user from ``user``, else from ``safety_identifier``; SDKs may send either empty."""
    parameters = translation.parameters
    translation.native["user"] = parameters.user or parameters.safety_identifier or None
    if not parameters.user and parameters.safety_identifier:
        translation.places["/user"] = "/safety_identifier"


def _refuse_unsupported(translation: _Translation) -> None:
    for name, detail in _UNSUPPORTED.items():
        value = getattr(translation.parameters, name)
        if value is None or value == "":
            continue
        if value == _DEFAULTS.get(name):
            translation.note_default(name)
        else:
            translation.report(name, f"unsupported_{name}", detail)
