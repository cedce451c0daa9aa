"""Generations and failures as the JSON that the store keeps; image bytes never pass through here.

The encoding is canonical: a record must encode to the same text again, so unknown fields, wrong types and
other versions are refused as a whole.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from app.domain.failure import Failure
from app.domain.generation import Generation, Notice
from app.domain.stored_generation import StoredGeneration

VERSION = 1
BRIEF_BYTES_MAX = 1000
"""Bytes of a failure in the ledger, which no store evicts."""

_DETAIL_LENGTH_MAX = 400
_WORD_LENGTH_MAX = 60

RecordT = TypeVar("RecordT", Generation, Failure, StoredGeneration)

_GENERATION = TypeAdapter(Generation)
_FAILURE = TypeAdapter(Failure)
_STORED_GENERATION = TypeAdapter(StoredGeneration)
_PREFIX = f'{{"v":{VERSION},"generation":'
_FAILURE_PREFIX = f'{{"v":{VERSION},"failure":'
_STORED_GENERATION_PREFIX = f'{{"v":{VERSION},"finished":'


class UnreadableRecord(ValueError):
    """The text is not what this version writes."""


def encode_generation(generation: Generation) -> str:
    """The record of a result. It never fails on the model's text, which is paid for already."""
    try:
        body = _GENERATION.dump_json(generation)
    except PydanticSerializationError:
        body = _GENERATION.dump_json(_replace_all_surrogates(generation))
    return f"{_PREFIX}{body.decode()}}}"


def decode_generation(text: str) -> Generation:
    """The result of a record.

    Raises:
        UnreadableRecord: Another version wrote it, or it is damaged.
    """
    return _decode(_GENERATION, _PREFIX, text)


def encode_failure(failure: Failure) -> str:
    """The record of a failure, without the fields that it leaves at their defaults."""
    names = {field.name for field in fields(failure) if getattr(failure, field.name) != field.default}
    try:
        body = _FAILURE.dump_json(failure, include=names)
    except PydanticSerializationError:
        body = _FAILURE.dump_json(
            replace(
                failure,
                detail=_replace_surrogates(failure.detail),
                reason=failure.reason and _replace_surrogates(failure.reason),
                support_code=failure.support_code and _replace_surrogates(failure.support_code),
                verbatim=_replace_surrogates(failure.verbatim),
            ),
            include=names,
        )
    return f"{_FAILURE_PREFIX}{body.decode()}}}"


def encode_brief(failure: Failure) -> str:
    """A failure as the ledger keeps it, in at most BRIEF_BYTES_MAX.

    It leaves out the upstream's own answer, and attributes of errors that never end a hold.
    """
    brief = replace(
        failure,
        verbatim="",
        violations=(),
        refused_by=(),
        reason=failure.reason and failure.reason[:_WORD_LENGTH_MAX],
        support_code=failure.support_code and failure.support_code[:_WORD_LENGTH_MAX],
    )
    length = _DETAIL_LENGTH_MAX
    text = encode_failure(replace(brief, detail=_cut(failure.detail, length)))
    while len(text.encode()) > BRIEF_BYTES_MAX:
        length //= 2
        text = encode_failure(replace(brief, detail=_cut(failure.detail, length)))
    return text


def _cut(detail: str, length: int) -> str:
    return detail if len(detail) <= length else f"{detail[:length]}…"


def decode_failure(text: str) -> Failure:
    """The failure of a record; a field that it does not tell has its default.

    Raises:
        UnreadableRecord: Another version wrote it, or it is damaged.
    """
    return _decode(_FAILURE, _FAILURE_PREFIX, text, partial=True)


def encode_stored_generation(finished: StoredGeneration) -> str:
    """The record of a generation under its id. Its conversation is JSON already, and in ASCII."""
    try:
        body = _STORED_GENERATION.dump_json(finished)
    except PydanticSerializationError:
        body = _STORED_GENERATION.dump_json(
            replace(finished, generation=_replace_all_surrogates(finished.generation))
        )
    return f"{_STORED_GENERATION_PREFIX}{body.decode()}}}"


def decode_stored_generation(text: str) -> StoredGeneration:
    """The generation of a record.

    Raises:
        UnreadableRecord: Another version wrote it, or it is damaged.
    """
    return _decode(_STORED_GENERATION, _STORED_GENERATION_PREFIX, text)


def _decode(adapter: TypeAdapter[RecordT], prefix: str, text: str, *, partial: bool = False) -> RecordT:
    if not (text.startswith(prefix) and text.endswith("}")):
        raise UnreadableRecord("The record is of another version.")
    body = text[len(prefix) : -1]
    try:
        record = adapter.validate_json(body, strict=True)
    except ValidationError:
        raise UnreadableRecord("The record does not have the expected fields.") from None
    names = set(json.loads(body)) if partial else None
    if adapter.dump_json(record, include=names).decode() != body:
        raise UnreadableRecord("The record is not in its canonical form.")
    return record


def _replace_surrogates(text: str) -> str:
    return text.encode(errors="replace").decode()


def _replace_all_surrogates(generation: Generation) -> Generation:
    """Replace lone surrogates, which upstream JSON can hold and UTF-8 cannot."""
    return replace(
        generation,
        text=_replace_surrogates(generation.text),
        model_version=_replace_surrogates(generation.model_version),
        finish_reason=_replace_surrogates(generation.finish_reason),
        notices=tuple(
            Notice(_replace_surrogates(n.code), _replace_surrogates(n.detail)) for n in generation.notices
        ),
    )
