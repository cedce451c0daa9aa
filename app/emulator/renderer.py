"""Renders accepted requests to encoded images, in its own threads so that the server stays responsive."""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from app.emulator import painter
from app.emulator.behaviour import PLAIN
from app.emulator.rehearsals import strip_directives
from app.emulator.requests import unreadable_image
from app.emulator.responses import Picture

if TYPE_CHECKING:
    from PIL import Image

    from app.emulator.behaviour import Behaviour
    from app.emulator.options import EmulatorOptions
    from app.emulator.requests import ModelRequest

_INTERIM_SIDE = 256
_NO_PICTURE = b"These bytes have the signature of no picture, and the length of none. " * 16


class Renderer:
    """Renders images for concurrent requests. Close it when the server ends.

    Equal requests with a seed get equal images, and each request without a seed gets a different one. The
    latter depend on a counter, so that the same calls in the same order get the same images again.
    """

    def __init__(self, options: EmulatorOptions) -> None:
        self._options = options
        self._unseeded = itertools.count()
        self._threads = ThreadPoolExecutor(options.painters, thread_name_prefix="painter")

    async def render(
        self, request: ModelRequest, behaviour: Behaviour
    ) -> tuple[list[Picture], list[Picture]]:
        """The pictures, and those for thoughts where thoughts were asked for.

        Every reference is opened even where nothing will be drawn. Raises GoogleError 400 for one that
        cannot be.
        """
        loop = asyncio.get_running_loop()
        turn = 0
        if request.seed is None:
            turn = next(self._unseeded)
        return await loop.run_in_executor(self._threads, self._draw, request, behaviour, turn)

    def close(self) -> None:
        """Let running work finish and start no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _draw(
        self, request: ModelRequest, behaviour: Behaviour, turn: int
    ) -> tuple[list[Picture], list[Picture]]:
        try:
            references = tuple(
                painter.open_reference(reference.data) if reference.data is not None else None
                for reference in request.references
            )
        except painter.UnreadableImageError as error:
            raise unreadable_image(error) from error
        unusual = behaviour.appetite != "usual" and behaviour.pictures > 0
        first, count = int(request.digest, 16) + (turn << 8), 1 if unusual else behaviour.pictures
        scenes = [first + number for number in range(count)]
        drawn = [self._paint(request, behaviour, references, scene) for scene in scenes]
        pictures = [self._encode(request, behaviour, picture) for picture in drawn]
        if unusual:
            pictures *= behaviour.pictures  # dozens of them, whose bytes nobody compares
        interim = []
        for number in range(max(behaviour.thoughts, request.include_thoughts) if drawn else 0):
            small = drawn[0].copy()
            small.thumbnail((_INTERIM_SIDE << number, _INTERIM_SIDE << number))
            interim.append(self._encode(request, PLAIN, small))
        return pictures, interim

    def _paint(
        self,
        request: ModelRequest,
        behaviour: Behaviour,
        references: tuple[Image.Image | None, ...],
        scene: int,
    ) -> Image.Image:
        card = request.card
        size = request.image_size
        if behaviour.other_size:
            others = [other for other in card.image_sizes if other != size] or [size]
            size = card.image_size_default if card.image_size_default in others else others[0]
        ratio = request.aspect_ratio
        if ratio is None:
            first = next((reference for reference in references if reference is not None), None)
            ratio = "1:1"
            if first is not None:
                ratio = painter.find_nearest_ratio(card, *first.size)
        width, height = card.pixels[ratio][size]
        seed = "no seed"
        if request.seed is not None:
            seed = f"seed {request.seed}"
        return painter.paint(
            painter.Brief(
                words=strip_directives(request.prompt),
                references=references,
                width=width,
                height=height,
                caption=f"{ratio}  ·  {size}  ·  {width}x{height}  ·  {seed}",
                seed=scene,
            )
        )

    def _encode(self, request: ModelRequest, behaviour: Behaviour, picture: Image.Image) -> Picture:
        mime_type = behaviour.mime_type or request.output_mime_type or self._options.output_mime_type
        quality = request.compression_quality
        if quality is None:
            quality = self._options.compression_quality
        data = _NO_PICTURE
        if not behaviour.damaged:
            data = painter.encode(picture, mime_type, quality)
        return Picture(data + bytes(behaviour.ballast_mib << 20), behaviour.label or mime_type)
