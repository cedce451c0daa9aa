"""What of a newer OpenAPI document breaks callers of an older one, said in sentences.

A caller sends what the older document allows and reads what it promises. Requests may therefore only be
widened and answers only be narrowed: a new optional field of a request is fine and a new required one is
not; a new field of an answer is fine and a missing one is not. Of JSON Schema it knows what the documents of
the gateway use: references, ``anyOf``, types, enums, properties, items, bounds and patterns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Json: TypeAlias = dict[str, Any]
Direction: TypeAlias = Literal["request", "answer"]

_ALL_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")


def breaking_changes(old: Json, new: Json) -> list[str]:
    """A sentence for every change that an existing caller can notice as a failure; empty where none is."""
    return list(dict.fromkeys(_Comparison(old, new).sentences()))


@dataclass(frozen=True)
class _Comparison:
    """Two documents, and the pairs of named schemas that were compared.

    Schemas may refer to themselves, and what breaks in one that many operations use is said once.
    """

    old: Json
    new: Json
    seen: set[tuple[str, str, str]] = field(default_factory=set)

    def sentences(self) -> Iterator[str]:
        for path, methods in self.old["paths"].items():
            for method, was in methods.items():
                name = f"{method.upper()} {path}"
                now = self.new["paths"].get(path, {}).get(method)
                if now is None:
                    yield f"{name} is gone."
                else:
                    yield from self._operation(name, was, now)

    def _operation(self, name: str, was: Json, now: Json) -> Iterator[str]:
        if was.get("operationId") != now.get("operationId"):
            yield f"{name} is called {now.get('operationId')}, not {was.get('operationId')} as in clients."
        yield from self._parameters(name, was, now)
        asked, asks = was.get("requestBody", {}), now.get("requestBody", {})
        if asks.get("required", False) and not asked.get("required", False):
            yield f"{name}: the request now needs a body."
        yield from self._content(f"{name}: the request", asked, asks, "request")
        for status, answer in was["responses"].items():
            if status not in now["responses"]:
                yield f"{name}: the answer {status} is gone."
            else:
                yield from self._content(
                    f"{name}: the answer {status}", answer, now["responses"][status], "answer"
                )

    def _parameters(self, name: str, was: Json, now: Json) -> Iterator[str]:
        old = {(each["in"], each["name"]): each for each in was.get("parameters", ())}
        new = {(each["in"], each["name"]): each for each in now.get("parameters", ())}
        for place, label in old:
            if (place, label) not in new:
                yield f"{name}: the {place} parameter {label} is gone."
        for (place, label), each in new.items():
            before = old.get((place, label))
            if each.get("required", False) and not (before or {}).get("required", False):
                yield f"{name}: the {place} parameter {label} is now required."
            if before:
                where = f"{name}: the {place} parameter {label}"
                yield from self._schema(where, before["schema"], each["schema"], "request")

    def _content(self, where: str, was: Json, now: Json, direction: Direction) -> Iterator[str]:
        for media_type, content in was.get("content", {}).items():
            if media_type not in now.get("content", {}):
                yield f"{where} is no longer {media_type}."
            else:
                yield from self._schema(
                    where, content["schema"], now["content"][media_type]["schema"], direction
                )

    def _schema(self, where: str, was: Json, now: Json, direction: Direction) -> Iterator[str]:
        pair = (was.get("$ref", ""), now.get("$ref", ""), direction)
        if all(pair[:2]) and pair in self.seen:
            return
        self.seen.add(pair)
        was, now = _resolved(was, self.old), _resolved(now, self.new)
        yield from _type_changes(where, self._types(was, self.old), self._types(now, self.new), direction)
        yield from _enum_changes(where, was, now, direction)
        if direction == "request":
            yield from _bound_changes(where, was, now)
        for kind in ("object", "array"):
            before, after = self._branch(was, kind, self.old), self._branch(now, kind, self.new)
            if before and after:
                descend = self._properties if kind == "object" else self._items
                yield from descend(where, before, after, direction)

    def _types(self, schema: Json, document: Json) -> frozenset[str]:
        """The JSON types that a schema takes."""
        if "anyOf" in schema:
            branches = (self._types(_resolved(each, document), document) for each in schema["anyOf"])
            return frozenset[str]().union(*branches)
        named = schema.get("type", _ALL_TYPES)
        types = frozenset({named} if isinstance(named, str) else named)
        return types | {"integer"} if "number" in types else types

    def _branch(self, schema: Json, kind: str, document: Json) -> Json | None:
        """The part of a schema that says what its objects, or its arrays, look like."""
        for each in (_resolved(each, document) for each in schema.get("anyOf", [schema])):
            if each.get("type") == kind:
                return each
        return None

    def _items(self, where: str, was: Json, now: Json, direction: Direction) -> Iterator[str]:
        yield from self._schema(f"{where}, items", was.get("items", {}), now.get("items", {}), direction)

    def _properties(self, where: str, was: Json, now: Json, direction: Direction) -> Iterator[str]:
        old, new = was.get("properties", {}), now.get("properties", {})
        for name in old:
            if name not in new:
                yield f"{where}: the field {name} is gone."
            else:
                yield from self._schema(f"{where}, {name}", old[name], new[name], direction)
        needed, promised = set(now.get("required", ())), set(was.get("required", ()))
        if direction == "request":
            for name in sorted(needed - promised):
                yield f"{where}: the field {name} is now required."
        else:
            for name in sorted((promised - needed) & set(new)):
                yield f"{where}: the field {name} may now be missing."


def _resolved(schema: Json, document: Json) -> Json:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _type_changes(
    where: str, was: frozenset[str], now: frozenset[str], direction: Direction
) -> Iterator[str]:
    changed = was - now if direction == "request" else now - was
    if changed and was != _ALL_TYPES:
        verb = "no longer takes" if direction == "request" else "may now be"
        yield f"{where} {verb} {' or '.join(sorted(changed))}."


def _enum_changes(where: str, was: Json, now: Json, direction: Direction) -> Iterator[str]:
    old, new = _values(was), _values(now)
    if direction == "request" and new is not None:
        lost = (
            "other values" if old is None else ", ".join(map(str, (each for each in old if each not in new)))
        )
        if lost:
            yield f"{where} no longer takes {lost}."
    if direction == "answer" and old is not None:
        added = "any value" if new is None else ", ".join(map(str, (each for each in new if each not in old)))
        if added:
            yield f"{where} may now be {added}."


def _values(schema: Json) -> list[Any] | None:
    """The only values that a schema takes; None where it names none."""
    branches = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    named = [each.get("enum", [each["const"]] if "const" in each else None) for each in branches]
    return None if not named or None in named else [value for values in named for value in values]


def _bound_changes(where: str, was: Json, now: Json) -> Iterator[str]:
    for keyword in _UPPER:
        if keyword in now and (keyword not in was or now[keyword] < was[keyword]):
            yield f"{where} is now bounded: {keyword} {now[keyword]}."
    for keyword in _LOWER:
        if keyword in now and (keyword not in was or now[keyword] > was[keyword]):
            yield f"{where} is now bounded: {keyword} {now[keyword]}."
    if "pattern" in now and now["pattern"] != was.get("pattern"):
        yield f"{where} must now match {now['pattern']}."
    if now.get("additionalProperties") is False and was.get("additionalProperties", True) is not False:
        yield f"{where} no longer takes other fields."
