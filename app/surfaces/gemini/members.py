"""The members that a body in Google's dialect may have, and the walk that validates a body.

A member is passed on if its cost is reserved and its effect ends with the response. Any other member would
make Google act with rights of the gateway that the caller does not have (caches, data stores, other servers),
or at a cost that was not reserved. Such members are refused by name at every depth.

The tables hold lowerCamel names. Enumerations list their words in the order of their numbers in Google's
protocol buffers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from app.domain.errors import Violation
from app.domain.pointers import build_pointer
from app.surfaces.gemini.fields import convert_to_camel_case, find_lifted
from app.surfaces.gemini.refused_members import REFUSED
from app.surfaces.gemini.sizes import RATIO_WORDS, SIZE_WORDS
from app.surfaces.http.context import MEMBER_PRICE
from app.surfaces.http.inputs import check_base64

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.surfaces.http.body import JsonBody
    from app.surfaces.http.context import Limits


class Leaf(Enum):
    """A member whose value has no shape of its own; the value says how it is counted.

    A value of ``FLAG``, ``FPS`` or ``SIGNATURE`` with another type is refused, because nothing counts it.
    """

    JUDGED = "a rule judges it; no tokens"
    TEXT = "text"
    COUNTED = "text, by the length of its JSON"
    FLAG = "true or false; no tokens"
    FPS = "a number; the tokens of a second of video are multiplied by it"
    FILE = "a file, by its kind and resolution"
    SIGNATURE = "base64; only strict holds count it, each byte as a token"
    THINKING = "a number; reserved as output"


@dataclass(frozen=True, slots=True)
class Enumeration:
    """An enumeration. Google accepts words in any case, and their numbers.

    Attributes:
        words: The words in the order of their numbers.
        count: How it is counted. A value that is none of the words counts as text, unless a rule judges it.
    """

    words: tuple[str, ...]
    count: str = "an enumeration; no tokens"

    def read(self, value: object) -> object:
        """Return the word for a value; an unknown value is returned as it is and validated later."""
        if isinstance(value, str):
            return next((word for word in self.words if word.lower() == value.lower()), value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(self.words):
            return self.words[value]
        return value


Shape: TypeAlias = "Mapping[str, Shape] | Enumeration | Leaf"
"""The shape of a message, by member, or of a member. Lists have the shape of their elements."""

_JUDGED: Final = Leaf.JUDGED
_COUNTED: Final = Leaf.COUNTED
_NO_SIGNATURES: Final = (b"skip_thought_signature_validator", b"context_engineering_is_the_way_to_go")
"""Texts that Google accepts in place of a signature that nobody has (docs/model.md#signatures)."""

_RESOLUTIONS: Final = tuple(
    f"MEDIA_RESOLUTION_{level}" for level in ("UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "ULTRA_HIGH")
)
_RESOLUTION: Final = Enumeration(
    _RESOLUTIONS,
    "an enumeration; the card's tokens of a file at this resolution; the most for an unknown value",
)
_THRESHOLDS: Final = (
    "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
    "BLOCK_LOW_AND_ABOVE",
    "BLOCK_MEDIUM_AND_ABOVE",
    "BLOCK_ONLY_HIGH",
    "BLOCK_NONE",
    "OFF",
)
_GEMINI_HARMS: Final = (
    *("UNSPECIFIED", "DEROGATORY", "TOXICITY", "VIOLENCE", "SEXUAL", "MEDICAL", "DANGEROUS"),
    *("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT", "CIVIC_INTEGRITY"),
)
_VERTEX_HARMS: Final = (
    *("UNSPECIFIED", "HATE_SPEECH", "DANGEROUS_CONTENT", "HARASSMENT", "SEXUALLY_EXPLICIT"),
    *("CIVIC_INTEGRITY", "IMAGE_HATE", "IMAGE_DANGEROUS_CONTENT", "IMAGE_HARASSMENT"),
    *("IMAGE_SEXUALLY_EXPLICIT", "JAILBREAK"),
)

_SIZES: Final[Mapping[str, Shape]] = {
    "aspectRatio": Enumeration(RATIO_WORDS, _JUDGED.value),
    "imageSize": Enumeration(SIZE_WORDS, _JUDGED.value),
}
_BLOB: Final[Shape] = {"mimeType": _JUDGED, "data": Leaf.FILE, "displayName": _COUNTED}
_FILE: Final[Shape] = {"mimeType": _JUDGED, "fileUri": Leaf.FILE, "displayName": _COUNTED}
_PART: Final[Shape] = {
    "text": Leaf.TEXT,
    "thought": Leaf.FLAG,
    "thoughtSignature": Leaf.SIGNATURE,
    "inlineData": _BLOB,
    "fileData": _FILE,
    "mediaResolution": {"level": _RESOLUTION},
    "videoMetadata": {"startOffset": _COUNTED, "endOffset": _COUNTED, "fps": Leaf.FPS},
    "functionCall": {"id": _COUNTED, "name": _COUNTED, "args": _COUNTED},
    "functionResponse": {
        "id": _COUNTED,
        "name": _COUNTED,
        "response": _COUNTED,
        "parts": {"inlineData": _BLOB, "fileData": _FILE},
        "willContinue": _COUNTED,
        "scheduling": _COUNTED,
    },
    "executableCode": {"id": _COUNTED, "language": _COUNTED, "code": _COUNTED},
    "codeExecutionResult": {"id": _COUNTED, "outcome": _COUNTED, "output": _COUNTED},
    "partMetadata": _COUNTED,
}
_CONTENT: Final[Shape] = {"role": _JUDGED, "parts": _PART}
_CONFIG: Final[Shape] = {
    **dict.fromkeys(("temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "seed"), _JUDGED),
    **dict.fromkeys(("stopSequences", "presencePenalty", "frequencyPenalty"), _COUNTED),
    **dict.fromkeys(("responseLogprobs", "logprobs", "enableEnhancedCivicAnswers"), _COUNTED),
    **dict.fromkeys(("responseMimeType", "responseSchema", "responseJsonSchema"), _COUNTED),
    "responseModalities": Enumeration(
        ("MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO", "VIDEO"), _JUDGED.value
    ),
    "responseFormat": {
        "image": {
            **_SIZES,
            "delivery": Enumeration(("DELIVERY_UNSPECIFIED", "INLINE", "URI")),
            "mimeType": Enumeration(("MIME_TYPE_UNSPECIFIED", "IMAGE_JPEG")),
        },
        "text": {"mimeType": _COUNTED, "schema": _COUNTED, "jsonSchema": _COUNTED},
    },
    "imageConfig": {
        **_SIZES,
        "imageOutputOptions": {"mimeType": _JUDGED, "compressionQuality": _JUDGED},
        "personGeneration": Enumeration(
            ("PERSON_GENERATION_UNSPECIFIED", "ALLOW_ALL", "ALLOW_ADULT", "ALLOW_NONE")
        ),
        "prominentPeople": Enumeration(
            ("PROMINENT_PEOPLE_UNSPECIFIED", "ALLOW_PROMINENT_PEOPLE", "BLOCK_PROMINENT_PEOPLE")
        ),
    },
    "thinkingConfig": {
        "includeThoughts": Leaf.FLAG,
        "thinkingBudget": Leaf.THINKING,
        "thinkingLevel": Enumeration(
            ("THINKING_LEVEL_UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "MINIMAL", "XHIGH"), _JUDGED.value
        ),
    },
    "mediaResolution": _RESOLUTION,
}
_TOOL: Final[Shape] = {
    "googleSearch": {
        "searchTypes": {"webSearch": {}, "imageSearch": {}},
        "excludeDomains": _COUNTED,
        "blockingConfidence": _COUNTED,
        "timeRangeFilter": {"startTime": _COUNTED, "endTime": _COUNTED},
    },
    "functionDeclarations": dict.fromkeys(
        (
            *("name", "description", "parameters", "parametersJsonSchema", "response"),
            *("responseJsonSchema", "behavior"),
        ),
        _COUNTED,
    ),
}
_TOOL_CONFIG: Final[Shape] = {
    "functionCallingConfig": {"mode": _COUNTED, "allowedFunctionNames": _COUNTED},
    "retrievalConfig": {"latLng": {"latitude": _COUNTED, "longitude": _COUNTED}, "languageCode": _COUNTED},
}


def _build_shape(harms: tuple[str, ...]) -> Mapping[str, Shape]:
    categories = Enumeration(tuple(f"HARM_CATEGORY_{harm}" for harm in harms))
    return {
        "model": _JUDGED,
        "contents": _CONTENT,
        "systemInstruction": _CONTENT,
        "generationConfig": _CONFIG,
        "safetySettings": {
            "category": categories,
            "threshold": Enumeration(_THRESHOLDS),
            "method": Enumeration(("HARM_BLOCK_METHOD_UNSPECIFIED", "SEVERITY", "PROBABILITY")),
        },
        "tools": _TOOL,
        "toolConfig": _TOOL_CONFIG,
        "labels": _JUDGED,
        "serviceTier": Enumeration(("unspecified", "standard", "flex", "priority"), _JUDGED.value),
    }


GENERATE: Final[Mapping[bool, Mapping[str, Shape]]] = {
    False: _build_shape(_GEMINI_HARMS),
    True: _build_shape(_VERTEX_HARMS),
}
"""Shapes of ``generateContent``; True is Vertex AI, which numbers harm categories differently."""
COUNT: Final[Mapping[bool, Mapping[str, Shape]]] = {
    vertex: {**members, "generateContentRequest": members} for vertex, members in GENERATE.items()
}

_TYPES: Final[Mapping[Leaf, tuple[type | tuple[type, ...], str]]] = {
    Leaf.FLAG: (bool, "true or false"),
    Leaf.FPS: ((int, float), "a number"),
    Leaf.SIGNATURE: (str, "bytes as base64"),
}
_REPEATED: Final = frozenset(
    {"contents", "parts", "tools", "safetySettings", "functionDeclarations", "responseFormat"}
)
_LISTED_MAX: Final = 50
"""Number of unknown members whose violations list the accepted ones; a body may have thousands."""
_NOT_PASSED_ON: Final = "This member is not supported: {}."
_UNKNOWN: Final = "the gateway does not know its cost or effect"


class BodyWalk:
    """One walk over a body that normalizes names and enumerations and refuses unknown members.

    Args:
        body: The body.
        limits: Its limits, and the prices of further members that the operator allows.
        faults: Collects the violations.

    ``text_bytes`` is the size in JSON of what the model may read apart from texts and files, and
    ``body_bytes`` that of the whole body without its files. ``extra_tokens`` is the price of members that the
    operator allows, and ``unpriced`` points to those that have none.
    """

    def __init__(self, body: JsonBody, limits: Limits, faults: list[Violation]) -> None:
        self._body = body
        self._limits = limits
        self._faults = faults
        self._refused = 0
        self.text_bytes = 0
        self.body_bytes = 0
        self.extra_tokens = 0
        self.unpriced: list[str] = []

    def read_body(self, shape: Mapping[str, Shape]) -> dict[str, Any]:
        """Return the members of the body as ``read`` does, and measure all of it."""
        self.body_bytes += self._measure(self._body.members)
        members: dict[str, Any] = self.read(self._body.members, shape)
        return members

    def read(self, value: object, shape: Shape, pointer: str = "", path: str = "") -> Any:
        """Return the JSON in the names and words of the shape, without nulls.

        Repeated members become lists; Google accepts a single element without a list. Free-form members
        (labels, schemas, arguments) keep their names. A field in both spellings is a violation, because it is
        unknown which of the two the upstream would read.
        """
        if shape is Leaf.FILE or shape is Leaf.SIGNATURE:
            value = self._keep_sentinel(value)
            self._check_base64(value, shape, pointer)
        elif isinstance(shape, Leaf | Enumeration):
            value = self._restore_texts(value)
        if isinstance(shape, Enumeration):
            if isinstance(value, list):
                return [self._read_word(item, shape) for item in value]
            return self._read_word(value, shape)
        if isinstance(shape, Leaf):
            return self._read_leaf(value, shape, pointer)
        if isinstance(value, dict):
            return self._read_message(value, shape, pointer, path)
        self._faults.append(Violation(pointer, "wrong_type", "This must be an object."))
        return None

    def _check_base64(self, value: object, leaf: Leaf, pointer: str) -> None:
        """Check the base64 of a file or a signature; like Google, accept text that is not canonical."""
        if not isinstance(value, str) or (lifted := self._body.blobs.get(value)) is None:
            return
        if leaf is Leaf.FILE:
            self.body_bytes -= lifted.text_length
        fault = check_base64(lifted, pointer, self._limits.input_bytes_max)
        if fault is not None and not lifted.has_all_bytes:
            self._faults.append(fault)

    def _keep_sentinel(self, value: Any) -> Any:
        """Return a text in place of a signature as it was written; as base64 it would be spelled anew."""
        lifted = self._body.blobs.get(value) if isinstance(value, str) else None
        if lifted is None or lifted.text not in _NO_SIGNATURES:
            return value
        return lifted.text.decode()

    def _restore_texts(self, value: Any) -> Any:
        """Return the value with its strings put back: none is of a file, whatever their keys are."""
        restored = self._body.restore(value)
        if restored != value:
            self.body_bytes += self._measure(restored) - self._measure(value)
        return restored

    def _read_word(self, value: object, shape: Enumeration) -> object:
        word = shape.read(value)
        if word not in shape.words and shape.count != Leaf.JUDGED.value:
            self._count(value)
        return word

    def _read_leaf(self, value: object, leaf: Leaf, pointer: str) -> object:
        if leaf is Leaf.COUNTED:
            self._count(value)
        elif leaf in _TYPES:
            kind, expected = _TYPES[leaf]
            if not isinstance(value, kind) or (isinstance(value, bool) and leaf is not Leaf.FLAG):
                self._faults.append(Violation(pointer, "wrong_type", f"This must be {expected}."))
                return None
        return value

    def _read_message(
        self, value: dict[str, Any], shape: Mapping[str, Shape], pointer: str, path: str
    ) -> dict[str, Any]:
        message: dict[str, Any] = {}
        for name, item in value.items():
            known = convert_to_camel_case(name)
            place, inner = pointer + build_pointer(known), f"{path}.{known}".lstrip(".")
            if known in message:
                self._faults.append(Violation(place, "given_twice", "This field is given in two spellings."))
            elif item is None:
                continue
            elif known in shape:
                read = self._read_member(known, item, shape[known], place, inner)
                if read is not None:
                    message[known] = read
            elif (
                price := self._limits.gemini_extra_members.get(inner.removeprefix("generateContentRequest."))
            ) is not None:
                message[known] = self.read(item, Leaf.COUNTED)
                self._add_price(price, item, place)
            else:
                self._refuse(place, known, shape)
        return message

    def _read_member(self, name: str, value: object, shape: Shape, place: str, path: str) -> Any:
        if name not in _REPEATED:
            return self.read(value, shape, place, path)
        if not isinstance(value, list):
            value = [value]
        return [self.read(item, shape, f"{place}/{at}", path) for at, item in enumerate(value)]

    def _refuse(self, place: str, name: str, shape: Mapping[str, Shape]) -> None:
        self._refused += 1
        allowed = None
        if self._refused <= _LISTED_MAX:
            allowed = tuple(sorted(shape))
        detail = _NOT_PASSED_ON.format(REFUSED.get(name, _UNKNOWN))
        self._faults.append(Violation(place, "unknown_field", detail, allowed or None))

    def _add_price(self, price: str, value: object, pointer: str) -> None:
        match = MEMBER_PRICE.fullmatch(price)
        if match is None or match[1] is None:
            self.unpriced.append(pointer)
        else:
            self.extra_tokens += int(match[1]) * (self._measure(value) if match[2] == "byte" else 1)

    def _count(self, value: object) -> None:
        self.text_bytes += self._measure(value)

    def _measure(self, value: object) -> int:
        """Return the UTF-8 bytes of the JSON, with the texts that were lifted out of it."""
        lifted = sum(
            item.text_length - len(item.placeholder) for _, item in find_lifted(value, self._body.blobs)
        )
        return len(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")) + lifted
