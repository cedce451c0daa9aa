"""What Google says of each model without being paid: descriptions and counts of tokens.

Written by hand, from Google's pages and from answers that users published, and read from no card, so that the
cards can be compared with it (``flashgate cards check``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from app.domain.card import Card
    from app.emulator.messages import Dialect


class Description(NamedTuple):
    """Members of ``models.get``; None for those that a model lacks.

    ``stage`` is Vertex AI's ``launchStage``; the others are the Gemini Developer API's.
    """

    title: str
    input_tokens: int
    output_tokens: int
    temperature: float | None = 1.0
    temperature_max: float | None = 2.0
    top_p: float | None = 0.95
    stage: str = "GA"


DESCRIPTIONS: Final = {
    "gemini-3.1-flash-image": Description("Nano Banana 2", 131_072, 32_768),
    "gemini-3.1-flash-lite-image": Description("Nano Banana 2 Lite", 65_536, 4_096),
    "gemini-3-pro-image": Description("Nano Banana Pro", 65_536, 32_768),
    "gemini-nano-banana-2.1": Description("Nano Banana 2.1", 131_072, 32_768, None, None, None),
}
_IMAGE_TOKENS: Final[dict[tuple[Dialect, str], int]] = {
    # Reported by users of the Gemini Developer API for this model; Vertex AI follows the model card.
    ("gemini", "gemini-3.1-flash-image"): 258,
    # Both price lists and the model card.
    ("gemini", "gemini-3-pro-image"): 560,
    ("vertex", "gemini-3-pro-image"): 560,
}
_IMAGE_TOKENS_USUAL: Final = 1120
# Google's tables for Gemini 3, by resolution; "" is the usual one, and an unknown one is read as that.
IMAGE_TOKENS_AT: Final = {"LOW": 280, "MEDIUM": 560, "HIGH": 1120, "ULTRA_HIGH": 2240}
PAGE_TOKENS_AT: Final = {"": 560, "LOW": 280, "MEDIUM": 560, "HIGH": 1120}
FRAME_TOKENS_AT: Final = {"": 70, "LOW": 70, "MEDIUM": 70, "HIGH": 280}
SOUND_TOKENS: Final = 32
"""Of each second of a video."""


def get_image_tokens(model: str, dialect: Dialect) -> int:
    """Input tokens of an image at the usual resolution."""
    return _IMAGE_TOKENS.get((dialect, model), _IMAGE_TOKENS_USUAL)


def describe_model(card: Card, dialect: Dialect) -> dict[str, Any]:
    """The document of ``models.get``; a model that is not in the table is described by its card."""
    described = DESCRIPTIONS.get(card.id) or _describe_card(card)
    if dialect == "vertex":
        return {
            "name": f"publishers/google/models/{card.id}",
            "versionId": "default",
            "openSourceCategory": "PROPRIETARY",
            "launchStage": described.stage,
        }
    members = {
        "name": f"models/{card.id}",
        "version": "001",
        "displayName": described.title,
        "description": f"{described.title}, as the flashgate emulator knows it.",
        "inputTokenLimit": described.input_tokens,
        "outputTokenLimit": described.output_tokens,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "temperature": described.temperature,
        "maxTemperature": described.temperature_max,
        "topP": described.top_p,
        "thinking": True,
    }
    return {name: value for name, value in members.items() if value is not None}


def _describe_card(card: Card) -> Description:
    described = Description(
        card.title,
        card.tokens.input_max,
        card.tokens.output_max,
        None,
        None,
        None,
        card.lifecycle.stage.upper(),
    )
    temperature, top_p = card.parameters.temperature, card.parameters.top_p
    if temperature is not None:
        described = described._replace(temperature=temperature.default, temperature_max=temperature.max)
    if top_p is not None:
        described = described._replace(top_p=top_p.default)
    return described
