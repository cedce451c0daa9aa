"""The table of every parameter of both original APIs: honoured, without effect, or refused, and why.

``parameters.yaml`` holds the verdicts. Which rows there must be is read from the SDKs' own types, so that a
field, or a word of an enumeration, that a new release brings is missing until somebody decides. ``python -m
tests.contract.parameters`` prints the table as Markdown; it is ``docs/parameters.md``.
"""

from __future__ import annotations

import inspect
import sys
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml
from google.genai import types
from openai.types import (
    image_create_variation_params,
    image_edit_params,
    image_generate_params,
)
from pydantic import BaseModel

from app.surfaces.gemini.fields import convert_to_camel_case
from app.surfaces.gemini.refused_members import REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TABLE: Final[dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
LISTS: Final = frozenset(
    {"contents", "parts", "tools", "safetySettings", "functionDeclarations", "responseFormat"}
)
OPENAI: Final = {
    "generate": (image_generate_params.ImageGenerateParamsNonStreaming,),
    "edit": (image_edit_params.ImageEditParamsNonStreaming,),
    "create_variation": (image_create_variation_params.ImageCreateVariationParams,),
}
_HEAD: Final = """\
# What becomes of each parameter of the original APIs

Written by `make parameters` from `tests/contract/parameters.yaml`, whose rows are those of the SDKs' own
types. A test tries each of them against a running gateway.

- **honoured**: it reaches the upstream, or does here what it does at the original.
- **no effect**: it is accepted, and the response says so in `X-Flashgate-Notices` and, where the dialect has
  warnings, in its body.
- **refused**: the response is a 400 that names it.
- **SDK only**: it configures the SDK and is never sent.
"""


class Row(NamedTuple):
    """One parameter of Google's bodies.

    Attributes:
        name: Type and field of google-genai.
        at: Where it stands in a body of the REST API, as a path.
        verdict: ``honoured``, ``refused``, ``no effect`` or ``SDK only``.
        value: A value to try.
        sent: What of it reaches the upstream, by path.
        sent_headers: What of it reaches the upstream as a header, by name.
        beside: Further members that the body needs, by path.
        why: Why it is not honoured.
    """

    name: str
    at: str
    verdict: str
    value: Any
    sent: dict[str, Any]
    sent_headers: dict[str, str]
    beside: dict[str, Any]
    why: str


def list_google_rows() -> Iterator[Row]:
    """Yield the rows of Google's bodies."""
    for message, section in TABLE["google"].items():
        for field, row in section["fields"].items():
            at = row.get("at", f"{section['at']}.{convert_to_camel_case(field)}")
            why = row.get("why", "")
            if row["verdict"] == "refused" and not why:
                why = REFUSED[at.rpartition(".")[2]]
            yield Row(
                name=f"{message}.{field}",
                at=at,
                verdict=row["verdict"],
                value=row.get("value"),
                sent=row.get("sent", {at: row.get("value")}),
                sent_headers=row.get("sent_header", {}),
                beside=row.get("beside", {}),
                why=why,
            )


def list_google_fields(message: str) -> dict[str, set[str]]:
    """Return the fields of a type of google-genai, each with the types of its messages."""
    model = getattr(types, message)
    return {
        name: {each.__name__ for each in _list_messages(field.annotation)}
        for name, field in model.model_fields.items()
    }


def _list_messages(annotation: Any) -> Iterator[type[BaseModel]]:
    for inner in typing.get_args(annotation):
        yield from _list_messages(inner)
    if isinstance(annotation, typing.ForwardRef):
        annotation = getattr(types, annotation.__forward_arg__, None)
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation


def list_openai_values(method: str) -> dict[str, set[Any]]:
    """Return the fields of a method of the openai SDK, each with the words that its type lists."""
    found: dict[str, set[Any]] = {}
    for params in OPENAI[method]:
        for name, annotation in typing.get_type_hints(params).items():
            found.setdefault(name, set()).update(_list_words(annotation))
    return found


def _list_words(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is typing.Literal:
        yield from typing.get_args(annotation)
        return
    for inner in typing.get_args(annotation):
        yield from _list_words(inner)


def put(document: Any, path: str, value: Any) -> None:
    """Put a value into a body at a path; repeated members get one element, the last if they have some."""
    *steps, last = path.split(".")
    for step in steps:
        inner = document.setdefault(step, [{}] if step in LISTS else {})
        document = inner[-1] if step in LISTS else inner
    document[last] = value


def get(document: Any, path: str) -> Any:
    """Return what stands in a body at a path, or None."""
    for step in path.split("."):
        if isinstance(document, list):
            document = document[-1] if document else None
        if not isinstance(document, dict):
            return None
        document = {convert_to_camel_case(name): value for name, value in document.items()}.get(step)
    return document


def _render_rows(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [names, tuple("---" for _ in names), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _render_part(title: str, rows: list[dict[str, Any]]) -> str:
    cells = (
        (f"`{row['name']}`", f"`{row['value']}`", str(row["verdict"]), str(row.get("why", "")))
        for row in rows
    )
    return f"\n## {title}\n\n" + _render_rows(("name", "value", "verdict", "why, or how"), cells)


def render() -> str:
    """Render the table as Markdown."""
    google = [(f"`{row.at}`", f"`{row.name}`", row.verdict, row.why) for row in list_google_rows()]
    pieces = [_HEAD, "\n## Google: bodies of generateContent, streamGenerateContent and countTokens\n\n"]
    pieces.append(_render_rows(("member", "in google-genai", "verdict", "why, or how"), google))
    pieces.append(_render_part("Google: query parameters", TABLE["google_queries"]))
    pieces.append(_render_part("Google: headers", TABLE["google_headers"]))
    for method, fields in TABLE["openai"].items():
        rows = [{**row, "name": field} for field, entries in fields.items() for row in entries]
        pieces.append(_render_part(f"OpenAI: images.{method}", rows))
    pieces.append(_render_part("OpenAI: headers and query parameters", TABLE["openai_headers"]))
    return "".join(pieces)


if __name__ == "__main__":
    sys.stdout.write(render())
