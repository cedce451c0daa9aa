"""The emulator with pictures of one colour, because what is billed does not depend on what is drawn."""

from __future__ import annotations

import sys
from copy import copy
from functools import lru_cache
from unittest.mock import patch

from PIL import Image

from app.emulator import __main__ as command
from app.emulator import painter

ENCODE = painter.encode


@lru_cache(maxsize=200)
def encode_blank(width: int, height: int, mime_type: str, quality: int) -> bytes:
    """A grey picture."""
    return ENCODE(Image.new("RGB", (width, height), (120, 130, 140)), mime_type, quality)


class Blank:
    """What a painter returns, without its pixels."""

    def __init__(self, brief: painter.Brief) -> None:
        self.width, self.height = brief.width, brief.height

    def copy(self) -> Blank:
        """Another one, for a thought."""
        return copy(self)

    def thumbnail(self, size: tuple[int, int]) -> None:
        """Be as small as this."""
        self.width, self.height = size


def main() -> int:
    """Serve as the emulator does."""

    def encode(picture: Blank, mime_type: str, quality: int) -> bytes:
        return encode_blank(picture.width, picture.height, mime_type, quality)

    with (
        patch("app.emulator.renderer.painter.paint", Blank),
        patch("app.emulator.renderer.painter.encode", encode),
    ):
        return command.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
