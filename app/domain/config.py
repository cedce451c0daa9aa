"""What a part is configured with: one class a part, which the settings are made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """The values that one part takes as an argument, each with its only default.

    A field with a description is a setting, read from the environment (``app/settings``). One without is a
    constant, a field only so that tests can make it smaller.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
