"""What a tenant or one of its keys may ask for, as the tenants' file and the Admin API have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pydantic import ValidationInfo, field_validator

from app.tenants.budget_entries import Entry

if TYPE_CHECKING:
    from app.cards import Catalogue


def _catalogue(info: ValidationInfo) -> Catalogue:
    return cast("Catalogue", cast("dict[str, object]", info.context)["catalogue"])


class RightsEntry(Entry):
    """Models, the largest size and Preview features; what is left out narrows nothing.

    It is checked against the cards, which the validation's context holds as ``catalogue``.
    """

    models: frozenset[str] = frozenset()
    max_image_size: str | None = None
    preview: frozenset[str] | None = None

    @field_validator("models")
    @classmethod
    def _models(cls, value: frozenset[str], info: ValidationInfo) -> frozenset[str]:
        catalogue = _catalogue(info)
        if unknown := sorted(name for name in value if catalogue.resolve(name) is None):
            raise ValueError(
                f"no card is called {', '.join(unknown)}; there are {', '.join(catalogue.names)}"
            )
        return frozenset(card.id for name in value if (card := catalogue.resolve(name)))

    @field_validator("max_image_size")
    @classmethod
    def _size(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        catalogue = _catalogue(info)
        for card in catalogue:
            if (literal := card.normalise_image_size(value)) is not None:
                return literal
        offered = dict.fromkeys(size for card in catalogue for size in card.image_sizes)
        raise ValueError(f"no card offers the size {value!r}; there are {', '.join(offered)}")

    @field_validator("preview")
    @classmethod
    def _preview(cls, value: frozenset[str] | None, info: ValidationInfo) -> frozenset[str] | None:
        catalogue = _catalogue(info)
        offered = {"video"} | {
            size for card in catalogue for size, facts in card.image_sizes.items() if facts.preview
        }
        if unknown := sorted((value or frozenset()) - offered):
            raise ValueError(f"{', '.join(unknown)}: the preview features are {', '.join(sorted(offered))}")
        return value
