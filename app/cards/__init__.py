"""The cards on disk: one YAML file a model, read once at start-up."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import yaml

from app.domain.card import Card, strip_model_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable

    from app.domain.migration import ModelAlias


_VERSION: Final = re.compile(r"-(\d{3}|\d{8}|\d{4}-\d{2}-\d{2})$")
"""What Google appends to an id for one version of a model: a number, or a date."""


class Catalogue:
    """All cards, found by id or alias."""

    def __init__(self, cards: tuple[Card, ...]) -> None:
        """Index the cards. Raises ValueError where two of them share a name."""
        self._by_name: dict[str, Card] = {}
        for card in cards:
            for name in card.names():
                if name in self._by_name:
                    raise ValueError(f"two cards are called {name!r}")
                self._by_name[name] = card
        self._cards = cards

    def __iter__(self) -> Iterator[Card]:
        """The cards in the order of their files' names."""
        return iter(self._cards)

    def resolve(self, name: str) -> Card | None:
        """The card for an id or alias, with or without ``models/`` or ``google/`` before it, or None."""
        return self._by_name.get(strip_model_prefix(name))

    def resolve_aliases(self, aliases: Mapping[str, ModelAlias]) -> dict[str, ModelAlias]:
        """Aliases of models by card id, both models by any name. Raises ValueError for an unknown model."""
        resolved = {}
        for name, alias in aliases.items():
            requested, served = self.resolve(name), self.resolve(alias.to)
            if requested is None or served is None:
                unknown = name if requested is None else alias.to
                raise ValueError(f"unknown model {unknown!r}; known are {', '.join(self.names)}")
            resolved[requested.id] = alias.model_copy(update={"to": served.id})
        return resolved

    def with_provisioned_price(self, share: float) -> Catalogue:
        """The same cards with a price of calls on Provisioned Throughput: a share of the standard one."""
        return Catalogue(tuple(card.with_provisioned_price(share) for card in self._cards))

    def find_answering(self, version: str) -> Card | None:
        """The card for the ``modelVersion`` of an answer, which names a model or a version of it; or None."""
        at_back_ends = {name: card for card in self._cards for name in card.model_ids.values()}
        name = strip_model_prefix(version)
        known = (self.resolve(each) or at_back_ends.get(each) for each in (name, _VERSION.sub("", name)))
        return next(filter(None, known), None)

    @property
    def cells(self) -> tuple[tuple[str, str], ...]:
        """Every model with every size that it offers."""
        return tuple((card.id, size) for card in self._cards for size in card.image_sizes)

    @property
    def names(self) -> Mapping[str, Card]:
        """Every accepted name."""
        return self._by_name


def build_card_schema() -> dict[str, Any]:
    """The JSON Schema of a card, as ``card.schema.json`` beside the cards holds it for editors."""
    schema = Card.model_json_schema(mode="validation")
    for definition in (schema, *schema["$defs"].values()):
        for member in definition["properties"].values():
            _close(member)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _close(schema: dict[str, Any]) -> None:
    """Forbid the keys that no pattern names: pydantic checks them, but writes the pattern alone."""
    for inner in schema.get("patternProperties", {}).values():
        schema["additionalProperties"] = False
        _close(inner)


def load_catalogue(folder: Traversable | None = None) -> Catalogue:
    """Read every card of a folder, by default of this package.

    Raises:
        pydantic.ValidationError: A card is malformed.
    """
    entries = sorted(
        (
            entry
            for entry in (folder or resources.files(__package__)).iterdir()
            if entry.name.endswith(".yaml")
        ),
        key=lambda entry: entry.name,
    )
    return Catalogue(tuple(Card.model_validate(yaml.safe_load(entry.read_text())) for entry in entries))
