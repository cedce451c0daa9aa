"""Migrations: requests for one model that another model serves, all of them or a share.

An alias is one line of the deployment or of a tenant. A digest of what was requested chooses its share, so
that equal requests stay together, on every replica and after every restart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

if TYPE_CHECKING:
    from app.domain.request import GenerationRequest

_SHARE: Final = re.compile(r"\s*(\d{1,3}(?:\.\d{1,4})?)\s*(%?)\s*", re.ASCII)
_PLACES: Final = 16**8


class ModelAlias(BaseModel):
    """The model that serves the requests for another, and the share of them that it serves.

    Written as text: ``gemini-nano-banana-2.1``, or ``gemini-nano-banana-2.1:5%`` with a share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    to: str = Field(
        description="Model that serves the requests, by id or alias.", examples=["gemini-nano-banana-2.1"]
    )
    share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Part of the requests; files may also give percent, such as 5 %.",
        examples=[0.05],
    )

    @model_validator(mode="before")
    @classmethod
    def _split_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        model, colon, share = value.partition(":")
        return {"to": model.strip()} | ({"share": share} if colon else {})

    @field_validator("share", mode="before")
    @classmethod
    def _read_percent(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = _SHARE.fullmatch(value)
        if match is None:
            raise ValueError("must be a number from 0 to 1, or in percent, such as 5 %")
        number = float(match[1])
        if match[2]:
            number /= 100
        return number

    def serves(self, request: GenerationRequest, requested: str, fingerprint: str) -> bool:
        """Whether this request is moved.

        A conversation stays with the model that began it, because only that model reads its signatures. In
        Google's dialect, whose clients keep the turns, its first turn decides.

        Args:
            request: With its earlier turns, if it continues a conversation.
            requested: Id of the model that it names.
            fingerprint: Of the request as it would be without the alias, 64 hexadecimal digits.
        """
        if request.earlier is not None:
            return request.earlier.conversation.model != requested
        return int((request.opening or fingerprint)[:8], 16) < self.share * _PLACES
