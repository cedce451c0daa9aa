"""Stores finished generations by id, with the turns that a request needs to continue them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

from app.domain.config import Config
from app.domain.conversation import Earlier, Replied
from app.domain.errors import NotFound
from app.domain.generation import Picture
from app.domain.stored_generation import ENDINGS, StoredGeneration, build_effective
from app.domain.turns import add_turn
from app.generation import booking
from app.media.lifting import generate_placeholders
from app.resilience.tasks import run_in_thread

if TYPE_CHECKING:
    from app.domain.conversation import Conversation
    from app.domain.generation import Generation
    from app.domain.request import Input
    from app.domain.stored_generation import Ending
    from app.generation.job import Job
    from app.generation.ports import Results

_IN_A_THREAD_CHARACTERS = 500_000


class CannotContinue(Exception):
    """There is no such generation, or it cannot be continued; ``code`` becomes the violation's."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class ConversationConfig(Config):
    """Conversations.

    ``turns_max`` counts the answered requests of one.
    """

    turns_max: int = 16
    mb: int = Field(
        64,
        ge=0,
        description="Size of all files of a conversation that are kept to continue it, in MiB; 0 for none.",
    )


class Conversations:
    """Stored generations by id.

    Args:
        results: Where they are kept.
        config: How long they may become.
    """

    def __init__(self, results: Results, config: ConversationConfig) -> None:
        self._results = results
        self._config = config

    async def get_generation(self, tenant_id: str, generation_id: str) -> StoredGeneration:
        """A finished generation of this tenant. Raises NotFound, also for another tenant's."""
        stored = await self._results.get_generation(tenant_id, generation_id)
        if stored is None:
            raise NotFound(
                "No finished generation of this id, or it has expired; /v1/operations tells how far work is."
            )
        return stored

    async def load_earlier(self, tenant_id: str, generation_id: str) -> Earlier:
        """The turns that a generation ends, with the bytes of their files, to go on from there.

        Raises:
            CannotContinue: There is no such generation of this tenant, or it cannot be continued.
            StoreUnavailable: Nobody knows.
        """
        try:
            stored = await self.get_generation(tenant_id, generation_id)
        except NotFound:
            detail = "There is no such generation of this tenant, or it has expired."
            raise CannotContinue("unknown_generation", detail) from None
        conversation = stored.conversation
        if conversation is None:
            raise CannotContinue("not_continuable", ENDINGS[stored.ending or "unreadable"])
        if conversation.turns >= self._config.turns_max:
            raise CannotContinue("not_continuable", ENDINGS["too_many_turns"])
        blobs: dict[str, bytes] = {}
        for placeholder, file_id in conversation.places:
            picture = await self._results.get_picture(tenant_id, file_id)
            if picture is None:
                detail = "A file of its earlier turns has expired."
                raise CannotContinue("unknown_generation", detail)
            blobs[placeholder] = bytes(picture.data)
        return Earlier(conversation, blobs)

    async def keep(self, job: Job, generation: Generation) -> bool:
        """Keep a generation under its id, whose pictures are kept already. False where it could not be."""
        conversation, ending = await self._build_turn(job, generation)
        keep_s = booking.compute_keep_s(job)
        files: tuple[Picture, ...] = ()
        if conversation is not None:
            files = tuple(_build_file(item) for item in job.request.inputs if item.data is not None)
            if not await self._results.put_pictures(job.tenant_id, files, keep_s):
                conversation, ending, files = None, "not_kept", ()
        stored = StoredGeneration(
            generation=replace(generation, created_ms=time.time_ns() // 1_000_000),
            fingerprint=job.fingerprint,
            effective=build_effective(job.request, job.card, generation.seeds),
            conversation=conversation,
            ending=ending,
        )
        return await self._results.put_generation(
            job.tenant_id, stored, keep_s, [each.record for each in files]
        )

    async def _build_turn(
        self, job: Job, generation: Generation
    ) -> tuple[Conversation | None, Ending | None]:
        """The conversation with this generation at its end, or why there is none."""
        if job.request.verbatim is not None:
            return None, "googles_words"
        if job.request.n != 1:
            return None, "several_calls"
        pictures = {each.id: each.length for each in (*generation.pictures, *generation.interim)}
        usage = generation.usage
        text_input = 0 if usage.estimated else usage.text_input
        replied = Replied(generation.id, generation.back_end, generation.verbatim, pictures, text_input)
        arguments = job.request, replied, job.card, generate_placeholders()
        if len(replied.verbatim) > _IN_A_THREAD_CHARACTERS:
            conversation = await run_in_thread(add_turn, *arguments)
        else:
            conversation = add_turn(*arguments)
        if conversation is None:
            return None, "unreadable"
        if conversation.length + len(conversation.contents) > self._config.mb << 20:
            return None, "too_large"
        return conversation, None


def _build_file(item: Input) -> Picture:
    """An input as pictures are kept: under its hash, with its type and size."""
    size = item.width or 0, item.height or 0
    return Picture(f"img_{item.digest}", item.mime_type or "", *size, item.data or b"")
