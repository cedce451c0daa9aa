"""A request in Google's own dialect that says more than the gateway's words can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Passthrough:
    """The body that is sent in place of one that the gateway would write.

    What the gateway's words do say (ratio, size, inputs) stands in the request beside it as well, and is
    judged and priced there.

    Attributes:
        skeleton: JSON text with placeholders where bytes belong.
        blobs: Those bytes, by placeholder.
        identity: Canonical JSON of what the request beside it leaves unsaid and the model can see, with
            digests instead of bytes; empty where nothing is. It takes part in the fingerprint.
    """

    skeleton: bytes
    blobs: Mapping[str, bytes]
    identity: str
