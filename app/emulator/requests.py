"""Parses and validates requests, and refuses what Google refuses.

Declared MIME types only have to be on the card. The real type is detected when the bytes are opened, so a
mislabelled PNG works, as it does with Google.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blake3 import blake3
from pydantic_core import from_json

from app.domain.media_types import normalize_media_type
from app.domain.size_words import format_size_word
from app.emulator import messages
from app.emulator.counting import count_tokens, iterate_parts
from app.emulator.errors import FieldFault, GoogleError, invalid_argument
from app.emulator.labels import check_labels
from app.emulator.schema import Message, read
from app.emulator.signatures import is_signature
from app.media.inspection import inspect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.card import Card, Range, SeedRange
    from app.emulator.messages import Dialect

_NUMBER_WORDS = {1: "ONE", 2: "TWO", 3: "THREE", 4: "FOUR", 5: "FIVE", 8: "EIGHT", 9: "NINE", 16: "SIXTEEN"}
_NUMBER_WORDS[21] = "TWENTY_ONE"
_SEARCHES = {"web_search": "webSearch", "image_search": "imageSearch"}

_CANNOT_PROCESS = (
    "Unable to process input {}. Please retry or report in"
    " https://developers.generativeai.google/guide/troubleshooting"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """One input image: its bytes, or the address of one that the emulator cannot fetch."""

    mime_type: str
    data: bytes | None = None
    uri: str = ""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One accepted request in the emulator's words.

    Attributes:
        prompt: The text of the last turn.
        references: Every input image of the conversation, in order.
        aspect_ratio: One of the card's, or None where the model chooses.
        searches: Kinds of search that it may make: ``webSearch``, ``imageSearch``.
        tier: Service tier: standard, flex or priority.
        image_size: One of the card's.
        project: The project that the call belongs to, or empty.
        labels: Labels of the call as JSON, or empty.
        prompt_tokens: Input tokens by modality.
        digest: BLAKE3 over everything that the picture depends on, in hexadecimal.
    """

    card: Card
    dialect: Dialect
    prompt: str
    references: tuple[Reference, ...]
    aspect_ratio: str | None
    image_size: str
    with_text: bool
    seed: int | None
    thinks_hard: bool
    include_thoughts: bool
    output_mime_type: str | None
    compression_quality: int | None
    output_tokens_max: int
    searches: frozenset[str]
    tier: str
    prompt_tokens: tuple[tuple[str, int], ...]
    digest: str
    project: str = ""
    labels: str = ""


def parse(body: bytes, shape: Message) -> dict[str, Any]:
    """The request's JSON in canonical form. Raises GoogleError 400 naming every fault."""
    try:
        document = from_json(body or b"{}", allow_inf_nan=False)
    except ValueError as error:
        sentence = f"Invalid JSON payload received. {error}"
        raise invalid_argument(FieldFault("", sentence)) from error
    faults: list[FieldFault] = []
    message = read(document, shape, "", faults)
    if faults:
        raise invalid_argument(*faults)
    return dict(message or {})


def read_generate(body: bytes, card: Card, dialect: Dialect, project: str = "") -> ModelRequest:
    """Read a request of ``generateContent``. Raises GoogleError 400 for what the model does not accept."""
    document = parse(body, messages.GENERATE_REQUESTS[dialect])
    contents = document.get("contents", [])
    config = document.get("generationConfig", {})
    image = _read_image_options(config)
    faults = [
        *_check_contents(contents, card, dialect),
        *_check_signatures(contents, card.id, project),
        *check_labels(document.get("labels", {}), dialect),
        *_check_parameters(config, card),
        *_check_image_options(image, card),
        *_check_tools(document.get("tools", []), card),
    ]
    if faults:
        raise invalid_argument(*faults)
    tokens = count_tokens(
        contents, document.get("systemInstruction"), card, dialect, config.get("mediaResolution", "")
    )
    _check_length(sum(count for _, count in tokens), card)
    thinking = config.get("thinkingConfig", {})
    modalities = config.get("responseModalities") or ["TEXT", "IMAGE"]
    output = image.get("imageOutputOptions", {})
    labels = json.dumps(document["labels"], sort_keys=True) if document.get("labels") else ""
    references = tuple(_find_references(contents))
    prompt = _find_prompt(contents)
    return ModelRequest(
        card=card,
        dialect=dialect,
        prompt=prompt,
        references=references,
        aspect_ratio=_parse_ratio(image.get("aspectRatio"), card),
        image_size=_parse_size(image.get("imageSize"), card) or card.image_size_default,
        with_text="TEXT" in modalities,
        seed=config.get("seed"),
        thinks_hard=thinking.get("thinkingLevel") == "HIGH",
        include_thoughts=thinking.get("includeThoughts", False),
        output_mime_type=output.get("mimeType") or _format_mime_type(image.get("mimeType")),
        compression_quality=output.get("compressionQuality"),
        output_tokens_max=config.get("maxOutputTokens", card.tokens.output_max),
        searches=_find_searches(document.get("tools", [])),
        tier=document.get("serviceTier", "").lower() or "standard",
        prompt_tokens=tokens,
        digest=_compute_digest(card.id, prompt, references, document),
        project=project,
        labels=labels,
    )


def _check_length(tokens: int, card: Card) -> None:
    most = card.tokens.input_max
    if tokens > most:
        sentence = f"The input token count ({tokens}) exceeds the maximum number of tokens allowed ({most})."
        raise invalid_argument(FieldFault("contents", sentence))


def _find_references(contents: list[dict[str, Any]]) -> Iterator[Reference]:
    for part in iterate_parts(contents):
        blob, file = part.get("inlineData", {}), part.get("fileData", {})
        if blob.get("mimeType", "").startswith("image/"):
            yield Reference(blob["mimeType"], data=blob.get("data", b""))
        elif file.get("mimeType", "").startswith("image/"):
            yield Reference(file["mimeType"], uri=file.get("fileUri", ""))


def _find_prompt(contents: list[dict[str, Any]]) -> str:
    texts = [part["text"] for part in contents[-1].get("parts", []) if part.get("text")]
    return "\n".join(texts)


def _compute_digest(
    model: str, prompt: str, references: tuple[Reference, ...], document: dict[str, Any]
) -> str:
    hasher = blake3(f"{model}\0{prompt}\0".encode())
    for reference in references:
        content = reference.data if reference.data is not None else reference.uri.encode()
        hasher.update(f"{len(content)}\0".encode())
        hasher.update(content)
    # A bound ends an answer, and changes no picture in it.
    config = {**document.get("generationConfig", {})}
    config.pop("maxOutputTokens", None)
    hasher.update(repr(sorted(config.items())).encode())
    hasher.update(repr(document.get("systemInstruction")).encode())
    return hasher.hexdigest(length=16)


def _check_contents(contents: list[dict[str, Any]], card: Card, dialect: Dialect) -> Iterator[FieldFault]:
    if not contents:
        yield FieldFault("contents", "* GenerateContentRequest.contents: contents is not specified\n")
        return
    for at, content in enumerate(contents):
        if content.get("role", "user") not in {"user", "model"}:
            yield FieldFault(f"contents[{at}].role", "Please use a valid role: user, model.")
        if not any(part.keys() - {"thought", "thoughtSignature"} for part in content.get("parts", [])):
            where = f"contents[{at}].parts"
            sentence = f"* GenerateContentRequest.{where}: contents.parts must not be empty.\n"
            yield FieldFault(where, sentence)
            continue
        for number, part in enumerate(content["parts"]):
            yield from _check_part(part, f"contents[{at}].parts[{number}]", card, dialect)
    pictures = sum(
        1
        for content in contents
        if content.get("role", "user") == "user"
        for _ in _find_references([content])
    )
    if pictures > card.images.count_max:
        most = card.images.count_max + 1
        yield FieldFault(
            "contents", f"Please use fewer than {most} images in your request to models/{card.id}"
        )


def _check_part(part: dict[str, Any], path: str, card: Card, dialect: Dialect) -> Iterator[FieldFault]:
    blob, file = part.get("inlineData"), part.get("fileData")
    if blob is None and file is None:
        return
    mime_type = (blob or file or {}).get("mimeType", "")
    is_video = mime_type.startswith("video/")
    # Google lists some types of video under several names.
    of_video = is_video and (
        not card.video.mime_types or normalize_media_type(mime_type) in card.video.mime_types
    )
    if mime_type not in (*card.images.mime_types, *card.documents.mime_types) and not of_video:
        name = f"{path}.{'inline_data' if blob is not None else 'file_data'}.mime_type"
        yield FieldFault(name, f"Unsupported MIME type: {mime_type}")
    if blob is not None:
        most = card.images.inline_bytes_max if mime_type.startswith("image/") else card.documents.bytes_max
        length = len(blob.get("data", b""))
        if length > most:
            yield FieldFault(
                f"{path}.inline_data.data",
                f"Unable to submit request because inline data of {length} bytes exceeds the supported"
                f" limit of {most} bytes.",
            )
        if is_video and inspect(blob.get("data", b""), pixels_max=1).faults:
            yield FieldFault("contents", _CANNOT_PROCESS.format("video"))
    elif file is not None and dialect == "gemini" and not file.get("fileUri", "").startswith("https://"):
        yield FieldFault(f"{path}.file_data.file_uri", f"Unsupported file uri: {file.get('fileUri', '')}")


def _check_signatures(contents: list[dict[str, Any]], model: str, project: str) -> Iterator[FieldFault]:
    """Every picture that this model made comes back with the signature it was delivered with."""
    for at, content in enumerate(contents, start=1):
        for number, part in enumerate(content.get("parts", []), start=1):
            signature = part.get("thoughtSignature")
            path = f"contents[{at - 1}].parts[{number - 1}]"
            if signature is not None and not is_signature(signature, model, project):
                sentence = f"Invalid / Corrupted thought signature in content position {at}."
                yield FieldFault(f"{path}.thought_signature", sentence)
            elif (
                signature is None
                and content.get("role") == "model"
                and "inlineData" in part
                and not part.get("thought")
            ):
                sentence = (
                    "Image part is missing a thought_signature in content position"
                    f" {at}, part position {number}."
                )
                yield FieldFault(path, sentence)


def _check_parameters(config: dict[str, Any], card: Card) -> Iterator[FieldFault]:
    limits = card.parameters
    if config.get("candidateCount", 1) > limits.candidate_count_max:
        yield FieldFault(
            "generation_config.candidate_count", f"Multiple candidates is not enabled for models/{card.id}"
        )
    elif config.get("candidateCount", 1) < 1:
        yield FieldFault("generation_config.candidate_count", "candidate_count must be positive.")
    for name, field, bounds in (
        ("temperature", "temperature", limits.temperature),
        ("topP", "top_p", limits.top_p),
        ("seed", "seed", limits.seed),
    ):
        yield from _check_sampling(name, field, bounds, config, card)
    if "topK" in config and not limits.top_k_offered:
        yield _refuse_parameter("topK", "top_k", card)
    bound, most = config.get("maxOutputTokens", 1), card.tokens.output_max
    if not 1 <= bound <= most:
        yield _refuse_range("max_output_tokens", 1, most)
    modalities = config.get("responseModalities")
    if modalities and sorted(modalities) not in [sorted(offered) for offered in limits.response_modalities]:
        offered = "".join(f"\n* {', '.join(names)}" for names in limits.response_modalities)
        yield FieldFault(
            "generation_config.response_modalities",
            f"The requested combination of response modalities ({', '.join(modalities)}) is not supported"
            f" by the model. models/{card.id} accepts the following combination of response modalities:"
            f"{offered}\n",
        )
    level = config.get("thinkingConfig", {}).get("thinkingLevel", "THINKING_LEVEL_UNSPECIFIED")
    if level != "THINKING_LEVEL_UNSPECIFIED" and level.lower() not in limits.thinking_levels:
        path = "generation_config.thinking_config.thinking_level"
        yield FieldFault(path, f"Thinking level {level} is not supported for this model.")


def _check_sampling(
    name: str, field: str, bounds: Range | SeedRange | None, config: dict[str, Any], card: Card
) -> Iterator[FieldFault]:
    if name not in config:
        return
    if bounds is None:
        yield _refuse_parameter(name, field, card)
    elif not bounds.min <= config[name] <= bounds.max:
        yield _refuse_range(field, bounds.min, bounds.max)


def _refuse_parameter(name: str, field: str, card: Card) -> FieldFault:
    """Google's wording for what a model does not take, as for several candidates."""
    return FieldFault(f"generation_config.{field}", f"{name} is not enabled for models/{card.id}")


def _refuse_range(field: str, low: float, high: float) -> FieldFault:
    return FieldFault(
        f"generation_config.{field}",
        f"* GenerateContentRequest.generation_config.{field}: {field} must be in the range"
        f" [{low}, {high}].\n",
    )


def _read_image_options(config: dict[str, Any]) -> dict[str, Any]:
    """``imageConfig`` and its successor ``responseFormat`` in one; the older form wins."""
    options: dict[str, Any] = {}
    for response_format in config.get("responseFormat", []):
        options |= response_format.get("image", {})
    options |= config.get("imageConfig", {})
    return options


def _check_image_options(image: dict[str, Any], card: Card) -> Iterator[FieldFault]:
    path = "generation_config.image_config"
    ratio, size = image.get("aspectRatio"), image.get("imageSize")
    if ratio is not None and _parse_ratio(ratio, card) is None:
        yield FieldFault(f"{path}.aspect_ratio", f"Invalid value at '{path}.aspect_ratio', \"{ratio}\"")
    if size is not None and _parse_size(size, card) is None:
        yield FieldFault(f"{path}.image_size", f"Invalid value at '{path}.image_size', \"{size}\"")
    output = image.get("imageOutputOptions", {})
    mime_type = output.get("mimeType")
    if mime_type is not None and mime_type not in card.parameters.output_mime_types:
        where = f"{path}.image_output_options.mime_type"
        yield FieldFault(where, f"Unsupported output mime type: {mime_type}")
    if not 0 <= output.get("compressionQuality", 75) <= 100:
        where = f"{path}.image_output_options.compression_quality"
        yield FieldFault(where, "Compression quality must be in the range [0, 100].")


def _check_tools(tools: list[dict[str, Any]], card: Card) -> Iterator[FieldFault]:
    for at, tool in enumerate(tools):
        if "functionDeclarations" in tool:
            yield FieldFault(f"tools[{at}]", f"Function calling is not enabled for models/{card.id}")
        elif tool.keys() - {"googleSearch"}:
            yield FieldFault(f"tools[{at}]", f"Unsupported tool for models/{card.id}: {', '.join(tool)}")
        elif _find_searches([tool]) - {_SEARCHES[kind] for kind in card.grounding}:
            yield FieldFault(f"tools[{at}]", f"Search as tool is not enabled for models/{card.id}")


def _find_searches(tools: list[dict[str, Any]]) -> frozenset[str]:
    """The kinds of search that are asked for; a search without kinds is a web search."""
    kinds: set[str] = set()
    for tool in tools:
        if "googleSearch" in tool:
            kinds |= set(tool["googleSearch"].get("searchTypes") or ("webSearch",))
    return frozenset(kinds)


def _parse_ratio(value: str | None, card: Card) -> str | None:
    for ratio in card.aspect_ratios:
        words = [_NUMBER_WORDS.get(int(number), number) for number in ratio.split(":")]
        # The enumeration of the newer form has no word for 9:21 (docs/model.md#sizes-in-requests).
        if value == ratio or (value == f"ASPECT_RATIO_{'_BY_'.join(words)}" and ratio != "9:21"):
            return ratio
    return None


def _parse_size(value: str | None, card: Card) -> str | None:
    for size in card.image_sizes:
        if value is not None and value in {size, format_size_word(size)}:
            return size
    return None


def _format_mime_type(value: str | None) -> str | None:
    return {"IMAGE_JPEG": "image/jpeg", "IMAGE_PNG": "image/png"}.get(value or "", value)


def unreadable_image(cause: Exception) -> GoogleError:
    """400 for bytes that are no picture, as Google words it."""
    error = invalid_argument(FieldFault("contents", _CANNOT_PROCESS.format("image")))
    error.__cause__ = cause
    return error
